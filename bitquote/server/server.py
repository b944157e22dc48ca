"""`Server`: weights that workers push gradients to and pull from, on whichever engine."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from bitquote.server.client import Client
from bitquote.server.config import ServerConfig, check_machine
from bitquote.server.errors import Rejected, ServerError
from bitquote.server.line import Connect
from bitquote.server.opening import pack_definition
from bitquote.server.partition import partition
from bitquote.server.update import Update


class Outcome(NamedTuple):
    """What became of one worker of `Server.run`: its function's value, or in one line why there is none."""

    rank: int
    value: Any
    error: str | None


def line_of(error: BaseException) -> str:
    """What an `Outcome` says of an error."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def say_absent(connects: Sequence[Connect], deadline: float) -> None:
    """The workers of a run must not wait for one that has ended before it joined."""
    with suppress(ServerError), Client(connects, observer=True, deadline=deadline) as observer:
        observer.configure(absent=1)


class Engine(Protocol):
    """Where shards live and how messages reach them. Constructed as Engine(config, token, directory, definitions,
    restore): `definitions` is one `pack_definition` a shard, or None when the first worker will bring the model."""

    address: str

    def connects(self) -> Sequence[Connect]:
        """One function a shard that makes a channel to it, for clients of this process."""
        ...

    def client_options(self) -> dict[str, Any]:
        """Further arguments of `Client`: its deadline, and time in an engine that has its own."""
        ...

    def run(self, function: Callable[..., Any], workers: int, arguments: tuple[Any, ...]) -> list[Outcome]:
        """Run `function(client, rank, *arguments)` in each of so many new workers and wait for all of them."""
        ...

    def pids(self) -> dict[str, int]:
        """Process ids by role ("server.0", "standby.0", "worker.1"), where there are any."""
        ...

    def close(self) -> None:
        """End everything; nothing is left behind."""
        ...


class Server:
    """A parameter server of this process's making; a context manager.

        update = ProximalGradient(step_size=0.1, prox=L1(1e-4))
        with Server(np.zeros(100, np.float32), update, ServerConfig(workers=4, tau=2)) as server:
            outcomes = server.run(work)          # work(client, rank) in four processes
            weights = server.client().weights()

    Args:
        weights: float32 (n,), or None when the first worker brings the model (`Client.define`).
        update: an update rule (see `bitquote.server.update`) or its description.
        directory: where snapshots and the log go; None keeps snapshots in a place of the engine's own until `close`.
        restore: begin with the last snapshots in `directory`.
        fingerprint: names the model; workers of another are refused.
    """

    def __init__(
        self,
        weights: np.ndarray | None,
        update: Update | Mapping[str, Any] | None = None,
        config: ServerConfig | None = None,
        *,
        directory: str | Path | None = None,
        restore: bool = False,
        fingerprint: str | None = None,
    ) -> None:
        self.config = config = config or ServerConfig()
        check_machine(config)
        if (weights is None) != (update is None):
            raise Rejected("weights and update go together: both, or none when the first worker brings the model")
        if restore and directory is None:
            raise Rejected("restore is True: must be False without a directory with snapshots")
        self.token = secrets.token_hex(16)
        self.directory = None if directory is None else _made(Path(directory))
        self.engine = _engine(config)(
            config, self.token, self.directory, _definitions(weights, update, config, fingerprint), restore
        )
        self._observer: Client | None = None
        self._observing = threading.Lock()

    @property
    def address(self) -> str:
        """Where `Client.connect(address, token)` finds this server."""
        return self.engine.address

    def client(self, **options: Any) -> Client:
        """A worker in this process; takes what `Client` takes."""
        return Client(self.engine.connects(), **(self.engine.client_options() | options))

    def run(self, function: Callable[..., Any], *arguments: Any, workers: int | None = None) -> list[Outcome]:
        """`function(client, rank, *arguments)` in new workers, `config.workers` of them; waits for all.

        They begin together, when the last has joined. Function and arguments must be such that a new process can
        import or unpickle them. A worker that dies does not end the others: its outcome has an error.
        """
        workers = workers or self.config.workers
        with self._observing:
            self.observer().configure(expected=workers)
        return self.engine.run(_together, workers, (function, *arguments))

    def observer(self) -> Client:
        """A client that only looks on and configures; made once, of this process."""
        if self._observer is None:
            self._observer = self.client(observer=True)
        return self._observer

    def statistics(self) -> dict[str, Any]:
        """Counts, histograms and members; see `Client.statistics`. From any thread."""
        with self._observing:
            return self.observer().statistics()

    def configure(self, **changes: Any) -> None:
        """Change `consistency` or `tau` while workers run."""
        with self._observing:
            self.observer().configure(**changes)
        self.config = replace(self.config, **{key: value for key, value in changes.items() if key != "expected"})

    def pids(self) -> dict[str, int]:
        """Process ids by role, for whoever wants to watch or kill them."""
        return self.engine.pids()

    def close(self) -> None:
        """End the server and its workers."""
        if self._observer is not None:
            self._observer.close()
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _together(client: Client, rank: int, function: Callable[..., Any], *arguments: Any) -> Any:
    client.collect("begin")
    return function(client, rank, *arguments)


def _engine(config: ServerConfig) -> Callable[..., Engine]:
    if config.engine == "inproc":
        from bitquote.server.inproc.engine import InprocEngine

        return InprocEngine
    if config.engine == "ray":
        from bitquote.server.ray.engine import RayEngine

        return RayEngine
    if config.engine == "shm":
        from bitquote.server.shm.engine import ShmEngine

        return ShmEngine
    raise Rejected(f"server.engine is {config.engine!r}: a server needs inproc, shm or ray")


def _definitions(
    weights: np.ndarray | None,
    update: Update | Mapping[str, Any] | None,
    config: ServerConfig,
    fingerprint: str | None,
) -> list[bytes] | None:
    if weights is None or update is None:
        return None
    weights = np.ascontiguousarray(weights)
    if weights.dtype != np.float32 or weights.ndim != 1 or not weights.size or not np.isfinite(weights).all():
        raise Rejected(
            f"weights are {weights.dtype} of shape {weights.shape}: must be finite float32 of one dimension, not empty"
        )
    description = update if isinstance(update, Mapping) else update.describe()
    return [pack_definition(part, weights, fingerprint) for part in partition(len(weights), config.shards, description)]


def _made(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Rejected(f"directory {directory} cannot be made: {error.strerror}") from None
    return directory
