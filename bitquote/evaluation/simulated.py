"""The order book's rows: every quoter on the same random numbers, regret as a paired difference to `glft_tuned`."""

from __future__ import annotations

from collections.abc import Mapping
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
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """One row a quoter on paths 0..paths-1 of `seed`; policies of several training seeds also get a pooled row."""
    rows: dict[str, Row] = {}
    scores: dict[str, NDArray[np.float64] | None] = {}
    for done, (name, quoter) in enumerate(quoters.items()):
        if progress is not None:
            progress(name, done, len(quoters))
        simulation = market.simulate(quoter, paths, seed, threads=threads)
        rows[name] = _measure(market, name, simulation, objective)
        estimable = rows[name]["objective"] is not None
        scores[name] = score_by_path(simulation, objective, market.game.gamma) if estimable else None
        if not isinstance(quoter, QuoteTable):
            rows[name]["distance_to_glft"] = mean_distance(market, quoter, quoters[REFERENCE], seed)
    pooled = seed_rows(list(rows))
    if pooled:
        rows["policy"] = mean_row([rows[name] for name in pooled], "policy")
    members = {name: [name] for name in scores} | ({"policy": pooled} if pooled else {})
    return [
        with_regret(row, _regret(scores[REFERENCE], [scores[member] for member in members[name]]), None, exact=False)
        for name, row in rows.items()
    ]


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
        "attribution": simulated_attribution(simulation),
        "fill_rate": fill_rate(simulation, market.game.horizon),
        "markout_1s": markout_per_fill(simulation),
    }


def _regret(reference: NDArray | None, members: list[NDArray | None]) -> statistics.Interval | None:
    """Paired over the paths; over training seeds and paths when a row pools several policies."""
    if reference is None or any(member is None for member in members):
        return None
    return statistics.two_level_interval([reference - member for member in members])
