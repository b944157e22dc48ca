"""Walk-forward evaluation: calibrate and train on earlier recordings, test on later ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from bitquote import run
from bitquote.calibration import calibrated_market, write_market
from bitquote.calibration.walk_forward import check_sequence
from bitquote.config import Settings, thread_count
from bitquote.evaluation import Tuned, check_seeds
from bitquote.evaluation.scoring import sample_score, score_by_path
from bitquote.evaluation.statistics import Interval, paired_interval, student_interval
from bitquote.market import OrderBookMarket
from bitquote.recorded import Recording
from bitquote.report.numbers import decimals_for, number

from .composition import compose
from .judging import tune
from .training import compose_training, train

WALK = "walk_forward.json"
WIDTH = 120
"""Columns that the table needs."""


class _Stage(NamedTuple):
    """One recording's market and what was made on it."""

    name: str
    settings: Settings
    market: OrderBookMarket
    tuned: Tuned
    policy: Any  # None where none is trained


def walk_forward(
    recordings: Sequence[Recording],
    output: Path,
    words: Sequence[str] = (),
    *,
    trains: bool = False,
    **choices: Any,
) -> dict[str, Any]:
    """Calibrate a market on each recording, and judge what was tuned (and trained) on each on all later ones.

    A row is a quoter made on an earlier market (`made_on`) and tested on a later one (`tested_on`), on the same random
    paths of the later market as `glft_tuned` of that market itself: `loss` is the paired difference, what not knowing
    the later market costs. `in_sample` is the quoter's objective at home, `out_of_sample` abroad, `attainable` that of
    the quoter made there; all with 95 % intervals over the paths, in each market's own units, or None where the
    paths do not tell a certainty equivalent. They tell how far calibrations differ, not how far a calibration is from
    its recording.

    Args:
        recordings: Of one instrument, in the order of time, not overlapping.
        output: An empty or new folder: <i>.yaml for each, walk_forward.json, and run_<i> where policies are trained.
        words: Of `bitquote train`, such as "benchmark.paths=500".
        trains: Whether to train a policy on each market but the last.
        choices: The keywords of `calibrated_market`. The price step of the first market is that of all.

    Raises:
        InputError: recordings of different instruments, out of order or overlapping; or any error of its parts.
    """
    _, settings, _ = (compose_training if trains else compose)(["market=order_book", *words])
    check_seeds(settings.benchmark.seed, [], settings.benchmark.tuning.seed)
    check_sequence(recordings)
    run.new_directory(str(output), "")
    files = []
    for index, recording in enumerate(recordings):
        market = calibrated_market(recording, **choices)
        choices["step"] = market["venue"]["tick"]  # quoters speak in ticks, which must not change on the way
        market["name"] = f"{market['name']}_{index}"
        write_market(market, output / f"{index}.yaml")
        files.append(output / f"{index}.yaml")
    stages = [_stage(path, words, trains and path is not files[-1]) for path in files]
    rows = [row for at, later in enumerate(stages) for earlier in stages[:at] for row in _rows(earlier, later)]
    result = {
        "version": 1,
        "objective": settings.objective,
        "paths": settings.benchmark.paths,
        "seed": settings.benchmark.seed,
        "markets": [stage.name for stage in stages],
        "rows": rows,
    }
    run.write_json(output / WALK, result)
    return result


def print_walk(result: Mapping[str, Any]) -> None:
    """One line a quoter and a pair of markets: in sample, out of sample, attainable, and the loss with its interval."""
    table = Table("made on", "tested on", "quoter", box=box.SIMPLE_HEAD)
    figures = ("in_sample", "out_of_sample", "attainable", "loss")
    for name in figures:
        table.add_column(name.replace("_", " ") + (" [95 %]" if name == "loss" else ""), justify="right", no_wrap=True)
    known = [row[name][0] for row in result["rows"] for name in figures if row[name]]
    decimals = decimals_for(known, 4)
    for row in result["rows"]:
        cells = [number(row[name] and row[name][0], decimals) for name in figures[:-1]]
        mean, low, high = (number(end, decimals) for end in row["loss"] or (None, None, None))
        table.add_row(row["made_on"], row["tested_on"], row["quoter"], *cells, f"{mean} [{low}, {high}]")
    Console(width=max(Console().width, WIDTH)).print(table)


def _stage(path: Path, words: Sequence[str], trains: bool) -> _Stage:
    overrides = [f"market={path}", *words]
    _, settings, market = compose(overrides)
    assert isinstance(market, OrderBookMarket)  # it has just been calibrated
    policy = train([*overrides, f"output={path.with_name(f'run_{path.stem}')}"]).policy if trains else None
    return _Stage(market.name, settings, market, tune(settings, market), policy)


def _rows(earlier: _Stage, later: _Stage) -> list[dict[str, Any]]:
    best = _scores(later, later.tuned.table, later.tuned)
    quoters = {"glft_tuned": earlier.tuned.table} | ({"policy": earlier.policy} if earlier.policy is not None else {})
    rows = []
    for name, quoter in quoters.items():
        home, abroad = _scores(earlier, quoter, earlier.tuned), _scores(later, quoter, earlier.tuned)
        row = {"made_on": earlier.name, "tested_on": later.name, "quoter": name}
        rows.append(row | {
            "in_sample": _interval(student_interval, home),
            "out_of_sample": _interval(student_interval, abroad),
            "attainable": _interval(student_interval, best),
            "loss": _interval(paired_interval, best, abroad),
        })  # fmt: skip
    return rows


def _interval(made_by: Callable[..., Interval], *samples: NDArray | None) -> list[float] | None:
    return None if any(sample is None for sample in samples) else list(made_by(*samples))


def _scores(stage: _Stage, quoter: Any, baseline: Tuned) -> NDArray | None:
    """The objective path by path on a stage's market, whose observations carry the quoter's own `baseline`; None where
    the paths do not tell it."""
    settings = stage.settings
    market = stage.market.with_baseline(baseline.table)
    threads = thread_count(settings.threads)
    simulation = market.simulate(quoter, settings.benchmark.paths, settings.benchmark.seed, threads)
    scored = simulation, settings.objective, market.game.gamma
    return None if sample_score(*scored) is None else score_by_path(*scored)
