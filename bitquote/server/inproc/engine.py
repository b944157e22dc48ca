"""The deterministic engine: shards and workers in one process, under a virtual clock.

Every run is a function of its seed: latencies, the order of simultaneous events and faults are drawn from it, and of
the workers' threads exactly one runs at a time. Work itself takes no virtual time; messages take their latency, and
`Client.sleep` what it says. For tests, for notebooks with one worker, and to replay what went wrong elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bitquote.server import snapshot
from bitquote.server.client import Client
from bitquote.server.config import ServerConfig
from bitquote.server.errors import Disconnected, ServerError
from bitquote.server.inproc.link import Link, as_sent
from bitquote.server.inproc.virtual import Killed, Task, VirtualMachine
from bitquote.server.line import Connect
from bitquote.server.message import Kind, Message, Reply, Status
from bitquote.server.opening import open_shard, snapshot_name
from bitquote.server.server import Outcome, line_of
from bitquote.server.shard import ShardState

HISTORY_KEPT = 2**16
"""Entries of `InprocEngine.history`."""
STALLED_AFTER = 50.0
"""Deadlines in which nothing but signs of life travels, until a run is ended as stalled."""


@dataclass(frozen=True)
class Disturbance:
    """What befalls messages on their way, either direction: probabilities for each message."""

    slow: float = 0.0
    """Takes `slow_by` virtual seconds longer; what comes after it on the same connection waits behind it."""
    slow_by: float = 0.1
    duplicate: float = 0.0
    """Arrives twice (requests other than JOIN; not for runs with `significance`, whose answers must arrive once)."""
    lose: float = 0.0
    """Is lost, and the connection with it: the worker is told, the server is not."""


class InprocEngine:
    """Shards in this process.

    Args:
        definitions: one `pack_definition` a shard, or None: the first worker defines the model.
        restore: go on from the newest snapshots in `directory`.
        seed: of everything that is drawn.
        latency: virtual seconds of a message on its way, drawn uniformly from [low, high].
        recovery: virtual seconds from the death of a shard to its successor.

    Attributes:
        history: every push that came through, and every join, departure, crash, ... in order: dicts with "time" and
            "event"; of applied pushes also the sequence, the version and clock after it, its delay and `clocks`, all
            clocks that count.
        watchers: called with each entry of the history; to inject faults at a chosen moment, through `at`.
    """

    address = "inproc"

    def __init__(
        self,
        config: ServerConfig,
        token: str = "",
        directory: Path | None = None,
        definitions: Sequence[bytes] | None = None,
        restore: bool = False,
        *,
        seed: int = 0,
        latency: tuple[float, float] = (0.0, 0.0),
        recovery: float = 0.1,
        disturbance: Disturbance = Disturbance(),
    ) -> None:
        self.config = config
        self.directory = directory
        self.seed = seed
        self.latency = latency
        self.recovery = recovery
        self.disturbance = disturbance
        self.machine = VirtualMachine(seed)
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY_KEPT)
        self.watchers: list[Callable[[dict[str, Any]], None]] = []
        self.traffic = 0
        """Messages on their way."""
        self.moved = 0.0
        """When something other than a sign of life arrived last."""
        self._tasks: dict[int, Task] = {}
        self._shards = [InprocShard(self, index) for index in range(config.shards)]
        for shard in self._shards:
            shard.begin(None if definitions is None else definitions[shard.index], restore)

    def connects(self) -> list[Connect]:
        """One function a shard that makes a channel to it."""
        return [partial(Link, self, shard) for shard in self._shards]

    def run(self, function: Callable[..., Any], workers: int, arguments: tuple[Any, ...] = ()) -> list[Outcome]:
        """`function(client, rank, *arguments)` of every rank in a thread of its own, one running at a time.

        What is drawn in a run depends on the seed and on the weights' version at its beginning.
        """
        machine = self.machine
        machine.random.seed(f"{self.seed} {self._shards[0].version}")
        self.moved = machine.now
        works = [partial(self._work, function, rank, arguments) for rank in range(workers)]
        tasks = [machine.start(f"worker {rank}", work) for rank, work in enumerate(works)]
        self._tasks = dict(enumerate(tasks))
        try:
            while self.traffic or not all(task.done for task in tasks):
                machine.step()
                patience = STALLED_AFTER * self.config.deadline
                if machine.now - self.moved > patience and not any(task.sleeping for task in tasks):
                    raise ServerError(f"nobody can go on: nothing has happened for {patience:g} virtual seconds")
        finally:
            for task in tasks:
                while task.waiting and not task.done:
                    machine.kill(task)
            self._tasks = {}
        return [Outcome(rank, task.value, _line(task.error)) for rank, task in enumerate(tasks)]

    def pids(self) -> dict[str, int]:
        """No processes."""
        return {}

    def close(self) -> None:
        """Nothing is left behind."""

    def clock(self) -> float:
        """Virtual seconds."""
        return self.machine.now

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass; what happens meanwhile happens."""
        self.machine.sleep(seconds)

    # Faults. Those without a time happen at once, and are meant for `at`.

    def at(self, time: float, action: Callable[[], object]) -> None:
        """Let `action` happen at a moment of virtual time, as in `engine.at(0.5, lambda: engine.kill(1))`."""
        self.machine.at(time, action)

    def kill(self, rank: int) -> None:
        """A worker of the present run dies. Of what it has sent some arrives, then the end of the connection."""
        task = self._tasks.get(rank)
        if task is not None and not task.done and not task.killed:
            self.note("killed", rank=rank)
            for shard in self._shards:
                for link in shard.links:
                    if link.owner is task:
                        link.cut()
            self.machine.kill(task)

    def stop(self, rank: int, seconds: float) -> None:
        """A worker stands still for so long, signs of life included."""
        task = self._tasks.get(rank)
        if task is not None and not task.done:
            self.note("stopped", rank=rank)
            self.machine.stop(task)
            self.machine.after(seconds, lambda: task.done or self.machine.resume(task))

    def sever(self, rank: int, shard: int = 0) -> None:
        """The connection of a worker to a shard breaks, and what was on its way is lost. The server is not told."""
        for link in list(self._shards[shard].links):
            if link.owner is self._tasks.get(rank):
                link.sever()

    def kill_shard(self, index: int = 0) -> None:
        """A shard dies; `recovery` later another takes over from its last snapshot, if there is one."""
        self._shards[index].die()

    def note(self, event: str, **values: Any) -> None:
        """An entry in the history."""
        entry = {"time": self.machine.now, "event": event, **values}
        self.history.append(entry)
        for watcher in self.watchers:
            watcher(entry)

    def delay(self) -> float:
        """How long the next message takes."""
        random, disturbance = self.machine.random, self.disturbance
        seconds = random.uniform(*self.latency)
        return seconds + disturbance.slow_by if random.random() < disturbance.slow else seconds

    def _work(self, function: Callable[..., Any], rank: int, arguments: tuple[Any, ...]) -> Any:
        with Client(self.connects(), worker=rank, **self.client_options()) as client:
            return function(client, rank, *arguments)

    def client_options(self) -> dict[str, Any]:
        """How a client lives by this engine's clock."""
        deadline = self.config.deadline
        return {"deadline": deadline, "beats": False, "sleep": self.sleep, "clock": self.clock, "seed": self.seed}


