"""The order-book market from the maker's side: orders with latency, fills, cash, fees and markouts.

A maker has at most one bid and one ask. A quote that keeps its price keeps its order, and with it its place in
the queue; a changed price is one `replace` message, a withdrawn quote one `cancel`. Messages arrive after their
latency, and the exchange applies them to whatever is there by then. Cash is an integer in ticks x lots, mids are
integers in half ticks, so accounts are exact.
"""

import math
from typing import NamedTuple

import numpy as np

from bitquote.book.matching import (
    NO_PRICE,
    POST_ONLY,
    BookState,
    allocate,
    best_price,
    cancel_order,
    clear_trades,
    level_quantity,
    limit_order,
    market_order,
    next_price,
    order_quantity,
    replace_order,
    trade_count,
)
from bitquote.compilation import inlined, kernel
from bitquote.flow.poisson import FlowState, allocate_flow, constant_rate, flow_event, move_price, total_rate
from bitquote.flow.random import exponential

MAKER_OWNER = 1
PRICE_STEPS = 16  # moves of the efficient price between two decisions
MARKOUTS = 4096  # fills whose markout may be outstanding at one time

NOTHING, NEW, CANCEL, REPLACE = 0, 1, 2, 3


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
        ("mid2", np.int64),  # best bid + best ask: the mid in half ticks
        ("squared", np.float64),  # integral of position^2 dt, lots^2 s
        ("squared_clock", np.float64),
        ("markout_head", np.int64),
        ("markout_count", np.int64),
        ("markout_lost", np.int64),  # fills that found the ring of markouts full
        ("decision_mid2", np.int64),
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
        ("since", np.float64),
        ("filled", np.int64),  # lots since the last decision
        ("pending", np.int64),  # message under way
        ("pending_price", np.int64),
        ("pending_time", np.float64),
    ],
    align=True,
)
PENDING_MARKOUT = np.dtype([("due", np.float64), ("signed_lots", np.int64), ("mid2", np.int64)], align=True)


class PathState(NamedTuple):
    """Everything that evolves along one path. A thread reuses one for all its paths."""

    book: BookState
    flow: FlowState
    maker: np.ndarray  # MAKER[1]
    quotes: np.ndarray  # QUOTE[2]: bid, ask
    markouts: np.ndarray  # PENDING_MARKOUT[MARKOUTS], a ring


def allocate_path(window: int, capacity: int) -> PathState:
    """Arrays for one path: a book of `window` ticks and `capacity` orders, and the maker's accounts."""
    return PathState(
        allocate(window, capacity),
        allocate_flow(),
        np.zeros(1, MAKER),
        np.zeros(2, QUOTE),
        np.zeros(MARKOUTS, PENDING_MARKOUT),
    )


@inlined
def _nanoseconds(seconds):
    return np.int64(seconds * 1e9)


@inlined
def accrue(maker):
    """Bring the integral of the squared position up to the clock."""
    maker.squared += float(maker.position) * float(maker.position) * (maker.clock - maker.squared_clock)
    maker.squared_clock = maker.clock


@kernel
def settle_markouts(state, now):
    """Settle the markouts that are due by `now` at the present mid."""
    maker = state.maker[0]
    while maker.markout_count > 0:
        pending = state.markouts[maker.markout_head]
        if pending.due > now:
            return
        move = maker.mid2 - pending.mid2
        maker.markout2 += pending.signed_lots * move
        maker.markout_lots += abs(pending.signed_lots)
        signed_move = 0.5 * move if pending.signed_lots > 0 else -0.5 * move
        maker.recent_markout += 0.1 * (signed_move - maker.recent_markout)
        maker.markout_head = (maker.markout_head + 1) & (MARKOUTS - 1)
        maker.markout_count -= 1


@kernel
def _fill(venue, state, side, price, lots, remaining):
    """Book a passive fill of the quote on `side`."""
    maker = state.maker[0]
    quote = state.quotes[0 if side > 0 else 1]
    accrue(maker)
    maker.position += side * lots
    maker.cash -= side * price * lots
    maker.maker_notional += price * lots
    maker.edge2 += side * (maker.mid2 - 2 * price) * lots
    maker.lots += lots
    maker.fills += 1
    quote.filled += lots
    if remaining == 0:
        quote.slot = -1
    if maker.markout_count == MARKOUTS:
        maker.markout_lost += 1
        return
    pending = state.markouts[(maker.markout_head + maker.markout_count) & (MARKOUTS - 1)]
    pending.due = maker.clock + venue.markout
    pending.signed_lots = side * lots
    pending.mid2 = maker.mid2
    maker.markout_count += 1


@kernel
def _absorb_trades(venue, state):
    """Book the maker's fills among the trades of the last event, and the statistics of all."""
    maker = state.maker[0]
    trades = state.book.trades
    for i in range(trade_count(state.book)):
        trade = trades[i]
        maker.net_volume += trade.aggressor * trade.quantity
        maker.trades += 1
        if trade.maker_owner == MAKER_OWNER:
            _fill(venue, state, -trade.aggressor, trade.price, trade.quantity, trade.remaining)
    clear_trades(state.book)


@inlined
def others_best(state, side):
    """The best price of everybody but the maker, or NO_PRICE: a maker must not mark itself at its own quote."""
    price = best_price(state.book, side)
    quote = state.quotes[0 if side > 0 else 1]
    own = quote.slot >= 0 and quote.price == price
    if own and level_quantity(state.book, side, price) == order_quantity(state.book, quote.slot):
        return next_price(state.book, side, price)
    return price


