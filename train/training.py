"""`bitquote train`: from a configuration to a run directory with a policy, its benchmark and its pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from bitquote import __version__, run
from bitquote.config import Settings, thread_count
from bitquote.evaluation import check_seeds
from bitquote.learning.config import check_server
from bitquote.market import Game, OrderBookMarket
from bitquote.report.table import benchmark_text, print_benchmark
from bitquote.run import Run
from bitquote.server.errors import ServerError
from bitquote.ternary import load_policy

from .composition import Composed, compose, compose_recorded
from .display import logged, note
from .judging import judge, selection_of_run, tuning_of_run, with_baseline
from .reporting import PAGE, write_report
from .words import refuse, split


def train(words: Sequence[str]) -> Run:
    """Train a policy and benchmark it in a new run directory, or finish the run of `run=`."""
    own, overrides = split(words, ("run", "output"))
    if "run" not in own:
        node, _, market = compose_training(overrides)
        directory = run.new_directory(own.get("output"), market.name)
        record(directory, node)
    else:
        refuse([*overrides, *(key for key in own if key != "run")], "run= goes on with the settings that it began with")
        directory = run.existing_directory(own["run"])
        run.make_directory(directory)
    print(f"run directory: {directory}", flush=True)
    finished = finish(directory)
    print_benchmark(finished.benchmark)
    print(f"to read: {directory / PAGE}; to look at: tensorboard --logdir {directory}")
    return finished


def compose_training(overrides: Sequence[str]) -> Composed:
    """What `overrides` make, if the benchmark after the training can be trusted and the server can run here."""
    composed = compose(overrides)
    settings = composed[1]
    check_seeds(settings.benchmark.seed, [settings.seed], settings.benchmark.tuning.seed)
    check_server(settings.server)
    return composed


def record(directory: Path, node: dict[str, Any]) -> None:
    """Write a run's configuration, from which `finish` does everything else."""
    run.write_text(directory / run.CONFIG, yaml.safe_dump(node, sort_keys=False))


def finish(directory: Path) -> Run:
    """Do what a run still lacks: its training, its benchmark, or nothing."""
    composed = compose_recorded(directory)
    resume = f"go on with: bitquote train run={directory}"
    try:
        if not (directory / run.BENCHMARK).exists():
            with logged(directory):
                _train_and_judge(directory, *composed)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(resume) from None
    except (OSError, ServerError) as error:
        raise type(error)(f"{error}; once that is mended, {resume}") from error
    return Run.load(directory)


def _train_and_judge(
    directory: Path, node: dict[str, Any], settings: Settings, market: Game | OrderBookMarket
) -> None:
    note(f"run directory: {directory}, bitquote {__version__}")
    tuned = tuning_of_run(directory, settings, market)
    market = with_baseline(market, tuned)
    if not (directory / run.METRICS).exists():
        learn(directory, settings, market)
    policy = load_policy(directory / run.POLICY)
    result = judge(settings, market, {"policy": policy}, [settings.seed], tuned, selection_of_run(directory))
    from .presenting import present  # imports torch, which only training needs

    present(directory, node, market, policy, result, run.read_json(directory / run.METRICS, "updates")["updates"])
    command = f"bitquote train, of the configuration below, in {directory}"
    write_report(directory / run.BENCHMARK, result, market, {"policy": policy}, node, command)
    run.write_json(directory / run.BENCHMARK, result)
    note(benchmark_text(result))


def learn(
    directory: Path, settings: Settings, market: Game | OrderBookMarket, callbacks: Sequence[Any] = ()
) -> None:
    """Train from the last checkpoint, or from the start where there is none; `callbacks` are Lightning's."""
    from bitquote import learning
    from bitquote.report.dashboard import Dashboard

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    workers = settings.server.workers if settings.server.engine in ("shm", "ray") else 1  # that run at one time
    learning.train(
        market,
        settings.policy,
        settings.learner,
        replace(settings.trainer, threads=thread_count(settings.threads, workers)),
        seed=settings.seed,
        directory=directory,
        objective=settings.objective,
        market_config=settings.market,
        resume=True,
        callbacks=[Dashboard(market), *callbacks],
        server=settings.server,
    )
