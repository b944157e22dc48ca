"""From order ids to slots: a hash table with open addressing and linear probing (Knuth 1998, TAOCP 3, 6.4).

A removal moves later entries back instead of leaving a tombstone, so that the table never decays. It is at most half
full, and any int64 is an id.
"""

import numpy as np

from bitquote.compilation import inlined

ENTRY = np.dtype([("order_id", np.int64), ("slot", np.int64)], align=True)
UNKNOWN = -1  # slot of an empty entry

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: Fibonacci hashing


def allocate_identifiers(capacity: int) -> np.ndarray:
    """An empty table (ENTRY, a power of two long) for `capacity` ids."""
    table = np.empty(1 << (2 * capacity - 1).bit_length(), ENTRY)
    table["slot"] = UNKNOWN
    return table


@inlined
def _home(table, order_id):
    """Where the search for an id begins."""
    word = np.uint64(order_id) * _GOLDEN
    return np.int64(word >> np.uint64(32)) & (table.size - 1)


@inlined
def _place(table, order_id):
    """Place of an id's entry, or of the empty entry where its search ends."""
    place = _home(table, order_id)
    while table[place].slot != UNKNOWN and table[place].order_id != order_id:
        place = (place + 1) & (table.size - 1)
    return place


@inlined
def find(table, order_id):
    """Slot of an id, UNKNOWN if the table does not hold it."""
    return table[_place(table, order_id)].slot


@inlined
def remember(table, order_id, slot):
    """Add an id that the table does not hold."""
    entry = table[_place(table, order_id)]
    entry.order_id = order_id
    entry.slot = slot


@inlined
def forget(table, order_id):
    """Remove an id that the table holds."""
    mask = table.size - 1
    hole = _place(table, order_id)
    place = (hole + 1) & mask
    while table[place].slot != UNKNOWN:
        # An entry may fill the hole unless its search begins after the hole.
        if (place - _home(table, table[place].order_id)) & mask >= (place - hole) & mask:
            table[hole].order_id = table[place].order_id
            table[hole].slot = table[place].slot
            hole = place
        place = (place + 1) & mask
    table[hole].slot = UNKNOWN
