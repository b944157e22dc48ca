"""The engine `shm`: server processes of this machine, one a shard, and their standbys and workers.

Nothing here can be left behind: memory and standby pipes have no names and end with the processes, and every process
ends when this one does. A thread watches over the servers; when one dies its standby takes over by itself, and the
thread starts the next standby.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from multiprocessing import connection, get_context, parent_process
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Final

from bitquote.server.client import Client
from bitquote.server.config import ServerConfig, check_free
from bitquote.server.errors import Rejected, ServerError
from bitquote.server.server import Outcome, line_of, say_absent
from bitquote.server.shm.channel import Door, shard_path
from bitquote.server.shm.memory import BegunPage, anonymous_file, file_of
from bitquote.server.shm.setup import Setup

START_PATIENCE: Final = 120.0
"""Seconds within which a server must serve; the update rule may have to import torch."""
END_PATIENCE: Final = 30.0
"""Seconds for a last snapshot at the end."""
EVENTS_KEPT: Final = 10_000
JOINED: Final = None
"""What a worker's process sends before its result."""
_PACKAGES: Final = str(Path(__file__).parents[3])
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class ShmEngine:
    """See `server.Engine`.

    Attributes:
        address: path of the first shard's socket; that of shard i ends in ".i".
        events: what the servers have reported lately, and deaths of processes.
    """

    def __init__(
        self,
        config: ServerConfig,
        token: str,
        directory: Path | None,
        definitions: Sequence[bytes] | None,
        restore: bool,
    ) -> None:
        self.config = config
        self.token = token
        self.events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self._workers: dict[int, int] = {}
        self._shards: list[_Shard] = []
        self._private = tempfile.mkdtemp(prefix="bitquote-")
        self.address = config.address or os.path.join(self._private, "socket")
        # Its reading end is held by every server: they end when the writing end does, and that is only here.
        self._parent, self._alive = os.pipe()
        self._wake, self._waker = os.pipe()
        self._closing = False
        self._watcher = threading.Thread(target=self._watch, name="bitquote-supervisor", daemon=True)
        try:
            for index in range(config.shards):
                definition = None if definitions is None else definitions[index]
                self._shards.append(_Shard(self, index, directory, definition, restore))
            for shard in self._shards:
                shard.await_start()
        except BaseException:
            self.close()
            raise
        self._watcher.start()

    def connects(self) -> list[Door]:
        """One `Door` a shard."""
        return [Door(shard_path(self.address, shard), self.token) for shard in range(self.config.shards)]

    def client_options(self) -> dict[str, Any]:
        """The deadline."""
        return {"deadline": self.config.deadline}

    def pids(self) -> dict[str, int]:
        """Process ids of "server.<shard>", "standby.<shard>" and "worker.<rank>"."""
        servers = {}
        for shard in self._shards:
            servers |= shard.pids()
        return servers | {f"worker.{rank}": pid for rank, pid in dict(self._workers).items()}

    def run(self, function: Callable[..., Any], workers: int, arguments: tuple[Any, ...]) -> list[Outcome]:
        """`function(client, rank, *arguments)` in so many spawned processes; waits for all of them."""
        context = get_context("spawn")
        results: dict[connection.Connection, int] = {}
        tasks = []
        processes = []
        outcomes: dict[int, Outcome] = {}
        joined: set[int] = set()
        try:
            for rank in range(workers):
                result, their_result = context.Pipe(duplex=False)
                their_task, task = context.Pipe(duplex=False)
                results[result] = rank
                tasks.append(task)
                process = context.Process(
                    target=_work,
                    args=(their_task, their_result, self.connects(), self.client_options(), rank),
                    name=f"bitquote-worker-{rank}",
                )
                processes.append(process)
                process.start()
                their_task.close()
                their_result.close()
                self._workers[rank] = process.pid or 0
            # Only now, as a worker may take seconds to import what its task needs: the others import meanwhile.
            payload = ForkingPickler.dumps((function, arguments))
            for task in tasks:
                with suppress(BrokenPipeError):  # of a worker that has died; its result will say so
                    task.send_bytes(payload)
            while results:
                for ready in connection.wait(list(results)):
                    assert isinstance(ready, connection.Connection)
                    rank = results[ready]
                    try:
                        news = ready.recv()
                        if news is JOINED:
                            joined.add(rank)
                            continue
                        outcomes[rank] = Outcome(rank, *news)
                    except (EOFError, OSError):
                        processes[rank].join()
                        outcomes[rank] = Outcome(rank, None, _death(processes[rank].exitcode))
                    del results[ready]
                    ready.close()
                    if rank not in joined:
                        say_absent(self.connects(), self.config.deadline)
        finally:
            for process in processes:
                if len(outcomes) < workers and process.pid is not None:
                    process.kill()
            for process in processes:
                if process.pid is not None:
                    process.join()
                process.close()
            for pipe in [*tasks, *results]:
                pipe.close()
            self._workers.clear()
        return [outcomes[rank] for rank in range(workers)]

    def close(self) -> None:
        """End every server and standby; the sockets and the private directory go with them."""
        if self._closing:
            return
        self._closing = True
        if self._watcher.is_alive():
            os.write(self._waker, b"!")
            self._watcher.join()
        os.close(self._alive)
        until = time.monotonic() + END_PATIENCE
        for shard in self._shards:
            shard.close(until)
        shutil.rmtree(self._private, ignore_errors=True)
        for descriptor in (self._parent, self._wake, self._waker):
            os.close(descriptor)

    def _watch(self) -> None:
        """Read what the servers report; replace the ones that die."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ, None)
            for shard in self._shards:
                shard.watch(selector)
            while not self._closing:
                for key, _ in selector.select():
                    if key.data is None:
                        return
                    shard, process = key.data
                    shard.heed(process, selector)


class _Process:
    """A server or standby, as the parent sees it."""

    def __init__(self, popen: subprocess.Popen[bytes], report: int, life: int) -> None:
        self.popen = popen
        self.report = report
        self.life = life
        """Ends with the process; handed to the one that succeeds it."""
        self.began = time.monotonic()
        self.serves = False
        self.error: str | None = None
        self._unread = b""

    def read(self) -> list[dict[str, Any]] | None:
        """Events that it has reported; None when it has ended."""
        data = os.read(self.report, 1 << 16)
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        events = [json.loads(line) for line in lines]
        for event in events:
            self.serves |= event["event"] == "serving"
            if event["event"] == "failed":
                self.error = event["error"]
        return events

    def end(self, timeout: float | None) -> None:
        """Wait for it, kill it after `timeout` seconds, and let go of what belongs to it."""
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        os.close(self.report)
        os.close(self.life)


class _Shard:
    """The processes of one shard, and what they share."""

    def __init__(
        self, engine: ShmEngine, index: int, directory: Path | None, definition: bytes | None, restore: bool
    ) -> None:
        self.engine = engine
        self.index = index
        self.directory = directory
        self.restore = restore
        self.path = shard_path(engine.address, index)
        self.listener = _listen(self.path)
        self.page = anonymous_file(BegunPage.SIZE, fixed=True)
        self.definition = None if definition is None else file_of(definition)
        self.survives = engine.config.snapshot_every > 0
        self.standby: _Process | None = None
        self.failures = 0
        self.server: _Process | None = self._start(None)

    def pids(self) -> dict[str, int]:
        """Process ids by role."""
        roles = {"server": self.server, "standby": self.standby}
        return {f"{role}.{self.index}": process.popen.pid for role, process in roles.items() if process is not None}

    def await_start(self) -> None:
        """Wait until the first process serves; raises Rejected with its reason if it does not."""
        server = self.server
        assert server is not None
        until = server.began + START_PATIENCE
        while not server.serves:
            with selectors.DefaultSelector() as selector:
                selector.register(server.report, selectors.EVENT_READ)
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise ServerError(f"the server's process has not begun within {START_PATIENCE:g} s")
            events = server.read()
            if events is None:
                raise Rejected(server.error or f"the server's process was {_death(server.popen.wait())}")
            self.engine.events.extend(events)
        if self.survives and self.engine.config.standby:
            self.standby = self._start(server)

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Have the supervisor look at every process of this shard."""
        for process in (self.server, self.standby):
            if process is not None and process.report not in selector.get_map():
                selector.register(process.report, selectors.EVENT_READ, (self, process))

    def heed(self, process: _Process, selector: selectors.BaseSelector) -> None:
        """Something has come from a process: events, or its end."""
        events = process.read()
        if events is not None:
            self.engine.events.extend(events)
            return
        selector.unregister(process.report)
        try:
            self._replace(process)
        except OSError as error:
            self.engine.events.append({"event": "no standby", "shard": self.index, "error": str(error)})
        self.watch(selector)

    def _replace(self, process: _Process) -> None:
        """After a process's end: the standby becomes the server, and a new standby is started."""
        popen = process.popen
        popen.wait()
        role = "server" if process is self.server else "standby"
        self.engine.events.append(
            {"event": f"{role} died", "shard": self.index, "pid": popen.pid, "how": _death(popen.returncode)}
        )
        # One that cannot even start is not tried again at once.
        self.failures = 0 if process.serves or time.monotonic() - process.began > 1.0 else self.failures + 1
        time.sleep(min(0.05 * (2.0**self.failures - 1.0), 5.0))
        if not self.survives:
            self.server = None
            self.listener.close()  # so that workers are told at once that nobody is there
        elif process is self.standby:
            self.standby = self._start(self.server)
        elif self.standby is not None:
            self.server, self.standby = self.standby, self._start(self.standby)
        else:
            self.server = self._start(process)
        process.end(None)

    def _start(self, predecessor: _Process | None) -> _Process:
        """A new process that serves at once, or after its predecessor."""
        engine = self.engine
        report, their_report = os.pipe()
        life, their_life = os.pipe()
        setup = Setup(
            config=asdict(engine.config),
            token=engine.token,
            shard=self.index,
            shards=engine.config.shards,
            listener=self.listener.fileno(),
            page=self.page,
            definition=self.definition,
            report=their_report,
            parent=engine._parent,
            parent_process=os.getpid(),
            predecessor=None if predecessor is None else predecessor.life,
            directory=engine._private if self.directory is None else str(self.directory),
            log=None if self.directory is None else str(self.directory / "server.jsonl"),
            restore=self.restore,
            remove=[self.path, engine._private],
            torch=self.definition is None and "torch" in sys.modules,
        )
        file = file_of(setup.pack())
        inherited = [file, setup.listener, setup.page, their_report, their_life, setup.parent]
        inherited += [extra for extra in (setup.definition, setup.predecessor) if extra is not None]
        try:
            popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "bitquote.server.shm.serve", str(file)],
                stdin=subprocess.DEVNULL,
                pass_fds=inherited,
                env=_environment(),
                process_group=0,  # a terminal's Ctrl-C is for the parent, which ends the servers in good order
            )
        finally:
            for descriptor in (file, their_report, their_life):
                os.close(descriptor)
        return _Process(popen, report, life)

    def close(self, until: float) -> None:
        """After the end of the parent's pipe: wait for the processes and let go of everything."""
        if self.standby is not None:
            self.standby.popen.kill()  # it may still be importing, and has nothing to put in order
        for process in (self.server, self.standby):
            if process is not None:
                process.end(max(0.0, until - time.monotonic()))
        self.listener.close()
        with suppress(OSError):
            os.unlink(self.path)
        os.close(self.page)
        if self.definition is not None:
            os.close(self.definition)


