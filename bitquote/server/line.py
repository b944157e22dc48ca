"""A client's connection to one shard: what it has asked, what has been answered, and what to do when it breaks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from bitquote.server.config import ServerConfig
from bitquote.server.errors import Disconnected, Rejected, ServerError, ServerUnavailable
from bitquote.server.filters import GradientPacker
from bitquote.server.message import Flag, Kind, Message, Reply, Status
from bitquote.server.packing import KeyCache, unpack
from bitquote.server.update import tensor_offsets


class Channel(Protocol):
    """A connection to one shard, as an engine makes it."""

    def send(self, message: Message) -> None:
        """Hand a message over; raises `Disconnected`. May be called from another thread than `receive`."""

    def receive(self, timeout: float) -> Reply | None:
        """The next reply, or None after `timeout` seconds; raises `Disconnected`.

        `values` may be a view that is valid until the next push or pull is sent.
        """

    def gradient(self) -> np.ndarray | None:
        """Memory, float32 (size,), from which a push is sent without being copied; None where there is none."""
        ...

    def close(self) -> None:
        """Let go of the connection."""


Connect = Callable[[], Channel]
"""Makes a channel; raises `Disconnected` while nobody answers, `Rejected` for a wrong token."""


class Result(NamedTuple):
    """What became of a push or pull.

    `version` counts the pushes in the weights, `delay` is the push's staleness, `reason` says why it was refused.
    `weights`: what was pulled, float32: in the array given for it, else in a view that is valid until the next call.
    """

    status: Status
    version: int
    delay: int = 0
    reason: str | None = None
    weights: np.ndarray | None = None


@dataclass
class Who:
    """What a worker tells every shard about itself."""

    worker: int
    fingerprint: str | None
    observer: bool
    deadline: float
    seed: int
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    round: int = 0
    """Of the last collective that ended for it, and `met` what it brought."""
    met: Mapping[str, Any] | None = None


class Line:
    """One shard as a worker sees it; `start` and `stop` are its range in the whole model.

    Sequences of pushes run on over epochs: `base` is the last one before this epoch.
    """

    def __init__(self, who: Who, connect: Connect, shard: int) -> None:
        self.who = who
        self.shard = shard
        self.start = self.stop = self.size = 0
        self.epoch = self.base = self.sequence = self.requests = self.version = 0
        self.acknowledged = 0
        self.update: dict[str, Any] = {}
        self.config = ServerConfig()
        self.channel: Channel
        self._connect = connect
        self._packer: GradientPacker | None = None
        self._key_lists = KeyCache()
        self._held: np.ndarray | None = None
        self._previous: dict[str, int] | None = None
        self._outs: dict[tuple[Kind, int], np.ndarray] = {}
        self._unanswered: dict[tuple[Kind, int], Message] = {}
        self._answers: dict[tuple[Kind, int], Reply | Result] = {}
        self._heard = self._sent = who.clock()
        self._sending = threading.Lock()
        self._open()

    def push(
        self, gradient: np.ndarray, start: int, hyper: Mapping[str, Any] | None, pull: bool, out: np.ndarray | None
    ) -> int:
        """Send a gradient of the shard's own keys from `start` on, after the last push was answered; its number."""
        last = (Kind.PUSH, self.sequence)
        if last in self._unanswered:
            self._await(last, None)
        self.sequence += 1
        encoding, values = 0, gradient
        if self._packer is not None:
            encoding, values = self._packer.pack(gradient, start)
        if out is not None:
            self._outs[Kind.PUSH, self.sequence] = out
        self.request(
            Message(
                Kind.PUSH,
                self.who.worker,
                self.epoch,
                self.sequence,
                self.version,
                start,
                start + len(gradient),
                Flag.PULL if pull else 0,
                encoding,
                values,
                {} if hyper is None else {"hyper": hyper},
            )
        )
        return self.sequence

    def pull(self, start: int, stop: int, out: np.ndarray | None) -> int:
        """Ask for the weights of the shard's own keys [start, stop); the request's number."""
        self.requests += 1
        if out is not None:
            self._outs[Kind.PULL, self.requests] = out
        self.request(Message(Kind.PULL, self.who.worker, self.epoch, self.requests, start=start, stop=stop))
        return self.requests

    def ask(self, kind: Kind, body: Mapping[str, Any] | None = None, values: np.ndarray | None = None) -> Reply:
        """Any other request and its answer; raises `Rejected` where the server says no."""
        self.requests += 1
        self.request(Message(kind, self.who.worker, self.epoch, self.requests, values=values, body=body or {}))
        return self.reply(kind, self.requests, None)

    def request(self, message: Message) -> None:
        """Send a message that will be answered, and repeat it over a new connection if need be."""
        self._unanswered[message.kind, message.sequence] = message
        try:
            self._send(message)
        except Disconnected:
            self._reconnect()

    def result(self, kind: Kind, number: int) -> Result:
        """Wait for the result of a push or pull."""
        answer = self._answer(kind, number, None)
        assert isinstance(answer, Result)
        return answer

    def reply(self, kind: Kind, number: int, until: float | None) -> Reply:
        """Wait for the reply to any other request; raises `Rejected` where the server says no."""
        answer = self._answer(kind, number, until)
        assert isinstance(answer, Reply)
        return answer

    def leave(self) -> None:
        """Tell the shard that this worker goes in good order."""
        if (Kind.PUSH, self.sequence) in self._unanswered:
            self._await((Kind.PUSH, self.sequence), None)
        self.request(Message(Kind.LEAVE, self.who.worker, self.epoch, self.sequence))
        self.reply(Kind.LEAVE, self.sequence, None)

    def welcome(self, body: Mapping[str, Any]) -> None:
        """Take note of what the server says about itself."""
        self.config = ServerConfig(**body["config"])
        self.size = int(body["size"])
        self.update = dict(body["update"] or {})
        if self.size and self._packer is None and not self.who.observer:
            generator = np.random.default_rng((self.who.seed, max(self.who.worker, 0), self.shard))
            packer = GradientPacker(self.config, self.size, generator, tensor_offsets(self.update, self.size))
            self._packer = None if packer.plain else packer
            self._held = np.zeros(self.size, np.float32) if self.config.significance > 0.0 else None

    def beat(self) -> None:
        """A sign of life, unless another message has been one lately."""
        if self.who.clock() - self._sent > self.config.heartbeat / 4.0:
            with suppress(Disconnected):  # the worker's own thread will notice
                self._send(Message(Kind.BEAT, self.who.worker, self.epoch))

    def close(self) -> None:
        """Let go of the connection."""
        with self._sending:
            self.channel.close()

    def _send(self, message: Message) -> None:
        with self._sending:
            self.channel.send(message)
        self._sent = self.who.clock()

    def _answer(self, kind: Kind, number: int, until: float | None) -> Reply | Result:
        self._await((kind, number), until)
        answer = self._answers.pop((kind, number))
        if isinstance(answer, Reply) and answer.status == Status.FAILED:
            raise Rejected(answer.body.get("error", "the server refused the request"))
        return answer

    def _await(self, wanted: tuple[Kind, int], until: float | None) -> None:
        """Take replies in until the wanted one is there. Waiting at the gate may last as long as the server lives."""
        who, unanswered = self.who, self._unanswered
        if wanted in unanswered:
            self._heard = who.clock()
        while wanted in unanswered:
            try:
                reply = self.channel.receive(min(self.config.heartbeat, who.deadline) / 3.0)
                if reply is not None:
                    self._take(reply)
                    continue
            except Disconnected:
                self._reconnect()
                continue
            silence = who.clock() - self._heard
            if silence > who.deadline:
                raise ServerUnavailable(f"no sign of life from the server for {silence:.1f} s")
            if until is not None and who.clock() > until:
                name = unanswered.pop(wanted).body.get("name")
                raise ServerUnavailable(f"the other workers did not come to {name!r} in time")
            with suppress(Disconnected):
                self._send(Message(Kind.BEAT, who.worker, self.epoch))

    def _take(self, reply: Reply) -> None:
        """File one reply."""
        self._heard = self.who.clock()
        key = (reply.kind, reply.sequence)
        message = self._unanswered.get(key)
        if message is None or message.epoch != reply.epoch:
            return  # to a sign of life, or of an earlier epoch
        if reply.status == Status.FENCED:
            self._fenced(message, reply)
            return
        if reply.kind not in (Kind.PUSH, Kind.PULL) or reply.status == Status.FAILED:
            self._answers[key] = reply
        else:
            weights = None if reply.values is None else self._received(reply, self._outs.pop(key, None))
            reason = reply.body.get("reason") if reply.body else None
            self._answers[key] = Result(reply.status, reply.version, reply.delay, reason, weights)
        if reply.kind == Kind.PUSH:
            self.acknowledged = reply.sequence
            if reply.status == Status.REFUSED and self._packer is not None:
                self._packer.keys.clear()
        del self._unanswered[key]

    def _received(self, reply: Reply, out: np.ndarray | None) -> np.ndarray:
        """Weights that came, put into `out` if there is one."""
        assert reply.values is not None
        self.version = reply.version
        weights = reply.values
        if self._held is not None or self.config.kkt_slack is not None:
            values, keys, active = unpack(reply.encoding, reply.values, reply.stop - reply.start, self._key_lists)
            if self._packer is not None and reply.stop - reply.start == self.size:
                self._packer.active = active
            weights = values if self._held is None else self._held[reply.start : reply.stop]
            if self._held is not None:
                weights[slice(None) if keys is None else keys] = values
        if out is None:
            return weights
        out[:] = weights
        return out

    def _fenced(self, message: Message, reply: Reply) -> None:
        """This epoch is over, or unknown to a server that was set back. A late push of an evicted worker is refused."""
        known = bool(reply.body.get("known"))
        if known and message.kind == Kind.PUSH:
            del self._unanswered[message.kind, message.sequence]
            self._outs.pop((message.kind, message.sequence), None)
            status = Status.DUPLICATE if reply.body.get("accounted") else Status.REFUSED
            self._answers[message.kind, message.sequence] = Result(status, reply.version, 0, "fenced")
        self._join_anew(None if known else message.epoch)

    def _open(self) -> None:
        """Connect and join; waits until the deadline for a server that does not answer."""
        who, pause = self.who, 0.005
        self._heard = who.clock()
        while True:
            channel = None
            try:
                channel = self.channel = self._connect()
                if self.epoch:
                    self._rejoin()
                else:
                    self._join_anew(None)
                return
            except ServerError as error:
                if channel is not None:
                    channel.close()
                if not isinstance(error, Disconnected):
                    raise
                if who.clock() - self._heard > who.deadline:
                    raise ServerUnavailable(f"no answer from the server for {who.deadline:g} s: {error}") from None
            who.sleep(pause)
            pause = min(2.0 * pause, 0.2)

    def _reconnect(self) -> None:
        with suppress(ServerUnavailable, Disconnected, OSError):
            self.close()
        self._open()

    def _rejoin(self) -> None:
        """The same worker over a new connection."""
        reply = self._ask_to_join({"round": self.who.round, "met": self.who.met})
        if reply.status == Status.FENCED:
            late = self._unanswered.get((Kind.PUSH, self.sequence))
            if reply.body.get("known") and late is not None:
                self._send(late)  # its answer ends this epoch
                return
            self._join_anew(None if reply.body.get("known") else self.epoch)
            return
        self.welcome(reply.body)
        self._repeat()

    def _join_anew(self, lost: int | None) -> None:
        """Begin an epoch; `lost` is the one that the server has forgotten, with all that it acknowledged in it."""
        pending = (Kind.PUSH, self.sequence) in self._unanswered
        body: dict[str, Any] = {"sequence": self.sequence - pending}
        if lost is not None:
            self._previous = {"epoch": lost, "acknowledged": self.acknowledged - self.base}
        if self._previous is not None:
            body["previous"] = self._previous
        self.epoch = 0
        reply = self._ask_to_join(body)
        if reply.status != Status.DONE:
            raise Rejected(reply.body.get("error", "the server does not let this worker join"))
        if not self.who.observer:  # before `welcome`, which seeds the filters with the worker's number
            self.who.worker, self.epoch, self.base = reply.worker, reply.epoch, body["sequence"]
            self.acknowledged, self._previous = self.base, None
            self.who.round = self.who.round or int(reply.body["round"])
        self.welcome(reply.body)
        self._repeat()

    def _ask_to_join(self, body: Mapping[str, Any]) -> Reply:
        who = self.who
        own = {"fingerprint": who.fingerprint, "observer": who.observer}
        self._send(Message(Kind.JOIN, who.worker, self.epoch, body={**own, **body}))
        while True:
            reply = self.channel.receive(min(self.config.heartbeat / 3.0, who.deadline))
            if reply is not None and reply.kind == Kind.JOIN:
                self._heard = who.clock()
                return reply
            if reply is None and who.clock() - self._heard > who.deadline:
                raise ServerUnavailable(f"no answer from the server for {who.deadline:g} s")

    def _repeat(self) -> None:
        """Send again what was not answered."""
        if self._packer is not None:
            self._packer.keys.clear()
        for key, message in list(self._unanswered.items()):
            message = message._replace(worker=self.who.worker, epoch=self.epoch)
            self._unanswered[key] = message
            self._send(message)
