"""hftbacktest's depth as the order book that a policy knows.

Prices are ticks of the market that the policy was trained in, `fine` exchange ticks each. A bid of the feed counts for
the tick at or below it, an ask for the tick at or above it: our own order, whose price is a whole tick, is then behind
all others of its tick but those at its very price, among whom its place is estimated.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from bitquote.book.matching import limit_order, live_count, reset
from bitquote.market.venue import FIRST_MAKER, PathState, Venue, update_mid

LEVELS = 5  # occupied ticks a side that an observation looks at
FARTHEST = 400  # ticks behind the best that are searched for them

OWN = np.dtype(
    [
        ("order_id", np.int64),  # 0: no order of ours lives or is under way
        ("ahead", np.float64),  # estimated quantity before it at its own price, base units
    ]
)


class Scale(NamedTuple):
    """How the market's units translate into the exchange's."""

    fine: int  # exchange ticks in a tick of the market
    tick: float  # of the exchange, price
    lot: float  # of the market, base units
    quantity: float  # of an order, base units
    round_trip: int  # order entry and response, ns


@njit
def quantity_at(depth: Any, side: int, tick: int) -> float:
    """Base units at a price of the exchange."""
    return depth.bid_qty_at_tick(tick) if side > 0 else depth.ask_qty_at_tick(tick)


@njit
def best_tick(depth: Any, side: int, fine: int) -> int:
    """The best price of a side in ticks of the market."""
    return depth.best_bid_tick // fine if side > 0 else -(-depth.best_ask_tick // fine)


@njit
def mirror(venue: Venue, path: PathState, depth: Any, own: np.ndarray, scale: Scale) -> None:
    """Rebuild the book: the best occupied ticks of either side, and our own orders wherever they are.

    An own order that the feed has passed by is filled, though we have not been told: it is not in the book.
    """
    reset(path.book)
    for i in range(2):
        side = 1 - 2 * i
        best = best_tick(depth, side, scale.fine)
        quote = path.quotes[0, i, 0]
        quote.slot = -1
        passed = side * (best_tick(depth, -side, scale.fine) - quote.price) <= 0
        resting = own[i].order_id != 0 and not passed
        levels = 0
        for k in range(FARTHEST):
            before = live_count(path.book)
            _rest_level(venue, path, depth, i, best - side * k, resting, own, scale)
            levels += live_count(path.book) > before
            if levels == LEVELS:
                break
        if resting and quote.slot < 0:
            _rest_level(venue, path, depth, i, quote.price, resting, own, scale)
    update_mid(path, 0)


@njit
def _rest_level(
    venue: Venue, path: PathState, depth: Any, i: int, price: int, resting: bool, own: np.ndarray, scale: Scale
) -> None:
    """Put the others' quantity at a price into the book, and our own order where it stands among it."""
    side = 1 - 2 * i
    quantity = 0.0
    for k in range(scale.fine):
        quantity += quantity_at(depth, side, price * scale.fine + side * k)
    if not resting or path.quotes[0, i, 0].price != price:
        _rest(path, side, price, quantity, scale)
        return
    beside = quantity_at(depth, side, price * scale.fine)
    behind = beside - min(own[i].ahead, beside)
    _rest(path, side, price, quantity - behind, scale)
    path.quotes[0, i, 0].slot = limit_order(path.book, 0, side, price, venue.order_size, 0, FIRST_MAKER, 0)
    _rest(path, side, price, behind, scale)


@njit
def _rest(path: PathState, side: int, price: int, quantity: float, scale: Scale) -> None:
    lots = np.int64(np.rint(quantity / scale.lot))
    if lots > 0:
        limit_order(path.book, 0, side, price, lots, 0, 0, 0)
