"""The engine of processes and shared memory on one machine. What all engines have in common is tested elsewhere."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server import tasks
from server.history import check_counts, check_log
from server.leaks import children, descriptors, eventually

from bitquote.server import Client, ProximalGradient, Rejected, Server, ServerConfig, ServerUnavailable
from bitquote.server.message import Status

pytestmark = [
    pytest.mark.usefixtures("private"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc"),
]
SIZE = 60


def serve(size: int = SIZE, directory: Path | None = None, restore: bool = False, **options: Any) -> Server:
    """A server of zeros whose every push of ones takes 1 off each weight."""
    config = ServerConfig(**{"allow_oversubscription": True, "heartbeat": 5.0, "deadline": 20.0, **options})
    weights = np.zeros(size, np.float32)
    return Server(weights, ProximalGradient(step_size=1.0), config, directory=directory, restore=restore)


def test_pushes_and_pulls_travel_through_shared_memory() -> None:
    with serve() as server, server.client() as client:
        assert client.size == SIZE
        gradient, out = np.ones(SIZE, np.float32), np.empty(SIZE, np.float32)
        for number in range(1, 20):
            result = client.exchange(gradient, out)
            assert result.status == Status.APPLIED and result.version == number and (out == -number).all()
        part = client.push(gradient[:7], start=3)
        assert client.wait(part).status == Status.APPLIED
        expected = np.full(SIZE, -19.0)
        expected[3:10] -= 1.0
        assert (client.weights() == expected).all()
        assert (client.wait(client.pull(start=5, stop=15)).weights == expected[5:15]).all()
        check_counts(server.statistics(), gap=0, delay=0)


def test_gradient_made_in_shared_memory_is_pushed_from_there() -> None:
    with serve() as server, server.client() as client:
        for number in range(1, 10):
            gradient = client.gradient
            gradient[:] = number
            before = client.weights()
            assert client.wait(client.push(gradient)).status == Status.APPLIED
            assert (client.weights() == before - number).all()


def test_many_pulls_may_be_open_at_once() -> None:
    """More than there are slots for."""
    with serve() as server, server.client() as client:
        outs = np.full((21, SIZE), np.nan, np.float32)
        before = [client.pull(out) for out in outs[:10]]
        push = client.push(np.ones(SIZE, np.float32))
        after = [client.pull(out) for out in outs[10:]]
        results = [client.wait(stamp) for stamp in [*before, push, *after]]
        assert [result.status for result in results] == [Status.DONE] * 10 + [Status.APPLIED] + [Status.DONE] * 11
        assert (outs[:10] == 0.0).all() and (outs[10:] == -1.0).all()
        # Nothing of all that has used up the shared memory.
        assert (client.exchange(client.gradient * 0.0 + 1.0).weights == -2.0).all()
        channel = client._lines[0].channel
        assert all(np.shares_memory(client.wait(client.pull()).weights, slot) for slot in channel._slots.pulls[:1])


def test_pull_is_answered_while_a_push_waits_at_the_gate() -> None:
    with serve(consistency="bsp") as server, server.client() as one, server.client() as other:
        parked = one.push(np.ones(SIZE, np.float32), pull=True, out=(late := np.empty(SIZE, np.float32)))
        assert (one.weights() == 0.0).all()
        result = other.exchange(np.ones(SIZE, np.float32))
        assert one.wait(parked).version == result.version == 2
        assert (late == -2.0).all()


@pytest.mark.parametrize("shards", [2, 3])
def test_shards_each_have_their_processes(shards: int) -> None:
    with serve(shards=shards) as server, server.client() as client:
        assert {f"{role}.{shard}" for role in ("server", "standby") for shard in range(shards)} == set(server.pids())
        assert len(set(server.pids().values())) == 2 * shards
        gradient = np.arange(SIZE, dtype=np.float32)
        assert (client.exchange(gradient).weights == -gradient).all()
        with Client.connect(server.address, server.token) as other:
            assert (other.weights() == -gradient).all()
        check_counts(server.statistics())


def test_first_worker_brings_the_model() -> None:
    weights = np.linspace(0.0, 1.0, SIZE).astype(np.float32)
    description = ProximalGradient(step_size=0.5).describe()
    config = ServerConfig(workers=1, heartbeat=5.0)
    with Server(None, None, config) as server, server.client() as one, server.client() as other:
        with pytest.raises(Rejected, match="define"):
            one.push(np.ones(SIZE, np.float32))
        assert one.define(weights, description, "model a")
        assert not other.define(weights + 1.0, description, "model a")
        with pytest.raises(Rejected, match="another model"):
            other.define(weights, description, "model b")
        assert (other.weights() == weights).all()
        assert (other.exchange(np.ones(SIZE, np.float32)).weights == weights - 0.5).all()
        observer = server.observer()
        assert observer.statistics()["size"] == SIZE


def test_workers_end_in_their_own_ways() -> None:
    with serve(workers=6) as server:
        done, wrong, killed, left, four, five = server.run(tasks.misbehave)
        assert done.value["worker"] == 0 and len(done.value["large"]) == 1_000_000 and done.error is None
        assert wrong.error == "InputError: rank is 1: must be another" and wrong.value is None
        assert killed.error == "killed by signal 9" and left.error == "ended with status 3"
        assert four.value == five.value == {4: None, 5: None}
        statistics = server.statistics()
        assert statistics["joined"] == 6 and statistics["evicted"] == 3 and statistics["left"] == 3
        assert server.run(tasks.loaded_modules, workers=1)[0].value == []


def test_workers_push_at_once_and_nothing_is_lost() -> None:
    with serve(workers=3, tau=2) as server:
        outcomes = server.run(tasks.push, 100)
        statistics = server.statistics()
        assert (server.observer().weights() == -300.0).all()
    check_counts(statistics, gap=3, delay=3 * 8)
    assert statistics["applied"] == 300 and statistics["lost"] == 0
    for outcome in outcomes:
        assert outcome.error is None and all(entry[5] for entry in outcome.value)
        check_log([entry[:4] for entry in outcome.value])


# Who may come in.


def test_wrong_token_is_one_line() -> None:
    with serve() as server:
        with pytest.raises(Rejected, match="wrong token") as caught:
            Client.connect(server.address, "guess")
        assert "\n" not in str(caught.value)
        with Client.connect(server.address, server.token) as client:
            assert client.exchange(np.ones(SIZE, np.float32)).status == Status.APPLIED


def test_nobody_at_the_address_is_unavailable(private: Path) -> None:
    with pytest.raises(ServerUnavailable, match="nobody answers"):
        Client.connect(str(private / "nobody"), "token")


def test_only_the_owner_may_reach_the_socket() -> None:
    with serve() as server:
        path = Path(server.address)
        assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700


def test_address_taken_is_one_line_and_a_dead_server_s_is_not_taken(private: Path) -> None:
    address = private / "socket"
    with serve(address=str(address)), pytest.raises(ValueError, match="taken") as caught:
        serve(address=str(address))
    assert "\n" not in str(caught.value) and not address.exists()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(address))
    with serve(address=str(address)) as server:
        assert server.address == str(address) and server.observer().size == SIZE
    address.write_text("not a socket")
    with pytest.raises(ValueError, match="file"):
        serve(address=str(address))
    assert address.read_text() == "not a socket"
    address.unlink()
    with pytest.raises(ValueError, match="address"):
        serve(address=str(private / "folder" / "socket"))
    with pytest.raises(ValueError, match="address"):
        serve(address=str(private / ("x" * 120)))


@pytest.mark.parametrize("update", [{"kind": "nonsense"}, {"kind": "proximal_gradient", "step_size": "large"}])
def test_server_that_cannot_begin_says_why_in_one_line(update: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"kind|step_size") as caught:
        Server(np.zeros(3, np.float32), update, ServerConfig(workers=1))
    assert "\n" not in str(caught.value)


# Snapshots, standbys and the log.


def test_snapshot_is_on_disk_when_its_answer_comes(tmp_path: Path) -> None:
    with serve(directory=tmp_path) as server, server.client() as client:
        before = set(tmp_path.glob("*.snapshot"))
        client.exchange(np.ones(SIZE, np.float32))
        client.snapshot()
        assert set(tmp_path.glob("*.snapshot")) - before
    events = [json.loads(line) for line in (tmp_path / "server.jsonl").read_text().splitlines()]
    assert {"serving", "joined", "left"} <= {event["event"] for event in events}
    assert all(isinstance(event["time"], float) for event in events)


def test_restored_server_goes_on_bit_for_bit(tmp_path: Path) -> None:
    options: dict[str, Any] = {"size": 1000, "workers": 1, "snapshot_every": 7}
    with serve(**options) as server:
        server.run(tasks.push_in_turn, 40, 1)
        (whole,) = server.run(tasks.push_in_turn, 30, 2)
    with serve(directory=tmp_path, **options) as server:
        server.run(tasks.push_in_turn, 40, 1)
    with serve(directory=tmp_path, restore=True, **options) as server:
        assert server.statistics()["version"] == 40 and server.statistics()["members"] == []
        (resumed,) = server.run(tasks.push_in_turn, 30, 2)
        statistics = server.statistics()
    assert resumed.value == whole.value
    check_counts(statistics)
    assert statistics["applied"] == 70 and statistics["term"] == 1


def test_snapshot_of_another_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with serve(directory=tmp_path, workers=1) as server, server.client() as client:
        client.exchange(np.ones(SIZE, np.float32))
    with pytest.raises(ValueError, match="another run") as caught:
        serve(size=SIZE + 1, directory=tmp_path, restore=True)
    assert "\n" not in str(caught.value)
    for path in tmp_path.glob("*.snapshot"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match="damaged") as caught:
        serve(directory=tmp_path, restore=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("standby", [True, False])
def test_killed_server_is_succeeded(standby: bool) -> None:
    with serve(standby=standby, snapshot_every=10) as server, server.client() as client:
        for _ in range(25):
            client.exchange(np.ones(SIZE, np.float32))
        pid = server.pids()["server.0"]
        assert ("standby.0" in server.pids()) == standby
        os.kill(pid, signal.SIGKILL)
        results = [client.exchange(np.ones(SIZE, np.float32)) for _ in range(5)]
        assert results[-1].status == Status.APPLIED
        statistics = server.statistics()
        assert statistics["term"] == 1 and statistics["lost"] <= 10
        assert server.pids()["server.0"] != pid
        check_counts(statistics)


@pytest.mark.slow
def test_optimiser_of_torch_survives_its_server() -> None:
    """The standby has torch loaded by then, and goes on with the moments of the last snapshot: Adam's, bit for bit."""
    update = {
        "kind": "torch",
        "optimizers": [{"class": "torch.optim.Adam", "groups": [{"lr": 0.1, "tensors": [[0, [2, 3]], [6, [4]]]}]}],
    }

    def train(server: Server, kill: bool) -> np.ndarray:
        random = np.random.default_rng(7)
        with server.client() as client:
            for number in range(20):
                gradient = random.normal(size=10).astype(np.float32)
                assert client.exchange(gradient).status == Status.APPLIED
                if kill and number == 9:
                    client.snapshot()
                    eventually(partial(has_loaded, server.pids()["standby.0"], "libtorch"), 60.0)
                    os.kill(server.pids()["server.0"], signal.SIGKILL)
            return client.weights()

    config = ServerConfig(workers=1, heartbeat=10.0)
    weights = np.linspace(-1.0, 1.0, 10).astype(np.float32)
    with Server(weights, update, config) as server:
        whole = train(server, kill=False)
    with Server(weights, update, config) as server:
        resumed = train(server, kill=True)
        statistics = server.statistics()
    assert statistics["term"] == 1 and statistics["lost"] == 0
    assert (resumed == whole).all()


