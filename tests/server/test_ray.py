"""The Ray engine: the same guarantees over actors, with leases where processes cannot see each other die."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitquote.server import (
    Client,
    ProximalGradient,
    Rejected,
    Server,
    ServerConfig,
    ServerUnavailable,
    points,
)
from bitquote.server.message import Kind, Message, Status
from bitquote.server.opening import open_shard, pack_definition
from bitquote.server.partition import Part
from bitquote.server.ray import shard_actor
from bitquote.server.ray.cluster import Cluster
from bitquote.server.ray.lease import MARGIN, Lease, Leases
from bitquote.server.ray.shard_actor import NAMESPACE, ShardActor
from bitquote.server.shard import ShardState
from tests.server.history import check_counts, check_log
from tests.server.leaks import eventually

ray = pytest.importorskip("ray")
grpc = pytest.importorskip("grpc")

SIZE = 12
STEP = 2.0**-7  # sums of such steps are exact


def config(**changes: Any) -> ServerConfig:
    """Small and quick: a lease of two seconds, which a busy machine still renews in time."""
    quick = {"engine": "ray", "workers": 2, "heartbeat": 4.0, "deadline": 60.0, "allow_oversubscription": True}
    return ServerConfig(**{**quick, **changes})


def serve(directory: Path | None = None, *, restore: bool = False, **changes: Any) -> Server:
    """A server of zeros, whose pushes of ones take STEP off."""
    zeros, rule = np.zeros(SIZE, np.float32), ProximalGradient(step_size=STEP)
    return Server(zeros, rule, config(**changes), directory=directory, restore=restore)


def actor(server: Server, shard: int = 0) -> Any:
    """The present actor of a shard."""
    name = f"{server.address.removeprefix('ray:')}.shard{shard}"
    names = [one["name"] for one in ray.util.list_named_actors(all_namespaces=True) if one["name"].startswith(name)]
    return ray.get_actor(max(names), namespace=NAMESPACE)


def named_actors() -> set[str]:
    """Of all servers on the cluster."""
    return {one["name"] for one in ray.util.list_named_actors(all_namespaces=True)}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """One local cluster for all tests here, as a server would start it; its address."""
    own = Cluster(config(workers=3))
    yield ray.get_runtime_context().gcs_address
    own.close()
    assert not ray.is_initialized()


class TestLease:
    """Fencing, without Ray and with a clock of our own."""

    def test_holds_from_before_it_was_asked_for(self) -> None:
        lease = Lease(2.0)
        assert not lease.holds(0.0)
        lease.renewed(asked=1.0)
        assert lease.holds(2.999) and not lease.holds(3.0)
        lease.renewed(asked=0.5)  # an answer that was overtaken takes nothing away
        assert lease.holds(2.999)

    @given(
        st.lists(
            st.tuples(st.floats(0.0, 3.0), st.floats(0.0, 3.0), st.floats(0.0, 3.0), st.booleans()),
            max_size=30,
        ),
        st.floats(1.0 - MARGIN / 3.0, 1.0 + MARGIN / 3.0),
        st.floats(-1e6, 1e6),
        st.floats(0.0, 20.0),
    )
    def test_no_shard_acknowledges_when_it_may_have_a_successor(
        self, renewals: list[tuple[float, float, float, bool]], rate: float, offset: float, later: float
    ) -> None:
        # Whatever the delays, with clocks of other origins and of rates that differ by less than the margin.
        lease, leases, now = Lease(1.0), Leases([0], 1.0), 0.0
        leases.begin(0, 0, 0.0)
        for pause, there, back, answered in renewals:
            now += pause
            asked = offset + rate * now
            now += there
            if leases.expired(now):
                assert not lease.holds(offset + rate * now)
            assert leases.renew(0, 0, now)
            now += back
            if answered:
                lease.renewed(asked)
        now += later
        assert not (leases.expired(now) and lease.holds(offset + rate * now))

    def test_only_the_present_term_is_renewed(self) -> None:
        leases = Leases([0, 0], 1.0)
        assert leases.renew(0, 0, 5.0)
        assert leases.expired(6.0) == [] and leases.expired(6.2) == [0]
        leases.begin(0, 1, 10.0)
        assert not leases.renew(0, 0, 6.3) and leases.renew(0, 1, 6.3)
        assert leases.renew(1, 0, 6.3)

    def test_a_shard_without_a_lease_neither_applies_nor_acknowledges(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = SimpleNamespace(now=100.0)
        monkeypatch.setattr(shard_actor, "time", SimpleNamespace(monotonic=lambda: clock.now))
        shard = ShardActor(config(snapshot_every=0), 0, 0, "token")
        shard.begin(None, None)
        rule = {"kind": "proximal_gradient", "step_size": STEP, "lipschitz": None, "prox": None}
        definition = pack_definition(Part(0, SIZE, rule), np.zeros(SIZE, np.float32), None)
        shard.state = open_shard(shard.config, 0, definition, None, restore=False, term=0, now=clock.now)

        def handle(message: Message) -> Any:
            return asyncio.run(shard.handle(("token", *message)))

        push = Message(Kind.PUSH, 0, 1, 1, stop=SIZE, values=np.ones(SIZE, np.float32))
        assert handle(Message(Kind.JOIN, 0)) == "fenced: lease lost"
        shard.lease.renewed(clock.now)
        assert asyncio.run(shard.handle(("other", *push))) == shard_actor.WRONG_TOKEN
        assert handle(Message(Kind.JOIN, 0))[1] == Status.DONE
        assert handle(push)[1] == Status.APPLIED
        clock.now += shard.lease.length
        assert handle(push._replace(sequence=2)) == "fenced: lease lost"
        assert (shard.state.ledger.pushed, shard.state.version) == (1, 1)
        # An answer that has waited until the lease ran out is none either, though the push is applied here.
        shard.lease.renewed(clock.now)
        apply = ShardState.apply

        def slow(state: ShardState, message: Message, now: float) -> Any:
            clock.now += shard.lease.length
            return apply(state, message, now)

        monkeypatch.setattr(ShardState, "apply", slow)
        assert handle(push._replace(sequence=2)) == "fenced: lease lost"
        assert shard.state.version == 2

    def test_a_shard_begins_without_a_model_whatever_it_does_with_gradients(self) -> None:
        shard = ShardActor(config(aggregate="sum"), 0, 0, "token")
        shard.begin(None, None)  # which loads torch, whose optimisers take no sums
        assert shard.state.size == 0


@pytest.mark.study
class TestService:
    def test_push_and_pull(self, cluster: str) -> None:
        with serve(shards=2, snapshot_every=3) as server, server.client() as client:
            gradient = np.arange(SIZE, dtype=np.float32)
            result = client.exchange(gradient)
            assert result.status == Status.APPLIED and result.weights is not None
            np.testing.assert_array_equal(result.weights, -STEP * gradient)
            first, second = client.push(gradient[4:9], start=4), client.pull(start=3, stop=10)
            assert client.wait(first).version == 2
            client.wait(second)
            expected = -STEP * gradient
            expected[4:9] *= 2.0
            np.testing.assert_array_equal(client.weights(), expected)
            gradient[1] = np.nan
            refused = client.wait(client.push(gradient))
            assert (refused.status, refused.reason) == (Status.REFUSED, "nonfinite")
            client.snapshot()
            check_counts(server.statistics())
            assert [shard["snapshots"] > 0 for shard in server.statistics()["shards"]] == [True, True]
            assert {"server.0", "server.1", "keeper"} <= server.pids().keys()

    def test_a_model_brought_by_a_worker(self, cluster: str) -> None:
        with Server(None, None, config()) as server, server.client() as client:
            with pytest.raises(Rejected, match="no model yet"):
                client.push(np.ones(3, np.float32))
            assert client.define(np.ones(300_000, np.float32), ProximalGradient(step_size=0.5).describe())
            assert client.exchange(np.ones(300_000, np.float32)).version == 1
            np.testing.assert_array_equal(client.weights(), np.full(300_000, 0.5, np.float32))

    def test_bsp_is_the_same_whoever_comes_first(self, cluster: str) -> None:
        def work(client: Client, rank: int) -> list[Any]:
            client.collect("start")
            log = []
            for _ in range(20):
                result = client.exchange(np.full(SIZE, 1.0 + rank, np.float32))
                log.append(["exchange", result.status.name, result.version, result.delay])
            return log

        with serve(consistency="bsp") as server:
            outcomes = server.run(work)
            assert [outcome.error for outcome in outcomes] == [None, None]
            for outcome in outcomes:
                check_log(outcome.value)
            np.testing.assert_array_equal(server.observer().weights(), np.full(SIZE, -60.0 * STEP, np.float32))
            check_counts(server.statistics(), gap=1.0)
            assert server.statistics()["applied"] == 40

    def test_the_gate_holds_the_fast_worker(self, cluster: str) -> None:
        def work(client: Client, rank: int) -> int:
            client.collect("start")
            for _ in range(12):
                client.sleep(0.1 * rank)
                client.exchange(np.ones(SIZE, np.float32))
            return client.version

        with serve(tau=2) as server:
            assert all(outcome.error is None for outcome in server.run(work))
            statistics = server.statistics()
            check_counts(statistics, gap=3.0)
            assert statistics["gate_waits"] > 0 and statistics["applied"] == 24

    def test_an_error_of_a_worker_is_one_line(self, cluster: str) -> None:
        def work(client: Client, rank: int) -> str:
            if rank:
                raise ValueError("this\nand that")
            return "fine"

        with serve() as server:
            fine, failed = server.run(work)
            assert (fine.value, fine.error) == ("fine", None)
            assert failed.error == "ValueError: this"

    def test_what_cannot_be_run_is_refused_in_one_line(self, cluster: str) -> None:
        with serve(allow_oversubscription=False) as server:
            with pytest.raises(Rejected, match=r"^the workers' function or its arguments cannot be pickled: [^\n]*$"):
                server.run(lambda client, rank, lock: None, threading.Lock())
            with pytest.raises(Rejected, match=r"^server.workers is 50: the Ray cluster has \d+ CPUs$"):
                server.run(lambda client, rank: None, workers=50)

    def test_restart_from_the_directory(self, cluster: str, tmp_path: Path) -> None:
        with serve(tmp_path, snapshot_every=5) as server, server.client() as client:
            for _ in range(10):
                client.exchange(np.ones(SIZE, np.float32))
            client.snapshot()
            weights, term = client.weights(), server.statistics()["term"]
        log = [json.loads(line)["event"] for line in (tmp_path / "server.jsonl").read_text().splitlines()]
        assert (log[:2], log[-1]) == (["restored", "joined"], "left")
        with serve(tmp_path, restore=True) as server:
            assert server.statistics()["term"] > term and server.statistics()["version"] == 10
            with server.client() as client:
                np.testing.assert_array_equal(client.weights(), weights)
                assert client.exchange(np.ones(SIZE, np.float32)).version == 11
            check_counts(server.statistics())

    def test_nothing_stays(self, cluster: str) -> None:
        before = named_actors()
        server = serve(shards=2)
        pids = server.pids()
        assert len(named_actors() - before) == 3
        server.close()
        eventually(lambda: named_actors() == before, 60.0)
        eventually(
            lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids.values()) or sys.platform != "linux", 60.0
        )


@pytest.mark.study
class TestFaults:
    """The short form of the fault suite. Every injection says which point it has reached."""

    def test_shard_killed_while_workers_push(self, cluster: str, tmp_path: Path) -> None:
        struck = tmp_path / "struck"

        def work(client: Client, rank: int) -> list[Any]:
            client.collect("start")
            log = []
            for _ in range(60):
                result = client.exchange(np.ones(SIZE, np.float32))
                log.append(["exchange", result.status.name, result.version, result.delay])
            return log

        with serve(tau=1, snapshot_every=8) as server:
            fault = f"server.after_apply_before_reply:30:kill:{struck}"
            ray.get(actor(server).__ray_call__.remote(lambda self: points.arm(fault)))
            outcomes = server.run(work)
            assert [outcome.error for outcome in outcomes] == [None, None]
            assert struck.exists(), server.engine.events
            assert struck.read_text().split() == ["server.after_apply_before_reply"]
            for outcome in outcomes:
                check_log(outcome.value, crashes=True)
            statistics = server.statistics()
            check_counts(statistics)
            assert statistics["term"] == 2
            # What a crash undoes is at most what came after the last snapshot, and it is in the books; of either
            # worker the push that was computed on weights that are no more is refused.
            assert 0 <= statistics["lost"] <= 8 and statistics["pushed"] == 120
            assert statistics["refused"].keys() <= {"undone"} and sum(statistics["refused"].values()) <= 2
            done = np.full(SIZE, -STEP * statistics["applied"], np.float32)
            np.testing.assert_array_equal(server.observer().weights(), done)
            events = [event["event"] for event in server.engine.events]
            assert "shard lost" in events and "shard made anew" in events

    @pytest.mark.parametrize("point", ["server.before_apply", "server.before_snapshot"])
    def test_shard_killed_elsewhere(self, cluster: str, tmp_path: Path, point: str) -> None:
        struck = tmp_path / "struck"
        with serve(snapshot_every=4) as server, server.client() as client:
            ray.get(actor(server).__ray_call__.remote(lambda self: points.arm(f"{point}:3:kill:{struck}")))
            results = [client.exchange(np.ones(SIZE, np.float32)) for _ in range(20)]
            assert {result.reason for result in results} <= {None, "undone"}
            assert struck.read_text().split() == [point]
            statistics = server.statistics()
            check_counts(statistics)
            assert statistics["pushed"] == 20 and statistics["lost"] < 4

    def test_shard_that_stands_still_is_replaced(self, cluster: str) -> None:
        with serve(snapshot_every=5) as server, server.client() as client:
            for _ in range(12):
                client.exchange(np.ones(SIZE, np.float32))
            pid = server.pids()["server.0"]
            os.kill(pid, signal.SIGSTOP)
            try:
                began = time.monotonic()
                client.exchange(np.ones(SIZE, np.float32))
                assert time.monotonic() - began < 30.0
            finally:
                with suppress(ProcessLookupError):  # Ray may have ended it
                    os.kill(pid, signal.SIGCONT)
            assert client.exchange(np.ones(SIZE, np.float32)).status == Status.APPLIED
            statistics = server.statistics()
            check_counts(statistics)
            assert (statistics["pushed"], statistics["lost"], statistics["term"]) == (14, 2, 2)

    def test_an_orphan_acknowledges_nothing_that_its_successor_does_not_know_of(self, cluster: str) -> None:
        def deafen(shard: Any) -> None:
            never = SimpleNamespace(remote=lambda *_: asyncio.sleep(1e6))
            shard._keeper = SimpleNamespace(renew=never, store=never)

        def spare(keeper: Any) -> None:
            import ray

            ray.kill = lambda *_: None

        # Snapshots are far apart: all that the orphan acknowledges is undone, and must be reported.
        with serve(snapshot_every=10_000) as server, server.client() as client:
            orphan, pid = actor(server), server.pids()["server.0"]
            keeper = ray.get_actor(f"{server.address.removeprefix('ray:')}.keeper", namespace=NAMESPACE)
            client.exchange(np.ones(SIZE, np.float32))
            ray.get([keeper.__ray_call__.remote(spare), orphan.__ray_call__.remote(deafen)])
            try:
                pushes, acknowledged, term = 1, 1, 1
                while term == 1:
                    acknowledged += client.exchange(np.ones(SIZE, np.float32)).status == Status.APPLIED
                    pushes, term = pushes + 1, server.statistics()["term"]
                client.exchange(np.ones(SIZE, np.float32))  # the worker too is at the successor now
                pushes += 1
                assert (
                    ray.get(orphan.handle.remote((server.token, Kind.PULL, *[0] * 8, None, {}))) == "fenced: lease lost"
                )
                assert Path(f"/proc/{pid}").exists() or sys.platform != "linux"
                statistics = server.statistics()
                check_counts(statistics)
                assert statistics["pushed"] == pushes
                assert statistics["lost"] >= acknowledged - 1 > 1
            finally:
                os.kill(pid, signal.SIGKILL)

    def test_worker_killed_at_the_gate_does_not_hold_the_others(self, cluster: str) -> None:
        def work(client: Client, rank: int) -> float:
            client.collect("start")
            if rank == 1:
                client.exchange(np.ones(SIZE, np.float32))
                client.push(np.ones(SIZE, np.float32))
                os.kill(os.getpid(), signal.SIGKILL)
            longest = 0.0
            for _ in range(30):
                began = time.monotonic()
                client.exchange(np.ones(SIZE, np.float32))
                longest = max(longest, time.monotonic() - began)
            return longest

        with serve(tau=1, heartbeat=20.0) as server:
            alive, dead = server.run(work)
            assert alive.error is None and alive.value < 20.0  # Ray tells sooner than the heartbeat
            assert dead.error is not None and dead.error.startswith("died: ") and "\n" not in dead.error
            statistics = server.statistics()
            check_counts(statistics)
            assert (statistics["evicted"], statistics["left"]) == (1, 1)

    def test_worker_killed_before_it_joins_is_not_waited_for(self, cluster: str, tmp_path: Path) -> None:
        def die_once(path: str) -> None:
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)

        class Deadly:
            """Kills the first worker that unpickles it."""

            def __reduce__(self) -> Any:
                return die_once, (str(tmp_path / "died"),)

        def work(client: Client, rank: int, _: object) -> int:
            return rank

        with serve() as server:
            outcomes = server.run(work, Deadly())
            assert sorted(outcome.error is None for outcome in outcomes) == [False, True]
            assert server.statistics()["joined"] == 1

    def test_worker_that_stands_still_is_evicted_and_its_late_push_refused(self, cluster: str) -> None:
        with serve(tau=0) as server:
            slow = server.client(worker=0, beats=False)
            slow.exchange(np.ones(SIZE, np.float32))
            with server.client(worker=1) as quick:
                for _ in range(3):
                    quick.exchange(np.ones(SIZE, np.float32))  # waits until the other is evicted
                result = slow.exchange(np.ones(SIZE, np.float32))
                assert (result.status, result.reason) == (Status.REFUSED, "fenced")
                slow.leave()
            statistics = server.statistics()
            check_counts(statistics)
            assert statistics["evicted"] == 1 and statistics["refused"] == {"fenced": 1}

    def test_a_client_that_closes_without_leaving_is_out_at_once(self, cluster: str) -> None:
        with serve(heartbeat=60.0) as server:
            client = server.client()
            client.exchange(np.ones(SIZE, np.float32))
            client.close()
            eventually(lambda: server.statistics()["evicted"] == 1, 20.0)

    def test_without_snapshots_the_end_of_a_shard_is_said(self, cluster: str) -> None:
        with serve(snapshot_every=0) as server, server.client(worker=0) as client:
            client.exchange(np.ones(SIZE, np.float32))
            ray.kill(actor(server))
            with pytest.raises(ServerUnavailable, match="snapshot_every is 0"):
                client.exchange(np.ones(SIZE, np.float32))
            client.close()

    def test_full_disk_is_reported_and_training_goes_on(self, cluster: str, tmp_path: Path) -> None:
        with serve(tmp_path, snapshot_every=5) as server, server.client() as client:
            keeper = ray.get_actor(f"{server.address.removeprefix('ray:')}.keeper", namespace=NAMESPACE)
            nowhere = tmp_path / "file"
            nowhere.write_text("no folder")
            ray.get(keeper.__ray_call__.remote(lambda self: setattr(self, "directory", nowhere)))
            for _ in range(12):
                assert client.exchange(np.ones(SIZE, np.float32)).status == Status.APPLIED
            with pytest.raises(Rejected, match="the snapshot failed"):
                client.snapshot()
            assert "snapshot failed" in [event["event"] for event in server.engine.events]

    def test_the_shards_go_when_the_driver_dies(self, cluster: str) -> None:
        before = named_actors()
        script = """
