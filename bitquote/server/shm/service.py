"""What a shard's process does while it serves: carries messages between connections and the state of the shard.

One thread waits for whatever comes first and acts on it; it never waits for one worker.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from bitquote.errors import InputError
from bitquote.server import snapshot
from bitquote.server.errors import ProtocolError
from bitquote.server.message import Kind, Message, Reply, Status
from bitquote.server.opening import snapshot_name
from bitquote.server.points import reach
from bitquote.server.shard import ShardState
from bitquote.server.shm import wire
from bitquote.server.shm.memory import NO_PAIR, BegunPage
from bitquote.server.shm.peer import READ, Ended, Peer
from bitquote.server.shm.setup import Setup
from bitquote.server.shm.writer import Job, SnapshotWriter, Withheld

PUSH: Final = Kind.PUSH
JOIN: Final = Kind.JOIN
KEPT: Final = (Kind.DEFINE, Kind.LOAD, Kind.CONFIGURE, Kind.SNAPSHOT)
"""Answered only once a snapshot has what they did."""
PEERS: Final = 2048
"""Connections of one shard at most: its workers, those that are about to be replaced, and observers."""
PARKED: Final = 64
"""Unanswered requests of one connection at most."""
HELLO_PATIENCE: Final = 5.0
"""Seconds within which a connection must say who it is."""


class Service:
    """Carries messages between connections and the state of the shard."""

    def __init__(self, setup: Setup, page: BegunPage, state: ShardState) -> None:
        self.setup = setup
        self.page = page
        self.state = state
        self.peers: dict[int, Peer] = {}
        self.workers: dict[int, Peer] = {}
        self.over: list[tuple[int, int]] = []
        """Stays that have ended since the last snapshot was taken; their lines are needed until it is written."""
        self.withheld: list[Withheld] = []
        self.poller = select.epoll() if hasattr(select, "epoll") else select.poll()
        self.listener = socket.socket(fileno=setup.listener)
        self.listener.setblocking(False)
        self.listening = False
        self.writer = SnapshotWriter(Path(setup.directory), snapshot_name(setup.shard), sync=setup.log is not None)
        self.now = time.monotonic()
        """Seconds, of a clock that the shard lives by."""
        self.log = None if setup.log is None else open(setup.log, "ab", buffering=0)  # noqa: SIM115

    def run(self, took: float | None) -> None:
        """Serve until the parent is gone; `took` is the time that a takeover has lasted so far."""
        self.poller.register(self.setup.parent, READ)
        self.poller.register(self.writer.done, READ)
        self._listen(True)
        self._settle(self.now)
        self._report({"event": "serving", "term": self.state.term, "seconds": took})
        interval = min(self.state.config.heartbeat / 8.0, 0.5)
        timeout = interval if hasattr(select, "epoll") else 1000.0 * interval
        now = next_tick = last = self.now
        while True:
            events = self.poller.poll(timeout)
            # The shard's time stands still while this process does: its own pause is not the workers' silence.
            now, last = now + min(time.monotonic() - last, 2.0 * interval), time.monotonic()
            self.now = now
            for descriptor, _ in events:
                peer = self.peers.get(descriptor)
                if peer is not None:
                    self._serve(peer, now)
                elif descriptor == self.writer.done:
                    self._written(now, wait=False)
                elif descriptor == self.setup.listener:
                    self._accept(now)
                elif descriptor == self.setup.parent:
                    return
            if now >= next_tick:
                next_tick = now + interval
                self._tick(now)
                if os.getppid() != self.setup.parent_process:  # a child that it forked may keep its pipe open
                    return

    def close(self) -> None:
        """After the parent's end: a last snapshot for whoever asked for a directory."""
        self.writer.close()
        if self.setup.log is not None and self.state.size:
            with suppress(OSError, InputError):
                arrays, meta = self.state.snapshot()
                snapshot.write(Path(self.setup.directory), self.writer.name, snapshot.pack(arrays, meta))

    # Connections.

    def _listen(self, listen: bool) -> None:
        if listen and not self.listening:
            self.poller.register(self.setup.listener, READ)
        elif not listen and self.listening:
            self.poller.unregister(self.setup.listener)
        self.listening = listen

    def _accept(self, now: float) -> None:
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # too many open files: try again a little later
            self._note("connection not accepted", error=str(error))
            self._listen(False)
            return
        connection.setblocking(False)
        if len(self.peers) >= PEERS:
            with suppress(OSError):
                connection.send(wire.welcome(wire.FULL, self.setup.shard, self.setup.shards))
            connection.close()
            return
        peer = Peer(connection, self.poller, self.setup, now)
        self.peers[peer.descriptor] = peer

    def _serve(self, peer: Peer, now: float) -> None:
        """One step for a connection on which something can be done."""
        try:
            if peer.outbox:
                peer.flush(now)
            elif (request := peer.read(self.state.size)) is not None:
                self._handle(peer, *request, now)
        except BlockingIOError:
            return
        except Ended:
            self._close(peer, None, now)
        except OSError as error:
            self._close(peer, error.strerror or str(error), now)
        except ProtocolError as error:
            self._close(peer, str(error), now)
        except Exception:
            # A message that the shard did not foresee: its sender is cut off, and everybody else goes on.
            self._note("error", worker=peer.worker, error=traceback.format_exc(limit=-3))
            self._close(peer, "an unforeseen message", now)

    def _close(self, peer: Peer, reason: str | None, now: float) -> None:
        """Let go of a connection; of a worker that has not left, this is the end of its stay."""
        del self.peers[peer.descriptor]
        peer.close()
        if reason is not None:
            self._note("connection closed", worker=peer.worker, reason=reason)
        if peer.joined and self.workers.get(peer.worker) is peer:
            del self.workers[peer.worker]
            issued = self.page.count(peer.worker, peer.epoch)
            self.state.gone(peer.worker, peer.epoch, issued, now)
            self._settle(now)

    def _tick(self, now: float) -> None:
        """What time brings: silent workers, connections that say nothing or take nothing."""
        self._listen(True)
        self.state.tick(now)
        self._settle(now)
        for peer in list(self.peers.values()):
            if not peer.greeted and now - peer.since > HELLO_PATIENCE:
                self._close(peer, "no hello", now)
            elif peer.outbox and now - peer.since > self.state.config.heartbeat:
                self._close(peer, "it does not take what is sent to it", now)

    # Acting and answering.

    def _handle(self, peer: Peer, message: Message, pair: int, now: float) -> None:
        """Hand a whole message to the shard and its answers to whom they belong."""
        kind = message.kind
        reach("server.received")
        if peer.joined and message.worker != peer.worker:
            raise ProtocolError("a message in the name of another worker")
        if kind is PUSH:
            reach("server.before_apply")
        state = self.state
        reply = state.apply(message, now)
        if reply is None:
            if len(peer.pairs) >= PARKED:
                raise ProtocolError("too many requests without waiting for an answer")
            peer.pairs[kind, message.sequence] = pair
        elif kind is PUSH:
            self._answer(peer, reply, pair)
        elif kind is JOIN and reply.status == Status.DONE and reply.epoch:
            self.page.take(reply.worker, reply.epoch, int(message.body.get("sequence", 0)))
            self._join(peer, reply)
            self._answer(peer, reply, pair)
        elif kind in KEPT and reply.status == Status.DONE and state.due:
            self.page.torch = "torch" in sys.modules
            self.withheld.append(Withheld(peer, reply, pair))
        else:
            self._answer(peer, reply, pair)
        self._settle(now)

    def _join(self, peer: Peer, reply: Reply) -> None:
        """A worker has joined, or come back, over this connection."""
        peer.worker, peer.epoch, peer.joined = reply.worker, reply.epoch, True
        peer.pairs.clear()
        before = self.workers.get(reply.worker)
        self.workers[reply.worker] = peer
        if before is not None and before is not peer:
            before.joined = False  # an older connection of this worker, or of the one it has replaced
            before.hang_up()

    def _answer(self, peer: Peer, reply: Reply, pair: int) -> None:
        """Send a reply; a worker that has no slots yet is given some once the model is known."""
        if reply.kind is PUSH:
            reach("server.after_apply_before_reply")
        if self.peers.get(peer.descriptor) is peer:
            joins = reply.kind is JOIN and peer.joined
            size = self.state.size if peer.slots is None else 0
            line = self.page.line(peer.worker, peer.epoch) if joins or (size and peer.joined) else 0
            peer.answer(reply, pair, size, line, self.now)

    def _settle(self, now: float) -> None:
        """After every change: answers that have become due, events, a snapshot if it is time."""
        state = self.state
        for reply in state.released():
            peer = self.workers.get(reply.worker)
            if peer is not None and peer.epoch == reply.epoch:
                self._answer(peer, reply, peer.pairs.pop((reply.kind, reply.sequence), NO_PAIR))
        if state.events:
            self._publish()
        while state.due:
            if self.writer.idle:
                self._snapshot()
            else:
                self._written(now, wait=True)  # a crash must not lose more than was agreed

    # Snapshots.

    def _snapshot(self) -> None:
        """Copy the state and let the writer have it."""
        reach("server.before_snapshot")
        arrays, meta = self.state.snapshot()
        self.writer.write(Job(arrays, meta, self.withheld, self.over))
        self.withheld, self.over = [], []

    def _written(self, now: float, *, wait: bool) -> None:
        """A snapshot is on disk, or could not be written: then the next one is tried when it is due."""
        result = self.writer.result(wait=wait)
        if result is None:
            return
        job, error = result
        if error is None:
            self.page.saved = True
            for worker, epoch in job.over:
                self.page.release(worker, epoch)
        else:
            self._note("snapshot failed", error=error)
            self.over = job.over + self.over
        for peer, reply, pair in job.withheld:
            if error is not None and reply.kind == Kind.SNAPSHOT:
                reply = reply._replace(status=Status.FAILED, body={"error": f"the snapshot failed: {error}"})
            self._answer(peer, reply, pair)
        self._settle(now)

    # The log.

    def _publish(self) -> None:
        """Events of the shard go to the log and to the parent; those that end a stay end its connection too."""
        events, self.state.events = self.state.events, []
        for event in events:
            self._report(event)
            if event["event"] in ("left", "evicted"):
                self._ended(event["worker"], event["epoch"], event["event"])

    def _ended(self, worker: int, epoch: int, how: str) -> None:
        if self.setup.config["snapshot_every"]:
            self.page.end(worker, epoch)
            self.over.append((worker, epoch))
        else:
            self.page.release(worker, epoch)  # no successor will ask
        peer = self.workers.get(worker)
        if peer is not None and peer.epoch == epoch:
            del self.workers[worker]
            peer.joined = False
            if how == "evicted":
                peer.hang_up()  # it may be waiting for an answer that will not come

    def _note(self, event: str, **values: Any) -> None:
        self._report({"event": event, "shard": self.setup.shard, **values})

    def _report(self, event: Mapping[str, Any]) -> None:
        line = json.dumps({"time": time.time(), **event}).encode() + b"\n"
        if self.log is not None:
            with suppress(OSError):  # a full disk must not end the service
                self.log.write(line)
        if len(line) <= select.PIPE_BUF:
            with suppress(OSError):  # a parent that does not read has to do without
                os.write(self.setup.report, line)
