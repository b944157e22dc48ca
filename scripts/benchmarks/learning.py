"""Seconds to beat Avellaneda-Stoikov, N95 and N99 in the published game, from scratch, on one thread.

    python scripts/benchmarks/learning.py [--learners pathwise distill ppo] [--architectures ternary fp32] [--seeds 5]
                                          [--objective penalty|cara] [--gamma 0.1]

Every run is the public `bitquote.learning.train` with the budget of conf/budget/game_<learner>.yaml; seconds are wall
time of the fit, validations and checkpoints included. N95 and N99 are normalised gaps of 5 % and 1 %. `pathwise` knows
how fills fade with distance, `distill` knows the optimum, and `ppo` knows neither: their speeds are not comparable.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from bitquote.learning import LEARNERS, NetworkConfig, TrainerConfig, train
from bitquote.market.game import Game
from bitquote.quoting import GameParameters

BUDGETS = Path(__file__).parents[2] / "conf" / "budget"
MILESTONES = ("avellaneda_stoikov", "N95", "N99")


def run(kind: str, architecture: str, seed: int, game: Game, objective: str) -> dict:
    """Metrics of one training run; the certainty equivalent of its policy comes with them."""
    budget = yaml.safe_load((BUDGETS / f"game_{kind}.yaml").read_text())["learner"]
    with tempfile.TemporaryDirectory() as directory:
        trained = train(
            game,
            NetworkConfig(architecture=architecture),
            LEARNERS[kind](**budget),
            TrainerConfig(threads=1, progress=False),
            seed=seed,
            directory=directory,
            objective=objective,
        )
    evaluation = game.evaluate(game.tabulate(trained.policy))
    return trained.metrics | {"certainty_equivalent": evaluation.certainty_equivalent}


def row(runs: list[dict]) -> list[str]:
    """Cells of one learner and architecture: medians over seeds, and the worst seed where it matters."""

    def seconds(milestone: str) -> str:
        reached = [metrics["reached"][milestone] for metrics in runs]
        times = [found["seconds"] for found in reached if found is not None]
        missed = f" ({len(times)} of {len(runs)})" if len(times) < len(runs) else ""
        return f"{np.median(times):.1f}{missed}" if times else "-"

    scores = [metrics["score"] for metrics in runs]
    return [
        *(seconds(milestone) for milestone in MILESTONES),
        f"{np.median(scores):.5f}",
        f"{max(scores):.5f}",
        f"{np.median([metrics['certainty_equivalent'] for metrics in runs]):.4f}",
        f"{np.median([metrics['seconds'] for metrics in runs]):.1f}",
        f"{np.median([metrics['steps'] for metrics in runs]) / 1e6:.2f} M",
        f"{np.median([metrics['steps_per_second'] for metrics in runs]):,.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", nargs="+", choices=list(LEARNERS), default=list(LEARNERS))
    parser.add_argument("--architectures", nargs="+", choices=["ternary", "fp32"], default=["ternary", "fp32"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--objective", choices=["penalty", "cara"], default="penalty")
    parser.add_argument("--gamma", type=float, default=0.1)
    options = parser.parse_args()

    game = Game(GameParameters(gamma=options.gamma))
    console = Console(width=120)
    columns = ("beats A-S, s", "N95, s", "N99, s", "end gap", "worst gap", "cert. eq.", "end, s", "steps", "steps/s")
    table = Table(
        "learner", "network", *columns, title=f"{options.objective}, gamma {options.gamma:g}, {options.seeds} seeds"
    )
    run("pathwise", "ternary", 0, Game(GameParameters(steps=4)), options.objective)  # compile before the clock starts
    for kind in options.learners:
        for architecture in options.architectures:
            runs = [run(kind, architecture, seed, game, options.objective) for seed in range(options.seeds)]
            table.add_row(kind, architecture, *row(runs))
            console.print(f"{kind} {architecture}: " + " ".join(f"{metrics['score']:.5f}" for metrics in runs))
    console.print(table)


if __name__ == "__main__":
    main()
