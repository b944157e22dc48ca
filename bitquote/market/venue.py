"""The order-book market from the makers' side: rules, accounts and quotes, and the mid as each of them sees it.

A maker has a ladder of at most `levels` bids and asks. Cash is an integer in ticks x lots, mids are integers in half
ticks, so accounts are exact. In the kernels `n` is a maker, from 0, and `i` a side, 0 the bid and 1 the ask.
"""

from typing import NamedTuple

import numpy as np

from bitquote.book.matching import (
    NO_PRICE,
    BookState,
    allocate,
    best_price,
    level_quantity,
    next_price,
    order_quantity,
)
from bitquote.compilation import inlined, kernel
from bitquote.flow.state import FlowState, allocate_flow
from bitquote.market.history import TapeBuffer, allocate_tape

MOST_MAKERS = 16
FIRST_MAKER = 1  # owner of the first maker's orders; the others follow
MARKOUTS = 4096  # fills of a maker whose markout may be outstanding at one time
NOTHING, NEW, CANCEL, REPLACE = 0, 1, 2, 3  # messages
ON_FILL, ON_BEST = 1, 2  # bits of `requote`


class Venue(NamedTuple):
    """Rules of the market: ticks, lots, seconds; fees are fractions of the notional."""

    order_size: int  # lots
    max_position: int  # lots
    decision_interval: float
    decisions: int
    latency_new: float
    latency_cancel: float
    maker_fee: float
    taker_fee: float
    markout: float  # horizon of the markout, s
    no_quote: float  # ticks
    price_unit: float  # price x order size of one tick x lot
    penalty: float  # phi = gamma sigma^2 / 2, price per order^2 and second
    levels: int  # quotes a side
    level_spacing: int  # ticks between them
    requote: int  # events between decisions at which makers are asked again: ON_FILL | ON_BEST
    requote_gap: float  # s between two such moments at least


MAKER = np.dtype(
    [
        ("clock", np.float64),  # s since the start of the episode
        ("position", np.int64),  # lots
        ("cash", np.int64),  # ticks x lots
        ("maker_notional", np.int64),  # ticks x lots
        ("taker_notional", np.int64),
        ("edge2", np.int64),  # half ticks x lots, against the mid just before the fill
        ("markout2", np.int64),
        ("markout_lots", np.int64),
        ("lots", np.int64),  # traded quietly
        ("fills", np.int64),
        ("rejected", np.int64),  # own messages that the exchange refused
        ("mid2", np.int64),  # best bid + best ask of all others: the mid in half ticks
        ("squared", np.float64),  # integral of position^2 dt, lots^2 s
        ("squared_clock", np.float64),
        ("markout_head", np.int64),
        ("markout_count", np.int64),
        ("markout_lost", np.int64),  # fills that found the ring of markouts full
        ("decision_mid2", np.int64),
        ("change", np.float64),  # of the mid between the last two decisions, ticks
        ("net_volume", np.int64),  # signed traded lots since the last decision
        ("trades", np.int64),
        ("flow_fast", np.float64),
        ("flow_medium", np.float64),
        ("flow_slow", np.float64),
        ("activity", np.float64),
        ("variance", np.float64),
        ("recent_markout", np.float64),
    ],
    align=True,
)
QUOTE = np.dtype(
    [
        ("slot", np.int64),  # of the resting order, -1 without one
        ("price", np.int64),
        ("size", np.int64),  # lots it was sent with
        ("since", np.float64),
        ("filled", np.int64),  # lots since the last decision
        ("pending", np.int64),  # message under way
        ("pending_price", np.int64),
        ("pending_size", np.int64),
        ("pending_time", np.float64),
    ],
    align=True,
)
PENDING_MARKOUT = np.dtype([("due", np.float64), ("signed_lots", np.int64), ("mid2", np.int64)], align=True)
PUBLIC = np.dtype(
    [
        ("clock", np.float64),  # s, up to which the integrals go
        ("bid", np.int64),  # best prices of all, NO_PRICE for none
        ("ask", np.int64),
        ("spread_time", np.float64),  # integral of ask - bid while there are both, ticks s
        ("two_sided_time", np.float64),
        ("depth_time", np.float64),  # integral of the quantity at the two best prices, lots s
        ("depth", np.int64),  # that quantity now
        ("effective2", np.int64),  # sum of 2 |price - mid just before| x lots over takers' trades, half ticks x lots
        ("effective_lots", np.int64),  # of the trades that had a mid before them
        ("lots", np.int64),
        ("step", np.int64),  # the next step of the clock
        ("step_mid2", np.int64),  # mid at the last step of the clock
        ("squared_moves", np.float64),  # sum of the squared moves of the mid over the steps, half ticks^2
        ("wake", np.float64),  # s at which the makers are asked again before the next decision
        ("asked", np.float64),  # s at which they were asked last
        ("turn", np.int64),  # the maker whose message comes first of those that arrive together
    ],
    align=True,
)


class PathState(NamedTuple):
    """Everything that evolves along one path. A thread reuses one for all its paths."""

    book: BookState
    flow: FlowState
    maker: np.ndarray  # MAKER[makers]
    quotes: np.ndarray  # QUOTE (makers, 2, levels), the best level first
    markouts: np.ndarray  # PENDING_MARKOUT (makers, MARKOUTS), a ring for each
    public: np.ndarray  # PUBLIC[1]
    tape: TapeBuffer


def allocate_path(
    window: int, capacity: int, makers: int = 1, levels: int = 1, queue_levels: int = 0, recorded: int = 0
) -> PathState:
    """Arrays for one path: a book of `window` ticks and `capacity` orders, the flow's state, the makers' accounts.

    `recorded` is the room for trades and for quotes on the tape; 0 for no tape.
    """
    return PathState(
        allocate(window, capacity),
        allocate_flow(queue_levels),
        np.zeros(makers, MAKER),
        np.zeros((makers, 2, levels), QUOTE),
        np.zeros((makers, MARKOUTS), PENDING_MARKOUT),
        np.zeros(1, PUBLIC),
        allocate_tape(recorded),
    )


@inlined
def others_best(state, n, side):
    """The best price of everybody but maker `n`, or NO_PRICE: a maker must not mark itself at its own quote."""
    price = best_price(state.book, side)
    if state.quotes.shape[2] > 1:
        return _beyond_own(state, n, side, price)
    quote = state.quotes[n, 0 if side > 0 else 1, 0]
    own = quote.slot >= 0 and quote.price == price
    if own and level_quantity(state.book, side, price) == order_quantity(state.book, quote.slot):
        return next_price(state.book, side, price)
    return price


@kernel
def _beyond_own(state, n, side, price):
    while price != NO_PRICE and others_quantity(state, n, side, price) == 0:
        price = next_price(state.book, side, price)
    return price


@kernel
def others_quantity(state, n, side, price):
    """Lots at `price` that are not maker `n`'s own."""
    lots = level_quantity(state.book, side, price)
    i = 0 if side > 0 else 1
    for level in range(state.quotes.shape[2]):
        quote = state.quotes[n, i, level]
        if quote.slot >= 0 and quote.price == price:
            lots -= order_quantity(state.book, quote.slot)
    return lots


@inlined
def update_mid(state, n):
    """Let the mid of maker `n` follow the book; an empty side leaves it where it was."""
    bid = others_best(state, n, 1)
    ask = others_best(state, n, -1)
    if bid != NO_PRICE and ask != NO_PRICE:
        state.maker[n].mid2 = bid + ask
