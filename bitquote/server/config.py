"""What may be chosen about a parameter server. No torch here."""

from __future__ import annotations

import math
import os
import socket
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bitquote.errors import InputError, require, require_choice, require_integer, require_number

ENGINES = ("none", "inproc", "shm", "ray")
CONSISTENCIES = ("bsp", "bounded", "async")
SCALINGS = ("none", "bound", "delay")


@dataclass(frozen=True)
class ServerConfig:
    """How gradients travel. The defaults are one machine's."""

    engine: str = "shm"
    """`inproc`: this process, a virtual clock, deterministic; `shm`: processes of one machine; `ray`: a cluster.
    `none` (for the command line): no server at all."""
    workers: int = 2
    shards: int = 1
    """Server processes, each with a range of the weights; worth it from 128 k weights a shard on."""
    consistency: str = "bounded"
    """`bsp`: all workers push before any goes on; `bounded`: nobody is more than `tau` pushes ahead; `async`."""
    tau: int = 4
    scaling: str = "none"
    """Of the step: `none`, `bound` for 1/(1 + tau), `delay` for 1/(1 + s) with s the delay of the very gradient."""
    aggregate: str = "each"
    """`each` push is a step of its own; `sum`: a step on the sum of every worker's latest gradient."""
    ternary_gradients: bool = False
    significance: float = 0.0
    """Pulls leave out weights that moved by at most significance / sqrt(pull number) since they were last sent."""
    random_skip: float = 1.0
    """Probability with which a push keeps a gradient entry (and divides it by that)."""
    kkt_slack: float | None = None
    """Pushes leave out zero weights whose aggregated gradient is at most l1 - kkt_slack; None: no such filter."""
    largest_gradient: float = 1e15
    """A push with an entry beyond it is refused, as one with NaN or infinity is."""
    heartbeat: float = 10.0
    """Seconds of silence after which a worker is evicted."""
    deadline: float = 30.0
    """Seconds without a sign of life from the server after which a call of the client fails."""
    snapshot_every: int = 500
    """Pushes between two snapshots: the most that a crash of a server can lose. 0: no snapshots, no recovery."""
    standby: bool = True
    """Keep a process ready that takes over when a server dies (shm)."""
    address: str | None = None
    """shm: path of the socket, None for a private one. ray: the cluster's address, None for a local cluster."""
    allow_oversubscription: bool = False
    """Permit more workers than this machine has cores."""

    def __post_init__(self) -> None:
        require_choice("server.engine", self.engine, ENGINES)
        require_integer("server.workers", self.workers, 1, 1024)
        require_integer("server.shards", self.shards, 1, 256)
        require_choice("server.consistency", self.consistency, CONSISTENCIES)
        require_integer("server.tau", self.tau, 0, 2**20)
        require_choice("server.scaling", self.scaling, SCALINGS)
        require(
            self.scaling != "bound" or self.consistency != "async",
            "server.scaling",
            self.scaling,
            "none or delay under async, where no bound exists",
        )
        require_choice("server.aggregate", self.aggregate, ("each", "sum"))
        require_number("server.significance", self.significance, 0.0)
        require_number("server.random_skip", self.random_skip, 0.0, 1.0, above=True)
        if self.kkt_slack is not None:
            require_number("server.kkt_slack", self.kkt_slack, 0.0)
            require(self.aggregate == "sum", "server.kkt_slack", self.kkt_slack, "null unless server.aggregate is sum")
        require_number("server.largest_gradient", self.largest_gradient, 0.0, 1e18, above=True)
        require_number("server.heartbeat", self.heartbeat, 0.1, 3600.0)
        require_number("server.deadline", self.deadline, 0.1, 86400.0)
        require_integer("server.snapshot_every", self.snapshot_every, 0)

    @property
    def bound(self) -> float:
        """The largest permitted gap between the clocks of two workers."""
        return {"bsp": 0.0, "bounded": float(self.tau), "async": math.inf}[self.consistency]


def check_machine(config: ServerConfig) -> None:
    """Raise `InputError` where this machine cannot run what `config` asks for: before any work is done."""
    if config.engine == "ray" and find_spec("ray") is None:
        raise InputError("server.engine is 'ray': Ray is not installed; add it with: pip install 'bitquote[ray]'")
    # inproc takes turns in one process, and how many cores an existing cluster has is for Ray to say.
    local = config.engine == "shm" or (config.engine == "ray" and config.address is None)
    if local and config.workers > core_count() and not config.allow_oversubscription:
        raise InputError(
            f"server.workers is {config.workers}: this machine has {core_count()} cores; "
            "take fewer, or set server.allow_oversubscription=true"
        )
    if config.engine == "shm" and config.address is not None:
        check_free(Path(config.address))


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_free(path: Path) -> None:
    """Raise `InputError` unless a socket can be made at `path`; one that nobody listens at any more is no obstacle."""
    shown = str(path)
    try:
        require(path.parent.is_dir(), "server.address", shown, "a path in a directory that exists")
        require(not path.exists() or path.is_socket(), "server.address", shown, "a path that is free: a file is there")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            probe.connect(shown)
    except (ConnectionRefusedError, FileNotFoundError):
        return
    except OSError as error:
        require("too long" not in str(error), "server.address", shown, "a path of at most 100 characters")
        raise InputError(f"server.address {shown} cannot be used: {error.strerror or error}") from None
    raise InputError(f"server.address is {shown!r}: it is taken, another server listens there")
