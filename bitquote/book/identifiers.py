"""From order ids to slots: a hash table with open addressing and linear probing (Knuth 1998, TAOCP 3, 6.4).

An entry is a slot; the id itself stands in the slot's order, so that 16 entries share a cache line. Eight ids in a row
have their places side by side, since exchanges number orders in turn and those that live together are of like age. A
removal moves later entries back instead of leaving a tombstone, so that the table never decays. It is at most half
full, and any int64 is an id.
"""

import numpy as np

from bitquote.compilation import inlined

UNKNOWN = -1  # an empty entry, and the slot of an id that the table does not hold

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: Fibonacci hashing
_RUN = np.uint64(3)  # 2**3 ids in a row
_HALF = np.uint64(32)


def allocate_identifiers(capacity: int) -> np.ndarray:
    """An empty table (int32, a power of two long) for `capacity` ids."""
    return np.full(1 << (2 * capacity - 1).bit_length(), UNKNOWN, np.int32)


@inlined
def home(table, order_id):
    """Where the search for an id begins, uint64."""
    word = np.uint64(order_id)
    run = word >> _RUN
    run = ((run ^ (run >> _HALF)) * _GOLDEN) >> _HALF
    return ((run << _RUN) ^ word) & np.uint64(table.size - 1)


@inlined
def _after(table, place):
    """The place after a place of the ring."""
    return (place + np.uint64(1)) & np.uint64(table.size - 1)


@inlined
def find(table, orders, order_id):
    """Slot of an id, UNKNOWN if the table does not hold it."""
    place = home(table, order_id)
    slot = np.int64(table[place])
    while slot != UNKNOWN and orders[np.uint64(slot)].order_id != order_id:
        place = _after(table, place)
        slot = np.int64(table[place])
    return slot


@inlined
def remember(table, order_id, slot):
    """Add an id that the table does not hold, that of the order in `slot`."""
    place = home(table, order_id)
    while table[place] != UNKNOWN:
        place = _after(table, place)
    table[place] = slot


@inlined
def forget(table, orders, order_id, slot):
    """Remove an id that the table holds for `slot`; every other order of the table has its id still."""
    hole = home(table, order_id)
    while table[hole] != slot:
        hole = _after(table, hole)
    place = _after(table, hole)
    while table[place] != UNKNOWN:
        # An entry may fill the hole unless its search begins after the hole.
        mask = np.uint64(table.size - 1)
        beginning = home(table, orders[np.uint64(table[place])].order_id)
        if (place - beginning) & mask >= (place - hole) & mask:
            table[hole] = table[place]
            hole = place
        place = _after(table, place)
    table[hole] = UNKNOWN
