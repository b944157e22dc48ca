"""Zero-intelligence order flow around an efficient price that diffuses and jumps.

Limit orders arrive as a Poisson process a side, at a random distance behind the efficient price; market
orders arrive as a Poisson process a side; every resting order is cancelled at a constant rate (Smith,
Farmer, Gillemot & Krishnamurthy 2003; Cont, Stoikov & Talreja 2010). The efficient price is a random walk
with jumps that nobody quotes: limit orders are placed around it, stale best quotes are pulled when it has
passed them, and informed traders (informed.py) trade on it.

Inside the kernels prices are ticks, times seconds, sizes lots.
"""

import math
from typing import NamedTuple

import numpy as np

from bitquote.book.matching import (
    BOOK_FULL,
    IMMEDIATE,
    NO_PRICE,
    POST_ONLY,
    best_price,
    best_slot,
    cancel_order,
    limit_order,
    live_count,
    live_slot,
    order_owner,
)
from bitquote.compilation import inlined, kernel
from bitquote.flow.informed import informed_trade
from bitquote.flow.random import next_word, normal, uniform

QUANTILES = 1024  # a draw from a distribution is one look-up in a table of this many quantiles
BACKGROUND = 0  # owner of every order that is not a maker's

_TEN_BITS = np.uint64(QUANTILES - 1)


class PoissonFlow(NamedTuple):
    """Parameters of the flow. Prices and distances in ticks, times in seconds, sizes in lots."""

    price: float  # the efficient price at the start
    volatility: float  # ticks per square root of a second
    jump_rate: float  # jumps of the efficient price per second
    jump_size: float  # standard deviation of a jump, ticks
    limit_rate: float  # limit orders per second and side
    cancel_rate: float  # cancellations per second and resting order
    stale_cancel_rate: float  # per second and side: a best quote is pulled if the efficient price has passed it
    market_rate_bid: float  # market orders per second that sell to the bid
    market_rate_ask: float  # market orders per second that buy from the ask
    market_reach: int  # ticks from the best quote at which a market order stops
    informed_rate: float  # arrivals per second of traders who know the efficient price and act on it
    limit_distance: np.ndarray  # int64[QUANTILES], ticks behind the efficient price
    limit_size: np.ndarray  # int64[QUANTILES], lots
    market_size: np.ndarray  # int64[QUANTILES], lots


class FlowState(NamedTuple):
    """What of the flow evolves along a path."""

    efficient: np.ndarray  # float64[1], the efficient price in ticks
    generator: np.ndarray  # uint64[2], of the events: every event takes the same number of words
    price_generator: np.ndarray  # uint64[2], of the efficient price, which therefore is the same for every quoter
    refused: np.ndarray  # int64[1], limit orders for which the book had no room: its capacity is too small


def allocate_flow() -> FlowState:
    return FlowState(np.zeros(1), np.zeros(2, np.uint64), np.zeros(2, np.uint64), np.zeros(1, np.int64))


@inlined
def _place_limit(flow, state, book, time, side, word):
    """A post-only limit order behind the efficient price, at most one tick from the opposite best."""
    distance = flow.limit_distance[np.int64(word & _TEN_BITS)]
    quantity = flow.limit_size[np.int64((word >> np.uint64(10)) & _TEN_BITS)]
    below = np.int64(math.floor(state.efficient[0]))
    opposite = best_price(book, -side)
    if side > 0:
        price = below - distance
        if opposite != NO_PRICE and price >= opposite:
            price = opposite - 1
    else:
        price = below + 1 + distance
        if opposite != NO_PRICE and price <= opposite:
            price = opposite + 1
    if limit_order(book, time, side, price, quantity, 0, BACKGROUND, POST_ONLY) == BOOK_FULL:
        state.refused[0] += 1


@kernel
def seed_book(flow, state, book):
    """Fill the book with the expected number of resting orders, placed like arrivals."""
    state.efficient[0] = flow.price
    if flow.cancel_rate > 0.0:
        for i in range(2 * int(flow.limit_rate / flow.cancel_rate)):
            _place_limit(flow, state, book, 0, 1 - 2 * (i & 1), next_word(state.generator))


@inlined
def constant_rate(flow):
    """Events per second of everything but the cancellation of resting orders."""
    return (
        2.0 * (flow.limit_rate + flow.stale_cancel_rate)
        + flow.market_rate_bid
        + flow.market_rate_ask
        + flow.informed_rate
    )


@inlined
def total_rate(flow, book, rate):
    """Events per second in the present state; `rate` is `constant_rate(flow)`."""
    return rate + flow.cancel_rate * live_count(book)


@kernel
def move_price(flow, state, seconds):
    """Move the efficient price over `seconds`: a two-point step of the right variance, and now and then a jump."""
    step = flow.volatility * math.sqrt(seconds)
    if next_word(state.price_generator) >> np.uint64(63):
        state.efficient[0] += step
    else:
        state.efficient[0] -= step
    if uniform(state.price_generator) < -math.expm1(-flow.jump_rate * seconds):
        state.efficient[0] += flow.jump_size * normal(state.price_generator)


@inlined
def flow_event(flow, state, book, time, rate):
    """Draw and apply one event at `time` (ns); `rate` is `constant_rate(flow)`."""
    pick = uniform(state.generator) * total_rate(flow, book, rate)
    word = next_word(state.generator)
    if pick < 2.0 * flow.limit_rate:
        _place_limit(flow, state, book, time, 1 if pick < flow.limit_rate else -1, word)
        return
    pick -= 2.0 * flow.limit_rate
    market_rate = flow.market_rate_bid + flow.market_rate_ask
    if pick < market_rate:
        _take(flow, book, time, -1 if pick < flow.market_rate_bid else 1, word)
        return
    pick -= market_rate
    if pick < 2.0 * flow.stale_cancel_rate:
        _pull_stale(state, book, 1 if pick < flow.stale_cancel_rate else -1)
        return
    pick -= 2.0 * flow.stale_cancel_rate
    if pick < flow.informed_rate:
        informed_trade(book, time, state.efficient[0], flow.market_size[np.int64(word & _TEN_BITS)], BACKGROUND)
        return
    _cancel_random(book, word)


@inlined
def _take(flow, book, time, side, word):
    """A market order that its sender, like an exchange's price band, lets go no further than `market_reach`."""
    best = best_price(book, -side)
    if best != NO_PRICE:
        quantity = flow.market_size[np.int64(word & _TEN_BITS)]
        limit_order(book, time, side, best + side * flow.market_reach, quantity, 0, BACKGROUND, IMMEDIATE)


@inlined
def _cancel_random(book, word):
    """Cancel a resting order chosen uniformly; a maker's own order is left alone."""
    count = live_count(book)
    if count > 0:
        slot = live_slot(book, np.int64(((word >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32)))
        if order_owner(book, slot) == BACKGROUND:
            cancel_order(book, slot)


@inlined
def _pull_stale(state, book, side):
    """Cancel the first order of the best quote if the efficient price has passed it."""
    price = best_price(book, side)
    if price != NO_PRICE and side * (price - state.efficient[0]) > 0.0:
        slot = best_slot(book, side)
        if order_owner(book, slot) == BACKGROUND:
            cancel_order(book, slot)
