"""`bitquote sweep`: train every combination of the listed values, one run after the other, or search among them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from rich import box
from rich.console import Console
from rich.table import Table

from bitquote import run
from bitquote.errors import InputError, require
from bitquote.progress import Stages
from bitquote.report.numbers import decimals_for, number

from .training import compose_training, finish, record
from .words import refuse, split

SWEEP = "sweep.json"
FIGURES = ("objective", "regret", "ci_low", "ci_high", "normalised_gap")
"""What sweep.json tells of each policy, by the names of benchmark.json."""
LARGEST = 1000
"""Combinations in one sweep."""


def sweep(words: Sequence[str]) -> dict[str, Any]:
    """Train every combination, or search with `trials=`, or go on with `run=`; returns the content of sweep.json."""
    own, lists = split(words, ("run", "output", "trials"))
    if "run" in own:
        refuse([*lists, *(key for key in own if key != "run")], "run= goes on with the combinations that it began with")
        directory = Path(own["run"])
        if not (directory / SWEEP).is_file():
            raise InputError(f"run={directory} holds no sweep: it has no {SWEEP}")
        run.make_directory(directory)
    elif "trials" in own:
        directory = _begin_search(lists, own["trials"], own.get("output"))
    else:
        directory = _begin_sweep(lists, own.get("output"))
    try:
        return _finish_sweep(directory)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"go on with: bitquote sweep run={directory}") from None


def combinations(lists: Sequence[str]) -> list[list[str]]:
    """Every combination of `key=value,value,...` as overrides; the last list varies fastest."""
    parser = OverridesParser.create()
    axes = []
    for word in lists:
        key, _, value = word.partition("=")
        try:
            override = parser.parse_override(word)
        except HydraException:
            raise InputError(f"{key}: cannot read the list of values {value!r}") from None
        if override.is_interval_sweep():
            raise InputError(f"{key}={value} has no end of values: say how many to try, as in trials=20")
        values = override.sweep_string_iterator() if override.is_sweep_override() else [value]
        axes.append([f"{key}={item}" for item in values])
    return [list(combination) for combination in itertools.product(*axes)]


def finished_runs(directory: Path) -> list[Path]:
    """The directories of a sweep's finished runs; of a search, that of the selected one."""
    summary = _read(directory)
    rows = [row for row in summary["runs"] if "search" not in summary or row["directory"] == summary.get("selected")]
    runs = [directory / row["directory"] for row in rows]
    finished = [path for path in runs if (path / run.BENCHMARK).exists()]
    if not finished:
        raise InputError(f"the sweep {directory} has no finished run yet")
    return finished


def _read(directory: Path) -> dict[str, Any]:
    """The content of sweep.json."""
    summary = run.read_json(directory / SWEEP, "runs")
    for row in summary["runs"]:
        if not isinstance(row, dict) or not {"overrides", "directory"} <= row.keys():
            raise InputError(f"{directory / SWEEP} is damaged: a run in it has no overrides or no directory")
    if "search" in summary and not _is_search(summary["search"]):
        raise InputError(f"{directory / SWEEP} is damaged: its search is not a number of trials and a list of words")
    return summary


def _is_search(value: Any) -> bool:
    match value:
        case {"trials": int(trials), "words": [*words]}:
            return 0 < trials <= LARGEST and all(isinstance(word, str) for word in words)
    return False


def _begin_sweep(lists: Sequence[str], output: str | None) -> Path:
    """A new sweep directory that holds the checked configurations of all its runs."""
    everything = combinations(lists)
    if len(everything) > LARGEST:
        raise InputError(f"the lists make {len(everything)} combinations: at most {LARGEST} in one sweep")
    nodes = [compose_training(overrides)[0] for overrides in everything]
    directory = run.new_directory(output, "sweep")
    for index, node in enumerate(nodes):
        record(directory / str(index), node)
    rows = [{"overrides": overrides, "directory": str(index)} for index, overrides in enumerate(everything)]
    run.write_json(directory / SWEEP, {"version": 1, "runs": rows})
    return directory


def _begin_search(words: Sequence[str], trials: str, output: str | None) -> Path:
    """A new directory for a search whose words have been checked."""
    from .searching import JOURNAL, begin_search  # imports optuna

    require(trials in map(str, range(1, LARGEST + 1)), "trials", trials, f"an integer from 1 to {LARGEST}")
    asked = begin_search(words, int(trials))
    directory = run.new_directory(output, "sweep")
    (directory / JOURNAL).touch()
    run.write_json(directory / SWEEP, {"version": 1, "search": asked, "runs": []})
    return directory


def _finish_sweep(directory: Path) -> dict[str, Any]:
    """Train what has no benchmark yet; sweep.json is brought up to date after each run."""
    summary = _read(directory)
    if "search" in summary:
        from .searching import finish_search

        return finish_search(directory, summary, partial(run.write_json, directory / SWEEP))
    stages = Stages("run", len(summary["runs"]))
    for index, row in enumerate(summary["runs"]):
        stages.begin(index + 1, " ".join(row["overrides"]))
        finished = finish(directory / row["directory"])
        policy = next(line for line in finished.benchmark["rows"] if line["quoter"] == "policy")
        row |= {key: policy[key] for key in FIGURES}
        run.write_json(directory / SWEEP, summary)
    _print(summary["runs"])
    print(f"judge all of them together: bitquote benchmark run={directory}")
    return summary


def _print(rows: Sequence[dict[str, Any]]) -> None:
    """One line a run: the words in which it differs from the others, and its policy's figures."""
    shared = set.intersection(*(set(row["overrides"]) for row in rows)) if len(rows) > 1 else set()
    table = Table("run", "what differs", box=box.SIMPLE_HEAD)
    for name in FIGURES:
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    decimals = {name: decimals_for((row[name] for row in rows), 4) for name in FIGURES}
    for row in rows:
        words = " ".join(word for word in row["overrides"] if word not in shared)
        table.add_row(row["directory"], words, *(number(row[name], decimals[name]) for name in FIGURES))
    Console(soft_wrap=True).print(table)
