"""Price levels: a ring window a side that follows the market.

Each side keeps the `width` ranks from `low` on as a ring of levels (a power of two, so that a mask finds the level)
with a bitmap of the occupied ones. Every order outside waits in the overflow heap and is strictly worse than the whole
window. A better price than `low` moves the window and pushes its far end to the heap; a best price in the last eighth,
or an empty window, moves it after the market and pulls from the heap: no sooner, so that a best price that comes and
goes moves nothing. A price is wholly in the window or wholly in the heap, and both keep the order of arrival, so a move
never costs an order its place. A side has orders if and only if its window has.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from bitquote.book.overflow import overflow_best, push_overflow, remove_overflow
from bitquote.book.state import HIGHEST, LOWEST, NONE, at, in_window, level_at, side_index, window_mask
from bitquote.compilation import inlined, kernel

EVERY_BIT = np.uint64(0xFFFFFFFFFFFFFFFF)


@intrinsic
def trailing_zeros(typing_context, word):
    """Index of the lowest bit set in a uint64 that is not zero, as int64."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@inlined
def _mark(book, index, rank):
    """Set the bit of a rank."""
    position = rank & window_mask(book)
    word = position >> 6
    book.occupied[at(index * (book.occupied.size >> 1) + word)] |= np.uint64(1) << np.uint64(position & 63)
    book.summary[at(index * (book.summary.size >> 1) + (word >> 6))] |= np.uint64(1) << np.uint64(word & 63)


@inlined
def _unmark(book, index, rank):
    """Clear the bit of a rank."""
    position = rank & window_mask(book)
    word = position >> 6
    place = at(index * (book.occupied.size >> 1) + word)
    book.occupied[place] &= ~(np.uint64(1) << np.uint64(position & 63))
    if book.occupied[place] == 0:
        book.summary[at(index * (book.summary.size >> 1) + (word >> 6))] &= ~(np.uint64(1) << np.uint64(word & 63))


@inlined
def _first_from(book, index, position):
    """First occupied place of the ring at `position` or after it, without going round; -1 if there is none."""
    words = book.occupied.size >> 1
    word = position >> 6
    bits = book.occupied[at(index * words + word)] & (EVERY_BIT << np.uint64(position & 63))
    if bits == 0:
        word += 1
        if word == words:
            return -1
        groups = book.summary.size >> 1
        group = word >> 6
        filled = book.summary[at(index * groups + group)] & (EVERY_BIT << np.uint64(word & 63))
        while filled == 0:
            group += 1
            if group == groups:
                return -1
            filled = book.summary[at(index * groups + group)]
        word = (group << 6) + trailing_zeros(filled)
        bits = book.occupied[at(index * words + word)]
    return (word << 6) + trailing_zeros(bits)


@inlined
def occupied_from(book, index, rank):
    """Lowest occupied rank of a window at `rank` or above, else the lowest of all; the window is not empty."""
    mask = window_mask(book)
    position = _first_from(book, index, rank & mask)
    if position < 0:
        position = _first_from(book, index, 0)
    low = book.sides[at(index)].low
    return low + ((position - low) & mask)


@inlined
def _append(book, index, slot):
    """Put an order at the end of its level inside the window."""
    order = book.orders[at(slot)]
    level = book.levels[at(level_at(book, index, order.rank))]
    order.heap = NONE
    order.next = NONE
    order.previous = level.tail
    if level.head == NONE:
        level.head = slot
        _mark(book, index, order.rank)
        book.sides[at(index)].levels += 1
    else:
        book.orders[at(level.tail)].next = slot
    level.tail = slot
    level.quantity += order.quantity


@inlined
def _start_window(book, index, best):
    """First rank of a window for this best rank: a quarter is kept free for better prices."""
    mask = window_mask(book)
    quarter = (mask + 1) >> 2
    return min(max(best, LOWEST + quarter) - quarter, HIGHEST - mask)


@kernel
def _pull(book, index):
    """Move every order of the heap that the window now covers into it."""
    side = book.sides[at(index)]
    last = side.low + window_mask(book)
    while side.overflow > 0 and book.orders[at(overflow_best(book, index))].rank <= last:
        slot = overflow_best(book, index)
        remove_overflow(book, index, slot)
        _append(book, index, slot)


@kernel
def _evict_from(book, index, rank):
    """Move every level of the window at `rank` or above to the heap."""
    side = book.sides[at(index)]
    while side.levels > 0:
        worst = occupied_from(book, index, rank)
        if worst < rank:
            break
        level = book.levels[at(level_at(book, index, worst))]
        slot = np.int64(level.head)
        while slot != NONE:
            push_overflow(book, index, slot)
            slot = np.int64(book.orders[at(slot)].next)
        level.head = NONE
        level.tail = NONE
        level.quantity = 0
        _unmark(book, index, worst)
        side.levels -= 1


@kernel
def _move_better(book, index, rank):
    """Move the window to a rank better than all it covers."""
    low = _start_window(book, index, rank)
    _evict_from(book, index, low + window_mask(book) + 1)
    book.sides[at(index)].low = low


@kernel
def _move_worse(book, index, best):
    """Move the window after a best rank that has become worse."""
    book.sides[at(index)].low = _start_window(book, index, best)
    _pull(book, index)


@inlined
def link(book, slot):
    """Put an order, its side, rank and quantity set, at the end of the queue of its price."""
    order = book.orders[at(slot)]
    rank = order.rank
    index = side_index(order.side)
    side = book.sides[at(index)]
    counters = book.counters[0]
    order.arrival = counters.arrivals
    counters.arrivals += 1
    if side.levels == 0:
        side.low = _start_window(book, index, rank)
        side.best = rank
    elif rank < side.best:
        if rank < side.low:
            _move_better(book, index, rank)
        side.best = rank
    elif not in_window(book, index, rank):
        mask = window_mask(book)
        if side.best - side.low > mask - (mask >> 3):
            _move_worse(book, index, side.best)
        if not in_window(book, index, rank):
            push_overflow(book, index, slot)
            return
    _append(book, index, slot)


@inlined
def _level_emptied(book, index, rank):
    """Forget a level without orders and find the side's next best."""
    side = book.sides[at(index)]
    _unmark(book, index, rank)
    side.levels -= 1
    if side.levels > 0:
        if rank == side.best:
            side.best = occupied_from(book, index, rank)
    elif side.overflow > 0:
        side.best = book.orders[at(overflow_best(book, index))].rank
        _move_worse(book, index, side.best)


@inlined
def unlink(book, slot):
    """Take an order out of its queue; its slot stays taken."""
    order = book.orders[at(slot)]
    index = side_index(order.side)
    if order.heap != NONE:
        remove_overflow(book, index, slot)
        return
    level = book.levels[at(level_at(book, index, order.rank))]
    level.quantity -= order.quantity
    if order.previous == NONE:
        level.head = order.next
    else:
        book.orders[at(order.previous)].next = order.next
    if order.next == NONE:
        level.tail = order.previous
    else:
        book.orders[at(order.next)].previous = order.previous
    if level.head == NONE:
        _level_emptied(book, index, order.rank)
