"""Zero-intelligence order flow around an efficient price that diffuses and jumps.

Limit orders arrive as a Poisson process a side, at a random distance behind the efficient price; market
orders arrive as a Poisson process a side; every resting order is cancelled at a constant rate (Smith,
Farmer, Gillemot & Krishnamurthy 2003; Cont, Stoikov & Talreja 2010). The efficient price is a random walk
with jumps that nobody quotes: limit orders are placed around it, stale best quotes are pulled when it has
passed them, and informed traders (informed.py) trade on it.
"""

import math
from typing import NamedTuple

import numpy as np

from bitquote.compilation import inlined, kernel, merged
from bitquote.flow.orders import rest, rest_called
from bitquote.flow.random import next_word, normal, uniform
from bitquote.flow.state import TEN_BITS


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
    resting: int  # limit orders a side that a path begins with
    limit_distance: np.ndarray  # int64[QUANTILES], ticks behind the efficient price
    limit_size: np.ndarray  # int64[QUANTILES], lots
    market_size: np.ndarray  # int64[QUANTILES], lots


@inlined
def place_limit(poisson, state, book, time, side, word):
    """A limit order of random distance and size."""
    distance = poisson.limit_distance[np.int64(word & TEN_BITS)]
    quantity = poisson.limit_size[np.int64((word >> np.uint64(10)) & TEN_BITS)]
    rest(state, book, time, side, distance, quantity)


@kernel
def place_limit_called(poisson, state, book, time, side, word):
    """`place_limit` as a call."""
    distance = poisson.limit_distance[np.int64(word & TEN_BITS)]
    rest_called(state, book, time, side, distance, poisson.limit_size[np.int64((word >> np.uint64(10)) & TEN_BITS)])


@inlined
def market_size(poisson, word):
    """A random size of a market order, lots."""
    return poisson.market_size[np.int64(word & TEN_BITS)]


@merged
def fill_book(poisson, state, book):
    """Fill the book with the expected number of resting orders, placed like arrivals."""
    for i in range(2 * poisson.resting):
        place_limit_called(poisson, state, book, 0, 1 - 2 * (i & 1), next_word(state.generator))


@inlined
def diffuse(poisson, state, seconds):
    """Move the efficient price over `seconds`: a two-point step of the right variance, and now and then a jump."""
    now = state.now[0]
    step = poisson.volatility * math.sqrt(seconds)
    if next_word(state.price_generator) >> np.uint64(63):
        now.efficient += step
    else:
        now.efficient -= step
    if uniform(state.price_generator) < -math.expm1(-poisson.jump_rate * seconds):
        now.efficient += poisson.jump_size * normal(state.price_generator)
