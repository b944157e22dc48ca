"""Suites: several markets, or several settings of one, in one table, one picture and one directory.

`bitquote benchmark suite=<name>` reads conf/benchmark/suites/<name>.yaml or a file of the user's; `market=a,b,c` is a
suite with a cell for each market. What a finished cell has written stays: the same command with the same output goes on
where it was interrupted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bitquote import run
from bitquote.config import LARGEST_SEED, Settings, did_you_mean, thread_count
from bitquote.errors import InputError, require, require_integer
from bitquote.evaluation import EdgeOptimum, Tuned, check_seeds
from bitquote.evaluation.paired import paired_policies
from bitquote.evaluation.statistics import holm
from bitquote.market import Game, OrderBookMarket
from bitquote.progress import Stages, progress
from bitquote.quoting import QuoteTable, glft_shifted
from bitquote.report.pictures import reference_table
from bitquote.report.suite import print_suite, suite_figure
from bitquote.ternary import Policy

from .composition import CONF, Composed, compose, read_yaml
from .judging import TUNING, judge, tune
from .reporting import PAGE, Log, write_logs, write_suite_report
from .runs import policies_of
from .training import compose_training, finish, record

SUITES = CONF / "benchmark" / "suites"
SUMMARY = "suite.json"
PICTURE = "suite.png"
RUNS = "runs"
_KEYS = ("description", "words", "cells", "seeds", "pairs")
_CELL = re.compile(r"[\w.+-]+")

Place = Callable[[Game | OrderBookMarket], Game | OrderBookMarket]
"""Gives a market whose paths are simulated somewhere."""


@dataclass(frozen=True)
class Suite:
    """Cells by name, each the words of a `bitquote benchmark`; `seeds` train a policy each in every cell.

    `pairs` name two cells of one market whose policies are compared with each other, seed by seed.
    """

    cells: Mapping[str, Sequence[str]]
    seeds: Sequence[int] = ()
    pairs: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """Policies of finished runs, their training seeds, the market that they were trained in, and what selected them."""

    policies: Mapping[str, Policy] = field(default_factory=dict)
    seeds: Sequence[int] = ()
    home: OrderBookMarket | None = None
    selection: Mapping[str, Any] | None = None


def read_suite(name: str) -> Suite:
    """The suite of conf/benchmark/suites, or of a user's file, that `suite=` names."""
    known = sorted(path.stem for path in SUITES.glob("*.yaml"))
    path = SUITES / f"{name}.yaml" if name in known else Path(name)
    if name not in known and not path.suffix:
        hint = did_you_mean(name, known)
        words = f"{', '.join(known)}, or a path to your own .yaml{hint}"
        raise InputError(f"suite={name} is unknown: must be one of {words}")
    node = read_yaml(path)
    for key in node:
        if key not in _KEYS:
            raise InputError(f"{path}: {key} is unknown: must be one of {', '.join(_KEYS)}{did_you_mean(key, _KEYS)}")
    cells, seeds = node.get("cells", {}), node.get("seeds", [])
    require(isinstance(cells, dict) and len(cells) > 0, f"{path}: cells", cells, "names with lists of words")
    require(isinstance(seeds, list), f"{path}: seeds", seeds, "a list of training seeds")
    for seed in seeds:
        require_integer(f"{path}: seeds", seed, 0, LARGEST_SEED)
    require(len(set(seeds)) == len(seeds), f"{path}: seeds", seeds, "different ones")
    common = _words(path, "words", node.get("words", []))
    complete = {str(cell): [*common, *_words(path, f"cells.{cell}", own)] for cell, own in cells.items()}
    return Suite(complete, seeds, _pairs(path, node.get("pairs", {}), complete, seeds))


def _pairs(path: Path, pairs: Any, cells: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, list[str]]:
    require(isinstance(pairs, dict), f"{path}: pairs", pairs, "names with two cells each")
    checked = {}
    for name, pair in pairs.items():
        two = [str(cell) for cell in pair] if isinstance(pair, list) else []
        good = len(two) == len(set(two)) == 2 and set(two) <= cells.keys() and len(seeds) > 1
        require(good, f"{path}: pairs", pair, "two of the cells, with two seeds or more")
        checked[str(name)] = two
    return checked


def _words(path: Path, name: str, words: Any) -> list[str]:
    good = isinstance(words, list) and all(isinstance(word, str) for word in words)
    require(good, f"{path}: {name}", words, "a list of words, such as [market=game]")
    return words


def suite_of_markets(text: str) -> Suite:
    """A cell for each market that a word market=a,b,c names; `scenarios` stands for those of that suite."""
    cells: dict[str, list[str]] = {}
    for name in text.split(","):
        own = read_suite("scenarios").cells if name == "scenarios" else {Path(name).stem: [f"market={name}"]}
        for cell, words in own.items():
            if cell in cells and list(words) != cells[cell]:
                raise InputError(f"market={text}: two of them would be written to {cell}.json")
            cells[cell] = list(words)
    return Suite(cells)


