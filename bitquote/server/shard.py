"""One shard of the parameter server: a state machine without I/O, the same under every engine.

`apply(message, now)` answers a message, or returns None when the answer must wait (at the gate, or at a collective);
`released()` hands out the answers that have become due since. Time is what the engine says it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from bitquote.errors import InputError, require_integer
from bitquote.server import snapshot
from bitquote.server.config import ServerConfig
from bitquote.server.consistency import Gate, delay_bound, step_scale
from bitquote.server.errors import Rejected
from bitquote.server.filters import WeightPacker, active_keys, refusal
from bitquote.server.ledger import Ledger
from bitquote.server.meeting import Meeting, Shares
from bitquote.server.member import Departed, Member
from bitquote.server.message import NOTHING, Flag, Kind, Message, Reply, Status
from bitquote.server.packing import Unpackable, unpack
from bitquote.server.partition import identity
from bitquote.server.update import Update, make_update

EPOCHS_PER_TERM = 2**32
# The names that every push needs, looked up once.
PUSH, APPLIED, PULL = Kind.PUSH, Status.APPLIED, int(Flag.PULL)
DEPARTED_KEPT = 4096
"""Workers that left and are remembered, so that what comes from them late is told from what nobody knows."""


class ShardState:
    """Weights, their update rule, the members and their clocks.

    Args:
        shard: which one this is; collectives meet at every shard, shared work is handed out by the first.
        term: how many servers of this shard came before; epochs of different terms never meet.
        expected: workers that must have joined before the first collective can end.
    """

    def __init__(self, config: ServerConfig, *, shard: int = 0, term: int = 0, expected: int = 0) -> None:
        self.config = config
        self.shard = shard
        self.term = term
        self.expected = expected
        self._newcomers: set[int] = set()  # by id: who joins twice, as the first answer was lost, counts once
        self.version = 0
        self.weights = np.empty(0, np.float32)
        self.size = 0
        """Number of weights; 0 until the model is defined."""
        self.fingerprint: str | None = None
        self.ledger = Ledger()
        self.events: list[dict[str, Any]] = []
        self._update: Update | None = None
        self._gate = Gate(config.bound)
        self._meeting = Meeting()
        self._shares = Shares()
        self._members: dict[int, Member] = {}
        self._departed: dict[tuple[int, int], Departed] = {}
        self._released: list[Reply] = []
        self._epochs = 0
        self._ticked = 0.0
        self._since_snapshot = 0
        self._snapshot_wanted = False
        self._handlers = {
            Kind.PULL: self._pull,
            Kind.BEAT: self._beat,
            Kind.JOIN: self._join,
            Kind.LEAVE: self._leave,
            Kind.DEFINE: self._define,
            Kind.SAVE: self._save,
            Kind.LOAD: self._load,
            Kind.CONFIGURE: self._configure,
            Kind.STATISTICS: self._statistics,
            Kind.SNAPSHOT: self._snapshot,
            Kind.COLLECT: self._collect,
            Kind.DRAW: self._draw,
        }

    @property
    def clocks(self) -> dict[int, int]:
        """Pushes done, of every worker that others may have to wait for."""
        return {worker: clock for worker, clock in self._gate.clocks.items() if worker not in self._gate.idle}

    @property
    def due(self) -> bool:
        """Whether it is time for a snapshot."""
        every = self.config.snapshot_every
        return self.size > 0 and (self._snapshot_wanted or 0 < every <= self._since_snapshot)

    def define(self, weights: np.ndarray, update: Update, fingerprint: str | None = None) -> None:
        """Give the shard its weights, float32 (size,), and the rule that changes them."""
        self.weights = np.array(weights, np.float32)
        self.size = len(self.weights)
        self.fingerprint = fingerprint
        self._update = update
        update.bind(self.weights)
        for member in self._members.values():
            member.packer = WeightPacker(self.config, self.size)
        # Pushes of one release are one step under `sum`, so there the last one of a round comes without delay.
        each = self.config.aggregate == "each"
        delay = delay_bound(self.config.workers, self._gate.bound)
        delay = delay if each or self._gate.bound else 0.0
        if warning := update.warning(delay, step_scale(self.config.scaling, self._gate.bound, delay)):
            self._event("warning", -1, 0, text=warning)
        self._snapshot_wanted = self.config.snapshot_every > 0

    def apply(self, message: Message, now: float) -> Reply | None:
        """Act on one message; the reply, or None if it comes later through `released`."""
        if message.kind is PUSH:
            return self._push(message, now)
        member = self._members.get(message.worker)
        if member is not None and member.epoch == message.epoch:
            member.heard = now
        elif message.epoch and message.kind != Kind.JOIN:
            return self._fenced(message)
        try:
            return self._handlers[message.kind](message, now)
        except InputError as error:
            self._settle()  # a collective that fails ends the waiting of the others too
            return self._reply(message, Status.FAILED, body={"error": str(error)})
        except (LookupError, TypeError, ValueError) as error:  # a body with other names or types than ours
            what = f"malformed {Kind(message.kind).name} request: {type(error).__name__}"
            return self._reply(message, Status.FAILED, body={"error": what})

    def released(self) -> list[Reply]:
        """The answers that have become due; each is given once."""
        released = self._released
        if released:
            self._released = []
        return released

    def tick(self, now: float) -> None:
        """Evict the workers that have been silent for longer than the heartbeat; to be called a few times in one."""
        pause, self._ticked = now - self._ticked, now
        if pause > self.config.heartbeat / 2.0:  # the server's own: workers may have been heard of meanwhile
            for member in self._members.values():
                member.heard = min(member.heard + pause, now)
        for member in [m for m in self._members.values() if now - m.heard > self.config.heartbeat]:
            self._depart(member, "evicted", now, None)

    def gone(self, worker: int, epoch: int | None, issued: int | None, now: float) -> None:
        """A worker's process has ended; `issued` is the number of pushes it had begun, where that is known.

        epoch: None stands for whichever it is in.
        """
        member = self._members.get(worker)
        if member is not None and epoch in (None, member.epoch):
            self._depart(member, "evicted", now, issued)

    def dismiss(self, now: float) -> None:
        """Every member's process has ended: they were of a run that is over."""
        for worker in sorted(self._members):
            self.gone(worker, None, None, now)

    def recover(self, issued: Mapping[tuple[int, int], tuple[int, int]], now: float) -> None:
        """After a restart: the sequences with which each (worker, epoch) began and of the last push that it began.

        The snapshot may be too old to know of them.
        """
        for (worker, epoch), (base, pushes) in sorted(issued.items(), key=lambda item: item[0][1]):
            member = self._members.get(worker)
            if (worker, epoch) not in self._departed and (member is None or member.epoch < epoch):
                if member is not None:
                    self._depart(member, "evicted", now, None)  # its successor had come before the crash
                member = self._admit(worker, epoch, base, now)
            if member is not None and member.epoch == epoch:
                member.issued = max(member.issued, pushes)

    def statistics(self) -> dict[str, Any]:
        """The ledger, and who is here."""
        return {
            "version": self.version,
            "size": self.size,
            "term": self.term,
            "consistency": self.config.consistency,
            "tau": self.config.tau,
            **self.ledger.as_dict(),
            "parked": sum(member.parked is not None for member in self._members.values()),
            "members": [member.as_dict(self._gate) for _, member in sorted(self._members.items())],
        }

    # Pushes and pulls.

    def _push(self, message: Message, now: float) -> Reply | None:
        worker = message.worker
        member = self._members.get(worker)
        if member is None or member.epoch != message.epoch:
            return self._fenced(message)
        member.heard = now
        if message.sequence <= member.sequence:
            self.ledger.duplicates += 1
            if member.reason is not None and message.sequence == member.sequence:  # its worker may not know yet
                return self._answered(message, member, Status.REFUSED, 0, {"reason": member.reason})
            return self._answered(message, member, Status.DUPLICATE, 0, {})
        if member.parked is not None:
            if message.sequence != member.parked.sequence:
                return self._reply(message, Status.FAILED, body={"error": "a push while another waits at the gate"})
            self.ledger.duplicates += 1
            member.parked = message  # the same push over a new connection
            return None
        member.parked = message
        member.arrived = now
        gate = self._gate
        gate.idle.discard(worker)
        gate.waiting.add(worker)
        own = None
        for reply in self._let_through(now):
            if reply.worker == worker:
                own = reply
            else:
                self._released.append(reply)
        return own

    def _let_through(self, now: float) -> list[Reply]:
        """Apply every push that the gate admits, in its order, and only then answer: all pull the same weights."""
        gate, through = self._gate, []
        for worker in gate.admitted():
            member = self._members[worker]
            message, member.parked = member.parked, None
            assert message is not None
            if now > member.arrived:
                self.ledger.gate_waits += 1
                self.ledger.gate_wait_seconds += now - member.arrived
            through.append((message, member, self._fold(message, member)))
            gate.tick(worker)
        if through:
            self.ledger.clock_gap[gate.gap()] += len(through)
            if self._update is not None:
                self._update.step()
        return [self._answered(message, member, *outcome) for message, member, outcome in through]

    def _fold(self, message: Message, member: Member) -> tuple[Status, int, Mapping[str, Any]]:
        """Account for one push and hand its gradient to the update rule; (status, delay, body) of the answer."""
        ledger = self.ledger
        missing = message.sequence - member.sequence - 1  # begun, even answered, before a crash undid them
        ledger.pushed += missing + 1
        ledger.lost += missing
        member.sequence = message.sequence
        member.pushed += missing + 1
        if missing:
            self._event("lost", member.worker, member.epoch, pushes=missing)
        ledger.bytes_received += message.values.nbytes if message.values is not None else 0
        delay = self.version - message.version
        try:
            reason = self._try(message, member, delay)
        except Unpackable as error:
            reason = error.reason
        member.reason = reason
        if reason is not None:
            ledger.refused[reason] += 1
            self._event("refused", member.worker, member.epoch, reason=reason, sequence=message.sequence)
            return Status.REFUSED, 0, {"reason": reason}
        self.version += 1
        self._since_snapshot += 1
        ledger.applied += 1
        ledger.version_delay[delay] += 1
        return APPLIED, delay, NOTHING

    def _try(self, message: Message, member: Member, delay: int) -> str | None:
        """Hand a gradient to the update rule, or say in a word why not."""
        start, stop = message.start, message.stop
        if self._update is None or not 0 <= start < stop <= self.size:
            return "keys"
        self.ledger.bytes_raw_received += 4 * (stop - start)
        if delay < 0:
            return "undone"  # computed on weights that a crash has undone since
        gradient, keys, _ = unpack(message.encoding, message.values, stop - start, member.key_lists)
        if reason := refusal(gradient, self.config.largest_gradient):
            return reason
        hyper = member.hyper
        if message.body:
            hyper = message.body.get("hyper", hyper)
            if not isinstance(hyper, Mapping):
                return "hyper"
        scale = step_scale(self.config.scaling, self._gate.bound, delay)
        self._update.fold(member.worker, start, stop, gradient, scale, hyper, keys)
        member.hyper = hyper
        return None

    def _answered(self, message: Message, member: Member, status: Status, delay: int, body: Mapping[str, Any]) -> Reply:
        """The reply to a push, with the weights if it asked for them and its keys are known."""
        if message.flags & PULL and 0 <= message.start < message.stop <= self.size:
            return self._with_weights(message, status, member, delay, body)
        return self._reply(message, status, delay=delay, body=body)

    def _pull(self, message: Message, now: float) -> Reply:
        return self._with_weights(message, Status.DONE, self._members.get(message.worker), 0, {})

    def _with_weights(
        self, message: Message, status: Status, member: Member | None, delay: int, body: Mapping[str, Any]
    ) -> Reply:
        if not self.size:
            raise Rejected("there is nothing to pull: no worker has defined the model yet")
        start, stop = message.start, message.stop or self.size
        if not 0 <= start < stop <= self.size:
            raise Rejected(f"keys [{start}, {stop}) are unknown: this shard has [0, {self.size})")
        encoding, values = 0, self.weights[start:stop]
        if member is not None and not member.packer.plain:
            encoding, values = member.packer.pack(self.weights, start, stop, self._active())
        self.ledger.bytes_raw_sent += 4 * (stop - start)
        self.ledger.bytes_sent += values.nbytes
        kind, worker, epoch, sequence = message[:4]
        return Reply(kind, status, worker, epoch, sequence, self.version, delay, start, stop, encoding, values, body)

    def _active(self) -> np.ndarray | None:
        """The keys whose gradients matter, where the KKT filter is on and every worker's share is known."""
        slack, update = self.config.kkt_slack, self._update
        if slack is None or update is None or update.l1 is None:
            return None
        estimate = update.estimate(self._members.keys())
        return None if estimate is None else active_keys(self.weights, estimate, update.l1, slack)

    # Members.

    def _join(self, message: Message, now: float) -> Reply:
        body = message.body
        fingerprint = body.get("fingerprint")
        if fingerprint is not None and self.fingerprint is not None and fingerprint != self.fingerprint:
            raise Rejected(
                f"a worker of another model: this server trains {self.fingerprint[:12]}, not {fingerprint[:12]}"
            )
        if body.get("observer"):
            return self._reply(message, Status.DONE, body=self._welcome())
        if message.epoch:
            return self._rejoin(message, now)
        if len(self._members) >= 1024:
            raise Rejected("no room for a worker: 1024 are here already")
        previous = body.get("previous") or {"epoch": 0, "acknowledged": 0}
        before, undone = int(previous["epoch"]), require_integer("acknowledged", previous["acknowledged"], 0)
        base = require_integer("sequence", body.get("sequence", 0), 0)
        worker = message.worker if message.worker >= 0 else self._lowest_free()
        place = self._gate.clocks.get(worker)
        if worker in self._members:
            self._depart(self._members[worker], "evicted", now, None, followed=True)
        if undone and (worker, before) not in self._departed:
            # It was here before a crash, and the snapshot does not know: what it had pushed is undone.
            self.ledger.pushed += undone
            self.ledger.lost += undone
            self._departed[worker, before] = Departed(base, base)  # a repeated JOIN is not counted again
        self._epochs += 1
        member = self._admit(worker, self.term * EPOCHS_PER_TERM + self._epochs, base, now)
        if place is not None:
            self._gate.clocks[worker] = min(place, self._gate.clocks[worker])
        self._newcomers.add(worker)
        self.ledger.joined += 1
        self._event("joined", worker, member.epoch)
        self._released += self._let_through(now)
        self._settle()
        return self._reply(message, Status.DONE, body=self._welcome())._replace(worker=worker, epoch=member.epoch)

    def _rejoin(self, message: Message, now: float) -> Reply:
        """A member over a new connection, or the news that it is none."""
        member = self._members.get(message.worker)
        if member is None or member.epoch != message.epoch:
            return self._fenced(message)
        member.heard = now
        if message.body.get("round"):
            self._meeting.recall(message.body["round"], message.body.get("met"))
            self._settle()
        member.packer.reset()  # what the last answer carried may never have arrived
        member.key_lists.clear()
        return self._reply(message, Status.DONE, body=self._welcome())

    def _welcome(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "round": self._meeting.round - 1,
            "config": asdict(self.config),
            "update": None if self._update is None else self._update.describe(),
        }

    def _admit(self, worker: int, epoch: int, sequence: int, now: float) -> Member:
        """A new member, whose last push before this epoch had this sequence."""
        packer = WeightPacker(self.config, self.size)
        member = self._members[worker] = Member(worker, epoch, now, packer, sequence)
        self._gate.join(worker)
        return member

    def _leave(self, message: Message, now: float) -> Reply:
        member = self._members.get(message.worker)
        if member is not None:
            self._depart(member, "left", now, message.sequence or None)
        return self._reply(message, Status.DONE)

    def _depart(self, member: Member, how: str, now: float, issued: int | None, *, followed: bool = False) -> None:
        """Take a member out: nobody waits for it, and what it began without effect is lost.

        followed: its successor, the same worker, comes at once: those who wait for the one wait for the other.
        """
        begun = max(member.sequence, member.issued, issued or 0, member.parked.sequence if member.parked else 0)
        lost = begun - member.sequence
        self.ledger.pushed += lost
        self.ledger.lost += lost
        if how == "left":
            self.ledger.left += 1
        else:
            self.ledger.evicted += 1
        del self._members[member.worker]
        self._departed[member.worker, member.epoch] = Departed(member.sequence, begun, member.reason is not None)
        if len(self._departed) > DEPARTED_KEPT:
            del self._departed[next(iter(self._departed))]
        self._gate.leave(member.worker)
        self._meeting.forget(member.worker)
        self._shares.forget(member.worker)
        if self._update is not None:
            self._update.forget(member.worker)
        self._event(how, member.worker, member.epoch, lost=lost)
        if not followed:
            self._released += self._let_through(now)
            self._settle()

    def _fenced(self, message: Message) -> Reply:
        """Answer one who is no member. A late push of an evicted worker is refused, and was counted as lost before."""
        self.ledger.fenced += 1
        departed = self._departed.get((message.worker, message.epoch))
        body: dict[str, Any] = {"known": departed is not None}
        if departed is not None and message.kind == Kind.PUSH and message.sequence > departed.accounted:
            if message.sequence <= departed.begun:
                self.ledger.lost -= 1
            else:
                self.ledger.pushed += 1
            self.ledger.refused["fenced"] += 1
            departed.accounted, departed.refused = message.sequence, True
            departed.begun = max(departed.begun, message.sequence)
        elif departed is not None and message.kind == Kind.PUSH:
            body["accounted"] = message.sequence < departed.accounted or not departed.refused
        self._event("fenced", message.worker, message.epoch, request=Kind(message.kind).name)
        return self._reply(message, Status.FENCED, body=body)

    def _lowest_free(self) -> int:
        return next(worker for worker in range(len(self._members) + 1) if worker not in self._members)

    def _beat(self, message: Message, now: float) -> Reply:
        return self._reply(message, Status.DONE)

    # The model and the state of its update rule.

    def _define(self, message: Message, now: float) -> Reply:
        fingerprint = message.body.get("fingerprint")
        if self.size:
            if fingerprint != self.fingerprint:
                raise Rejected("a worker of another model: the weights or the optimiser of this server are not its own")
            return self._reply(message, Status.DONE, body={"first": False, **self._welcome()})
        arrays, _ = snapshot.unpack(_blob(message))
        weights = arrays.get("weights")
        if weights is None or weights.dtype != np.float32 or weights.ndim != 1 or not weights.size:
            raise Rejected("weights must be float32, of one dimension and not empty")
        if not np.isfinite(weights).all():
            raise Rejected("weights must be finite")
        self.define(weights, make_update(message.body.get("update") or {}, self.config), fingerprint)
        self._event("defined", message.worker, message.epoch, size=self.size)
        return self._reply(message, Status.DONE, body={"first": True, **self._welcome()})

    def _save(self, message: Message, now: float) -> Reply:
        if self._update is None:
            raise Rejected("there is no state to save: no worker has defined the model yet")
        data = snapshot.pack(self._update.state(), {"version": self.version})
        return self._reply(message, Status.DONE, values=np.frombuffer(data, np.uint8))

    def _load(self, message: Message, now: float) -> Reply:
        if self._update is None:
            raise Rejected("there is no model to load a state for: no worker has defined it yet")
        loaded = self.version == 0
        if loaded:
            arrays, _ = snapshot.unpack(_blob(message))
            self._update.load(arrays)
            self._snapshot_wanted = self.config.snapshot_every > 0
        return self._reply(message, Status.DONE, body={"loaded": loaded})

    def _configure(self, message: Message, now: float) -> Reply:
        """Change how far workers may run apart, from the next push on, and how many are waited for."""
        body = message.body
        for name in body.keys() - {"consistency", "tau", "expected", "absent"}:
            raise Rejected(f"cannot configure {name!r}: must be consistency, tau, expected or absent")
        expected = require_integer("expected", body["expected"], 0) if "expected" in body else self.expected
        absent = require_integer("absent", body.get("absent", 0), 0)  # those that died before they joined
        self.config = replace(self.config, **{name: body[name] for name in ("consistency", "tau") if name in body})
        if "expected" in body:  # from now on
            self._newcomers.clear()
        self.expected = expected - absent
        self._gate.bound = self.config.bound
        self._snapshot_wanted = self.config.snapshot_every > 0  # a successor must know
        self._event("configured", message.worker, message.epoch, **body)
        self._released += self._let_through(now)
        self._settle()
        return self._reply(message, Status.DONE)

    def _statistics(self, message: Message, now: float) -> Reply:
        return self._reply(message, Status.DONE, body=self.statistics())

    def _snapshot(self, message: Message, now: float) -> Reply:
        self._snapshot_wanted = True
        return self._reply(message, Status.DONE)

    # Collectives and shared work.

    def _collect(self, message: Message, now: float) -> Reply | None:
        """Wait for the others. Whoever waits here is idle: no push waits for it."""
        member = self._member(message)
        body, round_before = message.body, self._meeting.round
        values = self._meeting.collect(
            member.worker,
            message.sequence,
            body.get("name", ""),
            body.get("value"),
            body.get("previous"),
            self._members.keys(),
            self._still_expected(),
        )
        if values is None:
            self._settle()  # it may have brought news of a round that others still wait in
            member.collecting = message
            self._gate.idle.add(member.worker)
            self._released += self._let_through(now)
            return None
        if self._meeting.round > round_before:  # this worker was the last to come
            self._gate.level(self._members.keys())
        self._settle()
        return self._reply(message, Status.DONE, body={"values": values})

    def _settle(self) -> None:
        """Answer those whose collective has ended."""
        for ended in self._meeting.results(self._members.keys(), self._still_expected()):
            member = self._members.get(ended.worker)
            if member is None or member.collecting is None:
                continue
            message, member.collecting = member.collecting, None
            if ended.worker in self._gate.idle:
                self._gate.level([w for w in self._members if w in self._gate.idle])
            failed = ended.error is not None
            body = {"error": ended.error} if failed else {"values": ended.values}
            self._released.append(self._reply(message, Status.FAILED if failed else Status.DONE, body=body))

    def _still_expected(self) -> int:
        return max(0, self.expected - len(self._newcomers))

    def _draw(self, message: Message, now: float) -> Reply:
        body = message.body
        member = self._member(message)
        index = self._shares.draw(
            str(body.get("key")),
            member.worker,
            body.get("total", -1),
            body.get("block", 1),
            self._members.keys(),
            self.config.consistency != "bsp",
            (message.epoch, message.sequence),
            body.get("previous"),
        )
        return self._reply(message, Status.DONE, body={"index": index})

    def _member(self, message: Message) -> Member:
        member = self._members.get(message.worker)
        if member is None or member.epoch != message.epoch:
            raise Rejected("only a worker that has joined can ask for this")
        return member

    # Snapshots.

    def snapshot(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Everything that a successor needs: copies of the arrays by name, and plain values."""
        assert self._update is not None
        self._since_snapshot, self._snapshot_wanted = 0, False
        self.ledger.snapshots += 1
        arrays = {"weights": self.weights.copy()}
        arrays |= {f"update/{name}": value for name, value in self._update.state().items()}
        for member in self._members.values():
            arrays |= {f"member/{member.worker}/{name}": value for name, value in member.packer.state().items()}
        return arrays, {
            "identity": identity(self.fingerprint, self.size, self.shard, self.config),
            "shard": self.shard,
            "term": self.term,
            "expected": self.expected,
            "newcomers": sorted(self._newcomers),
            "version": self.version,
            "fingerprint": self.fingerprint,
            "consistency": self.config.consistency,
            "tau": self.config.tau,
            "update": self._update.describe(),
            "ledger": self.ledger.as_dict(),
            "members": [member.as_dict(self._gate) for member in self._members.values()],
            "departed": [[*key, d.accounted, d.begun, d.refused] for key, d in self._departed.items()],
            "meeting": self._meeting.as_dict(),
            "shares": self._shares.as_dict(),
        }

    @classmethod
    def restore(
        cls,
        config: ServerConfig,
        arrays: Mapping[str, np.ndarray],
        meta: Mapping[str, Any],
        *,
        term: int,
        now: float,
    ) -> ShardState:
        """The shard that made a snapshot, in a later term; its members count as heard now."""
        config = replace(config, consistency=meta["consistency"], tau=meta["tau"])
        term = max(term, meta["term"] + 1)
        state = cls(config, shard=meta["shard"], term=term, expected=meta["expected"])
        state.define(arrays["weights"], make_update(meta["update"], config), meta["fingerprint"])
        assert state._update is not None
        state._update.load(_under("update/", arrays))
        state.version = meta["version"]
        state._newcomers = set(meta["newcomers"])
        state.ledger = Ledger.from_dict(meta["ledger"])
        state._departed = {(worker, epoch): Departed(*counts) for worker, epoch, *counts in meta["departed"]}
        state._meeting = Meeting.from_dict(meta["meeting"])
        state._shares = Shares.from_dict(meta["shares"])
        for values in meta["members"]:
            member = state._members[values["worker"]] = Member.from_dict(values, now, WeightPacker(config, state.size))
            member.packer.load(_under(f"member/{member.worker}/", arrays))
            state._gate.clocks[member.worker] = values["clock"]
        state._snapshot_wanted = False
        state._event("restored", -1, 0, version=state.version)
        return state

    def _reply(
        self,
        message: Message,
        status: Status,
        delay: int = 0,
        body: Mapping[str, Any] = NOTHING,
        values: np.ndarray | None = None,
    ) -> Reply:
        kind, worker, epoch, sequence = message[:4]
        return Reply(kind, status, worker, epoch, sequence, self.version, delay, values=values, body=body)

    def note(self, name: str, **values: Any) -> None:
        """Add an event for the log."""
        self.events.append({"event": name, "shard": self.shard, **values})

    def _event(self, name: str, worker: int, epoch: int, **values: Any) -> None:
        self.note(name, worker=worker, epoch=epoch, **values)


def _blob(message: Message) -> bytes:
    if message.values is None:
        raise Rejected("the message lacks its state")
    return message.values.tobytes()


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