class InprocShard:
    """One shard: its state while it is up, its last snapshot, and the connections to it."""

    def __init__(self, engine: InprocEngine, index: int) -> None:
        self.engine = engine
        self.index = index
        self.term = 0
        self.state: ShardState | None = None
        self.kept: bytes | None = None
        self.links: list[Link] = []
        self.members: dict[tuple[int, int], Link] = {}
        """The connection over which each (worker, epoch) joined last."""
        self.begun: dict[tuple[int, int], tuple[int, int]] = {}
        """Sequences of the last push before each (worker, epoch) and of the last begun in it: workers write it as they
        push, and it survives the shard."""

    @property
    def version(self) -> int:
        return self.state.version if self.state is not None else 0

    def live(self) -> ShardState:
        """The state; Disconnected while there is none."""
        if self.state is None:
            raise Disconnected(f"shard {self.index} is down")
        return self.state

    def arrive(self, link: Link, message: Message) -> None:
        """A message comes in."""
        if self.state is None:
            return
        reply = self.state.apply(message, self.engine.machine.now)
        if reply is not None and reply.kind == Kind.JOIN and reply.status == Status.DONE and reply.epoch:
            member = (reply.worker, reply.epoch)
            base = int(message.body.get("sequence", 0))
            self.begun.setdefault(member, (base, base))
            self.members[member] = link
            began = link.epoch > 0
            link.worker, link.epoch = member
            if not began:
                link.beat()
        elif reply is not None and reply.kind == Kind.LEAVE:
            self.members.pop((message.worker, message.epoch), None)
        self.flush(reply, link)

    def ended(self, link: Link) -> None:
        """A connection has come to its end, without its worker having left."""
        member = (link.worker, link.epoch)
        if self.members.get(member) is link:
            del self.members[member]
            if self.state is not None:
                self.state.gone(*member, self.begun[member][1], self.engine.machine.now)
                self.flush()

    def tick(self) -> None:
        """Time passes."""
        if self.state is not None:
            self.state.tick(self.engine.machine.now)
            self.flush()
        self.engine.machine.after(self.engine.config.heartbeat / 4.0, self.tick)

    def answer(self, reply: Reply, link: Link | None) -> None:
        """Put an answer into the history and on its way."""
        state = self.live()
        if reply.kind == Kind.PUSH and reply.status in (Status.APPLIED, Status.REFUSED):
            self.engine.note(
                "applied" if reply.status == Status.APPLIED else "answered refused",
                shard=self.index,
                worker=reply.worker,
                epoch=reply.epoch,
                sequence=reply.sequence,
                version=reply.version,
                delay=reply.delay,
                clock=state.clocks.get(reply.worker),
                clocks=state.clocks,
            )
        if link is not None and not link.broken:
            values = None if reply.values is None else reply.values.copy()
            link.reply(reply._replace(values=values, body=as_sent(reply.body)))

    def flush(self, reply: Reply | None = None, link: Link | None = None) -> None:
        """After every change: note events, put answers on their way (`reply` over `link`), take a snapshot if due."""
        state = self.live()
        events, state.events = state.events, []
        # Of two evicted at one tick the first may let the push of the second through: departures come last.
        departures = [event for event in events if event["event"] in ("evicted", "left")]
        for event in events:
            if event not in departures:
                self.engine.note(**event)
        if reply is not None and reply.kind != Kind.SNAPSHOT:
            self.answer(reply, link)
        for released in state.released():
            self.answer(released, self.members.get((released.worker, released.epoch)))
        for event in departures:
            self.engine.note(**event)
            self.hang_up(event["worker"], event["epoch"])
        problem = self.save() if state.due else None
        if reply is not None and reply.kind == Kind.SNAPSHOT:
            self.answer(reply._replace(status=Status.FAILED, body={"error": problem}) if problem else reply, link)

    def hang_up(self, worker: int, epoch: int) -> None:
        """Close the connection of a worker that has gone, so that it learns of it even if it waits for an answer."""
        link = self.members.pop((worker, epoch), None)
        if link is not None and link.epoch == epoch:
            link.hang_up()

    def save(self) -> str | None:
        """Take a snapshot; into the directory too, if there is one. Returns what went wrong with that."""
        state = self.live()
        arrays, meta = state.snapshot()
        self.kept = snapshot.pack(arrays, meta)
        self.begun = {member: pushes for member, pushes in self.begun.items() if member in self.members}
        self.engine.note("snapshot", shard=self.index, version=state.version)
        if self.engine.directory is not None:
            try:
                snapshot.write(self.engine.directory, snapshot_name(self.index), self.kept)
            except OSError as error:
                problem = f"the snapshot of shard {self.index} could not be written: {error.strerror}"
                self.engine.note("snapshot failed", shard=self.index, error=problem)
                return problem
        return None

    def begin(self, definition: bytes | None, restore: bool) -> None:
        """The state as a server starts with it; the workers of a restored one are gone."""
        config, directory = self.engine.config, self.engine.directory
        self.state = state = open_shard(config, self.index, definition, directory, restore=restore, term=0, now=0.0)
        self.term = state.term
        if state.term and config.snapshot_every:
            self.kept = snapshot.pack(*state.snapshot())
        state.dismiss(0.0)
        self.flush()
        self.tick()

    def die(self) -> None:
        """The process of this shard is killed."""
        if self.state is None:
            return
        self.state = None
        self.engine.note("shard killed", shard=self.index)
        for link in list(self.links):
            link.sever()
        if self.kept is not None:
            kept = self.kept
            self.engine.machine.after(self.engine.recovery, lambda: self._revive(*snapshot.unpack(kept)))

    def _revive(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        now = self.engine.machine.now
        self.term = max(self.term, meta["term"]) + 1
        self.state = ShardState.restore(self.engine.config, arrays, meta, term=self.term, now=now)
        self.state.recover(self.begun, now)
        self.dismiss({*self.begun, *((member["worker"], member["epoch"]) for member in meta["members"])})
        self.flush()

    def dismiss(self, members: Collection[tuple[int, int]]) -> None:
        """Tell a restored state which of its (worker, epoch) have died in the meantime."""
        for member in sorted(members):
            link = self.members.get(member)
            if link is None or link.owner.killed or link.owner.done:
                self.members.pop(member, None)
                self.live().gone(*member, self.begun.get(member, (0, 0))[1], self.engine.machine.now)


def _line(error: BaseException | None) -> str | None:
    """An error in one line."""
    if error is None:
        return None
    if isinstance(error, Killed):
        return "killed"
    return line_of(error)
