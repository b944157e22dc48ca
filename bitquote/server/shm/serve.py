"""The process of one shard under the engine `shm`: one thread that answers, one that writes snapshots.

Started as `python -m bitquote.server.shm.serve <descriptor>`, where the descriptor is of a file with the `Setup`. The
first process of a shard serves at once. Any other is a standby: it loads what it will need, waits for the end of the
process before it, which it sees as the end of a pipe that only that process holds open, and then goes on from the last
snapshot on the same listening socket, where the workers' new connections wait meanwhile.
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bitquote.errors import InputError
from bitquote.server.config import ServerConfig
from bitquote.server.errors import SnapshotError
from bitquote.server.opening import open_shard
from bitquote.server.points import reach
from bitquote.server.shard import ShardState
from bitquote.server.shm.memory import BegunPage, whole
from bitquote.server.shm.service import Service
from bitquote.server.shm.setup import Setup
from bitquote.server.update import load_torch


def stand_by(setup: Setup, page: BegunPage) -> bool:
    """Wait for the end of the process before this one, with everything loaded; False if the parent ends first."""
    assert setup.predecessor is not None
    poll = select.poll()
    poll.register(setup.parent, select.POLLIN)
    poll.register(setup.predecessor, select.POLLIN)
    warm = False
    while True:
        if (setup.torch or page.torch) and not warm:  # at once, if it can be foreseen: training has not begun yet
            load_torch()
            warm = True
        ended = dict(poll.poll(None if warm else 1000.0))
        if setup.parent in ended:
            return False
        if setup.predecessor in ended:
            return True


def begin(setup: Setup, page: BegunPage) -> ShardState:
    """The state with which a process starts to serve; raises InputError where it cannot."""
    config = ServerConfig(**setup.config)
    if config.snapshot_every:
        # One may be on its way to the disk while pushes for the next are coming in; both together are what can be lost.
        config = replace(config, snapshot_every=max(config.snapshot_every // 2, 1))
    definition = None if setup.definition is None else whole(setup.definition)
    directory, now = Path(setup.directory), time.monotonic()
    if setup.predecessor is None:
        state = open_shard(config, setup.shard, definition, directory, restore=setup.restore, term=0, now=now)
        state.dismiss(now)
        page.term = state.term
    else:
        page.term += 1
        restore = page.saved or setup.restore
        try:
            state = open_shard(config, setup.shard, definition, directory, restore=restore, term=page.term, now=now)
        except SnapshotError as error:
            state = open_shard(config, setup.shard, definition, directory, restore=False, term=page.term, now=now)
            state.note("snapshots unusable", error=str(error))
        state.recover(page.begun(), now)
        for worker, epoch in page.over():
            state.gone(worker, epoch, page.count(worker, epoch), now)
    page.torch = "torch" in sys.modules
    return state


def main() -> int:
    """The process's life; its exit status."""
    setup = Setup.read(int(sys.argv[1]))
    page = BegunPage(setup.page)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    os.set_blocking(setup.report, False)
    sys.setswitchinterval(0.0005)  # the thread that writes snapshots must not hold the other up
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    took = None
    if setup.predecessor is None or stand_by(setup, page):
        began = time.monotonic()
        if setup.predecessor is not None:
            reach("standby.taking_over")
        try:
            state = begin(setup, page)
        except InputError as error:
            os.write(setup.report, json.dumps({"event": "failed", "error": str(error)}).encode() + b"\n")
            return 1
        if setup.predecessor is not None:
            took = time.monotonic() - began
        if setup.torch:
            threading.Thread(target=load_torch, name="bitquote-imports", daemon=True).start()
        service = Service(setup, page, state)
        service.run(took)
        service.close()
    for path in setup.remove:
        with suppress(OSError):
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
