"""Two ways to write trits down: five to a byte in files, and as the kernels read them.

In files a byte holds five trits as a number in base 3, t0 + 3 t1 + 9 t2 + 27 t3 + 81 t4 with t = weight + 1, so that
243 of 256 values are used: 1.6 bits a weight, where log2(3) = 1.585 is the least.
"""

from __future__ import annotations

import numpy as np

from bitquote.compilation import kernel
from bitquote.errors import InputError
from bitquote.ternary.kernels import BLOCK, CHUNK, LARGEST_BYTES, PORTABLE, layer_bytes

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
    outputs, inputs = trits.shape
    laid_out = np.empty(layer_bytes(inputs, outputs, path), np.int8)
    lay_out_into(np.ascontiguousarray(trits), path, laid_out)
    return laid_out


@kernel
def lay_out_into(trits, path, out):
    """`lay_out` into a given array."""
    outputs, inputs = trits.shape
    if path == PORTABLE:
        for o in range(outputs):
            for i in range(inputs):
                out[i * outputs + o] = trits[o, i]
        return
    pairs, blocks = (inputs + 1) // 2, (outputs + BLOCK - 1) // BLOCK
    in_bytes = 2 * pairs * blocks * BLOCK <= LARGEST_BYTES
    vectors = 4 if in_bytes else 1
    out[:] = 1 if in_bytes else 0b01010101  # weights of nothing are 0
    for o in range(outputs):
        block, vector, lane = o // BLOCK, o % BLOCK // 16, o % 16
        for first in range(0, pairs, CHUNK):
            chunk = min(CHUNK, pairs - first)
            start = 32 * vectors * (blocks * first + block * chunk) + 2 * lane + (32 * vector if in_bytes else 0)
            shift = 0 if in_bytes else 2 * vector
            for i in range(2 * first, min(2 * (first + chunk), inputs), 2):  # onto the 1 that is there
                out[start] += trits[o, i] << shift
                if i + 1 < inputs:
                    out[start + 1] += trits[o, i + 1] << shift
                start += 32 * vectors
