"""`ShardState` under random histories: gate, accounting, duplicates, departures, crashes, change of consistency."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server.history import check_counts, check_history

from bitquote.server import snapshot
from bitquote.server.config import ServerConfig
from bitquote.server.consistency import delay_bound
from bitquote.server.message import Flag, Kind, Message, Status
from bitquote.server.shard import ShardState
from bitquote.server.update import make_update

PLAIN = {"kind": "proximal_gradient", "step_size": 1.0, "lipschitz": None, "prox": None}
SIZE = 4


def make(workers: int = 0, *, size: int = SIZE, **settings) -> ShardState:
    """A shard of zeros under plain gradient steps of size 1, with members 0 .. workers - 1."""
    config = ServerConfig(engine="inproc", **{"heartbeat": 10.0, "snapshot_every": 5, **settings})
    state = ShardState(config)
    state.define(np.zeros(size, np.float32), make_update(PLAIN, config), "model")
    for worker in range(workers):
        state.apply(Message(Kind.JOIN, worker, body={"fingerprint": "model"}), 0.0)
    return state


def push(worker: int, sequence: int, gradient, version: int = 0, epoch: int | None = None, **rest) -> Message:
    """A push with the weights asked for. Without a crash the epoch of the n-th to join is n."""
    gradient = np.asarray(gradient, np.float32)
    epoch = worker + 1 if epoch is None else epoch
    values = {"stop": len(gradient), "flags": Flag.PULL, "values": gradient, **rest}
    return Message(Kind.PUSH, worker, epoch, sequence, version, **values)


class Player:
    """A worker as the driver below moves it."""

    def __init__(self, worker: int, epoch: int, base: int) -> None:
        self.worker, self.epoch, self.base = worker, epoch, base
        self.sequence = base
        self.version = 0
        self.message: Message | None = None  # its last push
        self.open = False  # whether that waits for its answer
        self.silent = False
        self.read = 0  # version of the weights that it knows its own pushes to be in


class Driver:
    """Moves workers at one shard, keeps a model of what the weights must be, and checks everything after each move."""

    def __init__(self, **settings) -> None:
        self.state = make(**settings)
        self.now = 0.0
        self.term = 0
        self.players: dict[int, Player] = {}
        self.late: list[Player] = []  # evicted without knowing it
        self.begun: dict[tuple[int, int], tuple[int, int]] = {}
        self.issued = 0
        self.weights = np.zeros(SIZE, np.float32)
        self.history: list[dict] = []
        self.kept = (b"", self.weights.copy())
        self.keep()

    # Moves.

    def join(self) -> None:
        reply = self.ask(Message(Kind.JOIN, body={"fingerprint": "model", "sequence": 0}))
        assert reply.status == Status.DONE
        self.players[reply.worker] = Player(reply.worker, reply.epoch, 0)
        self.begun[reply.worker, reply.epoch] = (0, 0)

    def push(self, player: Player, bad: float | None = None) -> None:
        if player.open:
            return
        self.issued += 1
        player.sequence += 1
        self.begun[player.worker, player.epoch] = (player.base, player.sequence)
        gradient = np.array([1.0, self.issued % 7, player.worker, bad or 0.0], np.float32)
        player.message = push(player.worker, player.sequence, gradient, player.version, player.epoch)
        player.open = True
        self.ask(player.message)

    def repeat(self, player: Player) -> None:
        """The last push once more, as after a broken connection."""
        if player.message is not None:
            before = self.state.version, self.state.ledger.pushed
            self.ask(player.message)
            assert (self.state.version, self.state.ledger.pushed) == before

    def pull(self, player: Player) -> None:
        reply = self.ask(Message(Kind.PULL, player.worker, player.epoch, 1, stop=SIZE))
        assert reply.version >= player.read
        np.testing.assert_array_equal(reply.values, self.weights)

    def leave(self, player: Player) -> None:
        if not player.open:
            del self.players[player.worker]
            self.ask(Message(Kind.LEAVE, player.worker, player.epoch, player.sequence))

    def die(self, player: Player, in_flight: bool) -> None:
        """Its connection ends; `in_flight`: with a push that was begun and never arrived."""
        if in_flight and not player.open:
            self.issued += 1
            player.sequence += 1
            self.begun[player.worker, player.epoch] = (player.base, player.sequence)
        del self.players[player.worker]
        self.state.gone(player.worker, player.epoch, player.sequence, self.now)
        self.settle()

    def pass_time(self, seconds: float) -> None:
        """Everyone but the silent gives signs of life; the silent are evicted in the end, and hear of it late."""
        until = self.now + seconds
        while self.now < until:  # a shard that has not ticked for long takes that for a pause of its own
            self.now = min(self.now + 3.0, until)
            for player in list(self.players.values()):
                if not player.silent:
                    self.ask(Message(Kind.BEAT, player.worker, player.epoch))
            self.state.tick(self.now)
            self.settle()

    def push_late(self) -> None:
        """An evicted worker pushes, or repeats the push that waited at the gate."""
        if not self.late:
            return
        player = self.late.pop()
        if not player.open:
            self.issued += 1
            player.sequence += 1
            player.message = push(player.worker, player.sequence, np.ones(SIZE), player.version, player.epoch)
        refused = self.state.ledger.refused["fenced"]
        for _ in range(2):  # the second is a duplicate and counts no more
            assert self.ask(player.message).status == Status.FENCED
        assert self.state.ledger.refused["fenced"] == refused + 1

    def configure(self, consistency: str, tau: int) -> None:
        self.ask(Message(Kind.CONFIGURE, body={"consistency": consistency, "tau": tau}))

    def keep(self) -> None:
        """A snapshot."""
        self.history.append({"event": "snapshot", "shard": 0, "version": self.state.version})
        self.kept = (snapshot.pack(*self.state.snapshot()), self.weights.copy())

    def crash(self) -> None:
        """The shard comes back as of its last snapshot; workers join again and repeat what was not answered."""
        self.term += 1
        arrays, meta = snapshot.unpack(self.kept[0])
        self.state = ShardState.restore(self.state.config, arrays, meta, term=self.term, now=self.now)
        self.weights = self.kept[1].copy()
        self.late.clear()
        for player in self.players.values():
            player.read = 0
            if not player.open:
                player.message = None  # answered: not repeated, though it may be undone
        waiting = [player for player in self.players.values() if player.open]
        for player in waiting:
            player.open = False
        self.state.recover(self.begun, self.now)
        alive = {(player.worker, player.epoch) for player in self.players.values()}
        for worker, epoch in [*self.begun, *((member["worker"], member["epoch"]) for member in meta["members"])]:
            if (worker, epoch) not in alive:
                self.state.gone(worker, epoch, self.begun[worker, epoch][1], self.now)
        self.settle()
        for player in list(self.players.values()):
            reply = self.ask(Message(Kind.JOIN, player.worker, player.epoch, body={"fingerprint": "model"}))
            assert reply.status == Status.DONE and reply.epoch == player.epoch
        for player in waiting:  # refused as "undone" if it was computed on weights that are no more
            player.open = True
            self.ask(player.message)

    # What follows from them.

    def ask(self, message: Message):
        reply = self.state.apply(message, self.now)
        self.settle(reply)
        return reply

    def settle(self, reply=None) -> None:
        departures = [event for event in self.state.events if event["event"] in ("evicted", "left")]
        self.history += [event for event in self.state.events if event not in departures]
        for event in departures:
            if event["event"] == "evicted" and event["worker"] in self.players:
                player = self.players[event["worker"]]
                if player.epoch == event["epoch"]:
                    self.late.append(self.players.pop(event["worker"]))
        self.state.events.clear()
        replies = ([] if reply is None else [reply]) + self.state.released()
        for answer in replies:
            if answer.kind == Kind.PUSH:
                self.answered(answer)
        self.history += departures
        for answer in replies:
            if answer.kind == Kind.PUSH and answer.status == Status.APPLIED:
                np.testing.assert_array_equal(answer.values, self.weights)
        self.check()

    def answered(self, reply) -> None:
        # Of two that are evicted at one tick the first may let the push of the second through.
        known = [*self.players.values(), *self.late]
        player = next((p for p in known if (p.worker, p.epoch) == (reply.worker, reply.epoch)), None)
        if reply.status == Status.APPLIED:
            assert player is not None and player.open and player.message.sequence == reply.sequence
            self.weights -= player.message.values
            clocks = self.state.clocks
            self.history.append(
                {"event": "applied", "shard": 0, "worker": reply.worker, "epoch": reply.epoch, "delay": reply.delay,
                 "sequence": reply.sequence, "version": reply.version, "clock": clocks.get(reply.worker, 0),
                 "clocks": clocks}
            )  # fmt: skip
        if player is not None:
            player.open = False
            if reply.status != Status.DUPLICATE:
                assert reply.version >= player.read
            player.version = player.read = reply.version

    def check(self) -> None:
        state = self.state
        np.testing.assert_array_equal(state.weights, self.weights)
        counts = state.statistics()
        check_counts(counts)
        # Whoever waits must wait: somebody not waiting himself is too far behind.
        parked = {member["worker"] for member in counts["members"] if member["parked"]}
        assert parked == {player.worker for player in self.players.values() if player.open} | {
            player.worker for player in self.late if player.open and player.worker in parked
        }
        clocks = state.clocks
        for worker in parked:
            behind = min(clock + (other in parked) for other, clock in clocks.items())
            assert clocks[worker] + 1 - behind > state.config.bound

    def finish(self) -> None:
        """Everybody goes, whatever waits; then every push ever begun has been accounted for."""
        while self.late:
            self.push_late()
        for player in list(self.players.values()):
            if player.worker in self.players:
                self.die(player, False)
        assert self.state.ledger.pushed == self.issued
        assert not self.state.statistics()["members"]
        json.dumps(self.state.statistics())


MOVES = ["push"] * 14 + ["repeat", "repeat", "pull", "pull", "bad", "join", "leave", "die", "silence", "time", "late",
                         "configure", "keep", "crash"]  # fmt: skip


@given(data=st.data(), consistency=st.sampled_from(["bsp", "bounded", "async"]), tau=st.integers(0, 3))
@settings(max_examples=60)
def test_random_histories(data, consistency, tau):
    driver = Driver(consistency=consistency, tau=tau)
    bound = driver.state.config.bound
    for _ in range(data.draw(st.integers(1, 4), "workers")):
        driver.join()
    for move in data.draw(st.lists(st.sampled_from(MOVES), min_size=20, max_size=60), "moves"):
        awake = [player for player in driver.players.values() if not player.silent]
        if not awake:
            driver.join()
            continue
        player = data.draw(st.sampled_from(awake), "player")
        match move:
            case "push":
                driver.push(player)
            case "bad":
                driver.push(player, data.draw(st.sampled_from([math.nan, math.inf, -math.inf, 1e30]), "bad"))
            case "repeat":
                driver.repeat(player)
            case "pull":
                driver.pull(player)
            case "join":
                driver.join()
            case "leave":
                driver.leave(player)
            case "die":
                driver.die(player, data.draw(st.booleans(), "in flight"))
            case "silence":
                player.silent = True
            case "time":
                driver.pass_time(data.draw(st.sampled_from([1.0, 9.0, 11.0]), "seconds"))
            case "late":
                driver.push_late()
            case "configure":
                driver.configure(data.draw(st.sampled_from(["bsp", "bounded", "async"])), data.draw(st.integers(0, 4)))
            case "keep":
                driver.keep()
            case "crash":
                driver.crash()
    driver.finish()
    if not any(entry["event"] == "configured" for entry in driver.history):
        check_history(driver.history, bound)


def play(schedule, workers: int, tau: int) -> list[int]:
    """Serial workers exchange (push, and pull with the answer) in this order; delays of the applied pushes, counted."""
    state = make(workers, consistency="bounded", tau=tau, snapshot_every=0)
    sequence, version, waits = [0] * workers, [0] * workers, [False] * workers
    gradient = np.ones(SIZE, np.float32)
    for worker in schedule:
        if waits[worker]:
            continue
        sequence[worker] += 1
        reply = state.apply(push(worker, sequence[worker], gradient, version[worker]), 0.0)
        waits[worker] = reply is None
        for answer in [reply, *state.released()]:
            if answer is not None:
                waits[answer.worker], version[answer.worker] = False, answer.version
    counts = state.statistics()
    check_counts(counts, gap=tau)
    return counts["version_delay"]


def tight_delay(workers: int, tau: int) -> int:
    """The largest version delay that there is. While a worker computes, each of the others goes from at most tau pushes
    behind it to at most tau ahead; at tau = 0 to one ahead, if its push is let through together and comes first.

    `delay_bound` says the same; the reference says 2 W tau + W - 1, which is never reached for W tau > 0.
    """
    return (workers - 1) * max(2 * tau, 1)


@pytest.mark.parametrize(("workers", "tau", "length"), [(2, 0, 7), (2, 1, 11), (2, 2, 12), (3, 0, 6), (3, 1, 7)])
def test_no_schedule_exceeds_the_delay_bound(workers, tau, length):
    """All schedules of this length."""
    longest = 0
    for schedule in itertools.product(range(workers), repeat=length):
        longest = max(longest, len(play(schedule, workers, tau)) - 1)
    assert longest <= tight_delay(workers, tau) == delay_bound(workers, tau)
    if workers == 2:
        assert longest == tight_delay(workers, tau)


@pytest.mark.parametrize("workers", [2, 3, 4, 6])
@pytest.mark.parametrize("tau", [0, 1, 2, 5])
def test_a_schedule_that_attains_the_delay_bound(workers, tau):
    """One worker runs tau ahead of all others, and pauses until they are tau ahead of it."""
    last = workers - 1
    others = list(range(last))
    delays = play([last] * tau + others * (2 * tau) + others + [last], workers, tau)
    assert len(delays) - 1 == tight_delay(workers, tau)


@given(data=st.data(), workers=st.integers(2, 5), tau=st.integers(0, 4))
@settings(max_examples=40)
def test_random_schedules_keep_the_delay_bound(data, workers, tau):
    # Bursts: uniformly random schedules hardly ever come near.
    bursts = data.draw(st.lists(st.tuples(st.integers(0, workers - 1), st.integers(1, 9)), max_size=40))
    schedule = [worker for worker, times in bursts for _ in range(times)]
    assert len(play(schedule, workers, tau)) - 1 <= tight_delay(workers, tau)


@given(data=st.data(), workers=st.integers(2, 5), aggregate=st.sampled_from(["each", "sum"]))
@settings(max_examples=30)
def test_bsp_does_not_depend_on_the_order_of_arrival(data, workers, aggregate):
    generator = np.random.default_rng(workers)
    gradients = generator.normal(size=(4, workers, 7)).astype(np.float32)
    orders = [data.draw(st.permutations(range(workers))) for _ in range(4)]

    def train(orders) -> np.ndarray:
        state = make(workers, size=7, consistency="bsp", aggregate=aggregate)
        version = 0
        for n, order in enumerate(orders):
            replies = []
            for worker in order:
                reply = state.apply(push(worker, n + 1, gradients[n, worker], version), 0.0)
                replies += [answer for answer in [reply, *state.released()] if answer is not None]
            assert {reply.version for reply in replies} == {version + workers}
            assert sorted(reply.delay for reply in replies) == list(range(workers))
            version += workers
        return state.weights

    assert train(orders).tobytes() == train([range(workers)] * 4).tobytes()


def test_async_never_waits():
    state = make(3, consistency="async")
    for sequence in range(1, 200):
        assert state.apply(push(1, sequence, np.ones(SIZE), sequence - 1), 0.0).status == Status.APPLIED
    counts = state.statistics()
    assert counts["gate_waits"] == 0 and counts["parked"] == 0 and counts["version_delay"] == [199]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -1e30])
def test_bad_gradients_are_refused_and_the_worker_is_told(bad):
    state = make(1, consistency="async")
    before = state.weights.copy()
    reply = state.apply(push(0, 1, [1.0, 2.0, bad, 0.0]), 0.0)
    assert reply.status == Status.REFUSED
    assert reply.body["reason"] == ("too_large" if math.isfinite(bad) else "nonfinite")
    np.testing.assert_array_equal(state.weights, before)
    np.testing.assert_array_equal(reply.values, before)
    counts = state.statistics()
    check_counts(counts)
    assert counts["refused"] == {reply.body["reason"]: 1} and counts["pushed"] == 1
    assert state.apply(push(0, 2, np.ones(SIZE)), 0.0).status == Status.APPLIED


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"stop": 9}, "keys"), ({"start": 3, "stop": 2}, "keys"), ({"start": -1}, "keys"), ({"version": 9}, "undone")],
)
def test_a_push_of_keys_or_versions_that_do_not_exist_is_refused(change, reason):
    state = make(1, consistency="async")
    message = push(0, 1, np.ones(SIZE), flags=0)._replace(**change)
    reply = state.apply(message, 0.0)
    assert (reply.status, reply.body["reason"]) == (Status.REFUSED, reason)
    check_counts(state.statistics())


def test_eviction_opens_the_gate_and_a_late_push_is_refused():
    state = make(2, consistency="bounded", tau=1)
    gradient = np.ones(SIZE, np.float32)
    assert state.apply(push(0, 1, gradient), 0.0).status == Status.APPLIED
    assert state.apply(push(0, 2, gradient, 1), 1.0) is None
    for now in (5.0, 10.0):
        state.apply(Message(Kind.BEAT, 0, 1), now)
        state.tick(now)
        assert not state.released()
    state.tick(10.5)
    (reply,) = state.released()
    assert (reply.worker, reply.status, reply.version) == (0, Status.APPLIED, 2)
    late = state.apply(push(1, 1, gradient), 11.0)
    assert late.status == Status.FENCED and late.body["known"]
    counts = state.statistics()
    assert counts["refused"] == {"fenced": 1} and counts["evicted"] == 1 and counts["applied"] == 2
    assert counts["gate_waits"] == 1 and counts["gate_wait_seconds"] == pytest.approx(9.5)
    check_counts(counts)
    # It joins anew, in a new epoch, beside the slowest.
    again = state.apply(Message(Kind.JOIN, 1, body={"sequence": 1}), 12.0)
    assert again.epoch == 3 and state.clocks[1] == 2
    assert state.apply(push(1, 2, gradient, 2, epoch=3), 12.0).status == Status.APPLIED


def test_loosened_consistency_lets_the_waiting_through():
    state = make(2, consistency="bsp")
    assert state.apply(push(0, 1, np.ones(SIZE)), 0.0) is None
    reply = state.apply(Message(Kind.CONFIGURE, body={"consistency": "bounded", "tau": 1}), 1.0)
    assert reply.status == Status.DONE
    (released,) = state.released()
    assert released.status == Status.APPLIED
    assert state.apply(push(0, 2, np.ones(SIZE), 1), 1.0) is None
    state.apply(Message(Kind.CONFIGURE, body={"consistency": "async"}), 2.0)
    assert len(state.released()) == 1
    bad = state.apply(Message(Kind.CONFIGURE, body={"consistency": "eventual"}), 2.0)
    assert bad.status == Status.FAILED and "bsp, bounded, async" in bad.body["error"]


@pytest.mark.parametrize("consistency", ["bsp", "bounded", "async"])
@pytest.mark.parametrize("update", [PLAIN, {**PLAIN, "step_size": 0.1, "prox": {"kind": "l1", "strength": 0.01}}])
def test_a_restored_shard_goes_on_bit_for_bit(consistency, update):
    """Compared with the shard that made the snapshot and was not interrupted, pushes, clocks, histograms and all."""
    config = ServerConfig(engine="inproc", consistency=consistency, tau=2, scaling="delay", snapshot_every=7)
    state = ShardState(config)
    state.define(np.linspace(-1.0, 1.0, 9, dtype=np.float32), make_update(update, config), "model")
    for worker in range(3):
        state.apply(Message(Kind.JOIN, worker), 0.0)
    generator = np.random.default_rng(3)
    schedule = generator.integers(0, 3, 300)
    gradients = generator.normal(size=(300, 9)).astype(np.float32)
    sequence, version, waits = [0] * 3, [0] * 3, set()
    twin, compared = None, 0

    def step(shard: ShardState, message: Message):
        reply = shard.apply(message, 1.0)
        answers = [answer for answer in [reply, *shard.released()] if answer is not None]
        return [answer._replace(values=answer.values.tobytes()) for answer in answers]

    for worker, gradient in zip(schedule, gradients, strict=True):
        worker = int(worker)
        if worker in waits:
            continue
        sequence[worker] += 1
        waits.add(worker)
        message = push(worker, sequence[worker], gradient, version[worker])
        answers = step(state, message)
        if twin is not None:
            assert step(twin, message) == answers
            compared += len(answers)
        for answer in answers:
            waits.discard(answer.worker)
            version[answer.worker] = answer.version
        if state.due and not waits and twin is None:
            arrays, meta = snapshot.unpack(snapshot.pack(*state.snapshot()))
            twin = ShardState.restore(config, arrays, meta, term=1, now=1.0)
    assert twin is not None and compared > 50
    assert twin.weights.tobytes() == state.weights.tobytes()
    own, others = twin.statistics(), state.statistics()
    assert {**own, "term": 0} == others


def test_a_worker_that_meets_the_others_is_not_waited_for():
    state = make(2, consistency="bsp")

    def collect(worker: int, round: int):
        return state.apply(Message(Kind.COLLECT, worker, worker + 1, round, body={"name": "end", "value": worker}), 0.0)

    assert collect(1, 1) is None
    for sequence in (1, 2, 3):  # alone, as worker 1 is idle
        assert state.apply(push(0, sequence, np.ones(SIZE), sequence - 1), 0.0).status == Status.APPLIED
    reply = collect(0, 1)
    assert reply.status == Status.DONE and reply.body["values"] == {"0": 0, "1": 1}
    (released,) = state.released()
    assert released.worker == 1 and released.body["values"] == {"0": 0, "1": 1}
    # They go on from the same clock.
    assert state.clocks == {0: 3, 1: 3}
    assert state.apply(push(0, 4, np.ones(SIZE), 3), 0.0) is None
    # A repeated question is answered again and moves no clock.
    assert collect(1, 1).body["values"] == {"0": 0, "1": 1}
    assert state.clocks == {0: 3, 1: 3} and state.statistics()["parked"] == 1
    state.apply(Message(Kind.LEAVE, 1, 2), 0.0)
    assert [answer.worker for answer in state.released()] == [0]
    assert collect(0, 2).body["values"] == {"0": 0}


def test_names_that_differ_fail_for_all_who_meet():
    state = make(2, consistency="async")
    first = state.apply(Message(Kind.COLLECT, 0, 1, 1, body={"name": "save"}), 0.0)
    second = state.apply(Message(Kind.COLLECT, 1, 2, 1, body={"name": "stop"}), 0.0)
    (released,) = state.released()
    assert first is None and second.status == released.status == Status.FAILED
    assert second.body["error"] == released.body["error"] == "workers disagree: 'save' and 'stop'"
    assert state.clocks == {0: 0, 1: 0}


def test_workers_of_another_model_are_refused():
    state = make(1)
    reply = state.apply(Message(Kind.JOIN, body={"fingerprint": "other"}), 0.0)
    assert reply.status == Status.FAILED and "another model" in reply.body["error"]
    assert len(state.statistics()["members"]) == 1


MALFORMED = [
    Message(Kind.JOIN, body={"fingerprint": 5}),
    Message(Kind.JOIN, 0, body={"previous": [1]}),
    Message(Kind.JOIN, 7, body={"previous": {"epoch": "x"}}),
    Message(Kind.JOIN, 7, body={"sequence": "many"}),
    Message(Kind.JOIN, 0, 1, body={"round": "x"}),
    Message(Kind.COLLECT, 0, 1, 0, body={"name": "x"}),
    Message(Kind.COLLECT, 0, 1, 1, body={"name": 3}),
    Message(Kind.COLLECT, 0, 1, 1, body={"name": "x", "previous": 3}),
    Message(Kind.DRAW, 0, 1, 1, body={"key": "x", "total": "9"}),
    Message(Kind.DRAW, 0, 1, 1, body={"key": "x", "total": 9, "block": 0}),
    Message(Kind.DRAW, 0, 1, 1, body={}),
    Message(Kind.CONFIGURE, body={"tau": -1}),
    Message(Kind.CONFIGURE, body={"tau": [1]}),
    Message(Kind.CONFIGURE, body={"expected": "all"}),
    Message(Kind.DEFINE, 0, 1, values=np.zeros(9, np.uint8), body={"fingerprint": "model2"}),
    Message(Kind.LOAD, 0, 1, values=np.zeros(9, np.uint8)),
    Message(Kind.LOAD, 0, 1),
    Message(Kind.PULL, 0, 1, 1, start=2, stop=99),
    Message(Kind.PULL, 0, 1, 1, start=-1, stop=2),
]


@pytest.mark.parametrize("message", MALFORMED, ids=lambda m: f"{m.kind.name} {dict(m.body)}"[:60])
def test_nonsense_is_answered_and_changes_nothing(message):
    state = make(1)
    before = state.statistics()
    reply = state.apply(message, 0.0)
    assert reply is not None and reply.status == Status.FAILED
    assert reply.body["error"] and "\n" not in reply.body["error"]
    assert state.statistics() == before and not state.released()
    assert state.apply(push(0, 1, np.ones(SIZE)), 0.0).status == Status.APPLIED


@pytest.mark.parametrize("hyper", [3, [1], {"lr": "x"}, {"groups": 3}, None])
def test_a_push_with_nonsense_for_hyperparameters_does_not_bring_the_shard_down(hyper):
    state = make(1)
    reply = state.apply(push(0, 1, np.ones(SIZE), body={"hyper": hyper}), 0.0)
    assert reply is not None and reply.status in (Status.APPLIED, Status.REFUSED, Status.FAILED)
    check_counts(state.statistics())
    assert state.apply(push(0, 2, np.ones(SIZE), state.version, body={"hyper": {}}), 0.0).status == Status.APPLIED


def test_a_worker_that_joins_again_takes_its_own_place():
    """As when the answer to its first JOIN was lost: between the two nobody goes on without it, and it counts once."""
    state = make(consistency="bsp")
    state.apply(Message(Kind.CONFIGURE, body={"expected": 3}), 0.0)
    for worker in (0, 1, 0):
        state.apply(Message(Kind.JOIN, worker), 0.0)  # epochs 1, 2, 3
    meet = {"name": "start"}
    assert state.apply(Message(Kind.COLLECT, 0, 3, 1, body=meet), 0.0) is None
    assert state.apply(Message(Kind.COLLECT, 1, 2, 1, body=meet), 0.0) is None  # two of three have come
    state.apply(Message(Kind.JOIN, 2), 0.0)
    state.apply(Message(Kind.JOIN, 1), 0.0)  # epoch 5; the first worker 1 had come to the meeting, this one has not
    assert not state.released()
    assert state.apply(Message(Kind.COLLECT, 2, 4, 1, body=meet), 0.0) is None
    assert state.apply(Message(Kind.COLLECT, 1, 5, 1, body=meet), 0.0).status == Status.DONE
    assert {reply.worker for reply in state.released()} == {0, 2}
    assert state.apply(push(0, 1, np.ones(SIZE), epoch=3), 0.0) is None
    assert state.apply(push(2, 1, np.ones(SIZE), epoch=4), 0.0) is None
    state.apply(Message(Kind.JOIN, 1), 0.0)
    assert not state.released() and state.clocks == {0: 0, 1: 0, 2: 0}
    assert state.apply(push(1, 1, np.ones(SIZE), epoch=6), 0.0).status == Status.APPLIED
    assert len(state.released()) == 2
    check_counts(state.statistics(), gap=0)


def test_messages_of_strangers_are_fenced():
    state = make(1)
    for message in (push(0, 1, np.ones(SIZE), epoch=9), push(5, 1, np.ones(SIZE)), Message(Kind.BEAT, 3, 4)):
        reply = state.apply(message, 0.0)
        assert reply.status == Status.FENCED and not reply.body["known"]
    assert state.version == 0
    check_counts(state.statistics())


def test_config_of_a_changed_run_survives_a_restart():
    state = make(1, consistency="bsp")
    state.apply(Message(Kind.CONFIGURE, body={"consistency": "bounded", "tau": 3}), 0.0)
    arrays, meta = snapshot.unpack(snapshot.pack(*state.snapshot()))
    again = ShardState.restore(make().config, arrays, meta, term=1, now=0.0)
    assert again.config == replace(state.config) and again.config.bound == 3.0
