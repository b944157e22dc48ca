"""Momentum traders: they buy what has risen and sell what has fallen.

They arrive as a Poisson process, compare the mid with its exponential average over `lookback` seconds, and trade in
the direction of the trend if it exceeds `threshold`. Sources: chartists of Chiarella & Iori 2002; positive feedback
of De Long, Shleifer, Summers & Waldmann 1990.
"""

import math
from typing import NamedTuple

from bitquote.book.matching import NO_PRICE, best_price
from bitquote.compilation import inlined, kernel
from bitquote.flow.orders import take_called
from bitquote.flow.state import BACKGROUND


class Momentum(NamedTuple):
    """Parameters; a rate of zero, no such traders."""

    rate: float  # arrivals per second
    lookback: float  # s
    threshold: float  # ticks


@kernel
def follow_trend(momentum, state, book, seconds):
    """Move the average on by `seconds`; an empty side leaves everything as it was."""
    now = state.now[0]
    bid = best_price(book, 1)
    ask = best_price(book, -1)
    if bid == NO_PRICE or ask == NO_PRICE:
        return
    mid = 0.5 * (bid + ask)
    if now.mean_mid == 0.0:
        now.mean_mid = mid
    now.mean_mid += -math.expm1(-seconds / momentum.lookback) * (mid - now.mean_mid)
    now.trend = mid - now.mean_mid


@inlined
def momentum_trade(momentum, state, book, time, quantity, reach):
    """One arrival."""
    trend = state.now[0].trend
    if abs(trend) > momentum.threshold:
        take_called(book, time, 1 if trend > 0.0 else -1, quantity, reach, BACKGROUND)
