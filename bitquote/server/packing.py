"""How gradients and weights are packed into bytes, and unpacked from bytes that may be hostile.

A gradient's values may be ternary (Wen, Xu, Yan, Wu, Wang, Chen and Li, "TernGrad", NIPS 2017), and keys may be left
out; a list of keys that was sent before is known by its hash (key caching; Li, Andersen, Park, Smola, Ahmed,
Josifovski, Long, Shekita and Su, "Scaling Distributed Machine Learning with the Parameter Server", OSDI 2014).
"""

from __future__ import annotations

import functools
import hashlib
import struct
from collections import OrderedDict
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from bitquote.errors import InputError

LISTS_KEPT = 4
"""Key lists that each side remembers of the other."""


class Encoding(IntEnum):
    """How `Message.values` and `Reply.values` are packed."""

    PLAIN = 0  # float32, one value a key
    TERNARY = 1  # 2 bits a key and a float32 scale a tensor
    SPARSE = 2  # some keys only, with their list
    CACHED = 3  # some keys only, with the hash of a list that was sent before


class Unpackable(InputError):
    """A packet that is none, or a push that its shard cannot apply. `reason` is one word, as a refused push names it:
    "shape", "keys" or "nonfinite" of a packet; the update rule adds "hyper"."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Packet(NamedTuple):
    """What goes into a message: `values` is float32 (plain) or uint8."""

    encoding: int
    values: np.ndarray


class Unpacked(NamedTuple):
    """What came out. `keys` None: float32 `values` (size,), one a key. Otherwise `values` (k,) belong to `keys` (k,),
    int64, ascending, in [0, size), and of the others there is no news: they are as they were last sent.
    `active` (size,) bool is the KKT filter's active set, None where it did not travel along."""

    values: np.ndarray
    keys: np.ndarray | None = None
    active: np.ndarray | None = None


# Key lists.


class KeyCache:
    """The key lists that one side has sent to the other, by their hash; the receiver keeps the keys themselves.

    One object a sender, a receiver and a direction. Both hold the last `LISTS_KEPT` that were used, in the same order
    as long as no message was lost between them. Where one was, the receiver misses a list, refuses ("keys"), and the
    sender clears its object, so that the list itself is sent next.
    """

    def __init__(self) -> None:
        self._lists: OrderedDict[bytes, np.ndarray | None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._lists)

    def clear(self) -> None:
        """Forget all: the other side has forgotten them, or may never have heard of them."""
        self._lists.clear()

    def use(self, digest: bytes) -> bool:
        """Whether `digest` is known; it is then the last used."""
        known = digest in self._lists
        if known:
            self._lists.move_to_end(digest)
        return known

    def remember(self, digest: bytes, keys: np.ndarray | None = None) -> None:
        """Add a list (the sender needs only the digest), and forget the one that was not used for longest."""
        self._lists[digest] = keys
        self._lists.move_to_end(digest)
        if len(self._lists) > LISTS_KEPT:
            self._lists.popitem(last=False)

    def find(self, digest: bytes, size: int) -> np.ndarray:
        """The list of `digest`, of keys below `size`; refuses with "keys" when it is not here."""
        keys = self._lists.get(digest)
        if keys is None or (len(keys) and keys[-1] >= size):
            raise Unpackable("keys", "a key list that is not known here: send the list itself")
        self.use(digest)
        return keys


# The packed form of encodings 1 to 3, little-endian, every section padded to 4 bytes:
#   header   coding, form of the keys, whether there is a mask, whether there is an active set; number of keys of the
#            range, of listed keys, of values; digest of the key list
#   active   a bitmap over the range, if there is one
#   keys     a uint32 each (ascending), or a bitmap over the range, or nothing (all keys; or a list known by digest)
#   mask     a bitmap over the listed keys: those without a bit are zero (random skip), not absent
#   values   a float32 each; or ternary: number of tensors, values in each (uint32), scales (float32), 2 bits a value
_HEADER = struct.Struct("<BBBBIII8s")
HEADER_BYTES = _HEADER.size
_PLAIN, _FLOAT32 = int(Encoding.PLAIN), np.dtype(np.float32)  # compared with at every push
_FLOAT, _TERNARY = 0, 1
_ALL, _LIST, _BITMAP, _DIGEST = 0, 1, 2, 3
_NO_DIGEST = bytes(8)


