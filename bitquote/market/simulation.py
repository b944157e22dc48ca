"""What a market gives back: per-path results, a learner's rollout, a recording, and the blocks they are computed in."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bitquote.errors import require_integer


@dataclass(frozen=True)
class Simulation:
    """Results of simulated paths: every field is float64 of shape (paths,).

    Money is in price x lots (in an order book, price x order size). The last five fields add up to `profit`.

    Attributes:
        profit: Terminal wealth, marked to the mid (and liquidated where the market does so).
        terminal_inventory: Inventory at the horizon.
        fills: Number of fills.
        turnover: Volume traded, bought plus sold, in lots (in an order book, in order sizes).
        max_drawdown: Largest fall of the marked wealth from its running maximum, at decision times.
        mean_spread: Time average of the quoted bid + ask distance while both are quoted; NaN if never.
        penalty: phi times the integral of inventory squared; the objective is the mean of profit - penalty.
        spread: Sum of the edges to the mid at the fills.
        adverse_selection: Markout from the fills to the market's stated horizon (0 in the game).
        inventory: The rest of the mark-to-market: inventory times the moves of the mid.
        fees: Fees, negative when paid (0 in the game).
        liquidation: Result of liquidating at the horizon (0 in the game).
    """

    profit: np.ndarray
    terminal_inventory: np.ndarray
    fills: np.ndarray
    turnover: np.ndarray
    max_drawdown: np.ndarray
    mean_spread: np.ndarray
    penalty: np.ndarray
    spread: np.ndarray
    adverse_selection: np.ndarray
    inventory: np.ndarray
    fees: np.ndarray
    liquidation: np.ndarray


class Rollout(NamedTuple):
    """Paths for a learner, C-contiguous arrays; rows before a path's `start` are not valid (zero).

    Attributes:
        observation: float32 (paths, steps, features), what the policy saw.
        mean: float32 (paths, steps, 2), the policy's (half_spread, skew).
        action: float32 (paths, steps, 2), the mean plus exploration noise.
        reward: float32 (paths, steps), change of wealth minus phi inventory^2 dt.
        inventory: float32 (paths, steps + 1), before each decision and at the horizon.
        filled: float32 (paths, steps, 2), orders filled on the bid and on the ask after the decision.
        distance: float32 (paths, steps, 2), the bid and ask distance in force; inf is no quote.
        mid: float64 (paths, steps + 1), the mid price.
        start: int64 (paths,), the first valid step.
    """

    observation: np.ndarray
    mean: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    inventory: np.ndarray
    filled: np.ndarray
    distance: np.ndarray
    mid: np.ndarray
    start: np.ndarray


class Tape(NamedTuple):
    """One market's public history: simulated and recorded markets are read into the same arrays.

    Times are seconds, quantities base units, prices in price units.

    Attributes:
        trade_time: float64 (trades,).
        trade_price: float64 (trades,).
        trade_quantity: float64 (trades,).
        trade_aggressor: int8 (trades,), +1 when the taker bought, -1 when it sold.
        quote_time: float64 (quotes,), one row whenever the best bid or offer changes.
        bid: float64 (quotes,), best bid price.
        ask: float64 (quotes,), best ask price.
        bid_quantity: float64 (quotes,), quantity at the best bid.
        ask_quantity: float64 (quotes,), quantity at the best ask.
        snapshot_time: float64 (snapshots,).
        depth: float64 (snapshots, 2, levels, 2), [bids, asks] by level, (price, quantity).
    """

    trade_time: np.ndarray
    trade_price: np.ndarray
    trade_quantity: np.ndarray
    trade_aggressor: np.ndarray
    quote_time: np.ndarray
    bid: np.ndarray
    ask: np.ndarray
    bid_quantity: np.ndarray
    ask_quantity: np.ndarray
    snapshot_time: np.ndarray
    depth: np.ndarray


def for_each_block(
    run: Callable[[int, int], None],
    paths: int,
    threads: int | None = None,
    block: int = 1024,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Call `run(first, last)` for the blocks that cover range(paths), on a pool of threads.

    Blocks depend on `paths` and `block` alone, so that a kernel whose random numbers are keyed by the path
    gives the same results for any number of threads. `progress` is called in this thread with the number of
    paths done.
    """
    threads = require_integer("threads", os.cpu_count() or 1 if threads is None else threads, 1)
    spans = [(first, min(first + block, paths)) for first in range(0, paths, block)]
    report = progress or (lambda done: None)
    if min(threads, len(spans)) == 1:  # no pool to start, which counts in a learner's many small calls
        for first, last in spans:
            run(first, last)
            report(last)
        return
    done = 0
    with ThreadPoolExecutor(min(threads, len(spans))) as pool:
        jobs = {pool.submit(run, first, last): last - first for first, last in spans}
        try:
            for job in as_completed(jobs):
                job.result()
                done += jobs[job]
                report(done)
        except BaseException:  # an error or Ctrl-C: blocks not yet begun are dropped
            pool.shutdown(wait=False, cancel_futures=True)
            raise