import sys, time, numpy as np
from bitquote.server import ProximalGradient, Server, ServerConfig
config = ServerConfig(engine="ray", address=sys.argv[1], heartbeat=2.0)
server = Server(np.zeros(4, np.float32), ProximalGradient(step_size=0.5), config)
print(server.address, flush=True)
time.sleep(600)
"""
        driver = subprocess.Popen([sys.executable, "-c", script, cluster], stdout=subprocess.PIPE, text=True)
        try:
            assert driver.stdout is not None
            assert driver.stdout.readline().startswith("ray:")
            assert len(named_actors() - before) == 2
        finally:
            driver.kill()
            driver.wait()
            driver.stdout.close()
        eventually(lambda: named_actors() == before, 60.0)


@pytest.mark.study
class TestTokens:
    def test_wrong_token_of_ours(self, cluster: str) -> None:
        with serve() as server:
            with pytest.raises(Rejected, match="wrong token"):
                Client.connect(server.address, "guess")
            with Client.connect(server.address, server.token, observer=True) as client:
                assert client.size == SIZE
            with pytest.raises(Rejected, match="there is no server 'nobody'"):
                Client.connect("ray:nobody", server.token)

    def test_rays_own_token_is_on_for_a_cluster_that_we_start(self, cluster: str) -> None:
        def knock(metadata: list[tuple[str, str]]) -> Any:
            with grpc.insecure_channel(cluster) as channel, pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")(b"", timeout=10.0, metadata=metadata)
            return caught.value.code()  # pyright: ignore[reportAttributeAccessIssue]

        assert knock([]) == grpc.StatusCode.UNAUTHENTICATED
        assert knock([("authorization", "Bearer " + "0" * 64)]) == grpc.StatusCode.UNAUTHENTICATED

    @pytest.mark.parametrize(
        ("environment", "complaint"),
        [
            ({"RAY_AUTH_TOKEN": "0" * 64}, "refuses our token"),
            ({"RAY_AUTH_MODE": "disabled"}, "refuses our token"),
            ({}, "there is no token here for the Ray cluster"),
        ],
    )
    def test_wrong_token_of_rays(
        self, cluster: str, tmp_path: Path, environment: dict[str, str], complaint: str
    ) -> None:
        lines = connect_elsewhere(cluster, environment, tmp_path)
        assert len(lines) == 1 and lines[0].startswith("Rejected: ") and complaint in lines[0]

    def test_no_cluster_there(self, tmp_path: Path) -> None:
        lines = connect_elsewhere("127.0.0.1:1", {"RAY_AUTH_TOKEN": "0" * 64}, tmp_path)
        assert lines == ["Rejected: no Ray cluster answers at 127.0.0.1:1"]

    def test_without_ray(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(Rejected, match=r"^a Ray cluster needs Ray: pip install 'bitquote\[ray\]'$"):
            Cluster(config())


def connect_elsewhere(address: str, environment: dict[str, str], home: Path) -> list[str]:
    """All that a process of its own says when it makes a server on the cluster at `address`."""
    script = """
