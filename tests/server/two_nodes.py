"""Trains on two nodes of a Ray cluster, loses one of them, and says what became of it. Run by `test_ray.py`.

    python two_nodes.py <address of the cluster> <folder of the files of the node that will die> <what dies>

What dies: `node`, the node's daemon and all its processes at once; `daemon`, the daemon alone, so that its shard and
its worker are orphans that go on for a while. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from bitquote.server import Client, ProximalGradient, Server, ServerConfig

SIZE, STEPS, STEP = 64, 400, 0.05


def descend(client: Client, rank: int, target: np.ndarray) -> list[int]:
    """Gradient steps on half the squared distance to `target`; pushes applied and refused."""
    client.collect("start")
    weights = client.weights()
    for _ in range(STEPS):
        result = client.exchange(weights - target)
        assert result.weights is not None
        weights = np.array(result.weights)
        client.sleep(0.02)
    return [client.applied, client.refused]


def processes() -> dict[int, tuple[int, str]]:
    """Parent and command line of every process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found[int(folder.name)] = (int((folder / "stat").read_text().rpartition(")")[2].split()[1]), command)
        except OSError:
            continue
    return found


def strike(server: Server, folder: str, what: str, report: dict[str, Any]) -> None:
    """Wait until training is well under way, then kill."""
    with server.client(observer=True) as observer:
        while observer.statistics()["applied"] < 100:
            time.sleep(0.1)
        report["applied"] = observer.statistics()["applied"]
    running = processes()
    (daemon,) = [pid for pid, (_, command) in running.items() if "raylet/raylet" in command and folder in command]
    children = [pid for pid, (parent, _) in running.items() if parent == daemon]
    report["lost"] = sorted(role for role, pid in server.pids().items() if pid in children)
    for pid in [daemon, *children] if what == "node" else [daemon]:
        os.kill(pid, signal.SIGKILL)


def main(address: str, folder: str, what: str) -> None:
    """Train, and print what became of it."""
    target = np.linspace(-1.0, 1.0, SIZE, dtype=np.float32)
    report: dict[str, Any] = {}
    config = ServerConfig(
        engine="ray", address=address, workers=2, shards=2, heartbeat=4.0, deadline=90.0, snapshot_every=20
    )
    with Server(np.zeros(SIZE, np.float32), ProximalGradient(step_size=STEP), config) as server:
        striker = threading.Thread(target=strike, args=(server, folder, what, report), daemon=True)
        report["nodes"] = len(set(server.engine.nodes()))  # pyright: ignore[reportAttributeAccessIssue]
        striker.start()
        outcomes = server.run(descend, target)
        striker.join()
        report |= {
            "outcomes": outcomes,
            "statistics": server.statistics(),
            "distance": float(np.abs(server.observer().weights() - target).max()),
            "events": server.engine.events,  # pyright: ignore[reportAttributeAccessIssue]
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
