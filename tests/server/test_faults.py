"""The fault suite on the engine of processes: what is injected, and what must hold then.

An injection strikes at a named instruction point (see `bitquote.server.points`) and leaves that name in a file: a test
whose point was never reached fails. After every fault the counts must balance, weights must hold whole gradients and
as many as the server says, and nothing may be left behind.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server import tasks
from server.history import check_counts, check_log
from server.leaks import descriptors, eventually, resident
from server.proxy import Proxy

from bitquote.server import Client, ProximalGradient, Rejected, Server, ServerConfig, ServerUnavailable, points
from bitquote.server.message import Flag, Kind, Message, Status
from bitquote.server.shm import wire
from bitquote.server.shm.channel import Door
from bitquote.server.shm.memory import NO_PAIR
from bitquote.server.snapshot import latest, unpack

pytestmark = [
    pytest.mark.study,
    pytest.mark.usefixtures("private"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc"),
]
SIZE = 40
SNAPSHOT_EVERY = 20
HEARTBEAT = 2.0
SLACK = 20.0
"""Seconds that a test allows beyond what is promised: the machine may be busy with other things."""
KILLS = int(os.environ.get("BITQUOTE_KILLS", "210"))
CHURN_SECONDS = float(os.environ.get("BITQUOTE_CHURN_SECONDS", "60"))


class Injection:
    """A fault to be, and the file in which its point says that it was reached."""

    def __init__(self, folder: Path) -> None:
        self.marker = folder / "reached"

    def at(self, point: str, nth: int = 1, action: str = "kill") -> str:
        """The fault as BITQUOTE_FAULT has it."""
        return f"{point}:{nth}:{action}:{self.marker}"

    def reached(self, point: str) -> bool:
        return self.marker.exists() and self.marker.read_text().split() == [point]


@pytest.fixture
def injection(tmp_path: Path) -> Injection:
    return Injection(tmp_path)


def serve(directory: Path | None = None, **options: Any) -> Server:
    """A server of zeros whose every push of ones takes 1 off each weight."""
    defaults = {
        "allow_oversubscription": True,
        "heartbeat": HEARTBEAT,
        "deadline": 60.0,
        "snapshot_every": SNAPSHOT_EVERY,
        "tau": 1,
    }
    config = ServerConfig(**{**defaults, **options})
    return Server(np.zeros(SIZE, np.float32), ProximalGradient(step_size=1.0), config, directory=directory)


def check_weights(server: Server) -> dict[str, Any]:
    """Every weight holds as many whole gradients as the server has applied; its statistics."""
    statistics = server.statistics()
    weights = server.observer().weights()
    assert (weights == -statistics["version"]).all(), (weights, statistics["version"])
    check_counts(statistics)
    return statistics


def happened(server: Server, event: str) -> list[dict[str, Any]]:
    return [dict(one) for one in list(server.engine.events) if one["event"] == event]


def gradient() -> np.ndarray:
    return np.ones(SIZE, np.float32)


# Workers that die or stand still.


@pytest.mark.parametrize("point", ["worker.idle", "worker.mid_copy", "worker.between_copy_and_notice"])
def test_worker_killed_on_its_way_to_a_push(point: str, injection: Injection) -> None:
    with serve() as server:
        dead, alive = server.run(tasks.push_with_fault, 30, injection.at(point, 5), 0, workers=2)
        assert injection.reached(point)
        assert dead.error == "killed by signal 9" and alive.error is None
        statistics = check_weights(server)
        acknowledged = sum(entry[1] == "APPLIED" for entry in alive.value)
        assert acknowledged == 30 and statistics["applied"] == acknowledged + 4
        assert statistics["lost"] == (0 if point == "worker.idle" else 1)  # begun, and never applied
        assert max(entry[4] for entry in alive.value) < HEARTBEAT + SLACK and all(entry[5] for entry in alive.value)
        check_log([entry[:4] for entry in alive.value])
        (first,) = (one["epoch"] for one in happened(server, "joined") if one["worker"] == 0)
        with server.client(worker=0) as again:
            assert again.worker == 0 and again.epoch > first
            assert again.exchange(gradient()).status == Status.APPLIED


def test_worker_killed_while_it_waits_at_the_gate(injection: Injection) -> None:
    with serve() as server:
        fault = injection.at("worker.parked")
        dead, alive = server.run(tasks.push_until_parked, fault, str(injection.marker), workers=2)
        assert injection.reached("worker.parked")
        assert dead.error == "killed by signal 9" and alive.error is None
        statistics = check_weights(server)
        assert statistics["lost"] <= 1 and statistics["pushed"] == statistics["applied"] + statistics["lost"]
        assert max(entry[4] for entry in alive.value) < HEARTBEAT + SLACK


@pytest.mark.parametrize("point", ["worker.idle", "worker.between_copy_and_notice"])
def test_stopped_worker_is_evicted_and_its_late_push_refused(point: str, injection: Injection) -> None:
    with serve() as server, ThreadPoolExecutor(1) as threads:
        fault = injection.at(point, 3, "stop")
        began = time.monotonic()
        run = threads.submit(server.run, tasks.push_with_fault, 12, fault, 0, workers=2)
        evicted = eventually(lambda: happened(server, "evicted") or run.done())
        assert injection.reached(point) and evicted is not True
        assert [one["worker"] for one in evicted] == [0]
        waited = time.monotonic() - began
        os.kill(server.pids()["worker.0"], signal.SIGCONT)
        late, alive = run.result()
        assert waited > HEARTBEAT, "evicted before the heartbeat was over"
        assert late.error is None and alive.error is None
        statuses = [entry[1] for entry in late.value]
        assert statuses.count("REFUSED") == 1 and statuses[2] == "REFUSED", statuses
        held = max(entry[4] for entry in alive.value)
        assert HEARTBEAT / 2 < held < HEARTBEAT + SLACK, "the gate holds, and then lets go"
        statistics = check_weights(server)
        assert statistics["refused"] == {"fenced": 1} and statistics["lost"] == 0
        assert statistics["applied"] == 11 + 12 and statistics["joined"] == 3


# Servers that die or stand still.


@pytest.mark.parametrize(
    "point",
    [
        "server.received",
        "server.before_apply",
        "server.after_apply_before_reply",
        "server.before_snapshot",
        "snapshot.written",
        "snapshot.before_rename",
    ],
)
def test_killed_server_loses_at_most_an_interval(
    point: str, injection: Injection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(points.VARIABLE, injection.at(point, 3 if "snapshot" in point else 47))
    with serve() as server:
        outcomes = server.run(tasks.push, 60, workers=2)
        assert injection.reached(point)
        assert [outcome.error for outcome in outcomes] == [None, None]
        statistics = check_weights(server)
        assert statistics["term"] == 1 and len(happened(server, "server died")) == 1
        assert statistics["lost"] + sum(statistics["refused"].values()) <= SNAPSHOT_EVERY + 2 * 2  # and those in flight
        assert statistics["pushed"] == 120
        for outcome in outcomes:
            check_log([entry[:4] for entry in outcome.value], crashes=True)
            assert all(entry[5] for entry in outcome.value)
        longest = max(entry[4] for outcome in outcomes for entry in outcome.value)
        taken = eventually(lambda: happened(server, "serving")[1:])[0]["seconds"]
        print(f"{point}: served again {taken:.3f} s after the death; the longest push took {longest:.3f} s")
        assert taken < 1.0 + SLACK


def test_recovery_by_a_standby_that_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    """What a worker waits for when the server dies; at most 1 s is promised on a machine that is not busy."""
    with serve() as server, server.client() as client:
        for _ in range(30):
            client.exchange(gradient())
        eventually(lambda: "memfd:bitquote" in Path(f"/proc/{server.pids()['standby.0']}/maps").read_text())
        os.kill(server.pids()["server.0"], signal.SIGKILL)
        began = time.monotonic()
        client.exchange(gradient())
        seconds = time.monotonic() - began
        check_weights(server)
    with capsys.disabled():
        print(f"\nrecovery after the server was killed: {seconds:.3f} s")
    assert seconds < 1.0 + SLACK


def test_standby_killed_while_it_takes_over(injection: Injection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(points.VARIABLE, injection.at("standby.taking_over"))
    with serve() as server, server.client() as client:
        for _ in range(30):
            client.exchange(gradient())
        os.kill(server.pids()["server.0"], signal.SIGKILL)
        results = [client.exchange(gradient()) for _ in range(5)]
        assert injection.reached("standby.taking_over")
        assert results[-1].status == Status.APPLIED
        statistics = check_weights(server)
        assert statistics["lost"] <= SNAPSHOT_EVERY and statistics["term"] == 1
        assert len(happened(server, "server died")) + len(happened(server, "standby died")) == 2


def test_server_that_fails_unforeseen_ends_and_is_succeeded(
    injection: Injection, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An error that nobody has thought of must not leave a process that neither serves nor ends."""
    monkeypatch.setenv(points.VARIABLE, injection.at("server.before_snapshot", 1, "raise EIO"))
    with pytest.raises(Rejected, match="ended with status 1") as caught:
        serve()
    assert injection.reached("server.before_snapshot") and "\n" not in str(caught.value)
    assert "Traceback" in capfd.readouterr().err
    injection.marker.unlink()
    monkeypatch.setenv(points.VARIABLE, injection.at("standby.taking_over", 1, "raise EIO"))
    with serve() as server, server.client() as client:
        client.exchange(gradient())
        os.kill(server.pids()["server.0"], signal.SIGKILL)
        client.exchange(gradient())
        assert injection.reached("standby.taking_over")
        check_weights(server)


