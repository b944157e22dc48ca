"""Memory that processes of one machine share and that has no name: nothing of it can outlive the last of them.

It is a file in memory (memfd), or an unlinked temporary file where the system has no memfd, and travels from process
to process as an open descriptor. Who may touch which part is settled by the messages that accompany it; nothing here
locks or waits.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Final

import numpy as np

from bitquote.server.errors import ProtocolError

PAIRS: Final = 2
"""Gradient and pull slots of a connection: a pull can be answered while a push waits at the gate."""
NO_PAIR: Final = 255
LINES: Final = 4096
"""Workers of one shard that the page of begun pushes has room for; four times what the shard admits."""
_LINE: Final = 8  # int64 a line, so that no two workers write to one cache line
_WORKER, _EPOCH, _BASE, _BEGUN, _PHASE = range(5)
_FREE, _LIVE, _OVER = range(3)
_TERM, _TORCH, _SAVED = range(3)  # of line 0, which belongs to the servers


def anonymous_file(size: int, *, fixed: bool = False) -> int:
    """A descriptor of `size` zero bytes without a name; `fixed` forbids (on Linux) that anybody changes its length."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("bitquote", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, size)
        if fixed and hasattr(os, "memfd_create"):
            import fcntl

            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def file_of(values: np.ndarray | bytes) -> int:
    """A descriptor of an anonymous file that holds the bytes of `values`; the caller closes it."""
    view = memoryview(values) if isinstance(values, bytes) else values.view(np.uint8).data
    descriptor = anonymous_file(0)
    try:
        done = 0
        while done < len(view):
            done += os.pwrite(descriptor, view[done:], done)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def content(descriptor: int, length: int) -> np.ndarray:
    """The first `length` bytes of a file that a peer sent, uint8 (length,), read and not mapped: it may be cut short.

    Raises ProtocolError if it has fewer.
    """
    if os.fstat(descriptor).st_size < length:
        raise ProtocolError(f"a file shorter than the {length} bytes that it was announced with")
    values = np.empty(length, np.uint8)
    view = values.data
    done = 0
    while done < length:
        got = os.preadv(descriptor, [view[done:]], done)
        if not got:
            raise ProtocolError(f"a file shorter than the {length} bytes that it was announced with")
        done += got
    return values


def whole(descriptor: int) -> bytes:
    """All of an inherited file, which is closed."""
    data = content(descriptor, os.fstat(descriptor).st_size).tobytes()
    os.close(descriptor)
    return data


class Slots:
    """The slots of one connection: `PAIRS` times room for a gradient and room for pulled weights.

    Args:
        descriptor: of the shared file, mapped here; the caller may close it afterwards.
        size: number of weights.

    Attributes:
        gradients, pulls: float32 (size,) views, one a pair.
        raw_gradients, raw_pulls: the same bytes, uint8 (4 * size,).
    """

    def __init__(self, descriptor: int, size: int) -> None:
        if os.fstat(descriptor).st_size < self.bytes(size):
            raise ProtocolError("shared memory is smaller than it should be")
        self.size = size
        self._memory = np.frombuffer(mmap.mmap(descriptor, self.bytes(size)), np.uint8)
        self._stride = _aligned(4 * size)
        parts = [self._memory[index * self._stride :][: 4 * size] for index in range(2 * PAIRS)]
        self.raw_gradients, self.raw_pulls = parts[:PAIRS], parts[PAIRS:]
        self.gradients = [part.view(np.float32) for part in self.raw_gradients]
        self.pulls = [part.view(np.float32) for part in self.raw_pulls]

    def pair_of(self, values: np.ndarray) -> int:
        """The pair at the beginning of whose gradient slot `values` lie; NO_PAIR for memory of any other kind."""
        if values.base is not self._memory:
            return NO_PAIR
        for pair, slot in enumerate(self.gradients):
            if values is slot:
                return pair
        pair, offset = divmod(values.ctypes.data - self._memory.ctypes.data, self._stride)
        return pair if offset == 0 and pair < PAIRS else NO_PAIR

    @staticmethod
    def bytes(size: int) -> int:
        """Length of the file for `size` weights."""
        return 2 * PAIRS * _aligned(4 * size)