def pack(
    values: np.ndarray,
    size: int,
    keys: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    tensors: np.ndarray | None = None,
    rng: np.random.Generator | None = None,
    cache: KeyCache | None = None,
    active: np.ndarray | None = None,
) -> Packet:
    """Pack what belongs to some of `size` keys.

    Args:
        values: float32 (k,), or (size,) when `keys` is None.
        keys: integers (k,), ascending, in [0, size); None: all. The receiver takes others for unchanged.
        mask: bool (k,); values without it are left out and arrive as zero. The caller has done the scaling.
        tensors: numbers of `values` (of those with the mask) that share one ternary scale, int (t,); None: float32.
        rng: what the ternary values are drawn with.
        cache: remembers the lists that were sent; None: always send the list.
        active: bool (size,), the KKT filter's active set, to travel along.
    """
    if keys is None and mask is None and tensors is None and active is None:
        return Packet(Encoding.PLAIN, values)
    encoding, form, digest, section = Encoding.SPARSE, _ALL, _NO_DIGEST, b""
    if keys is not None:
        form, section = _key_section(keys, size)
        digest = _digest(form, size, section)
        if cache is not None and cache.use(digest):
            encoding, form, section = Encoding.CACHED, _DIGEST, b""
        elif cache is not None:
            cache.remember(digest)
    elif mask is None and active is None:
        encoding = Encoding.TERNARY
    count = len(values)
    kept = values if mask is None else values.take(np.flatnonzero(mask))  # (several times as fast as values[mask])
    sections = [] if active is None else [_padded(np.packbits(active).tobytes())]
    sections.append(_padded(section))
    if mask is not None:
        sections.append(_padded(np.packbits(mask).tobytes()))
    sections += _ternary_sections(kept, tensors, rng) if tensors is not None else [kept.tobytes()]
    coding = _FLOAT if tensors is None else _TERNARY
    header = _HEADER.pack(coding, form, mask is not None, active is not None, size, count, len(kept), digest)
    return Packet(encoding, np.frombuffer(b"".join([header, *sections]), np.uint8))


