"""What workers of the tests do; importable, so that spawned processes find it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from server.history import entry

from bitquote.errors import InputError
from bitquote.server import Client, points


def ones(client: Client) -> np.ndarray:
    """A gradient that, with a step of 1, takes 1 off every weight: weights then tell how many pushes they hold."""
    return np.ones(client.size, np.float32)


def push(client: Client, rank: int, pushes: int, pause: float = 0.0) -> list[list[Any]]:
    """Push and pull so many times; the log, each entry with the seconds that it took and whether weights were whole."""
    gradient, out, log = ones(client), np.empty(client.size, np.float32), []
    for _ in range(pushes):
        began = time.monotonic()
        result = client.exchange(gradient, out)
        log.append([*entry("exchange", result), time.monotonic() - began, bool((out == out[0]).all())])
        if pause:
            client.sleep(pause)
    return log


def push_with_fault(client: Client, rank: int, pushes: int, fault: str, victim: int) -> list[list[Any]]:
    """The same, all at once from a common start; the worker `victim` is struck by a fault on its way."""
    client.collect("start")
    if rank == victim:
        points.arm(fault)
    return push(client, rank, pushes)


def push_until_parked(client: Client, rank: int, fault: str, marker: str) -> list[list[Any]]:
    """Worker 0 pushes until the gate stops it and the fault strikes it there; then the other goes on alone."""
    client.collect("start")
    if rank == 0:
        points.arm(fault)
        return push(client, rank, 1000)
    wait_for(marker)
    return push(client, rank, 30)


def push_in_turn(client: Client, rank: int, pushes: int, seed: int) -> tuple[float, bytes]:
    """Gradients from a seeded generator; the weights at the end."""
    random, out = np.random.default_rng(seed), np.empty(client.size, np.float32)
    for _ in range(pushes):
        client.exchange(random.normal(size=client.size).astype(np.float32), out)
    return float(out[0]), out.tobytes()


def wait_for(path: str, seconds: float = 30.0) -> None:
    """Until the file exists."""
    until = time.monotonic() + seconds
    while not Path(path).exists():
        if time.monotonic() > until:
            raise TimeoutError(f"{path} did not appear")
        time.sleep(0.01)


def misbehave(client: Client, rank: int) -> Any:
    """Every rank ends in another way."""
    if rank == 0:
        return {"worker": client.worker, "large": b"x" * 1_000_000}
    if rank == 1:
        raise InputError("rank is 1: must be another\nand a second line")
    if rank == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if rank == 3:
        os._exit(3)
    return client.collect("the rest")


def sleep_long(client: Client, rank: int) -> None:
    """Stay."""
    marker = Path(f"{os.environ['TASK_MARKER']}.{rank}")
    partial = Path(f"{marker}.partial")
    partial.write_text(str(os.getpid()))
    partial.rename(marker)  # whoever sees it finds the number in it
    time.sleep(600)


def loaded_modules(client: Client, rank: int) -> list[str]:
    """Which of the heavy packages a worker has imported."""
    return [name for name in ("torch", "lightning", "ray") if name in sys.modules]


def push_for_ever(address: str, token: str, log: str, fault: str | None) -> None:
    """Push until the file "stop" appears beside `log`; every entry is on disk before the next push."""
    points.arm(fault)
    with Client.connect(address, token, deadline=120.0) as client, open(log, "a", buffering=1) as file:
        stop, gradient, out = Path(log).parent / "stop", ones(client), np.empty(client.size, np.float32)
        while not stop.exists():
            began = time.monotonic()
            result = client.exchange(gradient, out)
            whole = bool((out == out[0]).all())
            file.write(json.dumps([*entry("exchange", result), time.monotonic() - began, whole]) + "\n")
            time.sleep(0.002)
