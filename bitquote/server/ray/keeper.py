"""The keeper of the shards on a Ray cluster: it grants leases, keeps snapshots, and makes successors.

When a shard has not renewed its lease the keeper makes another, of the next term, from the last snapshot that it holds;
the old one has acknowledged nothing since its lease ran out (see `lease`).
"""

from __future__ import annotations

import asyncio
import hmac
import json
import math
import os
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bitquote.server import snapshot
from bitquote.server.config import ServerConfig
from bitquote.server.errors import Rejected, ServerError, ServerUnavailable
from bitquote.server.opening import snapshot_name
from bitquote.server.ray.cluster import one_line
from bitquote.server.ray.lease import Leases, lease_of
from bitquote.server.ray.shard_actor import EVENTS_KEPT, NAMESPACE, WRONG_TOKEN, ShardActor, remote

STARTING = 30.0
"""Seconds that a new shard has to come into service, before another is made in its place."""
AGAIN = 1.0
"""Seconds after which the making of a shard that failed is tried again."""
ENDING = 1.0
"""Seconds that a shard has to tell its last events."""


@dataclass
class _Seat:
    """Where the keeper has a shard."""

    kept: bytes | None
    """Its last snapshot."""
    actor: Any = None
    node: str = ""
    pid: int = 0
    life: Any = None
    """The call that lasts as long as the shard."""
    serving: asyncio.Event = field(default_factory=asyncio.Event)
    making: bool = False
    """A task is at work on a successor."""
    lost: bool = False
    """There will be none: snapshots are off."""
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a snapshot goes to the disk: two terms must not write at one time."""


class Keeper:
    """Watches over the shards of one server: leases, snapshots, successors. Lives beside the driver, and dies with it.

    Args:
        run: the server's name on the cluster.
        directory: where snapshots are written too, and the log, on the machine of the driver; None: nowhere.
        kept: every shard's snapshot to begin with; None: the first worker defines the model.
        terms: every shard's first term.
    """

    def __init__(
        self,
        config: ServerConfig,
        run: str,
        token: str,
        directory: Path | None,
        kept: list[bytes | None],
        terms: list[int],
    ) -> None:
        self.config = config
        self.run = run
        self.directory = directory
        self.leases = Leases(list(terms), lease_of(config))
        self._token = token
        self._seats = [_Seat(data) for data in kept]
        self._suspects: dict[str, float] = {}  # nodes that have lost a shard, and when
        self._workers: dict[int, tuple[int, bool]] = {}
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Bring all shards into service."""
        await asyncio.gather(*(self._make(shard, term) for shard, term in enumerate(self.leases.terms)))
        await asyncio.gather(*(seat.serving.wait() for seat in self._seats))
        self._begin(self._watch())

    async def locate(self, token: str, shard: int) -> tuple[Any, int] | ServerError | None:
        """The shard's present actor and term; None while there is none; an error to raise, which Ray would wrap."""
        if not hmac.compare_digest(token, self._token):
            return Rejected(WRONG_TOKEN)
        seat = self._seats[shard]
        if seat.lost:
            return ServerUnavailable(f"shard {shard} is gone, and server.snapshot_every is 0: it cannot be restored")
        try:
            await asyncio.wait_for(seat.serving.wait(), 1.0)
        except TimeoutError:
            return None
        return seat.actor, self.leases.terms[shard]

    async def shards(self, token: str) -> int | ServerError:
        """How many there are."""
        return len(self._seats) if hmac.compare_digest(token, self._token) else Rejected(WRONG_TOKEN)

    async def term(self, shard: int) -> int:
        """The shard's present term."""
        return self.leases.terms[shard]

    async def renew(self, shard: int, term: int, events: list[dict[str, Any]]) -> bool:
        """Grant a lease, unless the shard has a successor."""
        self._record(events)
        granted = self.leases.renew(shard, term, time.monotonic())
        if granted:
            self._seats[shard].serving.set()
        return granted

    async def store(self, shard: int, term: int, data: bytes) -> tuple[bool, str | None]:
        """Keep a snapshot, unless the shard has a successor: whether it has none, and why the disk did not take it."""
        failure, seat = None, self._seats[shard]
        if term == self.leases.terms[shard]:
            seat.kept = data
        async with seat.writing:
            if self.directory is not None and term == self.leases.terms[shard]:
                try:
                    await asyncio.to_thread(snapshot.write, self.directory, snapshot_name(shard), data)
                except OSError as error:
                    failure = error.strerror or str(error)
                    self._event("snapshot failed", shard, error=failure)
        return term == self.leases.terms[shard], failure

    async def enrol(self, rank: int, pid: int, joined: bool) -> None:
        """A worker of the present run has begun, and perhaps joined."""
        self._workers[rank] = (pid, joined)

    async def joined(self, rank: int) -> bool:
        """Whether a worker of the present run has joined the shards."""
        return self._workers.get(rank, (0, False))[1]

    async def dismiss(self) -> None:
        """The present run is over."""
        self._workers.clear()

    async def events(self) -> list[dict[str, Any]]:
        """What has happened lately."""
        return list(self._events)

    async def pids(self) -> dict[str, int]:
        """Process ids, on whichever machine each is."""
        shards = {f"server.{shard}": seat.pid for shard, seat in enumerate(self._seats)}
        workers = {f"worker.{rank}": pid for rank, (pid, _) in self._workers.items()}
        return {**shards, "keeper": os.getpid(), **workers}

    async def nodes(self) -> list[str]:
        """The node of every shard, as Ray's hexadecimal id."""
        return [seat.node for seat in self._seats]

    async def close(self) -> None:
        """End all shards."""
        import ray
        from ray.exceptions import RayError

        for task in self._tasks:
            task.cancel()

        async def end(seat: _Seat) -> None:
            if seat.actor is not None:
                if seat.serving.is_set():
                    with suppress(RayError, TimeoutError):
                        self._record(await asyncio.wait_for(seat.actor.drain.remote(self._token), ENDING))
                ray.kill(seat.actor)

        await asyncio.gather(*map(end, self._seats))

    async def _watch(self) -> None:
        """Make successors of shards whose lease has run out."""
        pause = self.leases.length / 10.0
        while True:
            wake = time.monotonic() + pause
            await asyncio.sleep(pause)
            if time.monotonic() - wake > pause:
                continue  # this process was away itself, and renewals may wait here still
            for shard in self.leases.expired(time.monotonic()):
                if not self._seats[shard].making:
                    self._supersede(shard)

    def _supersede(self, shard: int) -> None:
        """Begin a shard's next term. At once: no renewal of the old term may come between its end and this."""
        seat, term = self._seats[shard], self.leases.terms[shard] + 1
        self.leases.begin(shard, term, time.monotonic() + STARTING)
        seat.serving.clear()
        self._suspects[seat.node] = time.monotonic()
        self._event("shard lost", shard, term=term - 1)
        if self.config.snapshot_every == 0:
            seat.lost = True
            self.leases.begin(shard, term, math.inf)
        else:
            seat.making = True
            self._begin(self._succeed(shard, term))

    async def _succeed(self, shard: int, term: int) -> None:
        """Make the successor of a shard."""
        import ray
        from ray.exceptions import RayError

        seat = self._seats[shard]
        try:
            ray.kill(seat.actor)  # it may be alive and only slow; it is fenced already
            await asyncio.wait_for(self._make(shard, term), STARTING)
            self._event("shard made anew", shard, term=term)
        except (TimeoutError, RayError, ValueError) as error:
            self._event("shard not made", shard, term=term, error=one_line(error))
            self.leases.begin(shard, term, time.monotonic() + AGAIN)
        finally:
            seat.making = False

    async def _make(self, shard: int, term: int) -> None:
        """Put a shard of this term on a node, and hand it the last snapshot."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        seat = self._seats[shard]
        seat.node = _emptiest(await asyncio.to_thread(ray.nodes), [s.node for s in self._seats], self._suspects)
        seat.actor = (
            remote(ShardActor)
            .options(
                name=f"{self.run}.shard{shard}.term{term}",  # Ray frees the name of an actor on a dead node late
                namespace=NAMESPACE,
                lifetime="detached",
                scheduling_strategy=NodeAffinitySchedulingStrategy(seat.node, soft=False),
            )
            .remote(self.config, shard, term, self._token)
        )
        me = ray.get_runtime_context().current_actor
        seat.pid, seat.node = await seat.actor.open.remote(me, seat.kept)
        seat.life = seat.actor.live.remote()

    def _event(self, name: str, shard: int, **values: Any) -> None:
        self._record([{"event": name, "shard": shard, **values}])

    def _record(self, events: list[dict[str, Any]]) -> None:
        self._events.extend(events)
        if events and self.directory is not None:
            lines = "".join(json.dumps({"time": time.time(), **event}) + "\n" for event in events)
            with suppress(OSError), (self.directory / "server.jsonl").open("a") as log:  # a full disk ends nothing
                log.write(lines)

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _emptiest(nodes: list[dict[str, Any]], taken: list[str], suspects: dict[str, float]) -> str:
    """The node for the next shard: one that lives and has the fewest; the one that lost one last only if it must be.

    Ray does not know at once that a node has died, and an actor that it puts there waits for 15 s and more.
    """
    alive = sorted(node["NodeID"] for node in nodes if node["Alive"])
    count = Counter(taken)
    return min(alive, key=lambda node: (suspects.get(node, -math.inf), count[node], node))
