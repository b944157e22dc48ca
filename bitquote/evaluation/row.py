"""One row of benchmark.json: its names, its order, and what is common to exact and simulated rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bitquote.evaluation.statistics import Interval

Row = dict[str, Any]

BASELINES = (
    "no_quote",
    "symmetric_constant",
    "symmetric",
    "avellaneda_stoikov",
    "glft_asymptotic",
    "glft",
    "glft_tuned",
    "cartea_jaimungal",
    "dynamic_program_penalty",
    "dynamic_program_cara",
)
"""Every row that is there whether or not a policy is; policies come after them."""


def finite(value: float | None) -> float | None:
    """`value` as a float, None in place of NaN and infinities: what JSON can carry."""
    return None if value is None or not math.isfinite(value) else float(value)


def with_regret(row: Row, regret: Interval | None, normalised_gap: float | None, exact: bool) -> Row:
    """`row` completed by its regret to the reference, None where the objective is not estimable."""
    mean, low, high = regret if regret is not None else (None, None, None)
    comparison = {"regret": mean, "ci_low": low, "ci_high": high, "normalised_gap": normalised_gap, "exact": exact}
    return row | comparison


def seed_rows(names: Sequence[str]) -> list[str]:
    """The rows `policy:<training seed>` among `names` when there are two or more to pool, else none."""
    seeds = [name for name in names if name.startswith("policy:") and name.removeprefix("policy:").isdecimal()]
    return seeds if len(seeds) > 1 and "policy" not in names else []


def mean_row(rows: Sequence[Row], quoter: str) -> Row:
    """The mean of every figure over `rows`; None where any of them has none."""
    return _mean([{key: value for key, value in row.items() if key != "quoter"} for row in rows]) | {"quoter": quoter}


def _mean(entries: Sequence[Any]) -> Any:
    if any(entry is None for entry in entries):
        return None
    if isinstance(entries[0], Mapping):
        return {key: _mean([entry[key] for entry in entries]) for key in entries[0]}
    return math.fsum(entries) / len(entries)
