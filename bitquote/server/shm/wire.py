"""The frames that a worker and a shard's process exchange over a local stream socket.

A connection opens with a hello, which carries a digest of the token, and a welcome. Then every message and every reply
is a head of 96 bytes, checked by its own sum, and a short body of JSON, checked by the head. What is bulky lies in
shared memory, in the pair of slots that the head names, or in a file whose descriptor follows the body. All numbers are
little-endian. Nothing is pickled, and every length is checked before it is believed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import zlib
from collections.abc import Mapping
from struct import Struct
from struct import error as StructError
from typing import Any, Final, NamedTuple

import numpy as np

from bitquote.server.errors import ProtocolError, Rejected
from bitquote.server.message import NOTHING, Kind, Message, Reply, Status
from bitquote.server.shm.memory import NO_PAIR, PAIRS

VERSION: Final = 1
HEAD: Final = 96
"""Bytes of a head."""
LARGEST_REQUEST: Final = 1 << 20
"""Bytes of a message's body."""
LARGEST_ANSWER: Final = 1 << 26
"""Bytes of a reply's body: it may hold what a thousand workers have brought."""
NOWHERE, SLOT, FILE = range(3)
"""Where `values` are: there are none, in the named pair's slot, in the file that follows."""
FLOATS, BYTES = range(2)
"""What `values` are: float32 or uint8."""
DTYPES: Final = (np.dtype(np.float32), np.dtype(np.uint8))
KINDS: Final = {int(kind): kind for kind in Kind}
STATUSES: Final = {int(status): status for status in Status}
BULKY: Final = frozenset({Kind.PUSH, Kind.DEFINE, Kind.LOAD})
"""The messages that may bring values."""

_MAGIC: Final = b"bitquote"
_HELLO: Final = Struct("<8sHxx32s")  # magic, version, sha256 of the token
_WELCOME: Final = Struct("<8sHHII")  # magic, version, verdict, shard, shards
# mark, kind, encoding, flags, worker, pair, dtype, where, epoch, sequence, version, start, stop, bytes, body, its sum
_MESSAGE: Final = Struct("<IBBHiBBBxQQQQQQII20x")
# mark, kind, status, encoding, where, worker, pair, dtype, granted, epoch, sequence, version, delay, start, stop, ...
_REPLY: Final = Struct("<IBBBBiBBBxQQQQQQQII12x")
_SUM: Final = Struct("<I")
_GRANT: Final = Struct("<QI")  # number of weights, line of the page
_MESSAGE_MARK: Final = 0x4D_51_54_42
_REPLY_MARK: Final = 0x52_51_54_42
HELLO: Final = _HELLO.size
WELCOME: Final = _WELCOME.size
GRANT: Final = _GRANT.size

ACCEPTED, WRONG_TOKEN, WRONG_VERSION, FULL = range(4)
_VERDICTS: Final = {
    WRONG_TOKEN: "the server refused the connection: wrong token",
    WRONG_VERSION: f"the server speaks another version of the protocol than this worker ({VERSION})",
    FULL: "the server refused the connection: it has as many as it can hold",
}


def hello(token: str) -> bytes:
    """The first bytes of a connection."""
    return _HELLO.pack(_MAGIC, VERSION, _digest(token))


def verdict(received: bytes, token: str) -> int:
    """ACCEPTED, or why a hello is turned down; ProtocolError if it is no hello at all."""
    magic, version, digest = _HELLO.unpack(received)
    if magic != _MAGIC:
        raise ProtocolError("what came is no hello")
    if version != VERSION:
        return WRONG_VERSION
    return ACCEPTED if hmac.compare_digest(digest, _digest(token)) else WRONG_TOKEN


def welcome(verdict: int, shard: int, shards: int) -> bytes:
    """The server's answer to a hello."""
    return _WELCOME.pack(_MAGIC, VERSION, verdict, shard, shards)


def parse_welcome(received: bytes) -> tuple[int, int]:
    """(shard, shards) of the server that answered; Rejected if it turned the worker down."""
    magic, version, verdict, shard, shards = _WELCOME.unpack(received)
    if magic != _MAGIC or (version != VERSION and verdict == ACCEPTED):
        raise Rejected("whatever listens at the address is no parameter server")
    if verdict != ACCEPTED:
        raise Rejected(_VERDICTS.get(verdict, f"the server refused the connection ({verdict})"))
    return shard, shards


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class Head(NamedTuple):
    """What the head of a message or reply says: all fields before `values`, and what to expect of the rest."""

    fields: tuple[Any, ...]
    pair: int
    where: int
    dtype: int
    length: int  # bytes of the values
    body: int  # bytes of the body
    body_sum: int
    granted: int  # a grant of shared memory follows the body


