"""What stands beside benchmark.json: a page to read, the rows as CSV, and the quotes and fills that log= asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bitquote import run
from bitquote.errors import InputError
from bitquote.evaluation.benchmark import baseline_tables
from bitquote.market import Game, OrderBookMarket
from bitquote.quoting import glft_shifted
from bitquote.report.flat import csv_text
from bitquote.report.page import benchmark_page, suite_page
from bitquote.report.pictures import evidence, rows_picture, tuning_picture

PAGE = "report.html"
LOG_PATHS = 100
MOST_LOG_PATHS = 10_000
"""A rollout is made in one piece, of some 30 KiB a path."""


class Log(NamedTuple):
    """Where quotes and fills are logged, and of how many paths."""

    directory: Path
    paths: int


def log_of(own: Mapping[str, str]) -> Log | None:
    """What the words log= and log_paths= ask for, the directory made; `InputError` where it cannot be written."""
    text = own.get("log_paths", str(LOG_PATHS))
    if not text.isdecimal() or not 1 <= int(text) <= MOST_LOG_PATHS:
        raise InputError(f"log_paths is {text!r}: must be an integer from 1 to {MOST_LOG_PATHS}")
    if "log" not in own:
        if "log_paths" in own:
            raise InputError("log_paths is given without log=<directory>")
        return None
    run.make_directory(Path(own["log"]))
    return Log(Path(own["log"]), int(text))


def write_report(
    path: Path,
    result: Mapping[str, Any],
    market: Game | OrderBookMarket,
    policies: Mapping[str, Any],
    node: Mapping[str, Any],
    command: str,
) -> Path:
    """Write the CSV and the page of the benchmark at `path`; the page of benchmark.json is report.html."""
    page = path.with_name(PAGE) if path.name == run.BENCHMARK else path.with_suffix(".html")
    run.write_text(path.with_suffix(".csv"), csv_text([result]))
    run.write_text(page, benchmark_page(result, evidence(market, result, policies), node, command))
    return page


def write_suite_report(
    path: Path,
    summary: Mapping[str, Any],
    results: Mapping[str, Mapping[str, Any]],
    nodes: Mapping[str, Mapping[str, Any]],
    command: str,
) -> None:
    """Write the page and the CSV of several markets beside their summary at `path`."""
    pictures = {name: [rows_picture(result), *tuning_picture(result)] for name, result in results.items()}
    run.write_text(path.with_suffix(".csv"), csv_text(results.values()))
    run.write_text(path.with_name(PAGE), suite_page(summary, results, pictures, nodes, command))


def write_logs(
    log: Log, result: Mapping[str, Any], market: Game | OrderBookMarket, policies: Mapping[str, Any]
) -> None:
    """One Parquet file a quoter, of the first of the paths that the benchmark `result` judged it on."""
    from bitquote.report.log import quote_log, write_log  # pyarrow: only who logs waits for it

    paths, seed = min(log.paths, result["paths"]), result["seed"]
    tuned = glft_shifted(market.game, result["tuning"]["shift"], result["tuning"]["scale"])
    log.directory.mkdir(parents=True, exist_ok=True)
    for name, quoter in (baseline_tables(market.game, tuned) | dict(policies)).items():
        rollout = market.rollout(quoter, paths, seed)
        stem = re.sub(r"[^\w-]+", "_", name)  # no colon, which some file systems refuse
        write_log(log.directory / f"{stem}.parquet", quote_log(rollout, market, {"quoter": name, "seed": seed}))
    print(f"quotes and fills of {paths} paths written to {log.directory}")
