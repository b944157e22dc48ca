"""A worker's connection to one shard on the same machine: a local stream socket for control, shared memory for bulk."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from typing import Final, NamedTuple

import numpy as np

from bitquote.server.errors import Disconnected, ProtocolError, ServerUnavailable
from bitquote.server.message import NOTHING, Kind, Message, Reply
from bitquote.server.points import armed, reach
from bitquote.server.shm import wire
from bitquote.server.shm.memory import NO_PAIR, PAIRS, BegunPage, Slots, content, file_of

PUSH: Final = Kind.PUSH
PULL: Final = Kind.PULL
FLOAT32: Final = np.dtype(np.float32)
PATIENCE: Final = 2.0
"""Seconds to wait for the rest of a frame that has begun, or for room to send one."""
DISCOVERY: Final = 30.0
"""Seconds that a server which listens has for its first answer."""


class Absent(Disconnected):
    """Nobody listens at an address."""


class Door(NamedTuple):
    """Makes channels to the socket at `path`."""

    path: str
    token: str

    def __call__(self) -> SharedChannel:
        """A new connection; Disconnected while nobody answers, Rejected for a wrong token."""
        return SharedChannel(self.path, self.token)


def connects(address: str, token: str) -> list[Door]:
    """One `Door` a shard of the server whose first socket is at the path `address`; ServerUnavailable if none is.

    A server that is there and does not answer may just be taking over: it has `DISCOVERY` seconds.
    """
    until = time.monotonic() + DISCOVERY
    while True:
        try:
            channel = Door(shard_path(address, 0), token)()
        except Disconnected as error:
            if isinstance(error, Absent) or time.monotonic() > until:
                raise ServerUnavailable(str(error)) from None
            time.sleep(0.02)
            continue
        channel.close()
        return [Door(shard_path(address, shard), token) for shard in range(channel.shards)]


def shard_path(address: str, shard: int) -> str:
    """Where the shard of a server listens."""
    return address if shard == 0 else f"{address}.{shard}"


class SharedChannel:
    """See `line.Channel`.

    A request that brings a gradient or asks for weights takes one of the connection's pairs of slots, which belongs to
    the server until the answer is here; the message over the socket is what hands it over. With no pair free, or none
    granted yet, values travel in a file of their own.
    """

    def __init__(self, path: str, token: str) -> None:
        self.size = 0
        self._slots: Slots | None = None
        self._begun: np.ndarray | None = None
        self._busy = [False] * PAIRS
        self._lent: list[int] = []  # pairs whose pulled weights the client may still be reading
        self._head = bytearray(wire.HEAD)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._timeout = 0.0
        # The kernel's own timeouts: a wait is then one system call.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(PATIENCE))
        self._wait_at_most(PATIENCE)
        try:
            self._socket.connect(path)
            self._socket.sendall(wire.hello(token))
            _, self.shards = wire.parse_welcome(bytes(self._exactly(wire.WELCOME)))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            self._socket.close()
            raise Absent(f"nobody answers at {path}: {error.strerror}") from None
        except OSError as error:
            self._socket.close()
            raise Disconnected(f"nobody answers at {path}: {error.strerror or error}") from None
        except BaseException:
            self._socket.close()
            raise

    def send(self, message: Message) -> None:
        """Hand a message over; raises `Disconnected`."""
        kind, values = message.kind, message.values
        pair, where = NO_PAIR, wire.NOWHERE
        if kind is PUSH:
            reach("worker.idle")
            if self._begun is not None:
                self._begun[0] = message.sequence  # before anything can be lost
        lies_in = NO_PAIR
        if kind is PUSH or kind is PULL:
            lies_in, pair = self._take_pair(values)
        if values is not None:
            where = wire.SLOT if pair != NO_PAIR and values.nbytes <= 4 * self.size else wire.FILE
        data = wire.pack_message(message, pair, where)
        if where == wire.SLOT and lies_in != pair:
            self._copy(values, pair)
        if kind is PUSH:
            reach("worker.between_copy_and_notice")
        self._transmit(data)
        if where == wire.FILE:
            self._transmit_file(values)

    def receive(self, timeout: float) -> Reply | None:
        """The next reply, or None after `timeout` seconds; raises `Disconnected`.

        `values` may be a view of shared memory that is valid until the next push or pull is sent.
        """
        if armed("worker.parked") and not select.select([self._socket], [], [], 0.05)[0]:
            reach("worker.parked")
        if timeout != self._timeout:
            self._wait_at_most(timeout)
        head = self._head
        try:
            got = self._socket.recv_into(head)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Disconnected(f"the connection broke: {error.strerror}") from None
        if got != wire.HEAD:
            self._rest(head, got)
        try:
            announced = wire.unpack_reply(head)
            fields, pair, where, _, _, length, body_sum, granted = announced
            body = wire.parse_body(bytes(self._exactly(length)), body_sum) if length else NOTHING
            if granted:
                self._accept_grant()
            values = None if where == wire.NOWHERE else self._values(announced)
        except ProtocolError as error:
            raise Disconnected(str(error)) from None
        if where == wire.SLOT:
            self._lent.append(pair)
        elif pair != NO_PAIR:
            self._busy[pair] = False
        return Reply(*fields, values=values, body=body)

    def gradient(self) -> np.ndarray | None:
        """A slot, float32 (size,), from which the next push is sent without being copied; None while there is none."""
        if self._slots is not None:
            for pair in range(PAIRS):
                if not self._busy[pair] or pair in self._lent:
                    return self._slots.gradients[pair]
        return None

    def close(self) -> None:
        """Let go of the connection and of its memory."""
        self._socket.close()
        self._slots = self._begun = None

    def _take_pair(self, values: np.ndarray | None) -> tuple[int, int]:
        """The pair in whose gradient slot `values` lie, if any, and a free pair, now taken: the same if it can be."""
        busy, slots = self._busy, self._slots
        for pair in self._lent:
            busy[pair] = False
        self._lent.clear()
        if slots is None:
            return NO_PAIR, NO_PAIR
        lies_in = NO_PAIR if values is None else slots.pair_of(values)
        pair = lies_in
        if pair == NO_PAIR or busy[pair]:
            if False not in busy:
                return lies_in, NO_PAIR
            pair = busy.index(False)
        busy[pair] = True
        return lies_in, pair

    def _copy(self, values: np.ndarray | None, pair: int) -> None:
        """Put the values of a push into the gradient slot of a pair."""
        assert self._slots is not None and values is not None
        slots = self._slots.gradients if values.dtype == FLOAT32 else self._slots.raw_gradients
        slot = slots[pair]
        if armed("worker.mid_copy"):
            half = len(values) // 2
            slot[:half] = values[:half]
            reach("worker.mid_copy")
        slot[: len(values)] = values

    def _values(self, head: wire.Head) -> np.ndarray:
        """The values of a reply."""
        if head.where == wire.SLOT:
            if self._slots is None or head.length > 4 * self.size:
                raise ProtocolError("weights outside the shared memory")
            if head.dtype == wire.FLOATS:
                return self._slots.pulls[head.pair][: head.length // 4]
            return self._slots.raw_pulls[head.pair][: head.length]
        _, (file,) = self._descriptors(1, 1)
        try:
            return content(file, head.length).view(wire.DTYPES[head.dtype])
        finally:
            os.close(file)

    def _accept_grant(self) -> None:
        """Take over the memory that the server shares with this worker."""
        data, files = self._descriptors(wire.GRANT, 2, least=1)
        try:
            size, line = wire.unpack_grant(data)
            if line:
                self._begun = BegunPage(files[0]).counter(line)
            if len(files) > 1:
                self._slots, self.size = Slots(files[1], size), size
        finally:
            for file in files:
                os.close(file)

    def _descriptors(self, length: int, most: int, least: int | None = None) -> tuple[bytes, list[int]]:
        """`length` bytes and the descriptors that came with them."""
        self._readable()
        try:
            data, files, _, _ = socket.recv_fds(self._socket, length, most)
        except OSError as error:
            raise Disconnected(f"the connection broke: {error.strerror}") from None
        if len(data) != length or len(files) < (most if least is None else least):
            for file in files:
                os.close(file)
            raise Disconnected("the server's message ended early")
        return data, files

    def _exactly(self, length: int) -> bytearray:
        """The next `length` bytes."""
        buffer = bytearray(length)
        self._rest(buffer, None)
        return buffer

    def _rest(self, buffer: bytearray, done: int | None) -> None:
        """Fill a buffer of which `done` bytes are there; none at all, where something was to come, is the end."""
        view = memoryview(buffer)
        filled = done or 0
        while filled < len(buffer):
            if done == 0:
                raise Disconnected("the server has closed the connection")
            self._readable()
            try:
                done = self._socket.recv_into(view[filled:])
            except OSError as error:
                raise Disconnected(f"the connection broke: {error.strerror}") from None
            filled += done

    def _readable(self) -> None:
        """Wait for what must come soon."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(PATIENCE * 1000.0):
            raise Disconnected("the server's message ended early")

    def _wait_at_most(self, seconds: float) -> None:
        self._timeout = seconds
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))

    def _transmit(self, data: bytes) -> None:
        try:
            done = self._socket.send(data)
            while done < len(data):
                done += self._socket.send(memoryview(data)[done:])
        except BlockingIOError:
            raise Disconnected("the server does not read what it is sent") from None
        except OSError as error:
            raise Disconnected(f"the connection broke: {error.strerror}") from None

    def _transmit_file(self, values: np.ndarray | None) -> None:
        assert values is not None
        file = file_of(values)
        try:
            socket.send_fds(self._socket, [b"F"], [file])
        except OSError as error:
            raise Disconnected(f"the connection broke: {error.strerror}") from None
        finally:
            os.close(file)


def _timeval(seconds: float) -> bytes:
    """As the kernel wants it; zero would be for ever."""
    whole, part = divmod(max(seconds, 1e-3), 1.0)
    return struct.pack("@ll", int(whole), int(1e6 * part))