def judge_suite(
    suite: Suite,
    overrides: Sequence[str],
    output: str | None,
    judged: Judged,
    place: Place,
    command: str,
    log: Log | None = None,
) -> dict[str, Any]:
    """Benchmark every cell, with the policies of `judged` or with those that it trains; returns the common table.

    `place` is where the paths of the benchmark run (what is trained is trained here), `command` what the page says it
    was made by, `log` where each cell gets a directory of quotes and fills.
    """
    composed = _compose_cells(suite, overrides, judged)
    directory = run.new_directory(None, "suite") if output is None else Path(output)
    if directory.is_file():
        raise InputError(f"output={directory} is a file: must be a directory for several markets")
    run.make_directory(directory)
    results, judges = {}, {}
    try:
        stages = Stages("cell", len(composed))
        for number, (name, one) in enumerate(composed.items(), 1):
            stages.begin(number, name)
            own = judged
            if suite.seeds:
                own = _trained([*suite.cells[name], *overrides], suite.seeds, directory / RUNS / name)
            judges[name] = own
            results[name] = _judge_cell(directory / f"{name}.json", one, own, place)
            if log is not None:
                seen = _seen(one[2], reference_table(one[2], results[name]), own)
                write_logs(Log(log.directory / name, log.paths), results[name], seen, own.policies)
        pairs = {name: _compared(pair, composed, results, judges, place) for name, pair in suite.pairs.items()}
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the same command with output={directory} goes on from here") from None
    summary = {"version": 1, "markets": {name: _short(result) for name, result in results.items()}, "pairs": pairs}
    _correct(summary)
    run.write_json(directory / SUMMARY, summary)
    suite_figure(summary).savefig(directory / PICTURE, dpi=120)
    nodes = {name: node for name, (node, *_) in composed.items()}
    write_suite_report(directory / SUMMARY, summary, results, nodes, command)
    print_suite(summary)
    print(f"written to {directory}: a file for each cell, {SUMMARY}, {PICTURE} and {PAGE}")
    return summary


def _compose_cells(suite: Suite, overrides: Sequence[str], judged: Judged) -> dict[str, Composed]:
    """What the words of every cell make, checked before any work is done."""
    require(not suite.seeds or not judged.policies, "run", "given", "left out: this suite trains its own policies")
    for name in suite.cells:
        good = _CELL.fullmatch(name) is not None and name not in (Path(SUMMARY).stem, RUNS)
        require(good, "cells", name, f"a name for a file, not {Path(SUMMARY).stem} or {RUNS}")
    composed = {name: compose([*words, *overrides]) for name, words in suite.cells.items()}
    seeds = [*judged.seeds, *suite.seeds]
    validation = None if judged.selection is None else judged.selection["seed"]
    for name, (_, settings, market) in composed.items():
        check_seeds(settings.benchmark.seed, seeds, settings.benchmark.tuning.seed, validation)
        if judged.home is not None:
            _check_measures(name, market, judged.home)
    for pair, (one, other) in suite.pairs.items():
        same = all(composed[one][0][key] == composed[other][0][key] for key in ("market", "objective", "benchmark"))
        require(same, f"pairs.{pair}", [one, other], "cells of one market, objective and benchmark")
    return composed


def _judge_cell(path: Path, composed: Composed, judged: Judged, place: Place) -> dict[str, Any]:
    """A cell's benchmark.json, made only if the file does not hold the answer to the very same question."""
    node, settings, market = composed
    rivals = market.rivals if isinstance(market, OrderBookMarket) else ()
    asked = {
        "configuration": {key: value for key, value in node.items() if key != "threads"},  # on which no result depends
        "policies": {row: _fingerprint(policy) for row, policy in judged.policies.items()},
        "rivals": [_fingerprint(rival) for rival in rivals if isinstance(rival, Policy)],
    }
    result = run.read_json(path) if path.exists() else {}
    if result.get("asked") == asked:
        return result
    market = place(market)
    tuned = _tuned_or_plain(settings, market)
    result = judge(settings, _seen(market, tuned.table, judged), judged.policies, judged.seeds, tuned, judged.selection)
    result |= {"description": node["market"].get("description", ""), "asked": asked}
    result |= {} if judged.home is None else {"trained_in": judged.home.name}
    run.write_json(path, result)
    return result


def _seen(market: Game | OrderBookMarket, tuned: QuoteTable, judged: Judged) -> Game | OrderBookMarket:
    """The market with the baseline that its policies observe: that of where they were trained."""
    if isinstance(market, Game):
        return market
    return market.with_baseline(tuned if judged.home is None else judged.home.baseline)


