"""Two results as `bitquote.evaluation.benchmark` gives them, made up so that every case of the tables is there."""

from __future__ import annotations

from typing import Any

import pytest

from bitquote.evaluation.attribution import PARTS
from bitquote.evaluation.row import BASELINES

OBJECTIVES = {
    True: (0.0, 61.178, 61.1747, 64.5011, 66.8205, 66.8668, 66.8694, 66.8668, 66.875, 66.8407, 66.60, 66.75, 66.675),
    False: (0.0, 1.1, 1.0, 1.3, 1.9, 2.0, 2.2, 1.95, 1.97, None, 2.31, 2.25, 2.28),
}
SHARES = (2.0, -0.5, -0.3, -0.1, -0.1)


def make_row(name: str, objective: float | None, reference: float, *, exact: bool) -> dict[str, Any]:
    regret = None if objective is None else reference - objective
    margin = 0.0 if exact and name != "policy" else 0.05
    profit = 0.0 if objective is None else 1.02 * objective
    return {
        "quoter": name,
        "mean_profit": profit,
        "std_profit": 7.2,
        "mean_terminal_inventory": 0.01,
        "std_terminal_inventory": 3.1,
        "mean_spread": None if name == "no_quote" else 1.35,
        "fills": 93.2,
        "turnover": 93.2,
        "max_drawdown": 5.4,
        "certainty_equivalent": None,
        "objective": objective,
        "regret": regret,
        "ci_low": None if regret is None else regret - margin,
        "ci_high": None if regret is None else regret + margin,
        "normalised_gap": regret / (reference - 61.178) if exact else None,
        "exact": exact and name != "policy",
        "attribution": {part: share * profit for part, share in zip(PARTS, SHARES, strict=True)},
    }


def make_result(*, exact: bool) -> dict[str, Any]:
    names, objectives = [*BASELINES, "policy:3", "policy:4", "policy"], OBJECTIVES[exact]
    reference = "dynamic_program_penalty" if exact else "glft_tuned"
    best = objectives[names.index(reference)]
    rows = [make_row(name, value, best, exact=exact) for name, value in zip(names, objectives, strict=True)]
    result = {
        "version": 1,
        "market": "game" if exact else "order_book",
        "objective": "penalty",
        "gamma": 0.1,
        "units": "price x lot" if exact else "USD x order",
        "paths": 2000,
        "seed": 7,
        "training_seeds": [3, 4],
        "dt": 0.005,
        "fill_convention": "linear",
        "mid_convention": "two_point",
        "reference": reference,
        "liquidation": "none: the last inventory is marked at the mid",
        "tuning": {"shift": 0.0123, "scale": 1.25, "shifts": [-1.0, 0.0, 1.0], "scales": [0.5, 1.0, 2.0], "seed": 9},
        "rows": rows,
    }
    if exact:
        return result
    for row in rows:
        row |= {"fill_rate": 0.42, "markout_1s": None if row["quoter"] == "no_quote" else -0.012}
        if row["quoter"].startswith("policy"):
            row["distance_to_glft"] = {"half_spread": 0.0321, "skew": 0.0654}
    return result | {"markout_horizon": 1.0, "recording": {"markout_1s": -0.02, "fill_rate": 0.4, "source": "text"}}


@pytest.fixture
def game_result() -> dict[str, Any]:
    return make_result(exact=True)


@pytest.fixture
def book_result() -> dict[str, Any]:
    return make_result(exact=False)


@pytest.fixture(params=[True, False], ids=["game", "order_book"])
def result(request) -> dict[str, Any]:
    return make_result(exact=request.param)
