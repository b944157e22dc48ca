"""Tapes with known A, k and sigma, and recordings made of simulated markets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bitquote.market import build
from bitquote.market.simulation import Tape
from bitquote.recorded import Recording
from bitquote.recorded.clock import Clock
from bitquote.recorded.depth import DepthChanges
from bitquote.recorded.tick import Tick


def planted_tape(
    seed: int, *, A: float = 2.0, k: float = 0.5, sigma: float = 3.0, step: float = 1.0, seconds: float = 300.0,
    bounce: float = 0.0, clustered: bool = False,
) -> Tape:  # fmt: skip
    """A diffusing mid quoted every 5 ms with a spread of one step, and taker orders of exponential reach on both sides.

    `bounce` is the standard deviation of an independent error of each quoted mid. Clustered orders have the same mean
    rate but come in alternating seconds of silence and of twice the rate.
    """
    random = np.random.default_rng(seed)
    time = np.arange(0.0, seconds, 0.005)
    path = np.cumsum(random.normal(0.0, sigma * np.sqrt(0.005), len(time)))
    mid = 1000.0 + path + random.normal(0.0, bounce, len(time))
    orders = []
    for side in (-1, 1):
        count = random.poisson(2 * A * seconds if clustered else A * seconds)
        when = random.uniform(0.0, seconds, count)
        when = when[(when // 5) % 2 == side % 2] if clustered else when
        reach = random.exponential(1.0 / k, len(when))  # P(reach >= delta) = exp(-k delta)
        orders.append(np.stack((when, np.full(len(when), side), reach), axis=1))
    trades = np.concatenate(orders)
    trades = trades[np.argsort(trades[:, 0])]
    quote = np.maximum(np.searchsorted(time, trades[:, 0], side="left") - 1, 0)
    return Tape(
        trade_time=trades[:, 0],
        trade_price=mid[quote] + trades[:, 1] * trades[:, 2],
        trade_quantity=np.full(len(trades), 0.1),
        trade_aggressor=trades[:, 1].astype(np.int8),
        quote_time=time,
        bid=mid - step / 2,
        ask=mid + step / 2,
        bid_quantity=np.ones(len(time)),
        ask_quantity=np.ones(len(time)),
        snapshot_time=np.zeros(0),
        depth=np.zeros((0, 2, 1, 2)),
    )


def simulated_recording(config: dict[str, Any], seconds: float, seed: int, interval: float = 0.1) -> Recording:
    """A simulated market as if it had been recorded, with a depth diff every `interval` seconds."""
    market = build(config)
    tape = market.tape(seconds, seed, levels=60, snapshot_interval=interval)
    return Recording(
        path=Path("simulated"),
        exchange="simulated",
        kind="spot",
        symbol="ABCUSDT",
        start=1_700_000_000 * 10**9,
        tape=tape,
        changes=_changes(tape),
        tick=Tick(market.tick, 100, 99),
        clock=Clock(0, 0.0, 0.0, (0.0, 0.0, 0.0)),
        messages={},
        skipped={},
    )


def _changes(tape: Tape) -> DepthChanges:
    """Differences between consecutive pictures of the depth."""
    rows = []
    for time, before, after in zip(tape.snapshot_time[1:], tape.depth, tape.depth[1:], strict=False):
        for side, old_levels, new_levels in zip((1, -1), before, after, strict=True):
            old, new = ({p: q for p, q in levels if np.isfinite(p)} for levels in (old_levels, new_levels))
            for price in old.keys() | new.keys():
                if old.get(price, 0.0) != new.get(price, 0.0):
                    rows.append((time, side, price, old.get(price, 0.0), new.get(price, 0.0)))
    return DepthChanges(*np.array(rows).T)
