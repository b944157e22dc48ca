"""From a quoter's distances to the prices of a bid and an ask."""

import math

import numpy as np
from numba.extending import overload

from bitquote.book.matching import NO_PRICE
from bitquote.compilation import inlined, kernel
from bitquote.market.venue import others_best

_TIE = 1e-9  # ticks: a distance that is a whole number of ticks but for the last bits rounds to it
_FARTHEST = 1e9  # ticks: any distance beyond it means no quote


@kernel
def quote_prices(state, n, bid_distance, ask_distance, dither, prices):
    """Turn distances from the mid of maker `n` (ticks) into `prices` (int64[2]: bid, ask; NO_PRICE for none).

    A price is rounded away from the mid. With `dither` in [0, 1) the rounding is stochastic, with the same
    mean offset of half a tick that rounding away has. Quotes are post-only: a price that would cross stands one
    tick from the opposite best instead.
    """
    mid = 0.5 * state.maker[n].mid2
    shift = dither - 0.5 if dither >= 0.0 else _TIE
    for i in range(2):
        side = 1 - 2 * i
        distance = bid_distance if i == 0 else ask_distance
        prices[i] = NO_PRICE
        if abs(distance) < _FARTHEST:
            # In the side's own direction both sides round down, that is, away from the mid.
            toward = math.floor(side * mid - distance + shift)
            opposite = others_best(state, n, -side)
            if opposite != NO_PRICE:
                toward = min(toward, side * opposite - 1)
            prices[i] = np.int64(side * toward)


@inlined
def distances(half_spread, skew, no_quote):
    """(bid, ask) distances of a network's (half-spread, skew); infinite from `no_quote` on."""
    if not half_spread < no_quote:
        return math.inf, math.inf
    return half_spread + skew, half_spread - skew


def size_of(action, order_size):
    """Lots a level that an action asks for: its third entry in order sizes, rounded, or `order_size` without one."""
    return order_size if len(action) == 2 else _lots(action[2], order_size)


@overload(size_of)
def _compiled_size_of(action, order_size):
    if len(action) == 2:
        return lambda action, order_size: order_size
    return lambda action, order_size: _lots(action[2], order_size)


@inlined
def _lots(orders, order_size):
    """Whole lots; what is no number, or less than half a lot, is no order."""
    lots = orders * order_size
    return np.int64(min(lots, 1e15) + 0.5) if lots >= 0.5 else 0