@inlined
def update_mid(state):
    """Let the mid follow the book; an empty side leaves it where it was."""
    bid = others_best(state, 1)
    ask = others_best(state, -1)
    if bid != NO_PRICE and ask != NO_PRICE:
        state.maker[0].mid2 = bid + ask


@kernel
def _deliver(venue, state, i):
    """The exchange receives the message under way for quote `i`."""
    maker = state.maker[0]
    quote = state.quotes[i]
    side = 1 - 2 * i
    time = _nanoseconds(maker.clock)
    kind = quote.pending
    quote.pending = NOTHING
    # The gateway's position check: a replacement must not lift the position beyond its limit.
    if kind == REPLACE and side * maker.position + venue.order_size > venue.max_position:
        kind = CANCEL
    slot = -2
    if kind == NEW:
        slot = limit_order(
            state.book, time, side, quote.pending_price, venue.order_size, 0, MAKER_OWNER, POST_ONLY
        )
    elif quote.slot < 0:
        maker.rejected += 1  # filled in the meantime
        return
    elif kind == CANCEL:
        cancel_order(state.book, quote.slot)
        quote.slot = -1
        return
    else:
        slot = replace_order(state.book, time, quote.slot, quote.pending_price, venue.order_size, POST_ONLY)
    if slot < 0:
        maker.rejected += 1
        return
    quote.slot = slot
    quote.price = quote.pending_price
    quote.since = maker.clock


@kernel
def send_quotes(venue, state, prices):
    """Send what turns the resting quotes into `prices` (int64[2]; NO_PRICE for no quote)."""
    maker = state.maker[0]
    for i in range(2):
        quote = state.quotes[i]
        side = 1 - 2 * i
        wanted = prices[i]
        if side * maker.position + venue.order_size > venue.max_position:
            wanted = NO_PRICE
        if quote.slot < 0:
            kind = NEW if wanted != NO_PRICE else NOTHING
        elif wanted == NO_PRICE:
            kind = CANCEL
        else:
            kind = REPLACE if wanted != quote.price else NOTHING
        quote.pending = kind
        quote.pending_price = wanted
        quote.pending_time = maker.clock + (venue.latency_cancel if kind == CANCEL else venue.latency_new)


@inlined
def _next_message(state):
    """(arrival time, quote index) of the next message under way; an infinite time without one."""
    time = np.inf
    index = -1
    # Of two that arrive together the one that makes room comes first, lest the maker cross itself.
    first = 1 if state.quotes[0].pending_price > state.quotes[0].price else 0
    for k in range(2):
        i = first ^ k
        quote = state.quotes[i]
        if quote.pending != NOTHING and quote.pending_time < time:
            time = quote.pending_time
            index = i
    return time, index


@kernel
def advance(venue, flow, state, until):
    """Run the market to the time `until` (s). Returns the number of events.

    The next event comes when its hazard, an exponential draw, is used up; messages, moves of the efficient price and
    the end only use part of it. So the n-th event takes the n-th draw whatever the maker does.
    """
    maker = state.maker[0]
    constant = constant_rate(flow)
    price_step = venue.decision_interval / PRICE_STEPS
    price_index = math.floor(maker.clock / price_step + 1e-6) + 1
    message_time, message = _next_message(state)
    hazard = exponential(state.flow.generator)
    events = 0
    while True:
        rate = total_rate(flow, state.book, constant)
        now = maker.clock + hazard / rate
        stop = min(message_time, until, price_index * price_step)
        arrived = now < stop
        if not arrived:
            hazard -= (stop - maker.clock) * rate
            now = stop
        if maker.markout_count > 0:
            settle_markouts(state, now)
        maker.clock = now
        if arrived:
            flow_event(flow, state.flow, state.book, _nanoseconds(now), constant)
            hazard = exponential(state.flow.generator)
        elif message_time <= now:
            _deliver(venue, state, message)
            message_time, message = _next_message(state)
        else:
            if price_index * price_step <= now:
                move_price(flow, state.flow, price_step)
                price_index += 1
            if now >= until:
                accrue(maker)
                return events
            continue
        events += 1
        if trade_count(state.book) > 0:
            _absorb_trades(venue, state)
        update_mid(state)


@kernel
def liquidate(venue, state):
    """Withdraw the quotes, settle every markout at the last mid, and sell or cover the position at the market.

    Returns (position before, proceeds against the mid in half ticks x lots, lots that found no counterpart and
    stay marked at the mid).
    """
    maker = state.maker[0]
    for i in range(2):
        if state.quotes[i].slot >= 0:
            cancel_order(state.book, state.quotes[i].slot)
            state.quotes[i].slot = -1
        state.quotes[i].pending = NOTHING
    settle_markouts(state, np.inf)
    before = maker.position
    cost2 = 0
    if before != 0:
        side = -1 if before > 0 else 1
        market_order(state.book, _nanoseconds(maker.clock), side, abs(before), 0, MAKER_OWNER)
        for i in range(trade_count(state.book)):
            trade = state.book.trades[i]
            maker.position += side * trade.quantity
            maker.cash -= side * trade.price * trade.quantity
            maker.taker_notional += trade.price * trade.quantity
            cost2 += side * (maker.mid2 - 2 * trade.price) * trade.quantity
        clear_trades(state.book)
    return before, cost2, abs(maker.position)


@kernel
def wealth(venue, maker):
    """Mark-to-mid wealth after fees, price x order size."""
    marked2 = 2 * maker.cash + maker.position * maker.mid2
    fees = venue.maker_fee * maker.maker_notional + venue.taker_fee * maker.taker_notional
    return venue.price_unit * (0.5 * marked2 - fees)
