"""What ternary weights lose and win: fp32, int8 and ternary networks on a regression, in the game and the order book.

    python scripts/experiments/ternary_study.py [--tasks regression game order_book] [--seeds 5] [--processes 2]
                                                [--output studies/ternary] [--variants NAME ...] [--quick]

Every variant is trained from every seed with the same budget, by the public `bitquote.learning.train` where there is a
market, and judged on what it has not seen: held-out points of the regression, the game's exact gap to the optimum, and
2 000 paths of the order book that all variants share. Differences are to `fp32, 64` of the same seed (and path), with
95 % intervals. "int8" is the fp32 network of the same seed with weights rounded to 8 bits after the training. Finished
runs are kept in the output folder: an interrupted study goes on where it was. Leaves results.json and study.png.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bitquote.errors import InputError
from bitquote.evaluation import tune_glft
from bitquote.evaluation.scoring import score_by_path
from bitquote.evaluation.statistics import Interval, two_level_interval
from bitquote.learning import NetworkConfig, PathwiseConfig, TrainerConfig, train
from bitquote.learning.module import BETAS
from bitquote.learning.schedule import learning_rate_factor
from bitquote.market import Game, OrderBookMarket, build, shipped_configuration
from bitquote.quoting import GameParameters, dynamic_program, symmetric_constant
from bitquote.run import write_json
from bitquote.server.config import core_count
from bitquote.ternary import Policy, QuoteNetwork, quote_batch

CONF = Path(__file__).parents[2] / "conf"
BASE = "fp32, 64"
TEST_PATHS, TEST_SEED = 2000, 1_000_000


class Variant(NamedTuple):
    """What differs from the default policy and learner; `int8` rounds the trained weights."""

    network: dict[str, Any]
    learner: dict[str, Any] = {}  # noqa: RUF012 (a NamedTuple's default, never changed)
    int8: bool = False


VARIANTS = {
    BASE: Variant({"architecture": "fp32"}),
    "int8, 64": Variant({"architecture": "fp32"}, int8=True),
    "ternary, 32": Variant({"hidden": [32, 32]}),
    "ternary, 64": Variant({}),
    "ternary, 128": Variant({"hidden": [128, 128]}),
    "ternary, 256": Variant({"hidden": [256, 256]}),
    "ternary, 64, absmedian": Variant({"weight_scale": "absmedian"}),
    "ternary, 64, learned scale": Variant({"head": "learned_scale"}),
    "ternary, 64, per row": Variant({"input_quantisation": "per_row"}),
    "ternary, 64, warm-up": Variant({}, {"quantisation_warm_up": 0.3}),
    "fp32, 32": Variant({"architecture": "fp32", "hidden": [32, 32]}),
}


BOOK = (BASE, "int8, 64", "ternary, 32", "ternary, 64", "ternary, 128", "ternary, 256")
"""Variants for the order book, where a run takes a minute, unless others are asked for."""


class Task(NamedTuple):
    """`run` gives a value, or one a path; `better` is +1 where more of it is better, else -1."""

    run: Callable[[Variant, int, bool], np.ndarray]
    measure: str
    better: int


# The three tasks.


def regression(variant: Variant, seed: int, quick: bool) -> np.ndarray:
    """1 - R² on held-out points of a smooth function of 8 inputs, mean over its two outputs."""
    generator = np.random.default_rng(12345)  # one function for all
    first, second = generator.normal(size=(8, 16)) / 8**0.5, generator.normal(size=(16, 2)) / 4.0

    def teacher(x: np.ndarray) -> np.ndarray:
        return np.tanh(2.0 * x @ first) @ second

    config = NetworkConfig(**variant.network)
    names = tuple(f"x{i}" for i in range(8))
    torch.manual_seed(seed)
    network = QuoteNetwork(
        names,
        (3.0,) * 8,
        hidden=tuple(config.hidden),
        architecture=config.architecture,
        input_quantisation=config.input_quantisation,
        weight_scale=config.weight_scale,
        head=config.head,
    )
    updates = 300 if quick else 3000
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003, betas=BETAS, weight_decay=0.0)
    draw = np.random.default_rng(seed + 1)
    warm_up = variant.learner.get("quantisation_warm_up", 0.0) * updates
    for update in range(updates):
        for group in optimizer.param_groups:
            group["lr"] = 0.003 * learning_rate_factor(update, updates)
        if warm_up:
            network.quantisation = min(1.0, update / warm_up)
        x = draw.normal(size=(512, 8))
        target = torch.tensor(teacher(x), dtype=torch.float32)
        loss = (network(torch.tensor(x, dtype=torch.float32)) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = np.random.default_rng(999).normal(size=(20_000, 8))
    found, wanted = np.empty((len(x), 2)), teacher(x)
    quote_batch(x, *_finished(network.policy(), variant).arguments, found)
    unexplained = ((found - wanted) ** 2).mean(0) / wanted.var(0)
    return np.array([unexplained.mean()])


def game(variant: Variant, seed: int, quick: bool) -> np.ndarray:
    """The exact normalised gap in the published game."""
    budget = yaml.safe_load((CONF / "budget" / "game_pathwise.yaml").read_text())["learner"]
    market = Game(GameParameters())
    policy = _trained(market, budget | ({"epochs": 2} if quick else {}), variant, seed)
    best, constant = (market.evaluate(table).objective for table in _yardsticks(market))
    value = market.evaluate(market.tabulate(policy)).objective
    return np.array([(best - value) / (best - constant)])


def order_book(variant: Variant, seed: int, quick: bool) -> np.ndarray:
    """The objective of every test path."""
    market = _tuned_market(quick)
    policy = _trained(market, {"epochs": 2} if quick else {}, variant, seed)
    paths = 100 if quick else TEST_PATHS
    return score_by_path(market.simulate(policy, paths, TEST_SEED, threads=1), "penalty", market.game.gamma)


TASKS = {
    "regression": Task(regression, "1 - R² on held-out points", -1),
    "game": Task(game, "normalised gap to the optimum", -1),
    "order_book": Task(order_book, "objective on common paths", 1),
}


@cache
def _tuned_market(quick: bool) -> OrderBookMarket:
    """The order book whose observations carry tuned GLFT quotes, as `bitquote train` has it."""
    words = yaml.safe_load((CONF / "benchmark" / "default.yaml").read_text())["tuning"]
    market = build(shipped_configuration("order_book"))
    assert isinstance(market, OrderBookMarket)
    return market.with_baseline(tune_glft(market, threads=1, **words | ({"paths": 32} if quick else {})).table)


def _yardsticks(market: Game) -> tuple[Any, Any]:
    """What has a gap of 0, and of 1."""
    return dynamic_program(market.parameters), symmetric_constant(market.parameters)


def _trained(market: Game | OrderBookMarket, budget: dict[str, Any], variant: Variant, seed: int) -> Policy:
    with tempfile.TemporaryDirectory() as directory:
        trained = train(
            market,
            NetworkConfig(**variant.network),
            PathwiseConfig(**budget | variant.learner),
            TrainerConfig(threads=1, progress=False),
            seed=seed,
            directory=directory,
        )
    return _finished(trained.policy, variant)


def _finished(policy: Policy, variant: Variant) -> Policy:
    """The policy, or its twin with hidden weights of 8 bits."""
    if not variant.int8:
        return policy
    tensors = policy.tensors()
    for name, weights in tensors.items():
        if name.startswith("hidden."):
            scale = np.float32(np.abs(weights).max() / 127.0)
            tensors[name] = (np.rint(weights / scale) * scale).astype(np.float32)
    return Policy(policy.description, policy.metadata, tensors)


# The study.


def one_run(task: str, name: str, seed: int, quick: bool) -> np.ndarray:
    """The values of one run, in a process of its own."""
    torch.set_num_threads(1)
    return TASKS[task].run(VARIANTS[name], seed, quick)


def study(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, dict[str, np.ndarray]]:
    """Task -> variant -> values (seeds, paths or 1); what the folder has already is not run again."""
    places = {
        (task, name, seed): folder / "runs" / f"{task}-{name.replace(', ', '-').replace(' ', '_')}-{seed}.npy"
        for task in options.tasks
        for name in variants_of(task, options)
        for seed in range(options.seeds)
    }
    missing = [key for key, place in places.items() if not place.is_file()]
    context = multiprocessing.get_context("spawn")
    if missing:
        first = [next(key for key in missing if key[0] == task) for task in dict.fromkeys(key[0] for key in missing)]
        with ProcessPoolExecutor(options.processes, context) as pool:
            # The first of each task compiles, alone, what the others then read.
            for key in track(first, "compiling, first runs", console=console):
                _keep(places[key], pool.submit(one_run, *key, options.quick).result())
            jobs = {pool.submit(one_run, *key, options.quick): key for key in missing if key not in first}
            for job in track(as_completed(jobs), "training", total=len(jobs), console=console):
                _keep(places[jobs[job]], job.result())
    return {
        task: {
            name: np.stack([np.load(places[task, name, s]) for s in range(options.seeds)])
            for name in variants_of(task, options)
        }
        for task in options.tasks
    }


def variants_of(task: str, options: argparse.Namespace) -> list[str]:
    """What is studied in a task: what everything is compared with comes first."""
    wanted = options.variants or (BOOK if task == "order_book" else VARIANTS)
    return [BASE, *(name for name in wanted if name != BASE)]


def _keep(place: Path, values: np.ndarray) -> None:
    partial = place.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, values)
    partial.replace(place)


def compare(found: dict[str, np.ndarray], better: int) -> Iterator[tuple[str, Interval, Interval | None]]:
    """For every variant its mean, and how much better it is than the fp32 network of width 64."""
    for name, values in found.items():
        interval = two_level_interval(values)
        difference = better * (values - found[BASE])
        yield name, interval, None if name == BASE else two_level_interval(difference)


def picture(results: dict[str, dict[str, np.ndarray]]) -> Figure:
    """A panel a task: every variant's difference to fp32 with its interval; right of the line is better."""
    names = [name for name in VARIANTS if name != BASE and any(name in found for found in results.values())]
    figure = Figure(figsize=(4.3 * len(results) + 1.5, 0.42 * len(names) + 1.6), layout="constrained")
    panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for panel, (task, found) in zip(panels, results.items(), strict=True):
        panel.axvline(0.0, color="#555555", linewidth=0.8)
        for name, _, difference in compare(found, TASKS[task].better):
            if difference is None:
                continue
            clear = difference.low > 0.0 or difference.high < 0.0
            colour = "#3b6ea5" if difference.mean >= 0.0 else "#b5532d"
            ends = [[difference.mean - difference.low], [difference.high - difference.mean]]
            panel.errorbar(
                difference.mean,
                names.index(name),
                xerr=ends,
                fmt="o",
                color=colour,
                capsize=3,
                markerfacecolor=colour if clear else "white",
            )
        panel.set_yticks(range(len(names)), names)
        panel.set_title(task.replace("_", " "))
        panel.set_xlabel(f"better than {BASE} by, in\n{TASKS[task].measure}")
        panel.margins(y=0.08)
        panel.locator_params(axis="x", nbins=5)
    panels[0].invert_yaxis()
    figure.suptitle("What ternary weights lose and win (95 % intervals; hollow: may be nothing)", fontsize=11)
    return figure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="default: all; of the order book a choice")
    parser.add_argument("--seeds", type=int, default=5, help="at least 2")
    parser.add_argument("--output", type=Path, default=Path("studies/ternary"))
    parser.add_argument("--processes", type=int, default=core_count())
    parser.add_argument("--quick", action="store_true", help="tiny budgets, to see that it runs")
    options = parser.parse_args()
    console = Console(width=130)
    try:
        if options.seeds < 2 or options.processes < 1:
            raise InputError("--seeds must be at least 2 and --processes at least 1")
        folder = options.output / ("quick" if options.quick else "")
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        results = study(options, folder, console)
    except (InputError, OSError) as error:
        console.print(f"error: {error}")
        return 1
    record: dict[str, Any] = {"seeds": options.seeds, "base": BASE, "tasks": {}}
    for task, found in results.items():
        table = Table(
            "variant", "mean", f"better than {BASE} by", "95 % interval", title=f"{task}: {TASKS[task].measure}"
        )
        rows = record["tasks"][task] = []
        for name, mean, difference in compare(found, TASKS[task].better):
            rows.append({"variant": name, "mean": mean._asdict(), "better": difference and difference._asdict()})
            cells = (
                ["", ""]
                if difference is None
                else [f"{difference.mean:+.5f}", f"{difference.low:+.5f} to {difference.high:+.5f}"]
            )
            table.add_row(name, f"{mean.mean:.5f}", *cells)
        console.print(table)
    write_json(folder / "results.json", record)
    picture(results).savefig(folder / "study.png", dpi=130)
    console.print(f"{folder / 'results.json'}, {folder / 'study.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
