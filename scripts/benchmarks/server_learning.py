"""Training in the published game through the parameter server, against the single process.

    python scripts/benchmarks/server_learning.py [--workers 1 2] [--consistency 0 1 4 16 async] [--seeds 5] [--ternary]
                                                 [--engine shm] [--scaling none] [--learner KEY=VALUE ...]

Every run is the public `bitquote.learning.train` with the budget of conf/budget/game_pathwise.yaml, which is the same
number of updates however many workers share them, one thread a worker. The score is the normalised gap to the exact
optimum; its difference to the single process is over the same seeds, with a 95 % interval (t). `--learner` changes the
budget for all alike: `paths`, the simulated paths of an update, is the batch that a worker's gradient is over.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats

from bitquote.learning import NetworkConfig, PathwiseConfig, TrainerConfig, train
from bitquote.market.game import Game
from bitquote.quoting import GameParameters
from bitquote.server import ServerConfig

BUDGET = Path(__file__).parents[2] / "conf" / "budget" / "game_pathwise.yaml"
GAME = Game(GameParameters())


def run(learner: PathwiseConfig, seed: int, server: ServerConfig | None) -> dict[str, Any]:
    """The metrics of one training run."""
    with tempfile.TemporaryDirectory() as directory:
        trainer = TrainerConfig(threads=1, progress=False)
        return train(GAME, NetworkConfig(), learner, trainer, seed=seed, directory=directory, server=server).metrics


def settings(options: argparse.Namespace) -> dict[str, ServerConfig | None]:
    """What is compared: the single process, then every number of workers under every consistency."""
    chosen: dict[str, ServerConfig | None] = {"single process": None}
    for ternary in (False, True) if options.ternary else (False,):
        for workers in options.workers:
            for bound in options.consistency:
                timing = {"consistency": "async"} if bound == "async" else {"consistency": "bounded", "tau": int(bound)}
                name = f"{workers} worker{'s' * (workers > 1)}, {'async' if bound == 'async' else f'tau {bound}'}"
                chosen[name + ", ternary gradients" * ternary] = ServerConfig(
                    engine=options.engine,
                    workers=workers,
                    ternary_gradients=ternary,
                    scaling=options.scaling,
                    allow_oversubscription=True,
                    **timing,
                )
    return chosen


def row(runs: list[dict[str, Any]], single: list[dict[str, Any]], one: float) -> list[str]:
    """Cells of one setting; `one` is the rate of one worker."""
    scores = np.array([metrics["score"] for metrics in runs])
    difference = scores - [metrics["score"] for metrics in single]
    half = stats.t.ppf(0.975, len(runs) - 1) * stats.sem(difference) if len(runs) > 1 else np.nan
    reached = [metrics["reached"]["N99"] for metrics in runs]
    times = [found["seconds"] for found in reached if found is not None]
    missed = f" ({len(times)} of {len(runs)})" if len(times) < len(runs) else ""
    rate = np.median([metrics["steps_per_second"] for metrics in runs])
    server = runs[0]["server"]
    delays = [(m["server"]["version_delay_mean"], m["server"]["version_delay_max"]) for m in runs if m["server"]]
    return [
        f"{np.median(scores):.5f}",
        f"{max(scores):.5f}",
        "" if runs is single else f"{difference.mean():+.5f} +- {half:.5f}",
        f"{np.median(times):.1f}{missed}" if times else "-",
        f"{rate / 1e6:.2f} M",
        f"{rate / one:.2f}",
        "" if server is None else f"{np.mean([m for m, _ in delays]):.2f} / {max(m for _, m in delays)}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--consistency", nargs="+", default=["0", "1", "4", "16", "async"], help="tau, or async")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ternary", action="store_true", help="with ternary gradients too")
    parser.add_argument("--engine", choices=["shm", "ray"], default="shm")
    parser.add_argument("--scaling", choices=["none", "bound", "delay"], default="none", help="of the step")
    parser.add_argument("--learner", nargs="+", default=[], metavar="KEY=VALUE", help="changes of the budget")
    options = parser.parse_args()

    budget = yaml.safe_load(BUDGET.read_text())["learner"]
    learner = PathwiseConfig(
        **budget | yaml.safe_load("\n".join(s.replace("=", ": ", 1) for s in options.learner) or "{}")
    )
    run(PathwiseConfig(epochs=1, iterations_per_epoch=1), 0, None)  # compile before the clock starts
    console = Console(width=140)
    results: dict[str, list[dict[str, Any]]] = {}
    jobs = settings(options)
    for name in track(jobs, "training", console=console):
        results[name] = [run(learner, seed, jobs[name]) for seed in range(options.seeds)]
        console.print(name, *(f"{metrics['score']:.5f}" for metrics in results[name]))
    columns = ("gap", "worst", "difference to single", "N99, s", "steps/s", "x one worker", "delay mean / max")
    table = Table("setting", *columns, title=f"{options.seeds} seeds, {learner.paths} paths an update")
    single = results["single process"]
    alone = [runs for name, runs in results.items() if name.startswith("1 worker,")]
    slowest = [np.median([m["steps_per_second"] for m in runs]) for runs in alone]
    one = float(np.median(slowest)) if slowest else float(np.median([m["steps_per_second"] for m in single]))
    for name, runs in results.items():
        table.add_row(name, *row(runs, single, one))
    console.print(table)


if __name__ == "__main__":
    main()
