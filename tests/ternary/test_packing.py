"""Five trits to a byte: an exact round trip, the size that is promised, and nothing else accepted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bitquote.errors import InputError
from bitquote.ternary.packing import pack, packed_size, unpack


@pytest.mark.parametrize("shape", [(1, 1), (5,), (2, 3), (64, 64), (7, 11), (0, 4)])
def test_round_trip(shape):
    trits = np.random.default_rng(0).integers(-1, 2, shape).astype(np.int8)
    packed = pack(trits)
    assert packed.dtype == np.uint8 and packed.shape == (packed_size(shape),)
    np.testing.assert_array_equal(unpack(packed, shape), trits)


def test_every_byte_by_hand():
    assert pack(np.array([-1, -1, -1, -1, -1], np.int8)).tolist() == [0]
    assert pack(np.array([0, 0, 0, 0, 0], np.int8)).tolist() == [121]
    assert pack(np.array([1, 0, 0, 0, -1], np.int8)).tolist() == [122 - 81]
    assert pack(np.array([1], np.int8)).tolist() == [122]
    for byte in range(243):
        assert pack(unpack(np.array([byte], np.uint8), (5,))).tolist() == [byte]


def test_size_is_near_the_limit():
    bits = 8 * packed_size((256, 256)) / 256**2
    assert bits == pytest.approx(1.6, abs=1e-3) and bits / math.log2(3) < 1.0096


@pytest.mark.parametrize(
    ("packed", "shape", "message"),
    [([0, 0], (5,), "2 packed bytes: must be 1"), ([243], (5,), "243: must be at most 242"), ([242], (4,), "behind")],
)
def test_what_pack_does_not_make_is_refused(packed, shape, message):
    with pytest.raises(InputError, match=message):
        unpack(np.array(packed, np.uint8), shape)
