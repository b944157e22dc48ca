"""The game's rows: every quoter is a table, every score an exact expectation, the reference the true optimum."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bitquote.evaluation import row as rows_of
from bitquote.evaluation import statistics
from bitquote.evaluation.attribution import exact_attribution
from bitquote.evaluation.distance import mean_distance
from bitquote.evaluation.row import Row, finite, mean_row, seed_rows
from bitquote.evaluation.scoring import exact_score
from bitquote.evaluation.statistics import Interval, student_interval
from bitquote.evaluation.tuning import Progress
from bitquote.market import Game
from bitquote.quoting import QuoteTable

SIMULATED = ("max_drawdown", "distance_to_glft", "sharpe_ratio", "deflated_sharpe_ratio")
"""What has no exact value here and comes from a simulation on common random numbers."""


def exact_rows(
    game: Game,
    quoters: Mapping[str, Any],
    *,
    objective: str,
    paths: int,
    seed: int,
    attempts: Mapping[str, tuple[int, float]] = MappingProxyType({}),
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """One row a quoter, tabulated over (step, inventory) first; policies of several seeds also get a pooled row.

    `attempts` says of rows that were chosen among several how many these were, and how their Sharpe ratios spread.
    """
    rows = {}
    for done, (name, quoter) in enumerate(quoters.items()):
        if progress is not None:
            progress(name, done, len(quoters))
        table = quoter if isinstance(quoter, QuoteTable) else game.tabulate(quoter)
        rows[name] = _measure(game, name, table, objective, paths, seed, threads)
        if name in attempts:
            profit = game.simulate(table, paths, seed, threads=threads).profit
            rows[name]["sharpe_ratio"] = statistics.sharpe_ratio(profit)
            rows[name]["deflated_sharpe_ratio"] = statistics.deflated_sharpe_ratio(profit, *attempts[name])
        if table is not quoter:
            rows[name]["distance_to_glft"] = mean_distance(game, quoter, quoters["glft_tuned"], seed)
    best = rows[f"dynamic_program_{objective}"]["objective"]
    constant = rows["symmetric_constant"]["objective"]
    complete = [_compare(row, best, constant) for row in rows.values()]
    pooled = seed_rows(list(rows))
    if pooled:
        complete.append(_pool([row for row in complete if row["quoter"] in pooled]))
    return complete


def _measure(
    game: Game, name: str, table: QuoteTable, objective: str, paths: int, seed: int, threads: int | None
) -> Row:
    evaluation = game.evaluate(table)
    simulation = game.simulate(table, paths, seed, threads=threads)
    return {
        "quoter": name,
        "mean_profit": float(evaluation.mean_profit),
        "std_profit": float(evaluation.std_profit),
        "mean_terminal_inventory": float(evaluation.mean_terminal_inventory),
        "std_terminal_inventory": float(evaluation.std_terminal_inventory),
        "mean_spread": finite(evaluation.mean_spread),
        "fills": float(evaluation.fills),
        "turnover": float(evaluation.fills),  # a fill is a lot
        "max_drawdown": float(simulation.max_drawdown.mean()),
        "certainty_equivalent": finite(evaluation.certainty_equivalent),
        "objective": finite(exact_score(evaluation, objective)),
        "attribution": exact_attribution(float(evaluation.mean_profit)),
    }


def _compare(row: Row, best: float | None, constant: float | None) -> Row:
    """Regret to the optimum, and as a share of what the best constant quote leaves on the table."""
    score = row["objective"]
    if best is None or score is None:
        return rows_of.with_regret(row, None, None, exact=True)
    regret = best - score
    gap = finite(regret / (best - constant)) if constant is not None and constant < best else None
    return rows_of.with_regret(row, Interval(regret, regret, regret), gap, exact=True)


def _pool(rows: list[Row]) -> Row:
    """The mean over training seeds; the policies' own randomness leaves it an interval (Student over the seeds)."""
    pooled = mean_row(rows, "policy")
    regrets = [row["regret"] for row in rows]
    interval = None if pooled["regret"] is None else student_interval(regrets)
    return rows_of.with_regret(pooled, interval, pooled["normalised_gap"], exact=False)