def _aligned(length: int) -> int:
    return -(-length // 64) * 64


class BegunPage:
    """How many pushes each stay of a worker has begun, where no death of a worker or of a server can lose it.

    A worker writes its own line before it sends a push. The server gives lines out, marks those of stays that have
    ended, and frees these once a snapshot that knows of the end is on disk. Line 0 holds what the servers of a shard
    tell their successors.
    """

    SIZE = 8 * _LINE * LINES

    def __init__(self, descriptor: int) -> None:
        if os.fstat(descriptor).st_size < self.SIZE:
            raise ProtocolError("shared memory is smaller than it should be")
        self._lines = np.frombuffer(mmap.mmap(descriptor, self.SIZE), np.int64).reshape(LINES, _LINE)

    @property
    def term(self) -> int:
        """How many servers of this shard there were before the present one."""
        return int(self._lines[0, _TERM])

    @term.setter
    def term(self, term: int) -> None:
        self._lines[0, _TERM] = term

    @property
    def torch(self) -> bool:
        """Whether the update rule needs torch."""
        return bool(self._lines[0, _TORCH])

    @torch.setter
    def torch(self, needed: bool) -> None:
        self._lines[0, _TORCH] = needed

    @property
    def saved(self) -> bool:
        """Whether there is a snapshot of this run."""
        return bool(self._lines[0, _SAVED])

    @saved.setter
    def saved(self, saved: bool) -> None:
        self._lines[0, _SAVED] = saved

    def take(self, worker: int, epoch: int, base: int) -> None:
        """Give a stay a line, unless it has one; `base` is the sequence of the worker's last push before it.

        When all lines are taken it gets none, and what it has begun is known only from what arrives.
        """
        free = np.flatnonzero(self._lines[1:, _PHASE] == _FREE)
        if free.size and not self.line(worker, epoch):
            line = free[0] + 1
            self._lines[line, :_PHASE] = worker, epoch, base, base
            self._lines[line, _PHASE] = _LIVE  # last: a crash before it leaves the line free

    def line(self, worker: int, epoch: int) -> int:
        """The line of a stay; 0 if it has none."""
        lines = self._lines
        taken = lines[:, _PHASE] != _FREE
        found = np.flatnonzero(taken & (lines[:, _WORKER] == worker) & (lines[:, _EPOCH] == epoch))
        return int(found[0]) if found.size else 0

    def counter(self, line: int) -> np.ndarray:
        """The sequence of the last push that was begun, int64 (1,), for the worker to write."""
        return self._lines[line, _BEGUN : _BEGUN + 1]

    def count(self, worker: int, epoch: int) -> int | None:
        """The sequence of the last push that a stay has begun; None if it has no line."""
        line = self.line(worker, epoch)
        return int(self._lines[line, _BEGUN]) if line else None

    def begun(self) -> dict[tuple[int, int], tuple[int, int]]:
        """For every (worker, epoch): the sequences of its last push before this stay, and of the last it has begun."""
        taken = self._lines[1:][self._lines[1:, _PHASE] != _FREE].tolist()
        return {(line[_WORKER], line[_EPOCH]): (line[_BASE], line[_BEGUN]) for line in taken}

    def over(self) -> list[tuple[int, int]]:
        """The stays that have ended."""
        ended = self._lines[1:][self._lines[1:, _PHASE] == _OVER].tolist()
        return [(line[_WORKER], line[_EPOCH]) for line in ended]

    def end(self, worker: int, epoch: int) -> None:
        """Mark a stay as over."""
        if line := self.line(worker, epoch):
            self._lines[line, _PHASE] = _OVER

    def release(self, worker: int, epoch: int) -> None:
        """Free the line of a stay that every later server will know to be over."""
        if line := self.line(worker, epoch):
            self._lines[line, _PHASE] = _FREE
