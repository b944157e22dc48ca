"""The hash table against a dict."""

import numpy as np
import pytest

from bitquote.book.identifiers import UNKNOWN, allocate_identifiers, find, forget, remember

EXTREMES = [0, -1, 1, np.iinfo(np.int64).min, np.iinfo(np.int64).max]


@pytest.mark.parametrize("stride", [1, 2**32, 2**40, -7])
def test_like_a_dict(stride):
    capacity = 24
    table, known = allocate_identifiers(capacity), {}
    ids = EXTREMES + [stride * i for i in range(2, 60)]
    generator = np.random.default_rng(abs(stride))
    for slot in range(4000):
        order_id = ids[generator.integers(len(ids))]
        if order_id in known:
            forget(table, order_id)
            del known[order_id]
        elif len(known) < capacity:
            remember(table, order_id, slot)
            known[order_id] = slot
        if slot % 50 == 0:
            assert [find(table, i) for i in ids] == [known.get(i, UNKNOWN) for i in ids]


def test_at_most_half_full():
    assert [len(allocate_identifiers(capacity)) for capacity in (1, 2, 3, 4, 1000)] == [2, 4, 8, 8, 2048]