def _trained(words: Sequence[str], seeds: Sequence[int], directory: Path) -> Judged:
    """The policies of a cell, a run directory for each training seed; finished ones stay."""
    directories = [directory / str(seed) for seed in seeds]
    settings = None
    stages = Stages("  training", len(seeds))
    for number, (seed, place) in enumerate(zip(seeds, directories, strict=True), 1):
        node, settings, _ = compose_training([*words, f"seed={seed}"])
        if not (place / run.CONFIG).exists():
            run.make_directory(place)
            record(place, node)
        elif read_yaml(place / run.CONFIG) != node:
            raise InputError(f"{place} was trained with other words: choose another output=")
        if (tuned := directories[0] / TUNING).exists() and not (place / TUNING).exists():
            run.write_json(place / TUNING, run.read_json(tuned))  # it does not depend on the training seed
        stages.begin(number, f"seed {seed}, {place}")
        finish(place)
    assert settings is not None
    policies, _ = policies_of(directories, settings)
    return Judged(policies, seeds)


def _check_measures(name: str, market: Game | OrderBookMarket, home: OrderBookMarket) -> None:
    """Raise `InputError` where policies of the market `home` would not know what they see, or what they say."""
    if isinstance(market, Game):
        raise InputError(f"{name} is a game: the policies were trained in an order book")
    measures, own = (
        f"{each.game.shape[0]} decisions, an inventory of {each.game.max_inventory} at most and a tick of {each.tick:g}"
        for each in (market, home)
    )
    if measures != own:
        raise InputError(f"{name} has {measures}: must be the policies' {own}")


def _tuned_or_plain(settings: Settings, market: Game | OrderBookMarket) -> Tuned:
    """The tuned reference; GLFT itself, said so, where the optimum stays on the edge of the grid."""
    try:
        return tune(settings, market)
    except EdgeOptimum as error:
        print(f"  {error}; glft_tuned is GLFT itself here", flush=True)
        record = {"seed": settings.benchmark.tuning.seed, "objective": settings.objective, "untuned": str(error)}
        table = glft_shifted(market.game, 0.0, 1.0)
        return Tuned(table, 0.0, 1.0, record | {"shift": 0.0, "scale": 1.0})


def _short(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the common table tells of a cell."""
    keys = (
        "quoter", "objective", "regret", "ci_low", "ci_high", "p_value", "probability_of_improvement", "mean_profit",
        "mean_spread", "fills", "attribution",
    )  # fmt: skip
    return {
        "description": result["description"],
        "objective": result["objective"],
        "reference": result["reference"],
        "untuned": "untuned" in result["tuning"],
        "paths": result["paths"],
        "training_seeds": result["training_seeds"],
        "rows": [{key: row.get(key) for key in keys} for row in result["rows"]],
    }


def _compared(
    pair: Sequence[str],
    composed: Mapping[str, Composed],
    results: Mapping[str, Mapping[str, Any]],
    judges: Mapping[str, Judged],
    place: Place,
) -> dict[str, Any]:
    """What the policies of the first cell are worth against those of the second, on the paths of the benchmark."""
    _, settings, market = composed[pair[0]]
    market = _seen(place(market), reference_table(market, results[pair[0]]), judges[pair[0]])
    ones, others = (list(judges[name].policies.values()) for name in pair)
    with progress(f"{pair[0]} less {pair[1]}") as report:
        found = paired_policies(
            market, ones, others,
            objective=settings.objective, paths=settings.benchmark.paths, seed=settings.benchmark.seed,
            threads=thread_count(settings.threads), progress=report,
        )  # fmt: skip
    nothing = dict.fromkeys(("mean", "low", "high", "p_value"))
    facts = {"cells": list(pair), "training_seeds": list(judges[pair[0]].seeds), "exact": isinstance(market, Game)}
    return facts | (found or nothing)


def _correct(summary: Mapping[str, Any]) -> None:
    """Give each policy's rows, and the pairs, the p-values that Holm's correction over the cells leaves."""
    rows = [row for market in summary["markets"].values() for row in market["rows"]]
    policies = {row["quoter"] for row in rows if row["quoter"].startswith("policy")}
    families = [[row for row in rows if row["quoter"] == name] for name in policies]
    for family in [*families, list(summary["pairs"].values())]:
        own = [row for row in family if row["p_value"] is not None]
        for row, value in zip(own, holm([row["p_value"] for row in own]), strict=True):
            row["p_holm"] = float(value)


def _fingerprint(policy: Policy) -> str:
    """What tells whether a policy is the one that was judged before."""
    digest = hashlib.sha256()
    for array in policy.arguments:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
