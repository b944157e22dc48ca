"""Metaorders: an institution that wants a large size, as one block or sliced in time.

A parent order begins at `start`, or at random times; it sends `slices` equal market orders, `interval` seconds apart.
What it sends moves the efficient price by the square-root law, impact * sqrt(lots sent so far): people infer that
somebody knows something (Toth et al. 2011, Anomalous price impact and the critical nature of liquidity). Its cost is
measured against the mid at its arrival, as an execution desk would (Perold 1988; Almgren & Chriss 2000).
"""

import math
from typing import NamedTuple

import numpy as np

from bitquote.book.matching import NO_PRICE, best_price, trade_count
from bitquote.compilation import kernel
from bitquote.flow.orders import take_called
from bitquote.flow.random import next_word, uniform
from bitquote.flow.state import INSTITUTION


class Metaorders(NamedTuple):
    """Parameters; a size of zero, none."""

    size: int  # lots of a parent order
    slices: int
    interval: float  # s between two slices
    start: float  # s of the first parent, infinite for random times alone
    rate: float  # further parents per second
    side: int  # +1 all buy, -1 all sell, 0 at random
    impact: float  # of the efficient price, ticks per square root of a lot
    reach: int  # ticks from the best quote at which a slice stops


@kernel
def begin_parent(meta, state, book, time, seconds):
    """Whether a parent begins in the price step of `seconds` that ends at `time`; takes two words, whatever happens."""
    now = state.now[0]
    arrives = uniform(state.price_generator) < -math.expm1(-meta.rate * seconds)
    word = next_word(state.price_generator)
    if not (arrives and time > 0.0) and not time - seconds < meta.start <= time:
        return
    bid = best_price(book, 1)
    ask = best_price(book, -1)
    if now.parent_side != 0 or bid == NO_PRICE or ask == NO_PRICE:
        return
    now.parent_side = meta.side if meta.side != 0 else (1 if word >> np.uint64(63) else -1)
    now.parent_left = meta.size
    now.parent_sent = 0
    now.parent_due = time
    now.parent_mid2 = bid + ask
    now.parents += 1


@kernel
def send_slice(meta, state, book, time, stamp):
    """Send the slice that is due at `time` (s, in the book's `stamp` ns), if any."""
    now = state.now[0]
    if now.parent_side == 0 or time < now.parent_due:
        return
    # Equal parts, the remainder of the division in the last ones.
    done = (meta.slices * now.parent_sent + meta.size - 1) // meta.size
    lots = meta.size * (done + 1) // meta.slices - meta.size * done // meta.slices
    lots = min(lots, now.parent_left)
    take_called(book, stamp, now.parent_side, lots, meta.reach, INSTITUTION)
    for i in range(trade_count(book)):
        trade = book.trades[i]
        now.parent_filled += trade.quantity
        now.parent_cost2 += now.parent_side * (2 * trade.price - now.parent_mid2) * trade.quantity
    impact = meta.impact * (math.sqrt(now.parent_sent + lots) - math.sqrt(now.parent_sent))
    now.efficient += now.parent_side * impact
    now.parent_sent += lots
    now.parent_left -= lots
    now.parent_due += meta.interval
    if now.parent_left <= 0:
        now.parent_side = 0
