"""Connections of the deterministic engine: what is sent takes virtual time, keeps its order, and may be disturbed."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from bitquote.server.errors import Disconnected
from bitquote.server.message import Kind, Message, Reply

if TYPE_CHECKING:
    from bitquote.server.inproc.engine import InprocEngine, InprocShard

SHORTEST_WAIT = 1e-6
"""Virtual seconds that a receive waits at least, so that a loop of them cannot make time stand still."""


class Link:
    """A connection between a worker and a shard: a `Channel` for the one, a place to answer to for the other."""

    def __init__(self, engine: InprocEngine, shard: InprocShard) -> None:
        engine.machine.check()
        shard.live()
        self.worker, self.epoch = -1, 0
        self.broken = False
        self.closed = False
        self.owner = engine.machine.current
        self._engine = engine
        self._machine = engine.machine
        self._shard = shard
        self._inbox: deque[Reply] = deque()
        self._up, self._down = Way(engine), Way(engine)
        shard.links.append(self)

    # The worker's end.

    def send(self, message: Message) -> None:
        """Put a message on its way; Disconnected when the connection is broken."""
        self._machine.check()
        if self.broken or self.closed:
            raise Disconnected(f"the connection to shard {self._shard.index} is broken")
        if message.kind == Kind.PUSH:
            member = (message.worker, message.epoch)
            if member in self._shard.begun:  # else this epoch is over
                base, begun = self._shard.begun[member]
                self._shard.begun[member] = base, max(begun, message.sequence)
        values = None if message.values is None else message.values.copy()
        message = message._replace(values=values, body=as_sent(message.body))
        random, disturbance = self._machine.random, self._engine.disturbance
        if random.random() < disturbance.lose:
            self._up.put(self.sever)
            return
        twice = random.random() < disturbance.duplicate and message.kind != Kind.JOIN
        for _ in range(1 + twice):
            self._up.put(partial(self._deliver_up, message))

    def receive(self, timeout: float) -> Reply | None:
        """The next reply; None after `timeout` virtual seconds."""
        until = self._machine.now + max(timeout, SHORTEST_WAIT)
        while True:
            self._machine.check()
            if self._inbox:
                return self._inbox.popleft()
            if self.broken or self.closed:
                raise Disconnected(f"the connection to shard {self._shard.index} is broken")
            if self._machine.now >= until:
                return None
            self._machine.wait(until)

    def gradient(self) -> None:
        """None: nothing is copied that would not be copied anyway."""

    def close(self) -> None:
        """Let go: the server hears of it after all that was sent before."""
        if not (self.broken or self.closed or self._machine.current.killed):
            self.closed = True
            self._up.put(self._end)

    # The server's end, and what happens to the line.

    def reply(self, reply: Reply) -> None:
        """Put an answer on its way."""
        if self._machine.random.random() < self._engine.disturbance.lose:
            self._down.put(self.sever)
        else:
            self._down.put(partial(self._deliver_down, reply))

    def beat(self) -> None:
        """Signs of life of the worker, as long as it lives and has this connection."""
        if self.broken or self.closed or self.owner.killed or self.owner.done:
            return
        if not self.owner.stopped and self._shard.members.get((self.worker, self.epoch)) is self:
            self._up.put(partial(self._deliver_up, Message(Kind.BEAT, self.worker, self.epoch)))
        self._machine.after(self._engine.config.heartbeat / 3.0, self.beat)

    def sever(self) -> None:
        """Break; what is on its way is lost."""
        self._break()
        self._machine.wake(self.owner)

    def cut(self) -> None:
        """The worker dies: some of what it has sent arrives, then the end of the connection."""
        if not self.broken:
            self._up.drop_some()
            self._up.put(self._end)

    def hang_up(self) -> None:
        """The server closes the connection: the worker is told after all that was sent to it before."""
        self._down.put(self.sever)

    def _break(self) -> None:
        self.broken = True
        self._up.drop()
        self._down.drop()
        if self in self._shard.links:
            self._shard.links.remove(self)

    def _end(self) -> None:
        self._break()
        self._shard.ended(self)

    def _deliver_up(self, message: Message) -> None:
        if message.kind != Kind.BEAT:
            self._engine.moved = self._machine.now
        self._shard.arrive(self, message)

    def _deliver_down(self, reply: Reply) -> None:
        if reply.kind != Kind.BEAT:
            self._engine.moved = self._machine.now
        elif self._inbox and self._inbox[-1].kind == Kind.BEAT:
            return  # one unread sign of life says as much as many
        self._inbox.append(reply)
        self._machine.wake(self.owner)


class Way:
    """One direction of a connection: what is put in comes out in the same order, each after a latency."""

    def __init__(self, engine: InprocEngine) -> None:
        self._engine = engine
        self._queue: deque[Callable[[], None]] = deque()
        self._last = 0.0

    def put(self, arrival: Callable[[], None]) -> None:
        """Let `arrival` happen once the latency has passed and all that was put before has arrived."""
        machine = self._engine.machine
        self._last = max(self._last, machine.now + self._engine.delay())
        self._queue.append(arrival)
        self._engine.traffic += 1
        machine.at(self._last, self._arrive)

    def drop(self) -> None:
        """Lose everything on its way."""
        self._engine.traffic -= len(self._queue)
        self._queue.clear()

    def drop_some(self) -> None:
        """Lose what was put in last, some number of messages."""
        for _ in range(self._engine.machine.random.randint(0, len(self._queue))):
            self._queue.pop()
            self._engine.traffic -= 1

    def _arrive(self) -> None:
        # Simultaneous events are one queue's as good as each other's: the order within is the queue's.
        if self._queue:
            arrival = self._queue.popleft()
            self._engine.traffic -= 1
            arrival()


def as_sent(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """What arrives of a body that travels as JSON."""
    return json.loads(json.dumps(body)) if body else body
