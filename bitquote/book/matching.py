"""Matching by price, then time: the kernels on slots that the simulator and the face share.

Arguments are int64 unless said otherwise: `side` is +1 (bid) or -1 (ask), prices are ticks, `owner` is the caller's
mark (0 background, 1 the maker; kept as int16), `slot` is what `limit_order` returned and still lives. `limit_order`,
`market_order` and `replace_order` begin with an empty list of trades, so `book.trades[:trade_count(book)]` is what the
latest of them traded, and a sweep of the whole book always fits.
"""

import numpy as np

from bitquote.book.levels import link, occupied_from, unlink
from bitquote.book.state import (
    HIGHEST,
    LOWEST,
    NONE,
    BookState,
    acquire,
    allocate,
    at,
    in_window,
    level_at,
    rank_of,
    release,
    reset,
    side_index,
)
from bitquote.compilation import inlined, kernel

__all__ = [
    "BOOK_FULL",
    "FILL_OR_KILL",
    "IMMEDIATE",
    "NOTHING_RESTS",
    "NO_PRICE",
    "POST_ONLY",
    "REJECTED",
    "BookState",
    "ahead_of",
    "allocate",
    "best_price",
    "best_quantity",
    "best_slot",
    "cancel_order",
    "clear_trades",
    "crosses",
    "level_quantity",
    "limit_order",
    "live_count",
    "live_slot",
    "market_order",
    "next_price",
    "order_owner",
    "order_price",
    "order_quantity",
    "order_side",
    "quantity_before",
    "reduce_order",
    "replace_order",
    "reset",
    "trade_count",
    "worse_rank",
]

# Bits of a message's flags.
POST_ONLY = 1
IMMEDIATE = 2  # immediate-or-cancel: what is left does not rest
FILL_OR_KILL = 4

# What limit_order and replace_order return instead of a slot.
NOTHING_RESTS = -1
REJECTED = -2
BOOK_FULL = -3

NO_PRICE = LOWEST


# ---- orders


@inlined
def limit_order(book, time, side, price, quantity, order_id, owner, flags):
    """Trade what crosses and rest what is left; the slot of the resting order, or one of three codes.

    NOTHING_RESTS: filled, or the rest of an immediate-or-cancel is gone. REJECTED, nothing changed: no positive
    quantity, post-only that crosses, fill-or-kill that cannot fill. BOOK_FULL, nothing changed: no slot is free.
    """
    clear_trades(book)
    if quantity <= 0 or _refused(book, side, price, quantity, flags):
        return REJECTED
    rests = flags & (IMMEDIATE | FILL_OR_KILL) == 0
    # An order that crosses and still rests has filled a maker's order and thereby freed its slot.
    if rests and book.counters[0].live == book.live.size and not crosses(book, side, price):
        return BOOK_FULL
    left = _match(book, side, rank_of(-side, price), quantity)
    if left == 0 or not rests:
        return NOTHING_RESTS
    slot = acquire(book)
    order = book.orders[at(slot)]
    order.order_id = order_id
    order.owner = owner
    order.side = side
    order.rank = rank_of(side, price)
    order.quantity = left
    order.time = time
    link(book, slot)
    return slot


@inlined
def market_order(book, time, side, quantity, taker_id, owner):
    """Trade at any price; the quantity filled.

    `time`, `taker_id` and `owner` are the message's; trades do not repeat them.
    """
    clear_trades(book)
    return quantity - _match(book, side, HIGHEST, quantity)


@inlined
def cancel_order(book, slot):
    """Take an order off the book."""
    unlink(book, slot)
    release(book, slot)


@inlined
def reduce_order(book, slot, quantity):
    """Take `quantity` > 0 off an order, which keeps its place; all of it or more cancels."""
    order = book.orders[at(slot)]
    if quantity >= order.quantity:
        cancel_order(book, slot)
        return
    order.quantity -= quantity
    if order.heap == NONE:
        book.levels[at(level_at(book, side_index(order.side), order.rank))].quantity -= quantity