def pack_message(message: Message, pair: int, where: int) -> bytes:
    """Head and body of `message`, whose values are `where` the sender has put them; Rejected if it has no such form."""
    kind, worker, epoch, sequence, version, start, stop, flags, encoding, values, body = message
    packed = _dump(body, LARGEST_REQUEST) if body else b""
    dtype, length = (FLOATS, 0) if values is None else (dtype_code(values), values.nbytes)
    try:
        fields = _MESSAGE.pack(
            _MESSAGE_MARK, kind, encoding, flags, worker, pair, dtype, where,
            epoch, sequence, version, start, stop, length, len(packed), zlib.crc32(packed) if packed else 0,
        )  # fmt: skip
    except StructError as error:
        raise Rejected(f"a message that has no form on the wire: {error}") from None
    return fields + _SUM.pack(zlib.crc32(fields)) + packed


def unpack_message(head: bytes | memoryview) -> Head:
    """The head of a message; raises ProtocolError for anything else."""
    if _SUM.unpack_from(head, HEAD - 4)[0] != zlib.crc32(head[: HEAD - 4]):
        raise ProtocolError("a damaged message")
    (mark, kind, encoding, flags, worker, pair, dtype, where,
     epoch, sequence, version, start, stop, length, body, body_sum) = _MESSAGE.unpack_from(head)  # fmt: skip
    known = KINDS.get(kind)
    if mark != _MESSAGE_MARK or known is None or where > FILE or dtype > BYTES:
        raise ProtocolError("a message of no known form")
    if body > LARGEST_REQUEST or (pair >= PAIRS and pair != NO_PAIR) or (where == SLOT and pair == NO_PAIR):
        raise ProtocolError("a message that announces more than it may")
    if (where != NOWHERE and known not in BULKY) or (where == NOWHERE and length):
        raise ProtocolError("a message with values that do not belong to it")
    if dtype == FLOATS and length % 4:
        raise ProtocolError("values that are no whole number of floats")
    fields = (known, worker, epoch, sequence, version, start, stop, flags, encoding)
    return Head(fields, pair, where, dtype, length, body, body_sum, 0)


def pack_reply(reply: Reply, pair: int, where: int, granted: bool = False) -> bytes:
    """Head and body of `reply`."""
    kind, status, worker, epoch, sequence, version, delay, start, stop, encoding, values, body = reply
    packed = _dump(body, LARGEST_ANSWER) if body else b""
    dtype, length = (FLOATS, 0) if values is None else (dtype_code(values), values.nbytes)
    fields = _REPLY.pack(
        _REPLY_MARK, kind, status, encoding, where, worker, pair, dtype, granted,
        epoch, sequence, version, delay, start, stop, length, len(packed), zlib.crc32(packed) if packed else 0,
    )  # fmt: skip
    return fields + _SUM.pack(zlib.crc32(fields)) + packed


def unpack_reply(head: bytes | bytearray) -> Head:
    """The head of a reply; raises ProtocolError for anything else."""
    if _SUM.unpack_from(head, HEAD - 4)[0] != zlib.crc32(head[: HEAD - 4]):
        raise ProtocolError("a damaged reply")
    (mark, kind, status, encoding, where, worker, pair, dtype, granted,
     epoch, sequence, version, delay, start, stop, length, body, body_sum) = _REPLY.unpack_from(head)  # fmt: skip
    if mark != _REPLY_MARK or kind not in KINDS or status not in STATUSES or where > FILE or dtype > BYTES:
        raise ProtocolError("a reply of no known form")
    if body > LARGEST_ANSWER or (pair >= PAIRS and pair != NO_PAIR) or (where == SLOT and pair == NO_PAIR):
        raise ProtocolError("a reply that announces more than it may")
    fields = (KINDS[kind], STATUSES[status], worker, epoch, sequence, version, delay, start, stop, encoding)
    return Head(fields, pair, where, dtype, length, body, body_sum, granted)


def pack_grant(size: int, line: int) -> bytes:
    """What accompanies the descriptors of shared memory, the page and, if `size`, the slots: number of weights, the
    worker's line."""
    return _GRANT.pack(size, line)


def unpack_grant(received: bytes) -> tuple[int, int]:
    """(size, line) of a grant."""
    return _GRANT.unpack(received)


def parse_body(body: bytes, expected_sum: int) -> Mapping[str, Any]:
    """The JSON object in a body; raises ProtocolError for anything else."""
    if not body:
        return NOTHING
    if zlib.crc32(body) != expected_sum:
        raise ProtocolError("a damaged body")
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a body that is no JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise ProtocolError("a body that is no JSON object")
    return parsed


def dtype_code(values: np.ndarray) -> int:
    """FLOATS or BYTES; Rejected for an array of any other type, or with gaps."""
    if values.dtype == DTYPES[FLOATS] and values.flags.c_contiguous:
        return FLOATS
    if values.dtype == DTYPES[BYTES] and values.flags.c_contiguous:
        return BYTES
    raise Rejected(f"values are {values.dtype}: must be float32 or uint8, without gaps")


def _dump(body: Mapping[str, Any], largest: int) -> bytes:
    try:
        packed = json.dumps(body, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise Rejected(f"a message can carry only what JSON holds: {error}") from None
    if len(packed) > largest:
        raise Rejected(f"a message of {len(packed)} bytes: must be at most {largest}")
    return packed
