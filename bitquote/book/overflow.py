"""Orders beyond a side's window: a binary heap of slots ordered by (rank, arrival), each order knowing its place.

Rare by design, so that the logarithm does not matter; what it buys is that the best comes first and that orders of
one price come back in the order of their arrival.
"""

import numpy as np

from bitquote.book.state import NONE, at
from bitquote.compilation import inlined, kernel


@inlined
def _before(book, one, other):
    """Whether slot `one` has priority over slot `other` of the same side."""
    a = book.orders[at(one)]
    b = book.orders[at(other)]
    return a.rank < b.rank or (a.rank == b.rank and a.arrival < b.arrival)


@kernel
def _settle(book, index, place, slot):
    """Put `slot` at a free place of the heap, or above or below it where the order of the heap wants it."""
    heap = book.overflow[index * book.live.size :]
    size = book.sides[at(index)].overflow
    while place > 0 and _before(book, slot, heap[(place - 1) >> 1]):
        parent = (place - 1) >> 1
        heap[place] = heap[parent]
        book.orders[at(heap[place])].heap = place
        place = parent
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _before(book, heap[child + 1], heap[child]):
            child += 1
        if not _before(book, heap[child], slot):
            break
        heap[place] = heap[child]
        book.orders[at(heap[place])].heap = place
        place = child
    heap[place] = slot
    book.orders[at(slot)].heap = place


@kernel
def push_overflow(book, index, slot):
    """Add an order to the heap."""
    place = book.sides[at(index)].overflow
    book.sides[at(index)].overflow = place + 1
    _settle(book, index, place, slot)


@kernel
def remove_overflow(book, index, slot):
    """Take an order out of the heap."""
    place = np.int64(book.orders[at(slot)].heap)
    book.orders[at(slot)].heap = NONE
    last = book.sides[at(index)].overflow - 1
    book.sides[at(index)].overflow = last
    if place < last:
        _settle(book, index, place, np.int64(book.overflow[index * book.live.size + last]))


@inlined
def overflow_best(book, index):
    """Slot of the order first in priority in a heap that is not empty."""
    return np.int64(book.overflow[index * book.live.size])