@inlined
def replace_order(book, time, slot, price, quantity, flags):
    """Give an order a new price and a new remaining quantity; its slot, which does not change, or a code.

    The same price with the same or a lower quantity keeps its place and cannot trade, so that flags have nothing to
    govern. Anything else is a new order in the same slot: it may trade (NOTHING_RESTS when it is gone) and goes to the
    end of its queue. REJECTED, nothing changed: as for `limit_order`.
    """
    clear_trades(book)
    if quantity <= 0:
        return REJECTED
    order = book.orders[at(slot)]
    side = np.int64(order.side)
    rank = rank_of(side, price)
    if rank == order.rank and quantity <= order.quantity:
        if quantity < order.quantity:
            reduce_order(book, slot, order.quantity - quantity)
        return slot
    if _refused(book, side, price, quantity, flags):
        return REJECTED
    unlink(book, slot)
    left = _match(book, side, rank_of(-side, price), quantity)
    if left == 0 or flags & (IMMEDIATE | FILL_OR_KILL):
        release(book, slot)
        return NOTHING_RESTS
    order.rank = rank
    order.quantity = left
    order.time = time
    link(book, slot)
    return slot


@inlined
def _match(book, side, worst, quantity):
    """Trade up to `quantity` with the other side's orders of rank <= `worst`; the quantity left."""
    index = side_index(-side)
    opposite = book.sides[at(index)]
    counters = book.counters[0]
    while quantity > 0 and opposite.levels > 0 and opposite.best <= worst:
        level = book.levels[at(level_at(book, index, opposite.best))]
        slot = np.int64(level.head)
        maker = book.orders[at(slot)]
        filled = min(quantity, maker.quantity)
        quantity -= filled
        trade = book.trades[at(counters.trades)]
        counters.trades += 1
        trade.maker_id = maker.order_id
        trade.price = rank_of(-side, opposite.best)
        trade.quantity = filled
        trade.remaining = maker.quantity - filled
        trade.maker_slot = slot
        trade.maker_owner = maker.owner
        trade.aggressor = side
        if filled < maker.quantity:
            maker.quantity -= filled
            level.quantity -= filled
        else:
            unlink(book, slot)
            release(book, slot)
    return quantity


@inlined
def crosses(book, side, price):
    """Whether an order of this side and price meets the best of the other side."""
    opposite = book.sides[at(side_index(-side))]
    return opposite.levels > 0 and opposite.best <= rank_of(-side, price)


@inlined
def _refused(book, side, price, quantity, flags):
    """Whether the flags forbid the order as the book stands."""
    if flags & POST_ONLY and crosses(book, side, price):
        return True
    return bool(flags & FILL_OR_KILL) and not _can_fill(book, side_index(-side), rank_of(-side, price), quantity)


@kernel
def _can_fill(book, index, worst, quantity):
    """Whether the orders of rank <= `worst` hold `quantity`; subtracts, so that no sum can overflow."""
    side = book.sides[at(index)]
    if side.levels == 0:
        return False
    rank = side.best
    while rank <= worst:
        slot = np.int64(book.levels[at(level_at(book, index, rank))].head)
        while slot != NONE:
            quantity -= book.orders[at(slot)].quantity
            if quantity <= 0:
                return True
            slot = np.int64(book.orders[at(slot)].next)
        following = _next_in_window(book, index, rank)
        if following <= rank:
            break
        rank = following
    for i in range(index * book.live.size, index * book.live.size + side.overflow):
        order = book.orders[at(book.overflow[i])]
        if order.rank <= worst:
            quantity -= order.quantity
            if quantity <= 0:
                return True
    return False


# ---- questions


@inlined
def best_price(book, side):
    """Best price of a side, NO_PRICE when it is empty."""
    state = book.sides[at(side_index(side))]
    return rank_of(side, state.best) if state.levels > 0 else NO_PRICE


@inlined
def best_slot(book, side):
    """Slot of the order that trades first on a side, NONE when it is empty."""
    index = side_index(side)
    state = book.sides[at(index)]
    return np.int64(book.levels[at(level_at(book, index, state.best))].head) if state.levels > 0 else NONE


