"""One connection as the server sees it: messages in, answers out, nothing waited for.

The slots of a connection belong to the server from the message that names them to its answer: a gradient is read where
the worker has put it.
"""

from __future__ import annotations

import os
import select
import socket
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import numpy as np

from bitquote.server.errors import ProtocolError, Rejected
from bitquote.server.message import NOTHING, Kind, Message, Reply, Status
from bitquote.server.shm import wire
from bitquote.server.shm.memory import NO_PAIR, Slots, anonymous_file, content, file_of
from bitquote.server.shm.setup import Setup

READ: Final = select.POLLIN
WRITE: Final = select.POLLOUT
"""The same of poll and epoll."""
SMALLEST_BULK: Final = 1 << 26
"""Bytes of a file that may always come; larger ones must fit the model."""
LARGEST_MODEL: Final = 1 << 33
"""Bytes of a definition at most."""
FLOAT32: Final = np.dtype(np.float32)


class Ended(Exception):
    """The other side has closed the connection."""


class Peer:
    """A connection that was accepted.

    Attributes:
        worker, epoch: whose it is, while `joined`.
        greeted: the hello was in order.
        since: when it was accepted, or when it last took what was sent to it.
        outbox: what could not be sent yet, with its descriptors; while there is any, nothing more is read.
        slots: the memory shared with the worker, once the model is known.
        pairs: requests that wait in the shard, with the pair of slots that each has.
    """

    def __init__(self, connection: socket.socket, poller: Any, setup: Setup, now: float) -> None:
        self.descriptor = connection.fileno()
        self.worker = -1
        self.epoch = 0
        self.joined = False
        self.greeted = False
        self.since = now
        self.outbox: deque[tuple[memoryview, list[int]]] = deque()
        self.slots: Slots | None = None
        self.pairs: dict[tuple[Kind, int], int] = {}
        self._socket = connection
        self._poller = poller
        self._setup = setup
        self._head = memoryview(bytearray(wire.HEAD))
        # The part of a frame that is being read, and of it what is still missing. Empty: a descriptor comes next.
        self._part = self._space = self._head[: wire.HELLO]
        # The head of a message whose body, or the file after it, is still to come; and its body.
        self._expected: wire.Head | None = None
        self._body: Mapping[str, Any] = NOTHING
        poller.register(self.descriptor, READ)

    def close(self) -> None:
        """Let go of the connection and of its memory."""
        self._poller.unregister(self.descriptor)
        self._socket.close()
        for _, files in self.outbox:
            _close_all(files)
        self.outbox.clear()
        self.slots = None

    def hang_up(self) -> None:
        """End the connection so that both sides, this one too, find it ended."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def read(self, size: int) -> tuple[Message, int] | None:
        """Read once; a message with its pair of slots when it is whole, None while there is more to come.

        `size` is the number of weights so far. Raises Ended, ProtocolError, and OSError, of which BlockingIOError says
        that there was nothing to read.
        """
        if not self._space:
            return self._read_file(size)
        got = self._socket.recv_into(self._space)
        if not got:
            raise Ended
        if got < len(self._space):
            self._space = self._space[got:]
            return None
        if not self.greeted:
            self._greet(bytes(self._part))
            return None
        head, body = self._expected, NOTHING
        if head is None:
            head = wire.unpack_message(self._part)
            if head.body:
                self._expected = head
                self._part = self._space = memoryview(bytearray(head.body))
                return None
        else:
            body = wire.parse_body(bytes(self._part), head.body_sum)
        where = head.where
        if where == wire.FILE:
            self._expected, self._body, self._space = head, body, self._part[:0]
            return None
        self._expected, self._part, self._space = None, self._head, self._head
        values = self._gradient(head) if where == wire.SLOT else None
        return Message(*head.fields, values=values, body=body), head.pair

    def answer(self, reply: Reply, pair: int, size: int, line: int, now: float) -> None:
        """Send a reply, with its values in the `pair` that the request has named, else in a file.

        With it goes a grant of slots for `size` weights, unless that is 0, and of `line` in the page, unless that is.
        """
        values, where, files = reply.values, wire.NOWHERE, []
        slots = self.slots
        if values is not None:
            if slots is not None and pair != NO_PAIR and values.nbytes <= 4 * slots.size:
                where = wire.SLOT
                pulls = slots.pulls if values.dtype == FLOAT32 else slots.raw_pulls
                pulls[pair][: len(values)] = values
            else:
                where = wire.FILE
                files = [file_of(values)]
        granted = size > 0 or line > 0
        try:
            data = wire.pack_reply(reply, pair, where, granted)
        except Rejected as error:  # what workers have brought together is too large
            failed = reply._replace(status=Status.FAILED, body={"error": str(error)})
            data = wire.pack_reply(failed, pair, where, granted)
        self._transmit(data, [], now)
        if granted:
            self._grant(size, line, now)
        if files:
            self._transmit(b"F", files, now)

    def flush(self, now: float) -> None:
        """Go on sending what is in the outbox; raises OSError."""
        while self.outbox:
            data, files = self.outbox[0]
            sent = socket.send_fds(self._socket, [data], files) if files else self._socket.send(data)
            self.since = now
            _close_all(files)
            self.outbox[0] = (data[sent:], [])
            if sent < len(data):
                return
            self.outbox.popleft()
        self._poller.modify(self.descriptor, READ)

    def _greet(self, hello: bytes) -> None:
        verdict = wire.verdict(hello, self._setup.token)
        with suppress(OSError):
            self._socket.send(wire.welcome(verdict, self._setup.shard, self._setup.shards))
        if verdict == wire.WRONG_TOKEN:
            raise ProtocolError("wrong token")
        if verdict != wire.ACCEPTED:
            raise ProtocolError("another version of the protocol")
        self.greeted = True
        self._part = self._space = self._head

    def _gradient(self, head: wire.Head) -> np.ndarray:
        """The values in a slot of this connection."""
        slots = self.slots
        if slots is None or head.length > 4 * slots.size:
            raise ProtocolError("values outside the shared memory")
        if head.dtype == wire.BYTES:
            return slots.raw_gradients[head.pair][: head.length]
        if head.length == 4 * slots.size:
            return slots.gradients[head.pair]
        return slots.gradients[head.pair][: head.length // 4]

    def _read_file(self, size: int) -> tuple[Message, int]:
        """The descriptor that follows a message, and the values in its file."""
        head = self._expected
        assert head is not None
        data, files, _, _ = socket.recv_fds(self._socket, 1, 1)
        try:
            if not data:
                raise Ended
            if not files:
                raise ProtocolError("a message without the file that it announced")
            largest = max(SMALLEST_BULK, 64 * size) if size else LARGEST_MODEL
            if head.length > largest:
                raise ProtocolError(f"a file of {head.length} bytes: must be at most {largest}")
            values = content(files[0], head.length).view(wire.DTYPES[head.dtype])
        finally:
            _close_all(files)
        self._expected, self._part, self._space = None, self._head, self._head
        return Message(*head.fields, values=values, body=self._body), head.pair

    def _grant(self, size: int, line: int, now: float) -> None:
        """Share memory with the worker: the page, and new slots for `size` weights unless that is 0."""
        files = [os.dup(self._setup.page)]
        if size:
            files.append(anonymous_file(Slots.bytes(size), fixed=True))
            self.slots = Slots(files[1], size)
        self._transmit(wire.pack_grant(size, line), files, now)

    def _transmit(self, data: bytes, files: list[int], now: float) -> None:
        """Send, or keep what does not go out now."""
        if not self.outbox:
            try:
                sent = socket.send_fds(self._socket, [data], files) if files else self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                sent = len(data)
                self.hang_up()
            if sent:
                _close_all(files)
                files = []
            if sent == len(data):
                return
            data = data[sent:]
            self._poller.modify(self.descriptor, WRITE)
            self.since = now
        self.outbox.append((memoryview(data), files))


def _close_all(files: list[int]) -> None:
    for file in files:
        os.close(file)
