"""A liquidation cascade: selling that triggers selling.

Leveraged longs are closed by the exchange when the mark price falls to their liquidation price. These prices lie
between `first` and `last` with `density` lots a tick. Every new low of the mark (here the efficient price, as exchanges
mark by an index and not by their own last trade) adds what it passes to a backlog, which market orders work off, and
every lot they sell moves the efficient price down by `impact` (Kyle 1985). One tick of fall therefore causes
density * impact further ticks: below one a shock of x ticks ends at x / (1 - density * impact), above one it runs
through the whole stretch. Source: the loss spiral of Brunnermeier & Pedersen 2009.
"""

from typing import NamedTuple

import numpy as np

from bitquote.compilation import inlined, kernel
from bitquote.flow.orders import take_called, traded_quantity
from bitquote.flow.state import BACKGROUND


class Cascade(NamedTuple):
    """Parameters; a density of zero, nobody to be liquidated. Prices in ticks."""

    density: float  # lots a tick
    first: float  # the highest liquidation price
    last: float  # the lowest
    impact: float  # fall of the efficient price, ticks a lot
    rate: float  # liquidation orders per second while there is a backlog
    clip: int  # lots in one of them


@kernel
def trigger(cascade, state):
    """Add to the backlog what a new low has passed."""
    now = state.now[0]
    if now.efficient < now.low:
        passed = min(now.low, cascade.first) - max(now.efficient, cascade.last)
        if passed > 0.0:
            now.backlog += cascade.density * passed
        now.low = now.efficient


@inlined
def liquidation(cascade, state, book, time, reach):
    """Sell one clip of the backlog; what finds no buyer stays in it."""
    now = state.now[0]
    take_called(book, time, -1, min(cascade.clip, np.int64(now.backlog)), reach, BACKGROUND)
    sold = traded_quantity(book)
    now.backlog -= sold
    now.liquidated += sold
    now.efficient -= cascade.impact * sold
    trigger(cascade, state)
