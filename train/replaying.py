"""`bitquote replay`: a recording through the order book, and quoters beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bitquote import run
from bitquote.config import Settings
from bitquote.errors import InputError, did_you_mean
from bitquote.evaluation.attribution import simulated_attribution
from bitquote.evaluation.row import BASELINES, finite
from bitquote.evaluation.statistics import student_interval
from bitquote.market import Game, OrderBookMarket
from bitquote.progress import progress
from bitquote.quoting import QUOTERS
from bitquote.recorded import (
    LevelRecording,
    OrderRecording,
    Quoted,
    open_updates,
    quote_into,
    replay_levels,
)
from bitquote.recorded import replay as replay_orders
from bitquote.recorded.following import FAULTS
from bitquote.recorded.level_feed import QUEUE_MODELS
from bitquote.report.quoted import LIMITS, print_quoted
from bitquote.run import CONFIG, POLICY
from bitquote.ternary import load_policy

from .composition import compose, compose_recorded
from .judging import tune, tuning_of_run, with_baseline
from .words import refuse, split

REFERENCE = "no_quote"
TUNED = "glft_tuned"
_OWN = ("data", "format", "order_book", "run", "quoter", "queue_model", "latency", "start", "output")


def replay(words: Sequence[str]) -> dict[str, Any]:
    """Replay `data=`; with a market or a run, quote into it. Returns what output= writes."""
    own, overrides = split(words, _OWN)
    if "data" not in own:
        raise InputError("data= is missing: see bitquote replay --help")
    names, options = _asked(own, overrides)
    if "output" in own and Path(own["output"]).suffix != ".json":
        raise InputError(f"output={own['output']} must end in .json")
    asked = _market(own.get("run"), overrides) if names or "run" in own else None
    recording = open_updates(own["data"], own.get("format"), own.get("order_book"))
    result: dict[str, Any] = {"version": 1, "recording": own["data"], "replay": _replayed(recording)}
    if asked is not None:
        result["quoted"] = _quoted(recording, names, asked, options)
        print_quoted(result["quoted"])
    if "output" in own:
        run.make_directory(Path(own["output"]).parent)
        run.write_json(Path(own["output"]), result)
        print(f"written to {own['output']}")
    return result


def _asked(own: Mapping[str, str], overrides: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The closed forms that quoter= and market= ask for, and the options of `quote_into`."""
    has_market = any(word.startswith("market=") for word in overrides)
    if not has_market and "run" not in own:
        for key in ("quoter", "queue_model", "latency", "start"):
            if key in own:
                raise InputError(f"{key}={own[key]} needs a market to quote by: give market= or run=")
        reason = f"it is none of {', '.join(_OWN)}; market= or run= quotes into the recording"
        refuse(overrides, reason, (*_OWN, "market"))
    names = own["quoter"].split(",") if "quoter" in own else [TUNED] if "run" not in own and has_market else []
    for name in names:
        if name not in BASELINES:
            raise InputError(f"quoter={name} is unknown: must be one of {', '.join(BASELINES)}"
                             f"{did_you_mean(name, BASELINES)}")  # fmt: skip
    if own.get("queue_model", QUEUE_MODELS[0]) not in QUEUE_MODELS:
        near = did_you_mean(own["queue_model"], QUEUE_MODELS)
        raise InputError(f"queue_model={own['queue_model']} is unknown: must be one of {', '.join(QUEUE_MODELS)}{near}")
    options: dict[str, Any] = {"queue_model": own["queue_model"]} if "queue_model" in own else {}
    for key in ("latency", "start"):
        if key in own:
            try:
                options[key] = float(own[key])
            except ValueError:
                raise InputError(f"{key} is {own[key]!r}: must be a number of seconds") from None
    return names, options


class _Asked(NamedTuple):
    """A market, and the run that it comes from with its policy, if it is one of a run."""

    settings: Settings
    market: OrderBookMarket
    directory: Path | None = None
    policy: Any = None


def _market(directory: str | None, overrides: Sequence[str]) -> _Asked:
    if directory is None:
        _, settings, market = compose(overrides)
        return _Asked(settings, _of_order_book(market))
    refuse(overrides, "run= quotes by the market of the run")
    path = run.existing_directory(directory)
    _, settings, market = compose_recorded(path)
    return _Asked(settings, _of_order_book(market), path, _policy(path, settings))


