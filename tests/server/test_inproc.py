"""The deterministic engine: everything is a function of the seed, and all that may go wrong goes wrong in it."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server.history import check_counts, check_history, check_log, entry

from bitquote.server import points
from bitquote.server.client import Client
from bitquote.server.config import ServerConfig
from bitquote.server.errors import Rejected, ServerError
from bitquote.server.inproc.engine import Disturbance, InprocEngine
from bitquote.server.inproc.virtual import Killed, VirtualMachine
from bitquote.server.message import Status
from bitquote.server.opening import pack_definition
from bitquote.server.partition import partition

SIZE = 6
PLAIN = {"kind": "proximal_gradient", "step_size": 0.1, "lipschitz": None, "prox": None}
LATENCY = (0.001, 0.02)


def engine_of(*, directory: Path | None = None, restore: bool = False, update=PLAIN, **options) -> InprocEngine:
    """An engine with SIZE weights of one; what is no option of the engine is a setting of the server."""
    own = {name: options.pop(name) for name in ("seed", "latency", "disturbance", "recovery") if name in options}
    config = ServerConfig(engine="inproc", **{"snapshot_every": 10, "workers": 1, **options})
    weights = np.ones(SIZE, np.float32)
    definitions = [pack_definition(part, weights, None) for part in partition(SIZE, config.shards, update)]
    return InprocEngine(config, "", directory, definitions, restore, **{"latency": LATENCY, **own})


def observe(engine: InprocEngine) -> tuple[np.ndarray, dict]:
    """(weights, statistics) as somebody sees them who only looks on."""
    with Client(engine.connects(), observer=True, **engine.client_options()) as client:
        return client.weights(), client.statistics()


def train(client: Client, rank: int, pushes: int = 20, pause: float = 0.0, bad: int = -1) -> list:
    """Descend from where the weights are to zero, with noise of its own; what became of each push."""
    weights = np.empty(client.size, np.float32)
    log = [entry("pull", client.wait(client.pull(weights)))]
    for i in range(pushes):
        noise = np.random.default_rng((rank, i)).normal(scale=0.01, size=client.size).astype(np.float32)
        gradient = weights + noise
        if i == bad:
            gradient[1] = np.nan
        log.append(entry("exchange", client.exchange(gradient, weights)))
        assert np.isfinite(weights).all()
        if pause:
            client.sleep(pause)
    return log


def train_together(client: Client, rank: int) -> list:
    """The same, once all have come: the gate waits for nobody who has not joined."""
    client.collect("start")
    return train(client, rank)


def results(outcomes) -> list[tuple]:
    return [(outcome.rank, outcome.value, outcome.error) for outcome in outcomes]


# Determinism.


@pytest.mark.parametrize("consistency", ["bsp", "bounded", "async"])
def test_a_run_is_a_function_of_its_seed(consistency):
    def run(seed):
        engine = engine_of(consistency=consistency, tau=1, seed=seed, shards=2,
                           disturbance=Disturbance(slow=0.1, duplicate=0.1, lose=0.03))  # fmt: skip
        engine.at(0.2, lambda: engine.kill(1))
        engine.at(0.3, engine.kill_shard)
        outcomes = engine.run(functools.partial(train, pause=0.003), 3)
        weights, counts = observe(engine)
        return results(outcomes), weights.tobytes(), counts, list(engine.history)

    first = run(5)
    assert run(5) == first
    assert run(6)[3] != first[3]
    assert [error for _, _, error in first[0]] == [None, "killed", None]


def test_bsp_gives_the_same_bits_whatever_happens_on_the_way():
    expected = None
    cases = [
        ((0.0, 0.0), Disturbance(), 1),
        ((0.0, 1.0), Disturbance(), 1),
        (LATENCY, Disturbance(slow=0.3, slow_by=2.0, duplicate=0.3), 1),
        (LATENCY, Disturbance(lose=0.1, duplicate=0.1), 1),
        (LATENCY, Disturbance(lose=0.05), 3),
    ]
    for seed, (latency, disturbance, shards) in enumerate(cases * 4):
        engine = engine_of(consistency="bsp", seed=seed, latency=latency, disturbance=disturbance, shards=shards)
        with Client(engine.connects(), observer=True, **engine.client_options()) as client:
            client.configure(expected=4)
        outcomes = engine.run(train_together, 4)
        weights, counts = observe(engine)
        assert [outcome.error for outcome in outcomes] == [None] * 4
        assert counts["lost"] == 0 and counts["applied"] == 80 * shards
        check_counts(counts, gap=0, delay=3)
        expected = expected or weights.tobytes()
        assert weights.tobytes() == expected


@pytest.mark.parametrize("shards", [1, 2])
def test_a_crash_right_after_a_snapshot_changes_no_bit(shards):
    """Several workers under bsp; a snapshot follows every release, and the shard dies at once after one of them."""

    def run(crash: bool):
        engine = engine_of(consistency="bsp", snapshot_every=3, shards=shards)

        def strike(entry):
            if crash and entry["event"] == "snapshot" and entry["version"] == 30:
                engine.at(engine.clock(), lambda: engine.kill_shard(entry["shard"]))

        engine.watchers.append(strike)
        outcomes = engine.run(train, 3)
        return engine, outcomes, *observe(engine)

    _, outcomes, weights, counts = run(False)
    engine, again, after, recounted = run(True)
    assert recounted["term"] == 1 and counts["term"] == 0
    assert sum(entry["event"] == "shard killed" for entry in engine.history) == shards
    assert after.tobytes() == weights.tobytes()
    assert recounted["lost"] == 0 and recounted["applied"] == counts["applied"] == 60 * shards
    # Answers on their way were lost: the pushes were repeated, and known.
    assert recounted["duplicates"] > counts["duplicates"] == 0
    for one, other in zip(outcomes, again, strict=True):
        assert [line[2] for line in one.value] == [line[2] for line in other.value]


@pytest.mark.parametrize("consistency", ["bsp", "bounded", "async"])
@pytest.mark.parametrize("aggregate", ["each", "sum"])
def test_a_restart_from_the_directory_equals_the_uninterrupted_run(consistency, aggregate, tmp_path):
    """Three workers, the same bits, histories and counts."""
    options = {"consistency": consistency, "tau": 2, "aggregate": aggregate, "seed": 3, "scaling": "delay"}
    whole = engine_of(**options)
    whole.run(train, 3)
    begun = len(whole.history)
    expected = results(whole.run(train, 3))

    first = engine_of(directory=tmp_path, **options)
    first.run(train, 3)
    with Client(first.connects(), observer=True, **first.client_options()) as client:
        client.snapshot()
    second = engine_of(directory=tmp_path, restore=True, **options)
    assert results(second.run(train, 3)) == expected
    weights, counts = observe(second)
    other, others = observe(whole)
    assert weights.tobytes() == other.tobytes()
    for name in ("applied", "pushed", "refused", "lost", "version_delay", "clock_gap"):
        assert counts[name] == others[name]

    def applied(history):
        names = ("worker", "sequence", "version", "delay", "clocks")
        return [[entry[name] for name in names] for entry in history if entry["event"] == "applied"]

    assert applied(second.history) == applied(list(whole.history)[begun:])


# Faults.

FAULTS = st.tuples(
    st.sampled_from(["kill", "stop", "sever", "kill_shard", "configure"]),
    st.floats(0.0, 1.5),
    st.integers(0, 3),
    st.sampled_from([0.05, 0.5, 3.0]),
)


@given(
    seed=st.integers(0, 2**32),
    workers=st.integers(1, 4),
    shards=st.integers(1, 2),
    consistency=st.sampled_from(["bsp", "bounded", "async"]),
    tau=st.integers(0, 3),
    disturbance=st.builds(
        Disturbance, slow=st.sampled_from([0.0, 0.2]), duplicate=st.sampled_from([0.0, 0.2]),
        lose=st.sampled_from([0.0, 0.02, 0.1]), slow_by=st.sampled_from([0.05, 2.0]),
    ),
    faults=st.lists(FAULTS, max_size=5),
)  # fmt: skip
@settings(max_examples=40)
def test_everything_at_once(seed, workers, shards, consistency, tau, disturbance, faults):
    """A random run with random faults: it ends, nothing is lost silently, and the history holds what is promised."""
    engine = engine_of(seed=seed, shards=shards, consistency=consistency, tau=tau, disturbance=disturbance,
                       heartbeat=1.0, snapshot_every=7, deadline=60.0)  # fmt: skip
    bound = engine.config.bound
    happened = set()

    def strike(kind, rank, seconds):
        happened.add(kind)
        match kind:
            case "kill":
                engine.kill(rank)
            case "stop":
                engine.stop(rank, seconds)
            case "sever":
                engine.sever(rank, rank % shards)
            case "kill_shard":
                engine.kill_shard(rank % shards)

    changes = []
    for kind, time, rank, seconds in faults:
        if kind == "configure":
            changes.append((time, ["bsp", "bounded", "async"][rank % 3], rank))
        else:
            engine.at(time, functools.partial(strike, kind, rank, seconds))

    def work(client, rank):
        log = train(client, rank, 10, 0.01, bad=rank)
        if rank == 0:
            for _, consistency, tau in changes:
                client.configure(consistency=consistency, tau=tau)
                happened.add("configure")
                log += train(client, rank + 10, 5, 0.01)
        return log, client.pushed, client.applied, client.refused

    outcomes = engine.run(work, workers)
    engine.sleep(3.0)  # a worker that was cut off and then killed is missed after a heartbeat
    weights, counts = observe(engine)
    assert np.isfinite(weights).all()
    for outcome in outcomes:
        assert outcome.error in (None, "killed")
        if outcome.error is None:
            log, pushed, applied, refused = outcome.value
            check_log(log, crashes="kill_shard" in happened)
            assert pushed == applied + refused == sum(line[0] == "exchange" for line in log)
    check_history(engine.history, bound)
    # Who is evicted and joins again stands beside the slowest, with weights of long ago.
    quiet = not happened & {"kill_shard", "configure"} and not counts["evicted"]
    check_counts(counts, gap=bound if "configure" not in happened else np.inf,
                 delay=(workers - 1) * max(2 * tau, 1) if quiet and consistency == "bounded" else np.inf)  # fmt: skip
    for shard in counts["shards"]:
        issued = [outcome.value[1] for outcome in outcomes if outcome.error is None]
        if len(issued) == workers:
            assert shard["pushed"] == sum(issued)
        assert shard["pushed"] >= sum(issued)
        assert not shard["members"]


def test_a_killed_worker_does_not_hold_the_others_and_its_pushes_are_accounted_for():
    engine = engine_of(consistency="bsp", heartbeat=100.0)
    engine.at(0.3, lambda: engine.kill(2))
    outcomes = engine.run(functools.partial(train, pause=0.01), 3)
    assert [outcome.error for outcome in outcomes] == [None, None, "killed"]
    assert engine.clock() < 10.0  # not the heartbeat: the end of the connection was seen
    _, counts = observe(engine)
    check_counts(counts, gap=0)
    assert counts["evicted"] == 1 and counts["left"] == 2
    assert 40 < counts["pushed"] < 60 and counts["lost"] <= 1


def test_a_stopped_worker_is_evicted_and_its_late_push_refused():
    engine = engine_of(consistency="bounded", tau=1, heartbeat=2.0)
    engine.at(0.25, lambda: engine.stop(1, 30.0))
    outcomes = engine.run(functools.partial(train, pause=0.02), 2)
    events = {entry["event"]: entry["time"] for entry in engine.history if entry["event"] in ("stopped", "evicted")}
    assert 2.0 < events["evicted"] - events["stopped"] < 3.0
    healthy, stopped = (outcome.value for outcome in outcomes)
    assert [line[1] for line in healthy[1:]] == ["APPLIED"] * 20
    assert [line[1] for line in stopped[1:]].count("REFUSED") == 1
    _, counts = observe(engine)
    check_counts(counts, gap=1)
    assert counts["refused"] == {"fenced": 1} and counts["evicted"] == 1 and counts["joined"] == 3
    assert counts["pushed"] == 40 and counts["applied"] == 39 and counts["lost"] == 0
    # The other waited for the heartbeat at most.
    done = max(entry["time"] for entry in engine.history if entry["event"] == "applied" and entry["worker"] == 0)
    assert done < 30.0


def test_signs_of_life_keep_a_worker_that_computes_for_long():
    engine = engine_of(consistency="bsp", heartbeat=1.0)
    engine.run(functools.partial(train, pushes=3, pause=20.0), 2)
    _, counts = observe(engine)
    assert counts["evicted"] == 0 and counts["applied"] == 6


def test_a_server_that_dies_loses_at_most_a_snapshot_interval_and_says_so():
    engine = engine_of(consistency="async", snapshot_every=10, latency=(0.001, 0.001), recovery=0.5)
    engine.at(0.1, engine.kill_shard)
    outcomes = engine.run(functools.partial(train, pushes=100, pause=0.001), 2)
    assert [outcome.error for outcome in outcomes] == [None, None]
    _, counts = observe(engine)
    check_counts(counts)
    assert counts["term"] == 1 and counts["pushed"] == 200
    assert 0 < counts["lost"] <= 10
    times = {entry["event"]: entry["time"] for entry in engine.history}
    killed, restored = times["shard killed"], times["restored"]
    assert restored - killed == pytest.approx(0.5)
    after = next(entry["time"] for entry in engine.history if entry["event"] == "applied" and entry["time"] > restored)
    assert after - killed < 1.0


def test_without_snapshots_a_dead_server_is_a_typed_error_after_the_deadline():
    engine = engine_of(snapshot_every=0, deadline=5.0)
    engine.at(0.05, engine.kill_shard)
    (outcome,) = engine.run(train, 1)
    assert outcome.error.startswith("ServerUnavailable: no ") and "\n" not in outcome.error
    assert 5.0 < engine.clock() < 20.0


def test_a_full_disk_does_not_stop_training(tmp_path):
    engine = engine_of(directory=tmp_path, consistency="async")
    points.arm("snapshot.written:1:raise ENOSPC")
    try:
        (outcome,) = engine.run(train, 1)
    finally:
        points.arm(None)
    assert outcome.error is None
    failures = [entry for entry in engine.history if entry["event"] == "snapshot failed"]
    assert len(failures) == 1 and "No space left" in failures[0]["error"]
    again = engine_of(directory=tmp_path, restore=True, consistency="async")
    assert observe(again)[1]["version"] == 20


def test_bad_gradients_are_refused_and_told():
    engine = engine_of(consistency="async")
    (outcome,) = engine.run(functools.partial(train, bad=7), 1)
    assert [line[1] for line in outcome.value].count("REFUSED") == 1
    assert outcome.value[8][1] == "REFUSED"
    weights, counts = observe(engine)
    assert counts["refused"] == {"nonfinite": 1} and counts["pushed"] == 20 and np.isfinite(weights).all()
    check_counts(counts)


# Consistency in time.


@pytest.mark.parametrize(("consistency", "slowed"), [("async", False), ("bounded", True), ("bsp", True)])
def test_a_slow_worker_holds_the_others_only_at_the_gate(consistency, slowed):
    engine = engine_of(consistency=consistency, tau=4, latency=(0.0, 0.0))

    def work(client, rank):
        began = client.clock()
        train(client, rank, 10 if rank else 100, 0.1 if rank else 0.01)
        return client.clock() - began

    fast = engine.run(work, 2)[0].value
    _, counts = observe(engine)
    if slowed:
        assert fast > 0.8 and counts["gate_waits"] >= 9 and counts["gate_wait_seconds"] > 0.3
        check_counts(counts, gap=engine.config.bound)
    else:
        assert fast == pytest.approx(1.0) and counts["gate_waits"] == 0
        assert sum(counts["version_delay"][5:]) >= 9  # of the slow one


def test_consistency_changes_while_workers_run():
    engine = engine_of(consistency="bsp", latency=(0.0, 0.0))

    def work(client, rank):
        train(client, rank, 10)
        client.collect("begun")
        if rank == 0:
            client.configure(consistency="async")
        client.collect("configured")
        began = client.clock()
        log = train(client, rank, 10, 0.0 if rank == 0 else 1.0)
        return client.clock() - began, log

    outcomes = engine.run(work, 2)
    assert outcomes[0].value[0] < 0.1 and outcomes[1].value[0] == pytest.approx(10.0)
    _, counts = observe(engine)
    assert counts["consistency"] == "async" and counts["applied"] == 40
    check_history(engine.history, 0.0)


def test_workers_join_and_leave_at_any_time():
    engine = engine_of(consistency="bounded", tau=1, heartbeat=5.0)

    def work(client, rank):
        logs = [train(client, rank, 10 * (1 + rank), 0.01)]
        client.leave()
        for n in range(rank):
            engine.sleep(0.1)
            with Client(engine.connects(), **engine.client_options()) as second:
                logs.append(train(second, 10 + n, 5, 0.02))
        return logs

    outcomes = engine.run(work, 4)
    assert all(outcome.error is None for outcome in outcomes)
    for outcome in outcomes:
        for log in outcome.value:
            check_log(log)
    _, counts = observe(engine)
    check_history(engine.history, 1.0)
    check_counts(counts, gap=1)
    assert counts["pushed"] == counts["applied"] == 10 + 20 + 30 + 40 + 5 * 6
    assert counts["joined"] == counts["left"] == 10 and counts["evicted"] == 0


# Meeting and sharing.


def test_collectives_and_shared_work_survive_deaths_and_crashes():
    engine = engine_of(consistency="bounded", heartbeat=1.0, disturbance=Disturbance(lose=0.03), snapshot_every=5)
    engine.at(0.4, lambda: engine.kill(2))
    engine.at(0.9, engine.kill_shard)

    def work(client, rank):
        met, done = [], []
        for epoch in range(6):
            weights = np.empty(client.size, np.float32)
            while (index := client.draw(f"epoch {epoch}", 20, 2)) is not None:
                client.wait(client.pull(weights))
                client.exchange(weights, weights)
                client.sleep(0.01)
                done.append((epoch, index))
            met.append(client.collect(f"end of {epoch}", [rank, epoch]))
        return met, done

    outcomes = engine.run(work, 3)
    assert [outcome.error for outcome in outcomes] == [None, None, "killed"]
    (met, done), (others, rest) = (outcome.value for outcome in outcomes[:2])
    assert met == others and len(met) == 6
    for epoch, values in enumerate(met):
        assert values in ({w: [w, epoch] for w in range(3)}, {w: [w, epoch] for w in range(2)})
    assert met[0].keys() == {0, 1, 2} and met[-1].keys() == {0, 1}
    # After the crash a piece may be done twice; none is left out but what the dead worker had drawn.
    pieces = {piece for piece in done + rest if piece[0] == 5}
    assert pieces == {(5, index) for index in range(0, 20, 2)}
    check_counts(observe(engine)[1])


def test_every_piece_goes_to_one_worker():
    engine = engine_of(consistency="async")

    def work(client, rank):
        pieces = []
        while (index := client.draw("k", 31, 3)) is not None:
            pieces.append(index)
            client.sleep(0.01 * (1 + 5 * rank))
        return pieces

    outcomes = engine.run(work, 3)
    drawn = [index for outcome in outcomes for index in outcome.value]
    assert sorted(drawn) == list(range(0, 31, 3))
    assert len(outcomes[0].value) > len(outcomes[2].value) >= 1


def test_disagreement_is_an_error_for_everyone():
    engine = engine_of()
    outcomes = engine.run(lambda client, rank: client.collect(f"name {rank}"), 2)
    assert {outcome.error for outcome in outcomes} <= {
        "Rejected: workers disagree: 'name 0' and 'name 1'", "Rejected: workers disagree: 'name 1' and 'name 0'"
    }  # fmt: skip


# The calling thread, and ends.


def test_a_client_of_the_calling_thread_needs_no_run():
    engine = engine_of(seed=1)
    with Client(engine.connects(), **engine.client_options()) as client:
        assert (client.worker, client.size) == (0, SIZE)
        log = train(client, 0)
        check_log(log)
        first = client.pull()
        second = client.push(np.zeros(SIZE, np.float32))
        assert client.wait(second).status == Status.APPLIED and client.wait(first).status == Status.DONE
        assert client.collect("alone", 1) == {0: 1}
        with pytest.raises(Rejected, match="timestamp 99 is unknown"):
            client.wait(99)
    _, counts = observe(engine)
    assert counts["applied"] == 21 and counts["left"] == 1


def test_the_first_worker_may_bring_the_model():
    engine = InprocEngine(ServerConfig(engine="inproc", shards=2, snapshot_every=1))

    def work(client, rank):
        first = client.define(np.ones(SIZE, np.float32), PLAIN, "model")
        client.collect("defined")
        train(client, rank, 5)
        return first

    outcomes = engine.run(work, 3)
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert sum(outcome.value for outcome in outcomes) >= 1
    assert observe(engine)[1]["applied"] == 30


def test_an_error_of_a_worker_is_one_line_and_its_own():
    engine = engine_of(consistency="bsp")

    def work(client, rank):
        if rank == 1:
            raise ValueError("first line\nsecond line")
        return len(train(client, rank))

    assert results(engine.run(work, 2)) == [(0, 21, None), (1, None, "ValueError: first line")]


def test_a_run_in_which_nobody_can_go_on_ends():
    engine = engine_of(consistency="bsp", deadline=1.0)
    idle = Client(engine.connects(), worker=7, **engine.client_options())
    with pytest.raises(ServerError, match="nobody can go on"):
        engine.run(train, 1)
    idle.close()


def test_a_virtual_machine_orders_events_and_ends_tasks():
    seen = []
    machine = VirtualMachine(0)
    machine.at(2.0, lambda: seen.append(("event", machine.now)))

    def body():
        machine.sleep(1.0)
        seen.append(("task", machine.now))
        machine.sleep(10.0)
        seen.append("never")

    task = machine.start("task", body)
    machine.at(3.0, lambda: machine.kill(task))
    machine.sleep(5.0)
    assert seen == [("task", 1.0), ("event", 2.0)] and machine.now == 5.0
    assert task.done and isinstance(task.error, Killed)


def test_waits_that_end_early_leave_nothing_behind():
    engine = engine_of(latency=(0.0, 0.0))
    with Client(engine.connects(), **engine.client_options()) as client:
        train(client, 0, 10)
        events = len(engine.machine._events)
        train(client, 0, 200)
        assert len(engine.machine._events) <= events
