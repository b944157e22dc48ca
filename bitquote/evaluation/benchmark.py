"""The benchmark: every quoter and the policies on one market, as the content of benchmark.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitquote.errors import InputError, require, require_choice, require_integer
from bitquote.evaluation.exact import SIMULATED, exact_rows
from bitquote.evaluation.row import BASELINES
from bitquote.evaluation.scoring import OBJECTIVES
from bitquote.evaluation.simulated import REFERENCE, simulated_rows
from bitquote.evaluation.tuning import Progress, Tuned, tune_glft
from bitquote.market import Game, OrderBookMarket
from bitquote.quoting import QUOTERS, GameParameters, QuoteTable

VERSION = 1
_TUNING_KEYS = ("paths", "seed", "shifts", "scales")


def benchmark(
    market: Game | OrderBookMarket,
    policies: Mapping[str, Any],
    *,
    objective: str = "penalty",
    paths: int,
    seed: int,
    training_seeds: Sequence[int] = (),
    tuning: Mapping[str, Any] | Tuned,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge `policies` (row name -> policy) beside every closed form; the result is benchmark.json's content.

    In the game all scores are exact and the reference is the dynamic program of `objective` ("penalty" or "cara").
    In the order book every quoter meets the same `paths` random paths of `seed`, and the reference is `glft_tuned`.
    `tuning` is `tune_glft`'s words (seed, paths, shifts, scales) or its result. The seeds of training, tuning and
    test must be disjoint. Two or more policies named `policy:<training seed>` also give a pooled row `policy`.
    """
    require_choice("objective", objective, OBJECTIVES)
    paths, seed = require_integer("benchmark.paths", paths, 2), require_integer("benchmark.seed", seed, 0)
    training_seeds = [require_integer("training_seeds", value, 0) for value in training_seeds]
    if not isinstance(tuning, Tuned):
        for key in tuning:
            require_choice("benchmark.tuning", key, _TUNING_KEYS)
    check_seeds(seed, training_seeds, (tuning.record if isinstance(tuning, Tuned) else tuning).get("seed"))
    tuned = _tuned(market, objective, tuning, threads, progress)
    quoters = baseline_tables(market.game, tuned.table) | _named(policies)
    words: dict[str, Any] = {"objective": objective, "paths": paths, "seed": seed, "threads": threads}
    if isinstance(market, Game):
        rows = exact_rows(market, quoters, progress=progress, **words)
    else:
        attempts = _attempts(tuned.record)
        rows = simulated_rows(market, quoters, attempts=attempts, progress=progress, **words)
    return _header(market, objective, paths, seed, training_seeds) | {"tuning": tuned.record, "rows": rows}


def _attempts(tuning: Mapping[str, Any]) -> dict[str, tuple[int, float]]:
    """Among how many, and how different, the rows that were selected were selected."""
    known = tuning.get("sharpe_spread") is not None  # not before tuning recorded it, nor where nothing was tuned
    return {REFERENCE: (tuning["trials"], tuning["sharpe_spread"])} if known else {}


def baseline_tables(parameters: GameParameters, glft_tuned: QuoteTable) -> dict[str, QuoteTable]:
    """Every row that needs no learning, in the order of the contract; `parameters` are those of the closed forms."""
    return {name: glft_tuned if name == REFERENCE else QUOTERS[name](parameters) for name in BASELINES}


def _header(
    market: Game | OrderBookMarket, objective: str, paths: int, seed: int, training_seeds: list[int]
) -> dict[str, Any]:
    parameters = market.game
    header = {
        "version": VERSION,
        "market": market.name,
        "objective": objective,
        "gamma": parameters.gamma,
        "units": market.units,
        "paths": paths,
        "seed": seed,
        "training_seeds": training_seeds,
        "dt": parameters.dt,
        "fill_convention": parameters.fill_convention,
        "mid_convention": parameters.mid_convention,
    }
    if isinstance(market, Game):
        return header | {
            "reference": f"dynamic_program_{objective}",
            "liquidation": "none: the last inventory is marked at the mid",
            "simulated": list(SIMULATED),
        }
    return header | {
        "reference": REFERENCE,
        "liquidation": "at the horizon, by a market order through the book",
        "markout_horizon": market.venue.markout,
        "recording": dict(market.recording),
    }


def _tuned(
    market: Game | OrderBookMarket,
    objective: str,
    tuning: Mapping[str, Any] | Tuned,
    threads: int | None,
    progress: Progress | None,
) -> Tuned:
    if not isinstance(tuning, Tuned):
        return tune_glft(market, objective=objective, threads=threads, progress=progress, **tuning)
    require(
        tuning.record.get("objective") == objective,
        "tuning.objective",
        tuning.record.get("objective"),
        f"{objective!r}",
    )
    return tuning


def check_seeds(seed: int, training_seeds: Sequence[int], tuning_seed: Any) -> None:
    """Raise `InputError` where test, training and tuning share random numbers."""
    tuning_seed = require_integer("benchmark.tuning.seed", tuning_seed, 0)
    unused = "a seed that training does not use"
    require(seed not in training_seeds, "benchmark.seed", seed, unused)
    require(seed != tuning_seed, "benchmark.seed", seed, "another than benchmark.tuning.seed")
    require(tuning_seed not in training_seeds, "benchmark.tuning.seed", tuning_seed, unused)


def _named(policies: Mapping[str, Any]) -> dict[str, Any]:
    """`policies` under their row names: `policy`, or `policy:<name>`."""
    rows = {}
    for name, policy in policies.items():
        row = name if name == "policy" or name.startswith("policy:") else f"policy:{name}"
        if row in rows:
            raise InputError(f"policies name the row {row} twice")
        rows[row] = policy
    return rows