def _of_order_book(market: Game | OrderBookMarket) -> OrderBookMarket:
    if isinstance(market, Game):
        raise InputError("market is a game: must be an order book, with the tick and order size of the recording")
    return market


def _policy(directory: Path, settings: Settings) -> Any:
    policy = load_policy(directory / POLICY)
    if policy.metadata.get("market") != settings.market:
        raise InputError(f"{directory / POLICY} was trained in another market than its run's {CONFIG} says")
    return policy


def _replayed(recording: OrderRecording | LevelRecording) -> dict[str, Any]:
    """Replay without a maker, print the report, and return its figures."""
    if isinstance(recording, LevelRecording):
        levels = replay_levels(recording)
        print(levels.report())
        agreement = levels.agreement and dict(zip(("share", "compared", "lines"), levels.agreement, strict=True))
        return {"outcomes": levels.outcomes, "faults": {}, "agreement": agreement}
    orders = replay_orders(recording)
    print(orders.report())
    agreement = orders.agreement and {
        "share": orders.agreement[0], "compared": len(orders.outcome), "lines": orders.agreement[1]
    }  # fmt: skip
    faults = {name: orders.lines(name) for name in orders.outcomes if name in FAULTS}
    return {"outcomes": orders.outcomes, "faults": faults, "agreement": agreement}


def _quoted(
    recording: OrderRecording | LevelRecording, names: Sequence[str], asked: _Asked, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Quote into the recording: nothing, closed forms, the policy of a run."""
    settings, market, directory, policy = asked
    # Not quoting comes first: a market that does not fit the recording shows before anything is tuned.
    results = {REFERENCE: quote_into(recording, market, QUOTERS[REFERENCE](market.game), **options)}
    quoters, tuned = {}, None
    if directory is not None:
        found = tuning_of_run(directory, settings, market)
        market, tuned = _of_order_book(with_baseline(market, found)), found.table
        quoters["policy"] = policy
    elif TUNED in names:
        tuned = tune(settings, market).table
    for name in names:
        quoters[name] = tuned if name == TUNED else QUOTERS[name](market.game)
    with progress("quoting into the recording") as report:
        for done, (name, quoter) in enumerate(quoters.items()):
            report(name, done, len(quoters))
            results[name] = quote_into(recording, market, quoter, **options)
    first = next(iter(results.values()))
    return {
        "market": market.name,
        "units": market.units,
        "reference": REFERENCE,
        "episodes": len(first.start),
        "episode_seconds": market.game.horizon,
        "markout_horizon": market.venue.markout,
        "queue_model": first.queue_model,
        "limits": " ".join(LIMITS.split()),
        "rows": [_row(name, quoted) for name, quoted in results.items()],
    }


def _row(name: str, quoted: Quoted) -> dict[str, Any]:
    simulation = quoted.simulation
    spreads = simulation.mean_spread[np.isfinite(simulation.mean_spread)]
    return {
        "quoter": name,
        "fills": int(simulation.fills.sum()),
        "turnover": float(simulation.turnover.sum()),
        "profit": _interval(simulation.profit),
        "markout": _markout(simulation.adverse_selection, simulation.turnover),
        "attribution": simulated_attribution(simulation),
        "mean_spread": finite(float(spreads.mean())) if spreads.size else None,
        "rejected": int(quoted.rejected.sum()),
        "unliquidated": float(quoted.unliquidated.sum()),
    }


def _interval(sample: np.ndarray) -> dict[str, float | None]:
    """Mean and Student's interval over episodes; one episode has a mean alone."""
    if len(sample) < 2:
        return {"mean": float(sample.mean()), "low": None, "high": None}
    return {key: finite(value) for key, value in student_interval(sample)._asdict().items()}


def _markout(adverse: np.ndarray, turnover: np.ndarray) -> dict[str, float | None]:
    """Markout per order filled, with the delta method's interval of a ratio of two means over episodes."""
    filled = float(turnover.mean())
    if filled == 0.0:
        return {"mean": None, "low": None, "high": None}
    ratio = float(adverse.mean()) / filled
    spread = _interval((adverse - ratio * turnover) / filled)  # its mean is 0
    low, high = spread["low"], spread["high"]
    return {"mean": ratio, "low": None if low is None else ratio + low, "high": None if high is None else ratio + high}
