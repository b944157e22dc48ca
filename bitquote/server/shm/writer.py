"""The thread of a shard's process that writes snapshots."""

from __future__ import annotations

import os
import queue
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bitquote.server import snapshot
from bitquote.server.message import Reply


class Withheld(NamedTuple):
    """An answer that is given when a snapshot is on disk."""

    peer: Any
    reply: Reply
    pair: int


class Job(NamedTuple):
    """A snapshot to be written, and what waits for it."""

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    withheld: list[Withheld]
    over: list[tuple[int, int]]
    """Stays whose end the snapshot knows."""


class SnapshotWriter:
    """Writes one snapshot at a time in a thread of its own.

    Attributes:
        done: a descriptor that becomes readable when `result` has one.
    """

    def __init__(self, directory: Path, name: str, sync: bool) -> None:
        self.directory = directory
        self.name = name
        self.sync = sync
        self.idle = True
        self.done, self._wake = os.pipe()
        os.set_blocking(self.done, False)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Job, str | None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="bitquote-snapshots", daemon=True)
        self._thread.start()

    def write(self, job: Job) -> None:
        """Begin; only while `idle`."""
        self.idle = False
        self._jobs.put(job)

    def result(self, *, wait: bool) -> tuple[Job, str | None] | None:
        """A finished job, and in one line what went wrong with it; None if there is none and it is not to `wait`."""
        with suppress(BlockingIOError):
            os.read(self.done, 64)
        try:
            result = self._results.get(block=wait)
        except queue.Empty:
            return None
        self.idle = True
        return result

    def close(self) -> None:
        """Finish what was begun."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            error = None
            try:
                snapshot.write(self.directory, self.name, snapshot.pack(job.arrays, job.meta), sync=self.sync)
            except OSError as failure:
                error = failure.strerror or str(failure)
            except Exception as failure:  # whatever it is, training goes on and the log says so
                error = f"{type(failure).__name__}: {failure}"
            self._results.put((job, error))
            os.write(self._wake, b"!")