def test_workers_that_die_with_the_server_are_missed() -> None:
    """A worker that is gone when the standby takes over is evicted after the heartbeat, its pushes counted as lost."""
    with serve(snapshot_every=1000, consistency="async") as server, server.client() as client:
        other = server.client()
        for _ in range(10):
            client.exchange(gradient())
            other.exchange(gradient())
        pid = server.pids()["server.0"]
        os.kill(pid, signal.SIGSTOP)
        other.close()
        os.kill(pid, signal.SIGKILL)
        client.exchange(gradient())
        eventually(lambda: len(server.statistics()["members"]) == 1)
        statistics = check_weights(server)
        assert statistics["pushed"] == 21 and statistics["lost"] >= 19


@pytest.mark.parametrize("point", ["snapshot.written", "snapshot.before_rename"])
def test_server_killed_during_a_checkpoint_leaves_the_one_before(
    point: str, injection: Injection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    monkeypatch.setenv(points.VARIABLE, injection.at(point, 3))
    with serve(folder, standby=False) as server, server.client() as client:
        for _ in range(60):
            client.exchange(gradient())
            if happened(server, "server died"):
                break
        assert injection.reached(point)
        for path in folder.glob("*.snapshot"):
            unpack(path.read_bytes())
        found = latest(folder, "shard-0")
        check_weights(server)
    paths = list(folder.glob("*.snapshot"))
    assert (1 <= len(paths) <= 2 and found is None) or found.passed_over == []
    for path in paths:
        arrays, meta = unpack(path.read_bytes())
        assert (arrays["weights"] == -meta["version"]).all()


def test_stopped_server_is_a_typed_error_at_the_deadline() -> None:
    with serve(deadline=1.5) as server, server.client() as client:
        client.exchange(gradient())
        pid = server.pids()["server.0"]
        os.kill(pid, signal.SIGSTOP)
        began, used = time.monotonic(), time.process_time()
        with pytest.raises(ServerUnavailable) as caught:
            client.exchange(gradient())
        waited, used = time.monotonic() - began, time.process_time() - used
        os.kill(pid, signal.SIGCONT)
        assert 1.0 < waited < 1.5 + SLACK and "\n" not in str(caught.value)
        assert used < 0.3 * waited, "waiting must not use the processor"
        eventually(lambda: server.statistics()["term"] == 0)  # nobody took over from a server that lives
        with server.client() as other:
            assert other.exchange(gradient()).status == Status.APPLIED
        client.close()
        check_weights(server)


def test_full_disk_stops_snapshots_and_nothing_else(
    injection: Injection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    monkeypatch.setenv(points.VARIABLE, injection.at("snapshot.written", 3, "raise ENOSPC"))
    with serve(folder, snapshot_every=1000) as server, server.client() as client:
        client.exchange(gradient())
        client.snapshot()
        before = {path.name: path.read_bytes() for path in folder.glob("*.snapshot")}
        client.exchange(gradient())
        with pytest.raises(Rejected, match="No space left") as caught:
            client.snapshot()
        assert "\n" not in str(caught.value) and injection.reached("snapshot.written")
        assert {path.name: path.read_bytes() for path in folder.glob("*.snapshot")} == before
        assert [path.name for path in folder.iterdir() if path.suffix == ".tmp"] == []
        assert client.exchange(gradient()).status == Status.APPLIED
        (failed,) = eventually(lambda: happened(server, "snapshot failed"))
        assert failed["error"] == "No space left on device"
        client.snapshot()
        check_weights(server)


# Bad gradients.


@pytest.mark.parametrize(("value", "reason"), [(np.nan, "nonfinite"), (np.inf, "nonfinite"), (1e30, "too_large")])
def test_bad_gradients_are_refused_counted_and_told(value: float, reason: str) -> None:
    with serve() as server, server.client() as client:
        client.exchange(gradient())
        bad = gradient()
        bad[SIZE // 2] = value
        result = client.exchange(bad)
        assert (result.status, result.reason, result.version) == (Status.REFUSED, reason, 1)
        assert client.exchange(gradient()).version == 2
        statistics = check_weights(server)
        assert statistics["refused"] == {reason: 1}


# Bad lines.


def through(proxy: Proxy, server: Server, **options: Any) -> Client:
    """A client whose connection goes through the proxy."""
    return Client([Door(proxy.path, server.token)], deadline=60.0, **options)


def test_slow_line_is_slower_and_nothing_else(private: Path) -> None:
    with serve() as server, Proxy(str(private / "proxy"), server.address, delay=0.01) as proxy:
        with through(proxy, server) as client:
            began = time.monotonic()
            log = tasks.push(client, 0, 20)
            assert time.monotonic() - began >= 20 * 0.02
        assert [entry[1] for entry in log] == ["APPLIED"] * 20 and all(entry[5] for entry in log)
        assert check_weights(server)["applied"] == 20


@pytest.mark.parametrize("seed", range(3))
def test_every_push_counts_once_on_a_line_that_breaks(seed: int, private: Path) -> None:
    with (
        serve(consistency="async") as server,
        Proxy(str(private / "proxy"), server.address, cut=0.05, seed=seed) as proxy,
    ):
        with through(proxy, server) as one, through(proxy, server) as other, ThreadPoolExecutor(2) as threads:
            logs = list(threads.map(lambda client: tasks.push(client, 0, 60), [one, other]))
        assert proxy.cuts > 3, "nothing was injected"
        statuses = [entry[1] for log in logs for entry in log]
        assert len(statuses) == 120 and set(statuses) <= {"APPLIED", "DUPLICATE", "REFUSED"}
        statistics = check_weights(server)
        assert statistics["pushed"] == 120
        # A duplicate was accounted for before, and that answer was lost.
        assert 0 <= statistics["applied"] - statuses.count("APPLIED") <= statuses.count("DUPLICATE")
        assert statistics["lost"] == 0
        assert statistics["term"] == 0


def test_partitioned_worker_is_evicted_and_comes_back_fenced(private: Path) -> None:
    with (
        serve() as server,
        Proxy(str(private / "proxy"), server.address) as proxy,
        through(proxy, server) as far,
        server.client() as near,
        ThreadPoolExecutor(1) as threads,
    ):
        for _ in range(3):
            stamp = far.push(gradient())
            near.exchange(gradient())
            far.wait(stamp)
        epoch = far.epoch
        proxy.open.clear()
        stamp = far.push(gradient())  # on its way, and does not arrive
        log = threads.submit(tasks.push, near, 0, 6).result()
        assert HEARTBEAT / 2 < max(entry[4] for entry in log) < HEARTBEAT + SLACK
        assert [entry[1] for entry in log] == ["APPLIED"] * 6
        (evicted,) = eventually(lambda: happened(server, "evicted"))
        assert evicted["worker"] == far.worker
        proxy.open.set()
        late = far.wait(stamp)
        assert late.status == Status.REFUSED and late.reason == "fenced"
        near.leave()
        assert far.exchange(gradient()).status == Status.APPLIED and far.epoch > epoch
        statistics = check_weights(server)
        assert statistics["refused"] == {"fenced": 1}


# Whatever may come through the socket.


class Raw:
    """A connection without manners."""

    def __init__(self, server: Server, hello: bytes | None = None) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(SLACK)
        self.socket.connect(server.address)
        self.socket.sendall(wire.hello(server.token) if hello is None else hello)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def greet(self) -> Raw:
        assert wire.parse_welcome(self.socket.recv(wire.WELCOME)) == (0, 1)
        return self

    def send(self, data: bytes) -> None:
        """Also to one who has hung up already."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def ended(self) -> bool:
        """Whether the server hangs up, whatever it says before."""
        try:
            while self.socket.recv(1 << 16):
                pass
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        return True


@pytest.fixture(scope="module")
def target() -> Iterator[tuple[Server, Client]]:
    """A server for all that is thrown at it, and a worker that must not notice."""
    with serve(heartbeat=60.0) as server, server.client() as client:
        server.observer()
        yield server, client


def unharmed(target: tuple[Server, Client]) -> None:
    """The server lives, has never died, and its worker goes on."""
    server, client = target
    before = client.version
    assert client.exchange(gradient()).status == Status.APPLIED and client.version == before + 1
    assert not happened(server, "server died")


fuzz = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
frames = st.one_of(
    st.binary(min_size=1, max_size=300),
    st.builds(
        lambda message, flips: flipped(wire.pack_message(message, NO_PAIR, wire.NOWHERE), flips),
        st.tuples(st.sampled_from(Kind), st.integers(-1, 3), st.integers(0, 5)).map(lambda some: Message(*some)),
        st.lists(st.integers(0, 8 * wire.HEAD - 1), min_size=1, max_size=4, unique=True),
    ),
)


def flipped(frame: bytes, bits: list[int]) -> bytes:
    data = bytearray(frame)
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


@fuzz
@given(data=st.binary(min_size=wire.HELLO, max_size=4 * wire.HELLO))
def test_garbage_instead_of_a_hello(target: tuple[Server, Client], data: bytes) -> None:
    with Raw(target[0], data) as raw:
        assert raw.ended()
    unharmed(target)


@fuzz
@given(data=frames)
def test_garbage_and_flipped_bits_after_the_hello(target: tuple[Server, Client], data: bytes) -> None:
    with Raw(target[0]).greet() as raw:
        raw.send(data.ljust(wire.HEAD, b"?"))
        assert raw.ended()
    unharmed(target)


NAMES = """worker fingerprint observer previous sequence round met update hyper name value key total block expected
consistency tau epoch"""
bodies = st.dictionaries(
    st.sampled_from(NAMES.split()),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["epoch", "a"]), inner, max_size=2),
        max_leaves=4,
    ),
    max_size=5,
)
hostile = st.builds(
    Message,
    st.sampled_from([kind for kind in Kind if kind != Kind.CONFIGURE]),
    st.integers(-1, 3) | st.integers(-(2**31), 2**31 - 1),
    *[st.integers(0, 4) | st.integers(0, 2**64 - 1)] * 5,
    st.integers(0, 3),
    st.integers(0, 255),
    st.none(),
    bodies,
)


@fuzz
@given(messages=st.lists(hostile, min_size=1, max_size=4))
def test_wellformed_messages_of_hostile_content(target: tuple[Server, Client], messages: list[Message]) -> None:
    """The server may answer or hang up, and it must live. A hostile worker may take the place of another."""
    server, client = target
    with Raw(server).greet() as raw:
        for message in messages:
            raw.send(wire.pack_message(message, NO_PAIR, wire.NOWHERE))
        with suppress(OSError):
            raw.socket.shutdown(socket.SHUT_WR)
        assert raw.ended()  # all has been read, and acted upon
    if client.exchange(gradient()).status != Status.APPLIED:
        client.exchange(gradient())
    unharmed(target)
    check_counts(server.statistics())


@pytest.mark.parametrize("version", [0, wire.VERSION + 1, 65535])
def test_another_version_of_the_protocol_is_told_so(target: tuple[Server, Client], version: int) -> None:
    with Raw(target[0], struct.pack("<8sHxx32s", b"bitquote", version, bytes(32))) as raw:
        with pytest.raises(Rejected, match="version"):
            wire.parse_welcome(raw.socket.recv(wire.WELCOME))
        assert raw.ended()
    unharmed(target)


def test_wrong_token_gets_an_answer_and_no_further(target: tuple[Server, Client]) -> None:
    with Raw(target[0], wire.hello("a guess")) as raw:
        with pytest.raises(Rejected, match="token"):
            wire.parse_welcome(raw.socket.recv(wire.WELCOME))
        raw.send(wire.pack_message(Message(Kind.STATISTICS), NO_PAIR, wire.NOWHERE))
        assert raw.ended()
    unharmed(target)


@pytest.mark.parametrize("length", [0, 1, wire.HELLO - 1, wire.HELLO, wire.HELLO + 1, wire.HELLO + wire.HEAD - 1])
def test_frames_that_stop_halfway_hold_nobody_up(target: tuple[Server, Client], length: int) -> None:
    server, _ = target
    whole = wire.hello(server.token) + wire.pack_message(Message(Kind.JOIN, body={"x": 1}), NO_PAIR, wire.NOWHERE)
    with Raw(server, whole[:length]):
        unharmed(target)
    unharmed(target)


def test_values_that_are_not_there_are_not_looked_for(target: tuple[Server, Client]) -> None:
    """A slot before any was granted, one beyond its end, a file that does not come or is too short."""
    server, _ = target
    values = gradient()
    push = Message(Kind.PUSH, 9, 1, 1, 0, 0, SIZE, Flag.PULL, 0, values)
    for frame in (
        wire.pack_message(push, 0, wire.SLOT),
        wire.pack_message(push._replace(values=np.ones(10 * SIZE, np.float32)), 1, wire.SLOT),
        wire.pack_message(push, NO_PAIR, wire.FILE) + b"F",
    ):
        with Raw(server).greet() as raw:
            raw.send(frame)
            assert raw.ended()
        unharmed(target)
    with Raw(server).greet() as raw, tempfile.TemporaryFile() as short:
        short.write(bytes(8))
        short.flush()
        raw.send(wire.pack_message(push, NO_PAIR, wire.FILE))
        socket.send_fds(raw.socket, [b"F"], [short.fileno()])
        assert raw.ended()
    unharmed(target)


def test_descriptors_that_nobody_asked_for_are_not_kept(target: tuple[Server, Client]) -> None:
    server, _ = target
    pid = server.pids()["server.0"]
    before = descriptors(pid)
    with Raw(server).greet() as raw, tempfile.TemporaryFile() as file:
        for number in range(50):
            frame = wire.pack_message(Message(Kind.BEAT, sequence=number), NO_PAIR, wire.NOWHERE)
            socket.send_fds(raw.socket, [frame], [file.fileno()] * 10)
        unharmed(target)
        eventually(lambda: descriptors(pid) <= before + 2)  # the connection's own, and its memory
    unharmed(target)
    eventually(lambda: descriptors(pid) == before)


def test_a_worker_cannot_speak_for_another(target: tuple[Server, Client]) -> None:
    server, client = target
    with server.client() as other:
        epoch = client.epoch
        assert other.worker != client.worker
        line = other._lines[0]
        line.channel.send(Message(Kind.LEAVE, client.worker, epoch, 1))
        assert other.exchange(gradient()).status in (Status.APPLIED, Status.REFUSED)  # over a new connection
        assert client.epoch == epoch and any(one["worker"] == client.worker for one in server.statistics()["members"])
    unharmed(target)


def test_slow_consumer_costs_the_others_nothing() -> None:
    """Whoever asks and does not read is not read from either, and cut off after the heartbeat."""
    with serve(consistency="async") as server, server.client() as client:
        client.exchange(gradient())
        pid = server.pids()["server.0"]
        with Raw(server).greet() as raw:
            before = resident(pid)
            raw.socket.settimeout(0.2)
            frame = wire.pack_message(Message(Kind.STATISTICS), NO_PAIR, wire.NOWHERE)
            sent = 0
            with suppress(TimeoutError):
                while sent < 10_000_000:
                    sent += raw.socket.send(frame * 100)
            assert sent < 10_000_000, "the server goes on reading"
            assert client.exchange(gradient()).status == Status.APPLIED
            assert resident(pid) - before < 20_000_000
            (closed,) = eventually(lambda: happened(server, "connection closed"))
            assert closed["reason"] == "it does not take what is sent to it"
            raw.socket.settimeout(SLACK)
            assert raw.ended()
        check_weights(server)


# Long.


def churn(server: Server, seconds: float, stay: float) -> tuple[int, int]:
    """Workers that join, push, and leave or break off, three at a time; (pushes acknowledged as applied, stays)."""
    until = time.monotonic() + seconds

    def come_and_go(number: int) -> tuple[int, int]:
        applied = stays = 0
        while time.monotonic() < until:
            client = server.client()
            leaves = time.monotonic() + stay
            while time.monotonic() < leaves:
                applied += client.exchange(gradient()).status == Status.APPLIED
                time.sleep(0.002)
            client.leave() if (number + stays) % 3 else client.close()
            stays += 1
        return applied, stays

    with ThreadPoolExecutor(3) as threads:
        counts = list(threads.map(come_and_go, range(3)))
    return sum(applied for applied, _ in counts), sum(stays for _, stays in counts)


@pytest.mark.parametrize(("seconds", "stay"), [(2.0, 0.2), (CHURN_SECONDS, 2.0)])
@pytest.mark.timeout(600)
def test_joining_and_leaving_leaks_nothing(seconds: float, stay: float) -> None:
    with serve() as server:
        server.observer()
        pid = server.pids()["server.0"]
        files, memory = descriptors(pid), resident(pid)
        applied, stays = churn(server, seconds, stay)
        assert stays >= 6
        eventually(lambda: not server.statistics()["members"])
        eventually(lambda: descriptors(pid) <= files)
        statistics = check_weights(server)
        assert statistics["applied"] == applied and statistics["joined"] == stays
        assert statistics["lost"] == 0 and statistics["term"] == 0
        assert resident(pid) - memory < 30_000_000


class Soak:
    """Workers that push without end, while a seeded generator kills whatever there is."""

    TAU = 2
    WORKERS = 3

    def __init__(self, server: Server, folder: Path, seed: int) -> None:
        self.server = server
        self.folder = folder
        self.random = random.Random(seed)
        self.kills = 0
        self.reached: dict[str, int] = {}
        self.numbers = iter(range(10**9))
        self.context = multiprocessing.get_context("spawn")
        self.workers = [self.worker(None) for _ in range(self.WORKERS)]

    def worker(self, fault: str | None) -> Any:
        """A new worker, which will meet its `fault` if it has one."""
        log = self.folder / f"log.{next(self.numbers)}"
        process = self.context.Process(
            target=tasks.push_for_ever, args=(self.server.address, self.server.token, str(log), fault)
        )
        process.start()
        return process

    def strike(self) -> None:
        """One injection, and what it needs to be reached."""
        point = self.random.choice([None, None, *points.POINTS])
        if point is None:
            self.kill_something()
        elif point.startswith("worker."):
            self.strike_worker(point)
        else:
            self.strike_server(point)

    def kill_something(self) -> None:
        """Whoever it is, wherever it is."""
        role = self.random.choice(["server.0", "standby.0", "worker"])
        time.sleep(self.random.random() * 0.3)
        if role == "worker":
            position = self.random.randrange(self.WORKERS)
            self.workers[position].kill()
            self.replace(position, None)
        elif role in self.server.pids():
            self.kill(role)
        self.kills += 1
        self.reached["anywhere"] = self.reached.get("anywhere", 0) + 1

    def strike_worker(self, point: str) -> None:
        injection = Injection(self.folder_of_next())
        position = self.random.randrange(self.WORKERS)
        parked = point == "worker.parked"
        self.workers[position].kill()
        self.replace(position, injection.at(point, 1 if parked else self.random.randint(1, 5)))
        other = self.workers[position - 1].pid
        until = time.monotonic() + 60.0
        while parked and not injection.reached(point) and time.monotonic() < until:
            os.kill(other, signal.SIGSTOP)  # or nobody waits for long enough; again, if it was evicted too early
            self.reaches(injection, point, 2.0)
            os.kill(other, signal.SIGCONT)
            self.reaches(injection, point, 1.0)
        self.await_reached(injection, point)
        self.replace(position, None)
        self.count(point)

    def strike_server(self, point: str) -> None:
        """Whoever is started now has the fault in it: servers go until one that has is the server."""
        injection = Injection(self.folder_of_next())
        nth = 1 if point == "standby.taking_over" else self.random.randint(1, 4)
        os.environ[points.VARIABLE] = injection.at(point, nth)
        try:
            self.kill("standby.0")
            for _ in range(10):
                self.kill("server.0")
                self.kills += 1
                if self.reaches(injection, point, 6.0):
                    break
        finally:
            del os.environ[points.VARIABLE]
        self.await_reached(injection, point)
        self.count(point)

    def reaches(self, injection: Injection, point: str, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not (reached := injection.reached(point)) and time.monotonic() < until:
            time.sleep(0.01)
        return reached

    def await_reached(self, injection: Injection, point: str) -> None:
        """A point that is never reached fails, with what there is to see."""
        if not self.reaches(injection, point, 60.0):
            alive = [process.is_alive() for process in self.workers]
            events = list(self.server.engine.events)[-20:]
            pytest.fail(f"{point} not reached: {self.server.pids()} {alive} {events}")

    def kill(self, role: str) -> None:
        """Kill a server or standby, and wait until another has its place."""

        def killed() -> int | None:
            """None if there is nobody, or somebody who has just died of something else."""
            pid = self.server.pids().get(role)
            with suppress(ProcessLookupError):
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
                    return pid
            return None

        pid = eventually(killed)
        eventually(lambda: self.server.pids().get(role, pid) != pid)

    def count(self, point: str) -> None:
        self.kills += 2  # the one that made room, and the one that the point has struck
        self.reached[point] = self.reached.get(point, 0) + 1

    def folder_of_next(self) -> Path:
        folder = self.folder / f"injection.{next(self.numbers)}"
        folder.mkdir()
        return folder

    def replace(self, position: int, fault: str | None) -> None:
        process = self.workers[position]
        process.join(60.0)
        assert process.exitcode is not None and process.exitcode < 0, f"a worker ended by itself: {process.exitcode}"
        process.close()
        self.workers[position] = self.worker(fault)

    def finish(self) -> list[list[list[Any]]]:
        """End the workers in good order; the logs of all that there were."""
        (self.folder / "stop").write_text("")
        for process in self.workers:
            process.join(120.0)
            assert process.exitcode == 0, f"a worker ended with {process.exitcode}"
            process.close()
        logs = []
        for path in sorted(self.folder.glob("log.*")):
            lines = path.read_text().splitlines()
            logs.append([json.loads(line) for line in lines if line.endswith("]")])
        return logs


@pytest.mark.parametrize("kills", [8, KILLS])
@pytest.mark.timeout(3600)
def test_soak(kills: int, tmp_path: Path) -> None:
    """Kills at random points, one after the other; then every count and every worker's log must be in order."""
    with serve(tau=Soak.TAU, deadline=120.0) as server:
        soak = Soak(server, tmp_path, seed=kills)
        try:
            while soak.kills < kills:
                soak.strike()
            logs = soak.finish()
        finally:
            for process in soak.workers:
                try:
                    process.kill()
                except ValueError:
                    continue  # closed already
        eventually(lambda: not server.statistics()["members"], 60.0)
        statistics = check_weights(server)
        check_counts(statistics, gap=Soak.TAU)
        assert statistics["applied"] > 0
        for log in logs:
            check_log([entry[:4] for entry in log], crashes=True)
            assert all(entry[5] for entry in log), "a pull of half a gradient"
        longest = max(entry[4] for log in logs for entry in log)
        applied = sum(entry[1] == "APPLIED" for log in logs for entry in log)
        names = ("pushed", "applied", "refused", "lost", "term", "joined", "evicted")
        counts = {name: statistics[name] for name in names}
        print(f"{soak.kills} kills at {soak.reached}: {counts}")
        print(f"{applied} pushes acknowledged, the longest of them {longest:.2f} s")
        assert longest < HEARTBEAT + SLACK
