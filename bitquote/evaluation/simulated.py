"""The order book's rows: every quoter on the same random numbers, regret as a paired difference to `glft_tuned`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitquote.evaluation import statistics
from bitquote.evaluation.attribution import fill_rate, markout_per_fill, simulated_attribution
from bitquote.evaluation.distance import mean_distance
from bitquote.evaluation.row import Row, finite, mean_row, seed_rows, with_regret
from bitquote.evaluation.scoring import sample_score, score_by_path
from bitquote.evaluation.tuning import Progress
from bitquote.market import OrderBookMarket
from bitquote.market.simulation import Simulation
from bitquote.quoting import QuoteTable

REFERENCE = "glft_tuned"


def simulated_rows(
    market: OrderBookMarket,
    quoters: Mapping[str, Any],
    *,
    objective: str,
    paths: int,
    seed: int,
    attempts: Mapping[str, tuple[int, float]] = MappingProxyType({}),
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """One row a quoter on paths 0..paths-1 of `seed`; policies of several training seeds also get a pooled row.

    `attempts` says of rows that were chosen among several how many these were, and how their Sharpe ratios spread.
    """
    rows: dict[str, Row] = {}
    scores: dict[str, NDArray[np.float64] | None] = {}
    profits: dict[str, NDArray[np.float64]] = {}
    for done, (name, quoter) in enumerate(quoters.items()):
        if progress is not None:
            progress(name, done, len(quoters))
        simulation = market.simulate(quoter, paths, seed, threads=threads)
        rows[name] = _measure(market, name, simulation, objective)
        profits[name] = simulation.profit
        if name in attempts:
            rows[name]["deflated_sharpe_ratio"] = statistics.deflated_sharpe_ratio(simulation.profit, *attempts[name])
        estimable = rows[name]["objective"] is not None
        scores[name] = score_by_path(simulation, objective, market.game.gamma) if estimable else None
        if not isinstance(quoter, QuoteTable):
            rows[name]["distance_to_glft"] = mean_distance(market, quoter, quoters[REFERENCE], seed)
    pooled = seed_rows(list(rows))
    if pooled:
        rows["policy"] = mean_row([rows[name] for name in pooled], "policy")
    members = {name: [name] for name in scores} | ({"policy": pooled} if pooled else {})
    return [_compared(row, scores, profits, members[name]) for name, row in rows.items()]


def _measure(market: OrderBookMarket, name: str, simulation: Simulation, objective: str) -> Row:
    profit, inventory = simulation.profit, simulation.terminal_inventory
    return {
        "quoter": name,
        "mean_profit": float(profit.mean()),
        "std_profit": float(profit.std(ddof=1)),
        "mean_terminal_inventory": float(inventory.mean()),
        "std_terminal_inventory": float(inventory.std(ddof=1)),
        "mean_spread": statistics.finite_mean(simulation.mean_spread),
        "fills": float(simulation.fills.mean()),
        "turnover": float(simulation.turnover.mean()),
        "max_drawdown": float(simulation.max_drawdown.mean()),
        "certainty_equivalent": statistics.certainty_equivalent(profit, market.game.gamma),
        "objective": finite(sample_score(simulation, objective, market.game.gamma)),
        "sharpe_ratio": statistics.sharpe_ratio(profit),
        "attribution": simulated_attribution(simulation),
        "fill_rate": fill_rate(simulation, market.game.horizon),
        "markout_1s": markout_per_fill(simulation),
    }


def _compared(
    row: Row, scores: Mapping[str, NDArray | None], profits: Mapping[str, NDArray], members: list[str]
) -> Row:
    """The row beside the reference, paired over the paths; over training seeds and paths where it pools `members`."""
    reference = scores[REFERENCE]
    own = [scores[member] for member in members]
    if reference is None or any(score is None for score in own):
        return with_regret(row, None, None, exact=False)
    regret = np.array([reference - score for score in own])
    better = np.array([profits[member] - profits[REFERENCE] for member in members])
    compared = with_regret(row, statistics.two_level_interval(regret), None, exact=False)
    if row["quoter"] == REFERENCE:
        return compared
    compared["p_value"] = statistics.two_level_p_value(regret)
    compared["probability_of_improvement"] = statistics.probability_of_improvement(better)._asdict()
    if len(members) > 1:
        _, low, high = statistics.two_level_bootstrap(regret)
        compared["bootstrap"] = {"low": low, "high": high}
        compared["interquartile_mean"] = statistics.interquartile_mean(regret)._asdict()
    return compared
