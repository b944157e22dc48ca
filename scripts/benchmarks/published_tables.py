"""The tables of Avellaneda & Stoikov 2008, by exact evaluation and by simulation, beside what they printed.

    python scripts/benchmarks/published_tables.py --paths 1000000

Theirs are 1000 paths; the simulation here gives each mean with its distance from the exact one in standard errors.
"""

from __future__ import annotations

import argparse
import math

from bitquote.market import Game, GameParameters
from bitquote.quoting import QUOTERS

PUBLISHED = {
    (0.1, "avellaneda_stoikov"): (1.49, 65.0, 6.6, 0.08, 2.9),
    (0.1, "symmetric"): (1.49, 68.4, 12.7, 0.26, 8.4),
    (0.01, "avellaneda_stoikov"): (1.35, 68.6, 8.7, 0.12, 5.1),
    (0.01, "symmetric"): (1.35, 68.8, 12.8, 0.09, 8.7),
}
"""Their tables 1 and 2: spread, profit, std of profit, mean and std of the final inventory."""


def print_tables(paths: int, seed: int) -> None:
    """Three lines a row: published, exact, simulated."""
    print(f"{'gamma':>5}  {'quoter':20}{'source':12}{'spread':>9}{'profit':>9}{'std':>9}{'mean q':>9}{'std q':>9}")
    for (gamma, name), printed in PUBLISHED.items():
        parameters = GameParameters(gamma=gamma)
        game, table = Game(parameters), QUOTERS[name](parameters)
        exact, found = game.evaluate(table), game.simulate(table, paths, seed)
        exact_row = (
            exact.mean_spread,
            exact.mean_profit,
            exact.std_profit,
            abs(exact.mean_terminal_inventory),  # 0 by symmetry
            exact.std_terminal_inventory,
        )
        arrays = found.mean_spread, found.profit, found.profit, found.terminal_inventory, found.terminal_inventory
        found_row = tuple(
            float(array.std() if column in (2, 4) else array.mean()) for column, array in enumerate(arrays)
        )
        away = (found_row[1] - exact.mean_profit) / (exact.std_profit / math.sqrt(paths))
        for source, row in (("published", printed), ("exact", exact_row), ("simulated", found_row)):
            figures = "".join(f"{value:9.3f}" for value in row)
            note = f"  ({away:+.1f} standard errors)" if source == "simulated" else ""
            print(f"{gamma:>5}  {name:20}{source:12}{figures}{note}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print_tables(arguments.paths, arguments.seed)


if __name__ == "__main__":
    main()