def unpack(encoding: int, values: np.ndarray | None, size: int, cache: KeyCache | None = None) -> Unpacked:
    """What `pack` packed for a range of `size` keys; raises `Unpackable` for anything else.

    Plain values are not copied. Nothing is assumed about where the bytes come from; but values are not judged, that is
    for `filters.refusal`.
    """
    if not isinstance(values, np.ndarray):
        raise Unpackable("shape", "there are no values")
    if encoding == _PLAIN:
        if values.dtype != _FLOAT32 or values.ndim != 1 or len(values) != size:
            raise Unpackable("shape", f"expected {size} float32 values, got {values.dtype} of shape {values.shape}")
        return Unpacked(values)
    if values.dtype != np.uint8 or values.ndim != 1 or len(values) < _HEADER.size:
        raise Unpackable("shape", "packed values must be bytes, and at least a header of them")
    reader = _Reader(values.tobytes())
    coding, form, masked, with_active, total, count, kept, digest = _HEADER.unpack(reader.take(_HEADER.size))
    flags = coding <= _TERNARY and form <= _DIGEST and masked <= 1 and with_active <= 1
    if not flags or encoding != _encoding(coding, form, masked or with_active):
        raise Unpackable("shape", f"values of encoding {encoding} that are packed in no such way")
    if total != size or count > size or kept > count or (not masked and kept != count):
        raise Unpackable("shape", f"packed for {total} keys, of which {count}, where {size} were announced")
    active = _bitmap(reader.take_padded(-(-size // 8)), size) if with_active else None
    keys = _read_keys(reader, form, size, count, digest, cache)
    mask = _bitmap(reader.take_padded(-(-count // 8)), count, kept) if masked else None
    some = _read_ternary(reader, kept) if coding == _TERNARY else _floats(reader.take(4 * kept))
    reader.end()
    if mask is None:
        return Unpacked(some, keys, active)
    every = np.zeros(count, np.float32)
    every[np.flatnonzero(mask)] = some
    return Unpacked(every, keys, active)


def _encoding(coding: int, form: int, more: int) -> int:
    """The encoding that must have announced a packed form; -1 where that should have been plain."""
    if form == _DIGEST:
        return Encoding.CACHED
    if form != _ALL or more:
        return Encoding.SPARSE
    return Encoding.TERNARY if coding == _TERNARY else -1


class _Reader:
    """Takes sections off the front of some bytes; refuses with "shape" to read past their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, length: int) -> memoryview:
        start, self._at = self._at, self._at + length
        if self._at > len(self._data):
            raise Unpackable("shape", "packed values end too early")
        return memoryview(self._data)[start : self._at]

    def take_padded(self, length: int) -> memoryview:
        return self.take(length + -length % 4)[:length]

    def end(self) -> None:
        if self._at != len(self._data):
            raise Unpackable("shape", "packed values go on after their end")


def _padded(section: bytes) -> bytes:
    return section + bytes(-len(section) % 4)


def _floats(section: memoryview) -> np.ndarray:
    return np.frombuffer(section, "<f4").astype(np.float32, copy=False)


def _key_section(keys: np.ndarray, size: int) -> tuple[int, bytes]:
    """Form and bytes of a key list: whichever is shorter."""
    if 4 * len(keys) <= size // 8:
        return _LIST, keys.astype("<u4").tobytes()
    present = np.zeros(size, bool)
    present[keys] = True
    return _BITMAP, np.packbits(present).tobytes()


def _digest(form: int, size: int, section: bytes | memoryview) -> bytes:
    return hashlib.blake2b(section, digest_size=8, person=struct.pack("<II", form, size)).digest()


def _bitmap(section: memoryview, length: int, expected: int | None = None) -> np.ndarray:
    """A bitmap as bool (length,); it must have `expected` bits set."""
    present = np.unpackbits(np.frombuffer(section, np.uint8), count=length).view(bool)
    if expected is not None and np.count_nonzero(present) != expected:
        raise Unpackable("keys", f"a bitmap that does not name the {expected} keys it announces")
    return present


def _read_keys(
    reader: _Reader, form: int, size: int, count: int, digest: bytes, cache: KeyCache | None
) -> np.ndarray | None:
    if form == _ALL:
        if count != size:
            raise Unpackable("keys", f"all keys are {size}, not {count}")
        return None
    if form == _DIGEST:
        keys = (KeyCache() if cache is None else cache).find(digest, size)
        if len(keys) != count:
            raise Unpackable("keys", f"a key list of {len(keys)} keys where {count} were announced")
        return keys
    section = reader.take_padded(4 * count if form == _LIST else -(-size // 8))
    if form == _LIST:
        keys = np.frombuffer(section, "<u4").astype(np.int64)
        if count and (keys[-1] >= size or not (keys[1:] > keys[:-1]).all()):
            raise Unpackable("keys", f"keys must ascend and be below {size}")
    else:
        keys = np.flatnonzero(_bitmap(section, size, count))
    if cache is not None:
        keys.flags.writeable = False
        cache.remember(_digest(form, size, section), keys)
    return keys


# Ternary gradients.


def _ternary_sections(values: np.ndarray, lengths: np.ndarray, rng: np.random.Generator | None) -> list[bytes]:
    if rng is None:
        raise TypeError("ternary values are drawn: a generator is needed")
    lengths = lengths[lengths > 0]
    scales, codes = ternary(values, lengths, rng)
    return [struct.pack("<I", len(lengths)), lengths.astype("<u4").tobytes(), scales.astype("<f4").tobytes(), codes]


def ternary(values: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, bytes]:
    """Random ternary values whose expectation is float32 `values` (n,): s * sign(v) with probability |v| / s, or 0.

    Probabilities are rounded to multiples of 2^-24, as float32 draws are.

    Args:
        lengths: of the consecutive tensors in `values`, each at least 1.

    Returns:
        Scales s = max |v| of each tensor, float32 (t,), NaN or infinite where the values are; and 4 codes a byte,
        the first in the lowest bits: 0 for zero, 1 for +s, 2 for -s.
    """
    if not len(values):
        return np.empty(0, np.float32), b""
    size = np.abs(values)
    scales = np.maximum.reduceat(size, np.cumsum(lengths) - lengths)
    threshold = rng.random(len(values), np.float32)
    with np.errstate(invalid="ignore"):  # infinity times 0: the receiver refuses such a gradient
        for start, length, scale in zip(np.cumsum(lengths) - lengths, lengths, scales, strict=True):
            threshold[start : start + length] *= scale
    codes = np.zeros(len(values) + -len(values) % 4, np.uint8)
    # A draw is below 1, so the largest value always keeps its sign, and a zero never gets one.
    kept, negative = (threshold < size).view(np.uint8), np.signbit(values).view(np.uint8)
    np.left_shift(kept, negative, out=codes[: len(values)])
    four = codes.view("<u4")
    return scales, ((four | four >> 6 | four >> 12 | four >> 18) & 0xFF).astype(np.uint8).tobytes()


@functools.cache
def _signs() -> np.ndarray:
    """The four values that a byte of codes stands for, float32 (256, 4); NaN where a code is none."""
    codes = (np.arange(256)[:, None] >> np.array([0, 2, 4, 6])) & 3
    return np.array([0.0, 1.0, -1.0, np.nan], np.float32)[codes]


def _read_ternary(reader: _Reader, count: int) -> np.ndarray:
    (tensors,) = struct.unpack("<I", reader.take(4))
    lengths = np.frombuffer(reader.take(4 * tensors), "<u4").astype(np.int64)
    scales = _floats(reader.take(4 * tensors))
    codes = np.frombuffer(reader.take(-(-count // 4)), np.uint8)
    if lengths.sum() != count or not lengths.all():
        raise Unpackable("shape", f"ternary values of {lengths.sum()} keys where {count} were announced")
    if not np.isfinite(scales).all():
        raise Unpackable("nonfinite", "the gradient held NaN or infinity")
    if np.signbit(scales).any() or (codes & codes >> 1 & 0x55).any():
        raise Unpackable("shape", "ternary values of no known sign")
    values = _signs().take(codes, axis=0).reshape(-1)[:count]
    start = 0
    for length, scale in zip(lengths.tolist(), scales, strict=True):
        values[start : start + length] *= scale
        start += length
    return values
