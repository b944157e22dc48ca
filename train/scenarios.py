"""`bitquote benchmark market=a,b,c`: several markets, one table and one picture; policies beside the closed forms.

What a finished market has written stays: the same command with the same output goes on where it was interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from bitquote import run
from bitquote.config import Settings
from bitquote.errors import InputError
from bitquote.evaluation import EdgeOptimum, Tuned, check_seeds
from bitquote.market import OrderBookMarket
from bitquote.quoting import glft_shifted
from bitquote.report.pictures import reference_table
from bitquote.report.scenarios import print_scenarios, scenario_figure
from bitquote.ternary import Policy

from .composition import compose
from .judging import judge, tune, with_baseline
from .reporting import PAGE, Log, write_logs, write_scenarios_report

SCENARIOS = (
    "calm", "order_book", "clustered", "toxic", "tight", "wide", "competition", "whale_block", "whale_sliced", "pump",
    "crash", "cascade", "stuffed", "washed",
)  # fmt: skip
"""What market=scenarios stands for."""
SUMMARY = "scenarios.json"
PICTURE = "scenarios.png"


def market_names(text: str) -> list[str]:
    """The markets that a word market=a,b,c names; `scenarios` stands for all of them."""
    names: list[str] = []
    for name in text.split(","):
        names += [other for other in (SCENARIOS if name == "scenarios" else [name]) if other not in names]
    return names


def judge_scenarios(
    names: Sequence[str],
    overrides: Sequence[str],
    output: str | None,
    policies: Mapping[str, Policy] = MappingProxyType({}),
    seeds: Sequence[int] = (),
    home: OrderBookMarket | None = None,
    *,
    command: str,
    log: Log | None = None,
) -> dict[str, Any]:
    """Benchmark every market; `policies` bring their training `seeds`, and the market that they were trained in.

    `command` is what the page says it was made by, `log` where each market gets a directory of quotes and fills.
    """
    files = [Path(name).stem for name in names]
    for stem in files:
        if stem == Path(SUMMARY).stem or files.count(stem) > 1:
            raise InputError(f"market={','.join(names)}: two of them would be written to {stem}.json")
    composed = {name: compose([f"market={name}", *overrides]) for name in names}
    for name, (_, settings, market) in composed.items():
        if not isinstance(market, OrderBookMarket):
            raise InputError(f"market={name} is a game: the scenarios are order books")
        check_seeds(settings.benchmark.seed, seeds, settings.benchmark.tuning.seed)
        if home is not None and _measures(market) != _measures(home):
            raise InputError(f"market={name} has {_measures(market)}: must be the policies' {_measures(home)}")
    directory = run.new_directory(None, "scenarios") if output is None else Path(output)
    if directory.is_file():
        raise InputError(f"output={directory} is a file: must be a directory for several markets")
    run.make_directory(directory)
    results = {}
    for place, (name, (node, settings, market)) in enumerate(composed.items()):
        assert isinstance(market, OrderBookMarket)
        print(f"market {place + 1} of {len(names)}: {name}", flush=True)
        path = directory / f"{Path(name).stem}.json"
        rivals = [_fingerprint(rival) for rival in market.rivals if isinstance(rival, Policy)]
        judged = {row: _fingerprint(policy) for row, policy in policies.items()}
        asked = {"configuration": node, "policies": judged, "rivals": rivals}
        result = run.read_json(path) if path.exists() else {}
        if result.get("asked") != asked:
            try:
                tuned = _tuned_or_plain(settings, market)
                own = with_baseline(market, tuned) if home is None else market.with_baseline(home.baseline)
                result = judge(settings, own, policies, seeds, tuned)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"the same command with output={directory} goes on from here") from None
            result |= {"description": node["market"].get("description", ""), "asked": asked}
            result |= {} if home is None else {"trained_in": home.name}
            run.write_json(path, result)
        results[name] = result
        if log is not None:
            own = market.with_baseline(reference_table(market, result) if home is None else home.baseline)
            write_logs(Log(log.directory / Path(name).stem, log.paths), result, own, policies)
    summary = {"version": 1, "markets": {name: _short(result) for name, result in results.items()}}
    run.write_json(directory / SUMMARY, summary)
    scenario_figure(summary).savefig(directory / PICTURE, dpi=120)
    nodes = {name: node for name, (node, *_) in composed.items()}
    write_scenarios_report(directory / SUMMARY, summary, results, nodes, command)
    print_scenarios(summary)
    print(f"written to {directory}: a file for each market, {SUMMARY}, {PICTURE} and {PAGE}")
    return summary


def _measures(market: OrderBookMarket) -> str:
    """What a policy's observations and quotes are measured in, in words."""
    decisions, inventory = market.game.shape[0], market.game.max_inventory
    return f"{decisions} decisions, an inventory of {inventory} at most and a tick of {market.tick:g}"


def _tuned_or_plain(settings: Settings, market: OrderBookMarket) -> Tuned:
    """The tuned reference; GLFT itself, said so, where the optimum stays on the edge of the grid."""
    try:
        return tune(settings, market)
    except EdgeOptimum as error:
        print(f"  {error}; glft_tuned is GLFT itself here", flush=True)
        record = {"seed": settings.benchmark.tuning.seed, "objective": settings.objective, "untuned": str(error)}
        table = glft_shifted(market.game, 0.0, 1.0)
        return Tuned(table, 0.0, 1.0, record | {"shift": 0.0, "scale": 1.0})


def _short(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the common table tells of a market."""
    keys = ("quoter", "objective", "regret", "ci_low", "ci_high", "mean_profit", "mean_spread", "fills", "attribution")
    return {
        "description": result["description"],
        "objective": result["objective"],
        "reference": result["reference"],
        "untuned": "untuned" in result["tuning"],
        "paths": result["paths"],
        "rows": [{key: row[key] for key in keys} for row in result["rows"]],
    }


def _fingerprint(policy: Policy) -> str:
    """What tells whether a policy is the one that was judged before."""
    digest = hashlib.sha256()
    for array in policy.arguments:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
