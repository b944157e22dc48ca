"""`bitquote benchmark`: judge the closed forms of a market, and the policies of finished runs beside them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bitquote import run
from bitquote.errors import InputError
from bitquote.evaluation import check_seeds
from bitquote.evaluation.cluster import ClusterMarket
from bitquote.market import Game, OrderBookMarket
from bitquote.report.table import print_benchmark
from bitquote.server.config import ServerConfig
from bitquote.ternary import Policy

from .composition import compose, compose_recorded
from .judging import judge, selection_of_run, tune, tuning_of_run, with_baseline
from .reporting import log_of, write_logs, write_report
from .runs import directories_of, policies_of
from .suites import Judged, Place, judge_suite, read_suite, suite_of_markets
from .words import refuse, split

CHANGEABLE = ("benchmark.paths", "benchmark.seed", "threads")
"""What may be changed when the policies of runs are judged; the rest was settled by their training."""


class _Result(NamedTuple):
    """A benchmark, where it is to be written, and what was judged."""

    result: dict[str, Any]
    path: Path
    market: Game | OrderBookMarket
    policies: Mapping[str, Policy]
    node: dict[str, Any]


def benchmark(words: Sequence[str]) -> dict[str, Any]:
    """The content of benchmark.json, which is also printed as a table and written, with a page beside it."""
    own, overrides = split(words, ("run", "output", "suite", "log", "log_paths", "cluster"))
    with _place_of(own.get("cluster")) as place:
        return _benchmark(own, overrides, place, shlex.join(["bitquote", "benchmark", *words]))


@contextmanager
def _place_of(cluster: str | None) -> Iterator[Place]:
    """Where the paths of an order book run: here, or all over the Ray cluster that cluster= names."""
    if cluster is None:
        yield lambda market: market
        return
    from bitquote.server.ray.cluster import Cluster

    connection = Cluster(ServerConfig(engine="ray", workers=1, address=None if cluster == "local" else cluster))
    try:
        yield lambda market: market if isinstance(market, Game) else ClusterMarket(**market.__dict__)
    finally:
        connection.close()


def _benchmark(own: Mapping[str, str], overrides: list[str], place: Place, command: str) -> dict[str, Any]:
    log = log_of(own)
    named = next((word.partition("=")[2] for word in overrides if word.startswith("market=")), "")
    if "suite" in own and named:
        raise InputError(f"market={named} cannot be given with suite=: the suite names its markets")
    suite = read_suite(own["suite"]) if "suite" in own else suite_of_markets(named)
    if "suite" in own or len(suite.cells) > 1 or ("run" in own and named and not _trained_in(own["run"], named)):
        others = [word for word in overrides if not word.startswith("market=")]
        return judge_suite(suite, others, own.get("output"), _policies_to_judge(own, others), place, command, log)
    if "run" in own:
        judged = _judge_runs(own["run"], overrides, own.get("output"), place)
    else:
        judged = _judge_market(overrides, own.get("output"), place)
    result, path, market, policies, node = judged
    run.write_json(path, result)
    print_benchmark(result)
    page = write_report(path, result, market, policies, node, command)
    print(f"written to {path}; to read: {page}")
    if log is not None:
        write_logs(log, result, market, policies)
    return result


def _judge_market(overrides: Sequence[str], output: str | None, place: Place) -> _Result:
    node, settings, market = compose(overrides)
    market = place(market)
    path = Path(output) if output else run.new_directory(None, market.name) / run.BENCHMARK
    _check_writable(path)
    check_seeds(settings.benchmark.seed, [], settings.benchmark.tuning.seed)
    return _Result(judge(settings, market, {}, [], tune(settings, market)), path, market, {}, node)


def _policies_to_judge(own: Mapping[str, str], overrides: list[str]) -> Judged:
    """The policies of run=, to be judged wherever; their objective goes into `overrides` unless one is there."""
    if "run" not in own:
        return Judged()
    directories = directories_of(own["run"])
    _, settings, market = compose_recorded(directories[0])
    policies, seeds = policies_of(directories, settings)
    if isinstance(market, Game):
        raise InputError(f"run {directories[0]} was trained in a game: must be an order book to be judged in another")
    if not any(word.startswith("objective=") for word in overrides):
        overrides.append(f"objective={settings.objective}")
    home = market.with_baseline(tuning_of_run(directories[0], settings, market).table)
    return Judged(policies, seeds, home, _selection(directories))


def _selection(directories: Sequence[Path]) -> dict[str, Any] | None:
    """How a search selected the only run, if one did."""
    return selection_of_run(directories[0]) if len(directories) == 1 else None


def _trained_in(text: str, name: str) -> bool:
    """Whether the market `name` is the one that the first of the runs recorded."""
    record, *_ = compose_recorded(directories_of(text)[0])
    return record["market"]["name"] == name


def _judge_runs(text: str, overrides: Sequence[str], output: str | None, place: Place) -> _Result:
    directories = directories_of(text)
    record, *_ = compose_recorded(directories[0])
    overrides = [word for word in overrides if not _repeats(word, record)]
    others = [word for word in overrides if word.partition("=")[0] not in CHANGEABLE]
    refuse(others, f"with run= only {', '.join(CHANGEABLE)} can be changed")
    node, settings, market = compose_recorded(directories[0], overrides)
    policies, seeds = policies_of(directories, settings)
    if output:
        path = Path(output)
    else:
        # What run= names, be it a run or a sweep; a list of runs has no directory of its own.
        path = (run.new_directory(None, market.name) if "," in text else Path(text)) / run.BENCHMARK
    _check_writable(path)
    market = place(market)
    tuned = tuning_of_run(directories[0], settings, market)
    market = with_baseline(market, tuned)
    result = judge(settings, market, policies, seeds, tuned, _selection(directories))
    return _Result(result, path, market, policies, node)


def _repeats(word: str, record: Mapping[str, Any]) -> bool:
    """Whether `word`, such as market=game or seed=1, only says again what a run has recorded."""
    key, _, value = word.partition("=")
    recorded = record["market"]["name"] if key == "market" else record.get(key)
    return recorded is not None and str(recorded) == value


def _check_writable(path: Path) -> None:
    """Raise `InputError` before any work is done where the result could not be written."""
    if path.is_dir():
        raise InputError(f"output={path} is a directory: must be a file, such as {path / run.BENCHMARK}")
    if path.suffix != ".json":  # lest a slip overwrite some other file
        raise InputError(f"output={path} must end in .json")
    run.make_directory(path.parent)
