"""The hash table against a dict."""

import numpy as np
import pytest

from bitquote.book.identifiers import UNKNOWN, allocate_identifiers, find, forget, remember
from bitquote.book.state import ORDER

EXTREMES = [0, -1, 1, np.iinfo(np.int64).min, np.iinfo(np.int64).max]


@pytest.mark.parametrize("stride", [1, 8, 2**32, 2**40, 2**61, -7])
def test_like_a_dict(stride):
    capacity = 24
    table, known = allocate_identifiers(capacity), {}
    orders, free = np.zeros(capacity, ORDER), list(range(capacity))
    ids = EXTREMES + [int(np.int64(np.uint64(stride * i % 2**64))) for i in range(2, 60)]
    ids = sorted(set(ids))
    generator = np.random.default_rng(abs(stride))
    for step in range(4000):
        order_id = ids[generator.integers(len(ids))]
        if order_id in known:
            slot = known.pop(order_id)
            if step % 3 == 0:
                orders["order_id"][slot] = 77  # as after a fill: the slot is another order's by now
            forget(table, orders, order_id, slot)
            free.append(slot)
        elif free:
            slot = free.pop(int(generator.integers(len(free))))
            orders["order_id"][slot] = order_id
            remember(table, order_id, slot)
            known[order_id] = slot
        if step % 50 == 0:
            assert [find(table, orders, i) for i in ids] == [known.get(i, UNKNOWN) for i in ids]


def test_at_most_half_full():
    assert [len(allocate_identifiers(capacity)) for capacity in (1, 2, 3, 4, 1000)] == [2, 4, 8, 8, 2048]
