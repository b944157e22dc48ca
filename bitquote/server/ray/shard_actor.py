"""The actor that carries one shard on a Ray cluster.

It acknowledges nothing without a lease (see `lease`), and what it acknowledges can be restored from the keeper but
for the pushes since the last snapshot (see `keeper`).
"""

from __future__ import annotations

import asyncio
import hmac
import os
import time
from typing import Any

import numpy as np

from bitquote.server import points, snapshot
from bitquote.server.config import ServerConfig
from bitquote.server.message import Kind, Message, Reply, Status
from bitquote.server.ray.lease import Lease, lease_of
from bitquote.server.shard import ShardState
from bitquote.server.update import load_torch

NAMESPACE = "bitquote"
CONCURRENCY = 8192
"""Calls that an actor has open at one time: the pushes that wait at the gate are such."""
EVENTS_KEPT = 10_000
WRONG_TOKEN = "the server refused the connection: wrong token"


class ShardActor:
    """One shard, in one of its terms. Every call runs in the actor's event loop, one at a time between awaits."""

    def __init__(self, config: ServerConfig, shard: int, term: int, token: str) -> None:
        self.config = config
        self.shard = shard
        self.term = term
        self.lease = Lease(lease_of(config))
        self.state: ShardState
        self._token = token
        self._keeper: Any = None
        self._open = asyncio.Event()  # cleared while a snapshot is on its way to the keeper
        self._waiting: dict[tuple[int, int, int, int], asyncio.Future[Reply | str]] = {}
        self._events: list[dict[str, Any]] = []

    async def open(self, keeper: Any, kept: bytes | None) -> tuple[int, str]:
        """`begin`, as the keeper asks for it. Returns the process id and the node's id."""
        import ray

        self.begin(keeper, kept)
        return os.getpid(), ray.get_runtime_context().get_node_id()

    def begin(self, keeper: Any, kept: bytes | None) -> None:
        """Begin with the snapshot `kept`."""
        now = time.monotonic()
        if kept is None:
            load_torch()  # the first worker may bring a rule of torch's: its import outlasts a lease
            self.state = ShardState(self.config, shard=self.shard, term=self.term)
        else:
            arrays, meta = snapshot.unpack(kept)
            self.state = ShardState.restore(self.config, arrays, meta, term=self.term, now=now)
        self._keeper = keeper
        self._open.set()

    async def live(self) -> None:
        """Renew the lease and evict the silent, until the keeper is gone or has a successor for this shard."""
        from ray.actor import exit_actor
        from ray.exceptions import ActorUnavailableError, RayActorError

        length, granted = self.lease.length, True
        wake = time.monotonic()
        while granted is not False:
            asked = time.monotonic()
            late = asked - wake > length / 3.0
            events, self._events = self._events, []
            try:
                renewal = self._keeper.renew.remote(self.shard, self.term, events)
                granted = await asyncio.wait_for(renewal, length)
            except (TimeoutError, ActorUnavailableError):
                granted = None
            except RayActorError:
                granted = False  # with it goes the driver, and the run
            if granted:
                self.lease.renewed(asked)
            if not late:  # if this process was away itself, signs of life may wait here still
                self.state.tick(time.monotonic())
                self._deliver()
            wake = max(asked + length / 3.0, time.monotonic())
            await asyncio.sleep(wake - time.monotonic())
        exit_actor()

    async def handle(self, request: tuple[Any, ...]) -> tuple[Any, ...] | str:
        """Answer a token and the fields of a message: with the fields of the reply, or why the connection is over.

        One tuple each way, since Ray serialises every argument on its own.
        """
        token, *fields = request
        if not hmac.compare_digest(token, self._token):
            return WRONG_TOKEN
        points.reach("server.received")
        while not self._open.is_set():
            await self._open.wait()
        now = time.monotonic()
        if not self.lease.holds(now):
            return "fenced: lease lost"
        message = Message(Kind(fields[0]), *fields[1:])
        if message.kind == Kind.PUSH:
            points.reach("server.before_apply")
        reply = self.state.apply(message, now)
        if reply is not None:
            reply = self._frozen(reply)
        if message.kind == Kind.PUSH:
            points.reach("server.after_apply_before_reply")
        self._deliver()
        if self.state.due:
            failure = await self._store()
            if failure and message.kind == Kind.SNAPSHOT:
                error = {"error": f"the snapshot failed: {failure}"}
                reply = Reply(Kind.SNAPSHOT, Status.FAILED, *message[1:4], body=error)
        answer = await self._later(message) if reply is None else reply
        if isinstance(answer, str):
            return answer
        return tuple(answer) if self.lease.holds(time.monotonic()) else "fenced: lease lost"

    async def drain(self, token: str) -> list[dict[str, Any]]:
        """The events that the keeper has not heard of yet, at the end."""
        events = []
        if hmac.compare_digest(token, self._token):
            events, self._events = self._events, events
        return events

    async def gone(self, token: str, worker: int, epoch: int | None) -> None:
        """A worker's process has ended, or its connection; `epoch` None: whichever it was in."""
        if not hmac.compare_digest(token, self._token):
            return
        self.state.gone(worker, epoch, None, time.monotonic())
        self._deliver()

    async def _store(self) -> str | None:
        """Take a snapshot to the keeper; what went wrong. Nothing is applied meanwhile: so the loss is bounded."""
        from ray.exceptions import ActorUnavailableError, RayActorError

        points.reach("server.before_snapshot")
        self._open.clear()
        arrays, meta = self.state.snapshot()
        data = snapshot.pack(arrays, meta)
        while True:
            try:
                stored, failure = await self._keeper.store.remote(self.shard, self.term, data)
            except ActorUnavailableError:
                await asyncio.sleep(self.lease.length / 10.0)
            except RayActorError:
                return None  # `live` will hear of it too
            else:
                break
        if stored:
            self._open.set()
        return failure

    async def _later(self, message: Message) -> Reply | str:
        """The answer to a message that waits at the gate or in a collective, or a repetition of one that does."""
        key = (int(message.kind), message.worker, message.epoch, message.sequence)
        if key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().create_future()
        return await self._waiting[key]

    def _deliver(self) -> None:
        """After every change: answers that have become due, and none for those who are gone."""
        for reply in self.state.released():
            future = self._waiting.pop((int(reply.kind), reply.worker, reply.epoch, reply.sequence), None)
            if future is not None:
                future.set_result(self._frozen(reply))
        events, self.state.events = self.state.events, []
        for event in events:
            if event["event"] in ("evicted", "left"):
                gone = [key for key in self._waiting if key[1:3] == (event["worker"], event["epoch"])]
                for key in gone:
                    self._waiting.pop(key).set_result("evicted")
        self._events = (self._events + events)[-EVENTS_KEPT:]

    def _frozen(self, reply: Reply) -> Reply:
        """A reply as it travels: plain values, and weights that later pushes do not change."""
        values = reply.values
        if values is not None and np.may_share_memory(values, self.state.weights):
            values = values.copy()
        return reply._replace(kind=int(reply.kind), status=int(reply.status), values=values, body=dict(reply.body))


def remote(actor: type) -> Any:
    """`actor` as Ray makes it: no CPU reserved, and neither calls nor the actor itself repeated by Ray.

    Ray's own repetition of calls is at-least-once, and an actor that it restarts has forgotten everything.
    """
    import ray

    options: dict[str, Any] = {"num_cpus": 0, "max_restarts": 0, "max_task_retries": 0, "max_concurrency": CONCURRENCY}
    return ray.remote(**options)(actor)
