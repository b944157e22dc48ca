"""What TensorBoard costs a training: the same run with everything that is logged, and with nothing.

    python scripts/benchmarks/logging_share.py [--markets game order_book] [--pairs 3] [--epochs ...]

Runs are the public `bitquote.learning.train` on one thread with the default budget, its dashboard included, and take
turns; the first pair compiles and is not counted. The share is (with - without) / with of the medians, of wall time and
of this process's processor time, which a busy machine disturbs less.
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
        pairs = [[seconds(market, learner, logs=logs) for logs in (True, False)] for _ in range(options.pairs + 1)]
        logged, bare = np.median(pairs[1:], axis=0)  # each (wall, processor)
        shares = [f"{share:.1%}" for share in 1.0 - bare / logged]
        table.add_row(name, f"{logged[0]:.2f}", f"{bare[0]:.2f}", *shares)
    Console().print(table)


if __name__ == "__main__":
    main()