@inlined
def best_quantity(book, side):
    """Quantity at the best price of a side, 0 when it is empty."""
    index = side_index(side)
    state = book.sides[index]
    return book.levels[level_at(book, index, state.best)].quantity if state.levels > 0 else 0


@kernel
def level_quantity(book, side, price):
    """Quantity resting at a price."""
    index = side_index(side)
    rank = rank_of(side, price)
    if in_window(book, index, rank):
        return book.levels[at(level_at(book, index, rank))].quantity
    return _overflow_quantity(book, index, rank, HIGHEST)


@kernel
def next_price(book, side, price):
    """Best occupied price worse than `price`, NO_PRICE if there is none."""
    rank = rank_of(side, price)
    following = worse_rank(book, side_index(side), rank)
    return rank_of(side, following) if following > rank else NO_PRICE


@kernel
def worse_rank(book, index, rank):
    """Lowest occupied rank above `rank`; `rank` itself if there is none."""
    side = book.sides[at(index)]
    if side.levels == 0:
        return rank
    if rank < side.best:
        return side.best
    if in_window(book, index, rank):
        following = _next_in_window(book, index, rank)
        if following > rank:
            return following
    following = rank
    for i in range(index * book.live.size, index * book.live.size + side.overflow):
        other = book.orders[at(book.overflow[i])].rank
        if other > rank and (following == rank or other < following):
            following = other
    return following


@inlined
def _next_in_window(book, index, rank):
    """Next occupied rank of the window after `rank`, which it covers; some rank <= `rank` if there is none."""
    return occupied_from(book, index, rank + 1) if rank < HIGHEST else rank


@kernel
def ahead_of(book, slot):
    """Quantity that trades before an order at its own price."""
    order = book.orders[at(slot)]
    if order.heap != NONE:
        return _overflow_quantity(book, side_index(order.side), order.rank, order.arrival)
    ahead = 0
    other = np.int64(order.previous)
    while other != NONE:
        ahead += book.orders[at(other)].quantity
        other = np.int64(book.orders[at(other)].previous)
    return ahead


@kernel
def quantity_before(book, side, price, arrival):
    """Quantity at a price of the orders that took their places before `arrival`, a value of the count of arrivals."""
    index = side_index(side)
    rank = rank_of(side, price)
    if not in_window(book, index, rank):
        return _overflow_quantity(book, index, rank, arrival)
    before = 0
    slot = np.int64(book.levels[at(level_at(book, index, rank))].head)
    while slot != NONE and book.orders[at(slot)].arrival < arrival:
        before += book.orders[at(slot)].quantity
        slot = np.int64(book.orders[at(slot)].next)
    return before


@kernel
def _overflow_quantity(book, index, rank, arrival):
    """Quantity of the heap's orders at a rank that came before `arrival`."""
    total = 0
    for i in range(index * book.live.size, index * book.live.size + book.sides[at(index)].overflow):
        order = book.orders[at(book.overflow[i])]
        if order.rank == rank and order.arrival < arrival:
            total += order.quantity
    return total


@inlined
def live_count(book):
    """Number of live orders."""
    return book.counters[0].live


@inlined
def live_slot(book, i):
    """Slot of the i-th live order, 0 <= i < live_count(book); the numbering changes whenever an order leaves."""
    return np.int64(book.live[at(i)])


@inlined
def order_price(book, slot):
    """Price of an order."""
    order = book.orders[at(slot)]
    return rank_of(order.side, order.rank)


@inlined
def order_quantity(book, slot):
    """Quantity left of an order."""
    return book.orders[at(slot)].quantity


@inlined
def order_side(book, slot):
    """Side of an order, +1 or -1."""
    return np.int64(book.orders[at(slot)].side)


@inlined
def order_owner(book, slot):
    """The caller's mark on an order."""
    return np.int64(book.orders[at(slot)].owner)


@inlined
def trade_count(book):
    """Number of trades of the latest taking message."""
    return book.counters[0].trades


@inlined
def clear_trades(book):
    """Forget the trades."""
    book.counters[0].trades = 0
