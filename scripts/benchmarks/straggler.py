"""What one slow worker costs the others: rates with and without it, under every consistency.

    python scripts/benchmarks/straggler.py [--engine shm] [--slowdown 10] [--seconds 5] [--milliseconds 5]
                                           [--size 10000]

Two workers compute gradients that take `--milliseconds` of real work each and exchange them for the weights. Then
worker 1 is slowed down, by sleeping `--slowdown` - 1 times as long after each. A healthy rate is that of worker 0 next
to a healthy worker 1.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bitquote.server import Client, ProximalGradient, Server, ServerConfig
from bitquote.server.consistency import delay_bound
from bitquote.server.monitor import mean_and_max

CONSISTENCIES: tuple[dict[str, Any], ...] = (
    {"consistency": "bsp"},
    *({"consistency": "bounded", "tau": tau} for tau in (1, 4, 16)),
    {"consistency": "async"},
)


def work(client: Client, rank: int, slowdowns: tuple[float, float], seconds: float, cost: float) -> tuple[float, float]:
    """(pushes a second, largest delay of a push) of one worker."""
    weights, block = client.weights(), np.random.default_rng(rank).standard_normal((64, client.size), np.float32)
    began = time.perf_counter()
    pushes, largest = 0, 0
    gradient = block.T @ (block @ weights) / np.float32(block.size)  # the only one with --milliseconds 0
    while time.perf_counter() - began < seconds:
        step_began = time.perf_counter()
        while time.perf_counter() - step_began < cost:
            gradient = block.T @ (block @ weights) / np.float32(block.size)
        time.sleep((slowdowns[rank] - 1.0) * cost)
        result = client.exchange(gradient, weights)
        pushes, largest = pushes + 1, max(largest, result.delay)
    return pushes / (time.perf_counter() - began), largest


def run(config: ServerConfig, slowdowns: tuple[float, float], options: argparse.Namespace) -> tuple[list[float], dict]:
    """Both workers' rates, and the server's statistics."""
    weights = np.ones(options.size, np.float32)
    with Server(weights, ProximalGradient(step_size=1e-3), config) as server:
        outcomes = server.run(work, slowdowns, options.seconds, options.milliseconds / 1e3)
        failed = next((outcome.error for outcome in outcomes if outcome.error), None)
        if failed:
            raise SystemExit(f"a worker failed: {failed}")
        return [outcome.value[0] for outcome in outcomes], server.statistics()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["shm", "ray"], default="shm")
    parser.add_argument("--slowdown", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--milliseconds", type=float, default=5.0)
    parser.add_argument("--size", type=int, default=10_000)
    options = parser.parse_args()
    columns = ("healthy, pushes/s", "beside a slow one", "kept", "slow one", "gate waits", "waited, s", "delay (bound)")
    table = Table("consistency", *columns, title=f"worker 1 slowed {options.slowdown:g} times, {options.engine}")
    for consistency in CONSISTENCIES:
        config = ServerConfig(engine=options.engine, workers=2, **consistency)
        (healthy, _), _ = run(config, (1.0, 1.0), options)
        (beside, slow), statistics = run(config, (1.0, options.slowdown), options)
        mean, largest = mean_and_max(statistics["version_delay"])
        table.add_row(
            consistency["consistency"] + (f", tau {consistency['tau']}" if "tau" in consistency else ""),
            f"{healthy:.0f}",
            f"{beside:.0f}",
            f"{beside / healthy:.0%}",
            f"{slow:.0f}",
            f"{statistics['gate_waits']}",
            f"{statistics['gate_wait_seconds']:.1f}",
            f"{mean:.1f} / {largest} ({delay_bound(2, config.bound):g})",
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
