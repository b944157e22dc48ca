"""What a server must not leave behind: open descriptors, processes, files; and waiting for what takes time."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

SHARED = Path("/dev/shm")


def descriptors(pid: int | str = "self") -> int:
    """How many files a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def opened() -> list[str]:
    """What this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(os.readlink(link))
    return sorted(found)


def children(pid: int | None = None) -> set[int]:
    """The processes that a process has started and that have not ended."""
    pid = os.getpid() if pid is None else pid
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.add(int(stat.parent.name))
    return found


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def eventually(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What `condition` gives as soon as that is true."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, "it has not come to be"
        time.sleep(0.01)
    return value


@contextmanager
def nothing_left(private: Path) -> Iterator[None]:
    """Check that what happens inside leaves no descriptor, process, shared memory or file in `private` behind."""
    resource_tracker.ensure_running()  # of multiprocessing, once for the whole test run
    gc.collect()
    files, processes, shared = descriptors(), children(), set(SHARED.glob("*bitquote*"))
    yield
    gc.collect()
    until = time.monotonic() + 10.0
    while (descriptors() > files or children() - processes) and time.monotonic() < until:
        time.sleep(0.01)  # threads of clients that were closed end a little later
    assert descriptors() <= files, opened()
    assert children() <= processes
    assert set(SHARED.glob("*bitquote*")) <= shared
    assert list(private.iterdir()) == []
