"""What TensorBoard costs a training: the same run with everything that is logged, and with nothing.

    python scripts/benchmarks/logging_share.py [--markets game order_book] [--pairs 3] [--epochs ...]

Runs are the public `bitquote.learning.train` on one thread with the default budget, its dashboard included. The two of
a pair take turns at being first; the first pair compiles and is not counted. The share is (with - without) / with, its
median over the pairs and their range, of wall time and of processor time, which a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from bitquote.learning import NetworkConfig, PathwiseConfig, TrainerConfig, train
from bitquote.market import Game, build, shipped_configuration
from bitquote.report.dashboard import Dashboard

BUDGETS = Path(__file__).parents[2] / "conf" / "budget"


def seconds(market, learner: PathwiseConfig, *, logs: bool) -> tuple[float, float]:
    """Wall and processor seconds of one training."""
    with tempfile.TemporaryDirectory() as directory:
        wall, processor = time.perf_counter(), time.process_time()
        train(
            market,
            NetworkConfig(),
            learner,
            TrainerConfig(progress=False) if logs else TrainerConfig(progress=False, log_every_n_steps=0),
            seed=1,
            directory=directory,
            callbacks=[Dashboard(market)] if logs else [],
        )
        return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--markets", nargs="+", default=["game", "order_book"])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of every run; the default budget's when left out")
    options = parser.parse_args()
    table = Table("market", "with, s", "without, s", "share of wall time", "of processor time")
    for name in options.markets:
        market = build(shipped_configuration(name))
        learner = PathwiseConfig()
        if isinstance(market, Game):
            learner = PathwiseConfig(**yaml.safe_load((BUDGETS / "game_pathwise.yaml").read_text())["learner"])
        learner = replace(learner, epochs=options.epochs or learner.epochs)
        runs = []
        for pair in range(options.pairs + 1):
            order = (True, False) if pair % 2 else (False, True)
            taken = {logs: seconds(market, learner, logs=logs) for logs in order}
            runs.append([taken[True], taken[False]])
            print(f"{name}, pair {pair}: {taken[True][0]:.2f} s with, {taken[False][0]:.2f} s without", flush=True)
        logged, bare = np.moveaxis(runs[1:], 1, 0)  # each (pairs, 2): wall, processor
        shares = (1.0 - bare / logged).T
        texts = [f"{np.median(share):.1%} ({share.min():.1%} to {share.max():.1%})" for share in shares]
        table.add_row(name, f"{np.median(logged[:, 0]):.2f}", f"{np.median(bare[:, 0]):.2f}", *texts)
    Console().print(table)


if __name__ == "__main__":
    main()
