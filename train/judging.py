"""The benchmark of a market as `train` and `benchmark` make it: tuned baseline first, then every row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bitquote import evaluation
from bitquote.config import Settings, thread_count
from bitquote.errors import InputError
from bitquote.evaluation import Tuned
from bitquote.market import Game, OrderBookMarket
from bitquote.progress import progress
from bitquote.quoting import glft_shifted
from bitquote.run import read_json, write_json
from bitquote.ternary import Policy

TUNING = "tuning.json"
SELECTION = "selection.json"
"""What a search writes beside the policy that it selected."""


def tune(settings: Settings, market: Game | OrderBookMarket) -> Tuned:
    """The best GLFT-like quotes on the published grid: a row of the benchmark, and what a residual is added to."""
    with progress("tuning GLFT") as report:
        return evaluation.tune_glft(
            market,
            objective=settings.objective,
            threads=thread_count(settings.threads),
            progress=report,
            **asdict(settings.benchmark.tuning),
        )


def tuning_of_run(directory: Path, settings: Settings, market: Game | OrderBookMarket) -> Tuned:
    """The tuned quotes of a run: from its tuning.json, which the first call writes."""
    path = directory / TUNING
    if not path.exists():
        tuned = tune(settings, market)
        write_json(path, tuned.record)
        return tuned
    record = read_json(path)
    try:
        shift, scale, _ = float(record["shift"]), float(record["scale"]), (int(record["seed"]), record["objective"])
        if not math.isfinite(shift) or not math.isfinite(scale):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path} is damaged: delete it, and it is made again") from None
    return Tuned(glft_shifted(market.game, shift, scale), shift, scale, record)


def selection_of_run(directory: Path) -> dict[str, Any] | None:
    """From how many trials a search selected the run's policy; None where no search did."""
    path = directory / SELECTION
    if not path.exists():
        return None
    record = read_json(path)
    try:
        seed, trials, spread = int(record["seed"]), int(record["trials"]), float(record["sharpe_spread"])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path} is damaged: delete it, and bitquote sweep run=<the search> makes it again") from None
    return {"seed": seed, "trials": trials, "sharpe_spread": spread}


def with_baseline(market: Game | OrderBookMarket, tuned: Tuned) -> Game | OrderBookMarket:
    """The market whose observations carry the tuned quotes; those of the game carry GLFT's own."""
    return market if isinstance(market, Game) else market.with_baseline(tuned.table)


def judge(
    settings: Settings,
    market: Game | OrderBookMarket,
    policies: Mapping[str, Policy],
    training_seeds: Sequence[int],
    tuned: Tuned,
    selection: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of benchmark.json."""
    with progress("benchmark") as report:
        return evaluation.benchmark(
            market,
            policies,
            objective=settings.objective,
            paths=settings.benchmark.paths,
            seed=settings.benchmark.seed,
            training_seeds=training_seeds,
            tuning=tuned,
            selection=selection,
            threads=thread_count(settings.threads),
            progress=report,
        )