import sys, numpy as np
from bitquote.server import ProximalGradient, Rejected, Server, ServerConfig
try:
    Server(np.zeros(4, np.float32), ProximalGradient(step_size=0.5), ServerConfig(engine="ray", address=sys.argv[1]))
except Rejected as error:
    print("Rejected:", error)
"""
    return elsewhere(script, [address], environment, home)


def elsewhere(script: str, arguments: list[str], environment: dict[str, str], home: Path) -> list[str]:
    """All that a script says in a process of its own, with no settings of Ray's but those given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**inherited, "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return (done.stdout + done.stderr).splitlines()


@pytest.mark.study
def test_a_cluster_of_our_own_leaves_nothing_and_is_not_started_again(tmp_path: Path) -> None:
    script = """
import glob, os, ray, numpy as np
from bitquote.server import ProximalGradient, Server, ServerConfig, ServerUnavailable
config = ServerConfig(engine="ray", workers=1, deadline=1.0)
server = Server(np.zeros(4, np.float32), ProximalGradient(step_size=0.5), config)
client = server.client()
assert client.exchange(np.ones(4, np.float32)).version == 1
folder = ray._private.worker._global_node.get_temp_dir_path()
assert os.path.isdir(folder) and os.environ["RAY_AUTH_MODE"] == "token"
server.close()
try:
    client.exchange(np.ones(4, np.float32))
except ServerUnavailable as error:
    print("ServerUnavailable:", error)
client.close()
assert not ray.is_initialized() and not os.path.exists(folder)
"""
    lines = elsewhere(script, [], {}, tmp_path)
    assert len(lines) == 1 and lines[0].startswith("ServerUnavailable: no answer from the server for 1 s")
    assert not (tmp_path / ".ray").exists()