def test_killed_standby_is_replaced() -> None:
    with serve() as server, server.client() as client:
        pid = server.pids()["standby.0"]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: server.pids().get("standby.0", pid) != pid)
        os.kill(server.pids()["server.0"], signal.SIGKILL)
        client.exchange(np.ones(SIZE, np.float32))
        assert server.statistics()["term"] == 1


def test_without_snapshots_a_killed_server_is_gone() -> None:
    with serve(snapshot_every=0, deadline=1.0) as server, server.client() as client:
        assert set(server.pids()) == {"server.0"}
        os.kill(server.pids()["server.0"], signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(ServerUnavailable) as caught:
            client.exchange(np.ones(SIZE, np.float32))
        assert time.monotonic() - began < 10.0 and "\n" not in str(caught.value)
        client.close()


# What is left behind.


def test_shared_memory_has_no_name() -> None:
    with serve() as server, server.client() as client:
        client.exchange(np.ones(SIZE, np.float32))
        maps = Path(f"/proc/{server.pids()['server.0']}/maps").read_text()
        assert "memfd:bitquote" in maps and "/dev/shm" not in maps


def test_connections_that_come_and_go_leave_no_descriptor_at_the_server() -> None:
    with serve() as server:
        pid = server.pids()["server.0"]
        server.observer()
        before = descriptors(pid)
        for number in range(20):
            client = server.client()
            client.exchange(np.ones(SIZE, np.float32))
            client.leave() if number % 2 else client.close()
        eventually(lambda: descriptors(pid) <= before)
        eventually(lambda: not server.statistics()["members"])
        statistics = server.statistics()
        assert statistics["joined"] == 20 and statistics["left"] == statistics["evicted"] == 10
        check_counts(statistics)


def has_loaded(pid: int, library: str) -> bool:
    """Whether a process has it in its memory."""
    return library in Path(f"/proc/{pid}/maps").read_text()


SCRIPT = """
import os, sys, time
import numpy as np
from bitquote.server import ProximalGradient, Server, ServerConfig
from server import tasks

if __name__ == "__main__":
    config = ServerConfig(workers=2, allow_oversubscription=True)
    with Server(np.zeros(10, np.float32), ProximalGradient(step_size=1.0), config) as server:
        print(*server.pids().values(), flush=True)
        server.run(tasks.sleep_long)
"""


@pytest.mark.parametrize(("sign", "group"), [("SIGKILL", False), ("SIGINT", False), ("SIGINT", True)])
def test_end_of_the_parent_is_the_end_of_all(private: Path, sign: str, group: bool) -> None:
    script, marker = private / "script.py", private / "marker"
    script.write_text(textwrap.dedent(SCRIPT))
    paths = os.pathsep.join(str(path) for path in (Path(tasks.__file__).parents[2], Path(tasks.__file__).parents[1]))
    environment = {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(private), "TASK_MARKER": str(marker)}
    errors = private / "errors"
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # which background jobs ignore
    with errors.open("wb") as file:
        parent = subprocess.Popen(
            [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=file, env=environment, process_group=0,
            preexec_fn=heard,
        )  # fmt: skip
        assert parent.stdout is not None
        processes = [int(pid) for pid in parent.stdout.readline().split()]
        for rank in range(2):
            tasks.wait_for(f"{marker}.{rank}")
            processes.append(int(Path(f"{marker}.{rank}").read_text()))
        assert len(processes) == 4 and children(parent.pid) >= set(processes)
        (os.killpg if group else os.kill)(parent.pid, getattr(signal, sign))
        parent.wait(60)
        parent.stdout.close()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))
    if sign == "SIGINT":
        assert errors.read_text().count("Traceback") == 1  # the parent's own KeyboardInterrupt
    for path in [script, errors, *private.glob("marker.*")]:
        path.unlink()
    eventually(lambda: not list(private.iterdir()))


def test_close_may_come_twice_and_from_a_worker_s_side_too() -> None:
    server = serve()
    pids = server.pids().values()
    client = server.client()
    server.close()
    server.close()
    client.close()
    client.close()
    assert pids and not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_client_of_a_closed_server_is_told_at_the_deadline() -> None:
    with serve(deadline=0.5) as server:
        client = server.client()
    began = time.monotonic()
    with pytest.raises(ServerUnavailable):
        client.exchange(np.ones(SIZE, np.float32))
    assert time.monotonic() - began < 10.0
    client.close()


def test_threads_of_clients_end_with_them() -> None:
    with serve(heartbeat=1.5) as server:
        before = threading.active_count()
        clients = [server.client() for _ in range(3)]
        time.sleep(2.5)  # silent for longer than the heartbeat, but alive
        assert server.statistics()["evicted"] == 0
        for client in clients:
            client.leave()
        eventually(lambda: threading.active_count() <= before)
