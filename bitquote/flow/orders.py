"""What anybody in the crowd may do: place, take, cancel. Every model of the flow acts through these.

`rest` and `take` are for the hot path, where each use is a copy of the matching code; `rest_called` and `take_called`
are the same for everything else, which keeps the compiler's work small.
"""

import math

import numpy as np

from bitquote.book.matching import (
    BOOK_FULL,
    IMMEDIATE,
    NO_PRICE,
    POST_ONLY,
    best_price,
    best_slot,
    cancel_order,
    clear_trades,
    limit_order,
    live_count,
    live_slot,
    order_owner,
    order_side,
    trade_count,
)
from bitquote.compilation import inlined, kernel
from bitquote.flow.state import BACKGROUND


@inlined
def rest(state, book, time, side, distance, quantity):
    """A post-only limit order `distance` ticks behind the efficient price, at most one tick from the opposite best."""
    now = state.now[0]
    below = np.int64(math.floor(now.efficient))
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
        now.refused += 1


@inlined
def take(book, time, side, quantity, reach, owner):
    """A market order that its sender, like an exchange's price band, lets go no further than `reach` ticks."""
    best = best_price(book, -side)
    if best != NO_PRICE:
        limit_order(book, time, side, best + side * reach, quantity, 0, owner, IMMEDIATE)
    else:
        clear_trades(book)


@kernel
def rest_called(state, book, time, side, distance, quantity):
    """`rest` as a call."""
    _rest(state, book, np.int64(time), np.int64(side), np.int64(distance), np.int64(quantity))


@kernel
def _rest(state, book, time, side, distance, quantity):
    rest(state, book, time, side, distance, quantity)


@kernel
def take_called(book, time, side, quantity, reach, owner):
    """`take` as a call."""
    best = best_price(book, -side)
    if best != NO_PRICE:
        send(book, time, side, best + side * reach, quantity, 0, owner, IMMEDIATE)
    else:
        clear_trades(book)


@kernel
def send(book, time, side, price, quantity, order_id, owner, flags):
    """`limit_order` as a call. The constants that it is called with would each make another copy of it."""
    side, order_id, owner, flags = np.int64(side), np.int64(order_id), np.int64(owner), np.int64(flags)
    return _send(book, np.int64(time), side, np.int64(price), np.int64(quantity), order_id, owner, flags)


@kernel
def _send(book, time, side, price, quantity, order_id, owner, flags):
    return limit_order(book, time, side, price, quantity, order_id, owner, flags)


@inlined
def cancel_any(book, word):
    """Cancel an order drawn uniformly from the book by the upper half of `word`; its side, or 0 where it is a maker's.

    A maker's own order is left alone, and so is any other that has an owner.
    """
    count = live_count(book)
    if count == 0:
        return 0
    slot = live_slot(book, np.int64(((word >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32)))
    if order_owner(book, slot) != BACKGROUND:
        return 0
    side = order_side(book, slot)
    cancel_order(book, slot)
    return side


@kernel
def cancel_of_side(book, side, word):
    """Cancel a background order of `side`, the first in the list of live orders from a random place on."""
    count = live_count(book)
    if count == 0:
        return
    place = np.int64(((word >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32))
    for _ in range(count):
        slot = live_slot(book, place)
        if order_side(book, slot) == side and order_owner(book, slot) == BACKGROUND:
            cancel_order(book, slot)
            return
        place += 1
        if place == count:
            place = 0


@inlined
def pull_stale(state, book, side):
    """Cancel the first order of the best quote if the efficient price has passed it."""
    price = best_price(book, side)
    if price != NO_PRICE and side * (price - state.now[0].efficient) > 0.0:
        slot = best_slot(book, side)
        if order_owner(book, slot) == BACKGROUND:
            cancel_order(book, slot)


@kernel
def traded_quantity(book):
    """Lots that the latest order traded."""
    quantity = 0
    for i in range(trade_count(book)):
        quantity += book.trades[i].quantity
    return quantity
