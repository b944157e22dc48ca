"""Two ways to write trits down: five to a byte in files, and as the kernels read them.

In files a byte holds five trits as a number in base 3, t0 + 3 t1 + 9 t2 + 27 t3 + 81 t4 with t = weight + 1, so that
243 of 256 values are used: 1.6 bits a weight, where log2(3) = 1.585 is the least.
"""

from __future__ import annotations

import numpy as np

from bitquote.errors import InputError
from bitquote.ternary.kernels import AVX2, BLOCK, CHUNK, LARGEST_BYTES, PORTABLE

TRITS_PER_BYTE = 5
_DIGITS = 3 ** np.arange(TRITS_PER_BYTE)


def packed_size(shape: tuple[int, ...]) -> int:
    """Bytes that trits of this shape take in a file."""
    return -(-int(np.prod(shape)) // TRITS_PER_BYTE)


def pack(trits: np.ndarray) -> np.ndarray:
    """int8 trits of any shape -> uint8 (ceil(size / 5),), in C order; what is missing in the last byte counts as 0."""
    flat = trits.ravel()
    padded = np.zeros(packed_size(trits.shape) * TRITS_PER_BYTE, np.int64)
    padded[: flat.size] = flat
    return ((padded.reshape(-1, TRITS_PER_BYTE) + 1) @ _DIGITS).astype(np.uint8)


def unpack(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse: int8 of `shape`. `InputError` unless `packed` is what `pack` makes of such trits."""
    size = int(np.prod(shape))
    if packed.shape != (packed_size(shape),):
        raise InputError(f"{packed.size} packed bytes: must be {packed_size(shape)} for {size} trits")
    if packed.size and packed.max() >= 3**TRITS_PER_BYTE:
        raise InputError(f"a packed byte is {packed.max()}: must be at most {3**TRITS_PER_BYTE - 1}, five trits")
    trits = (packed[:, None] // _DIGITS % 3 - 1).astype(np.int8).ravel()
    if trits[size:].any():
        raise InputError("there are trits behind the last weight: must be 0")
    return trits[:size].reshape(shape)


def lay_out(trits: np.ndarray, path: int) -> np.ndarray:
    """int8 trits (outputs, inputs) of a layer as `kernels.accumulate` reads them on this path, int8 flat.

    Portable: (inputs, outputs). AVX2: chunks of `CHUNK` pairs of inputs, in them blocks of `BLOCK` outputs, in them the
    pairs; to a pair belong four vectors of 32 bytes, each with the weights + 1 of both inputs to 16 outputs. A layer of
    more than `LARGEST_BYTES` weights has its four vectors in one, two bits each.
    """
    if path == PORTABLE:
        return np.ascontiguousarray(trits.T).ravel()
    assert path == AVX2
    outputs, inputs = trits.shape
    pairs, blocks = -(-inputs // 2), -(-outputs // BLOCK)
    codes = np.ones((blocks * BLOCK, 2 * pairs), np.uint8)
    codes[:outputs, :inputs] = trits + 1
    vectors = codes.reshape(blocks, 4, 16, pairs, 2).transpose(0, 3, 1, 2, 4).reshape(blocks, pairs, 4, 32)
    if codes.size > LARGEST_BYTES:
        vectors = vectors << np.array([0, 2, 4, 6], np.uint8)[:, None]
        vectors = np.bitwise_or.reduce(vectors, axis=2, keepdims=True)
    chunks = [vectors[:, first : first + CHUNK].ravel() for first in range(0, pairs, CHUNK)]
    return np.concatenate(chunks).view(np.int8)
