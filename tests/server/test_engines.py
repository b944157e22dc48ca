"""The same work on every engine: what a worker sees, what is counted, and bits that do not depend on the engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pytest
from server import workloads
from server.history import check_counts, check_log

from bitquote.server import ProximalGradient, Rejected, Server, ServerConfig

Serve = Callable[..., Server]


@pytest.fixture(scope="module", params=["inproc", "shm", pytest.param("ray", marks=pytest.mark.study)])
def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Makes servers of one engine; they end with the module. Ray's share one local cluster."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        own = {"engine": request.param, "heartbeat": 20.0, "deadline": 60.0, "allow_oversubscription": True}
        if request.param == "ray":
            ray = pytest.importorskip("ray")
            from bitquote.server.ray.cluster import Cluster

            # Its processes must find `server.workloads`, as every node of a cluster must have the code that it runs.
            paths = [str(request.config.rootpath / "tests"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
            patch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
            stack.callback(Cluster(ServerConfig(workers=3, **own)).close)
            own["address"] = ray.get_runtime_context().gcs_address

        def make(weights: np.ndarray | None, update: ProximalGradient | None, **settings) -> Server:
            return stack.enter_context(Server(weights, update, ServerConfig(**{**own, **settings})))

        yield make


def test_what_a_worker_pulls_holds_what_it_pushed(serve: Serve):
    pushes, size = 9, 8
    server = serve(np.zeros(size, np.float32), ProximalGradient(step_size=1.0), workers=2, shards=2, tau=1)
    outcomes = server.run(workloads.count, pushes)
    assert [outcome.error for outcome in outcomes] == [None, None]
    for outcome in outcomes:
        log, own = outcome.value
        check_log(log)
        assert own == [-1.0 - n for n in range(pushes)]  # each push once, and in order
        assert {status for _, status, _, _ in log} == {"APPLIED", "DONE"}
    counts = server.statistics()
    check_counts(counts, gap=1)
    assert counts["pushed"] == counts["applied"] == 2 * 2 * pushes
    assert counts["joined"] == counts["left"] == 4 and counts["evicted"] == 0 and not counts["members"]
    with server.client() as client:
        np.testing.assert_array_equal(client.weights(), [-pushes, -pushes, 0, 0, 0, 0, -pushes, -pushes])
        with pytest.raises(Rejected, match="length 3"):
            client.pull(np.empty(3, np.float32))
        with pytest.raises(Rejected, match="float64"):
            client.push(np.zeros(size))
        with pytest.raises(Rejected, match="unknown"):
            client.pull(start=4, stop=9)


def test_bsp_gives_the_same_bits_on_every_engine(serve: Serve):
    weights, rule = np.linspace(-1.0, 1.0, 11, dtype=np.float32), ProximalGradient(step_size=0.05)

    def descended(server: Server) -> list:
        return server.run(workloads.descend, 12)

    with Server(weights, rule, ServerConfig(engine="inproc", workers=2, consistency="bsp")) as reference:
        expected = descended(reference)
    server = serve(weights, rule, workers=2, consistency="bsp")
    outcomes = descended(server)
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert len({outcome.value for outcome in outcomes + expected}) == 1
    counts = server.statistics()
    check_counts(counts, gap=0, delay=1)
    assert counts["version_delay"] == [12, 12]


def test_workers_bring_the_model_share_work_and_survive_one_another(serve: Serve):
    server = serve(None, None, workers=3, consistency="bsp")
    *outcomes, failed = server.run(workloads.cooperate)
    assert failed.value is None and "one line" in failed.error and "\n" not in failed.error
    assert [outcome.error for outcome in outcomes] == [None, None]
    first, second = (outcome.value for outcome in outcomes)
    assert first["met"] == second["met"] == {r: {"rank": r, "list": [1.5, None, "ä"]} for r in range(3)}
    assert first["first"] + second["first"] <= 1
    assert "another model" in first["rejected"]
    pieces = {tuple(outcome.value["pieces"]) for outcome in outcomes}
    assert pieces == {(0, 6, 12), (2, 8, 14)}  # under bsp each has its own; (4, 10, 16) are the third's
    for seen in (first, second):
        assert seen["bad"] == ("REFUSED", "nonfinite", True)
        assert seen["hyper"] == "APPLIED" and seen["counts"] == (2, 1, 1)
        assert seen["last"] == {0: 0, 1: 1}
    counts = server.statistics()
    check_counts(counts)
    assert counts["refused"] == {"nonfinite": 2} and counts["consistency"] == "async" and counts["size"] == 6