@pytest.mark.study
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of a node in /proc")
@pytest.mark.parametrize("what", ["node", "daemon"])
def test_two_nodes_of_which_one_dies(what: str) -> None:
    base = Path(tempfile.mkdtemp(prefix="bq-", dir="/tmp"))  # Ray's sockets need a short path
    try:
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = probe.getsockname()[1]
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | own
        common = ["--num-cpus=2", "--disable-usage-stats", "--block"]
        start = [str(Path(sys.executable).with_name("ray")), "start"]
        nodes = []
        for name, options in {
            "head": ["--head", f"--port={port}", "--include-dashboard=false"],
            "other": [f"--address=127.0.0.1:{port}"],
        }.items():
            command = [*start, *options, *common, f"--temp-dir={base / name}"]
            (base / name).mkdir()
            with (base / f"{name}.log").open("w") as log:
                nodes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            eventually(lambda log=base / f"{name}.log": "Ray runtime started" in log.read_text(), 60.0)
        script = [sys.executable, str(Path(__file__).with_name("two_nodes.py"))]
        try:
            done = subprocess.run(
                [*script, f"127.0.0.1:{port}", str(base / "other"), what],
                env=environment,
                capture_output=True,
                text=True,
                timeout=240,
            )
            assert done.returncode == 0, done.stderr[-3000:]
        finally:
            for node in reversed(nodes):
                node.terminate()
            for node in nodes:
                node.wait(60)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["nodes"] == 2  # a shard on each
    assert len([role for role in report["lost"] if role.startswith("server.")]) == 1
    (dead,) = [int(role.removeprefix("worker.")) for role in report["lost"] if role.startswith("worker.")]
    for rank, value, error in report["outcomes"]:
        assert (error is None) == (rank != dead) and (value is None) == (rank == dead)
    assert report["distance"] < 1e-3
    statistics = report["statistics"]
    check_counts(statistics)
    assert sorted(shard["term"] for shard in statistics["shards"]) == [1, 2]
    assert statistics["lost"] + sum(statistics["refused"].values()) <= 20 + 2 * 2
    assert "shard made anew" in [event["event"] for event in report["events"]]
