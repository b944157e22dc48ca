"""The arrays of one book, and how the kernels find their way in them.

Rank. A bid of price p has rank ~p (= -p - 1), an ask has rank p: on either side the lowest rank is the best price,
so that one code serves both, and no int64 price overflows.

Slot. An order is known by its slot, an index into `orders` that never changes while it lives. `live` is a permutation
of all slots, the living first: it is the list to draw from and the free list in one.
"""

from typing import NamedTuple

import numpy as np

from bitquote.compilation import inlined, kernel

LOWEST = np.iinfo(np.int64).min
HIGHEST = np.iinfo(np.int64).max
NONE = -1  # no slot, or no place in the heap

at = np.uint64  # an index that is not negative: numba then leaves out the test for counting from the end

# One order is one cache line of 64 bytes.
ORDER = np.dtype(
    [
        ("order_id", np.int64),
        ("rank", np.int64),
        ("quantity", np.int64),  # what is left
        ("time", np.int64),  # of the message that gave it its place
        ("arrival", np.int64),  # grows with every place taken: time priority
        ("next", np.int32),  # slot behind it in its level
        ("previous", np.int32),  # slot ahead of it in its level
        ("heap", np.int32),  # place in the overflow heap, NONE inside the window
        ("live", np.int32),  # place in the list of live slots
        ("owner", np.int16),
        ("side", np.int8),  # +1 bid, -1 ask
    ],
    align=True,
)
LEVEL = np.dtype([("quantity", np.int64), ("head", np.int32), ("tail", np.int32)], align=True)
SIDE = np.dtype(
    [
        ("low", np.int64),  # first rank of the window
        ("best", np.int64),  # lowest rank of the side; meaningless while it is empty
        ("levels", np.int64),  # occupied levels of the window
        ("overflow", np.int64),  # orders in the heap
    ],
    align=True,
)
COUNTERS = np.dtype([("live", np.int64), ("trades", np.int64), ("arrivals", np.int64)], align=True)
# What one trade leaves behind for the simulator and the face; time and taker are those of the message.
FILL = np.dtype(
    [
        ("maker_id", np.int64),
        ("price", np.int64),  # ticks
        ("quantity", np.int64),
        ("remaining", np.int64),  # left of the maker's order; at 0 its slot is free again
        ("maker_slot", np.int32),
        ("maker_owner", np.int16),
        ("aggressor", np.int8),  # the taker's side
    ],
    align=True,
)


class BookState(NamedTuple):
    """The arrays of one book; side 0 is the bid and side 1 the ask, one after the other where an array holds both."""

    orders: np.ndarray  # ORDER (capacity,)
    live: np.ndarray  # int32 (capacity,)
    levels: np.ndarray  # LEVEL (2 width,)
    occupied: np.ndarray  # uint64 (2 words,): one bit a level
    summary: np.ndarray  # uint64 (2 groups,): one bit a word of `occupied`
    overflow: np.ndarray  # int32 (2 capacity,): a heap of slots a side
    sides: np.ndarray  # SIDE (2,)
    counters: np.ndarray  # COUNTERS (1,)
    trades: np.ndarray  # FILL (capacity,): a message cannot meet more orders than that


def allocate(ticks: int, capacity: int) -> BookState:
    """An empty book whose windows are `ticks` wide, rounded up to a power of two, for `capacity` live orders."""
    width = 1 << (ticks - 1).bit_length()
    words = max(width // 64, 1)
    groups = max(words // 64, 1)
    book = BookState(
        orders=_on_cache_lines(capacity),
        live=np.empty(capacity, np.int32),
        levels=np.empty(2 * width, LEVEL),
        occupied=np.empty(2 * words, np.uint64),
        summary=np.empty(2 * groups, np.uint64),
        overflow=np.empty(2 * capacity, np.int32),
        sides=np.empty(2, SIDE),
        counters=np.empty(1, COUNTERS),
        trades=np.empty(capacity, FILL),
    )
    reset(book)
    return book


def _on_cache_lines(capacity: int) -> np.ndarray:
    """Uninitialised orders, each on a cache line of its own."""
    raw = np.empty((capacity + 1) * ORDER.itemsize, np.uint8)
    start = -raw.ctypes.data % ORDER.itemsize
    return raw[start : start + capacity * ORDER.itemsize].view(ORDER)


@kernel
def reset(book):
    """Empty the book."""
    for i in range(book.live.size):
        book.live[i] = i
    for i in range(book.levels.size):
        level = book.levels[i]
        level.quantity = 0
        level.head = NONE
        level.tail = NONE
    book.occupied[:] = 0
    book.summary[:] = 0
    for i in range(2):
        side = book.sides[i]
        side.low = 0
        side.best = 0
        side.levels = 0
        side.overflow = 0
    counters = book.counters[0]
    counters.live = 0
    counters.trades = 0
    counters.arrivals = 0


@inlined
def side_index(side):
    """0 for the bid (+1), 1 for the ask (-1)."""
    return (1 - np.int64(side)) >> 1


@inlined
def rank_of(side, price):
    """Rank of a price on a side, and equally the price of a rank."""
    return ~price if side > 0 else price


@inlined
def window_mask(book):
    """Window width - 1."""
    return (book.levels.size >> 1) - 1


@inlined
def level_at(book, index, rank):
    """Place in `levels` of a rank inside the window of side `index`."""
    mask = window_mask(book)
    return index * (mask + 1) + (rank & mask)


@inlined
def in_window(book, index, rank):
    """Whether the window of side `index` covers `rank`."""
    low = book.sides[at(index)].low
    return low <= rank <= low + window_mask(book)


@inlined
def acquire(book):
    """A free slot, now the last of the live ones; the book is not full."""
    counters = book.counters[0]
    place = counters.live
    counters.live = place + 1
    slot = np.int64(book.live[at(place)])
    book.orders[at(slot)].live = place
    return slot


@inlined
def release(book, slot):
    """Give a slot back; the last live one takes its place in the list."""
    counters = book.counters[0]
    last = counters.live - 1
    counters.live = last
    place = book.orders[at(slot)].live
    moved = book.live[at(last)]
    book.live[at(place)] = moved
    book.orders[at(moved)].live = place
    book.live[at(last)] = slot