def _listen(path: str) -> socket.socket:
    """A socket that listens at `path`; InputError if that is taken, or cannot be."""
    check_free(Path(path))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.exists(path):
            os.unlink(path)  # of a server that is no more
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise Rejected(f"server.address {path} cannot be used: {error.strerror or error}") from None
    return listener


def _environment() -> Mapping[str, str]:
    """Of a server: it finds this package, and leaves the cores to the workers."""
    path = os.environ.get("PYTHONPATH")
    found = {"PYTHONPATH": _PACKAGES if not path else os.pathsep.join([_PACKAGES, path])}
    return {**dict.fromkeys(_THREADS, "1"), **os.environ, **found}


def _death(status: int | None) -> str:
    """How a process has ended."""
    if status is not None and status < 0:
        return f"killed by signal {-status}"
    return f"ended with status {status}"


def _work(
    task: connection.Connection,
    result: connection.Connection,
    doors: list[Door],
    options: dict[str, Any],
    rank: int,
) -> None:
    """A worker's process. What it unpickles comes from its parent, through a pipe that nobody else has."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    threading.Thread(target=_end_with_parent, name="bitquote-parent", daemon=True).start()
    try:
        function, arguments = task.recv()
        with Client(doors, worker=rank, **options) as client:
            result.send(JOINED)
            value = function(client, rank, *arguments)
        result.send((value, None))
    except Exception as error:
        if not isinstance(error, (ServerError, ValueError)):
            traceback.print_exc()
        result.send((None, line_of(error)))


def _end_with_parent() -> None:
    """End this process when the one that has started it is gone."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
