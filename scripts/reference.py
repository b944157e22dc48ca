"""Write docs/reference.md from the code: python scripts/reference.py

Settings are the files of conf/ with their comments, and the fields of the dataclasses that files may leave out; figures
are those that small runs really leave. A test holds that the committed page is what this makes.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import bitquote
from bitquote.evaluation.row import BASELINES
from bitquote.market.configuration import RivalConfig
from bitquote.market.flow_configuration import LISTS, SECTIONS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference.md"
FILES = ("config.yaml", "policy/ternary.yaml", "learner/pathwise.yaml", "learner/distill.yaml", "learner/ppo.yaml",
         "trainer/default.yaml", "benchmark/default.yaml", "server/shm.yaml", "market/order_book.yaml",
         "market/game.yaml")  # fmt: skip
SMALL = ("learner.epochs=2", "learner.iterations_per_epoch=1", "policy.hidden=[8]", "benchmark.paths=16",
         "benchmark.tuning.paths=4", "trainer.progress=false", "trainer.log_every_n_steps=1")  # fmt: skip
RUNS = {
    f"{market}, {learner}": (f"market={market}", f"learner={learner}", *SMALL)
    for market in ("game", "order_book")
    for learner in ("pathwise", "distill", "ppo")
}
FIELD = re.compile(r"^    (\w+): [^#\n]+?  # (.+)$", re.MULTILINE)
MEANINGS = {
    # benchmark.json
    "version": "of the format", "market": "name of the market", "gamma": "risk aversion",
    "units": "unit of all money", "paths": "test paths", "seed": "of the test paths",
    "rows: objective": "its value", "training_seeds": "of the policies",
    "dt": "time between two decisions", "fill_convention": "`linear` or `exponential`",
    "mid_convention": "`two_point` or `gaussian`",
    "reference": "the row that regret is measured to", "simulated": "figures that are simulated; all others are exact",
    "markout_horizon": "seconds", "recording": "figures of the recording that the market was calibrated from",
    "tuning": "the grid of `glft_tuned`: every point with its score, and the best", "rows": "one a quoter",
    "quoter": "name of the row", "mean_profit": "mean of terminal wealth", "std_profit": "its standard deviation",
    "mean_terminal_inventory": "at the horizon, before liquidation", "std_terminal_inventory": "its standard deviation",
    "mean_spread": "bid + ask distance where both are quoted, price", "fills": "mean number of fills of a path",
    "turnover": "mean volume bought and sold, in order sizes", "max_drawdown": "mean largest fall of wealth",
    "certainty_equivalent": "-ln E[exp(-gamma W)] / gamma; null where it cannot be told",
    "regret": "objective of the reference less the row's", "ci_low": "lower end of its 95 % interval",
    "ci_high": "upper end", "normalised_gap": "regret as a share of `symmetric_constant`'s; the game only",
    "exact": "whether the row is exact", "fill_rate": "orders filled a second and side",
    "markout_1s": "mean move of the mid from a fill to the horizon of the markout; below 0 is against the maker",
    "attribution": "parts of the mean profit, which add up to it",
    "attribution.spread": "edges to the mid at the fills", "attribution.adverse_selection": "markouts of the fills",
    "attribution.inventory": "the rest of the mark-to-market", "attribution.fees": "below 0 when paid",
    "attribution.liquidation": "of what is left at the horizon",
    "liquidation": "how the last inventory ends",
    "sharpe_ratio": "mean over standard deviation of a path's profit, not annualised",
    "deflated_sharpe_ratio": "probability that it is above what the best of the attempts would show by luck",
    "p_value": "two-sided, of a regret of zero",
    "probability_of_improvement": "share of paths on which the row earns more than the reference, with its interval",
    "distance_to_glft": "mean distance of a policy's quotes from `glft_tuned`'s, price",
    # metrics.json
    "learner": "its settings", "policy": "settings of the network", "metrics.json: seed": "of the run",
    "objective": "`penalty` or `cara`", "score": "of the last validation",
    "score_name": "what it is", "references": "scores of baselines",
    "reached": "steps and seconds after which each of them was reached", "updates": "of the optimiser",
    "steps": "environment steps", "seconds": "of the training", "steps_per_second": "environment steps",
    "history": "steps, seconds and score of every validation", "server": "figures of the parameter server, or null",
    # TensorBoard
    "TensorBoard: objective": "of the validation, exact", "TensorBoard: fills": "mean of the validation",
    "policy/benchmark": "regret and attribution of every row", "policy/episode": "one path of the policy",
    "policy/quotes": "half-spread and skew beside the reference's", "policy/quotes_in_training": "at each evaluation",
    "ternary/negative_<layer>": "share of weights -1", "ternary/positive_<layer>": "share of weights 1",
    "difference_low": "lower end of the advantage over `glft_tuned`", "difference_high": "upper end",
    "TensorBoard: score": "of the validation: the gap in the game, the objective in the order book",
    "loss": "of an update", "epoch": "number of the epoch", "visited": "cells of the table that the sampled paths met",
    "difference": "to `glft_tuned` on the same paths", "difference_error": "its standard error",
    "profit/mean": "mean of the validation", "profit/std": "its standard deviation",
    "inventory/terminal_std": "standard deviation of the inventory at the horizon", "spread/mean": "bid + ask distance",
    "rollout/fills": "mean number of orders filled on a training path",
    "rollout/reward": "mean reward of a training path",
    "reference/<baseline>": "the score of a baseline, a line across the curves",
    "ternary/zeros_<layer>": "share of weights that are 0", "ternary/flips_<layer>": "share that changed in the epoch",
    "ppo/clipped": "share of ratios that were clipped", "ppo/behaviour_lag": "updates since the rollout's policy",
    "benchmark/<row>/<figure>": "the table", "quotes": "picture of the quotes", "episode": "picture of one path",
    "benchmark": "picture of the table",
    "config/text_summary": "all settings",
    "benchmark/text_summary": "the table as text",
    "custom_scalars__config__": "layout of the page Custom Scalars",
}  # fmt: skip
"""What a figure is; one that is not here has an empty cell."""


def reference() -> str:
    """The page."""
    found: dict[str, dict[str, list[str]]] = {"benchmark.json": {}, "rows": {}, "metrics.json": {}, "TensorBoard": {}}
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        for number, (name, words) in enumerate(RUNS.items()):
            run = bitquote.train(*words, output=f"{folder}/{number}")
            policy = next(row for row in run.benchmark["rows"] if row["quoter"] == "policy")
            keys = {"benchmark.json": run.benchmark, "rows": {**policy, **_dotted(policy, "attribution")}}
            for page, names in {**keys, "metrics.json": run.metrics, "TensorBoard": tags(run.directory)}.items():
                for key in names:
                    found[page].setdefault(key, []).append(name)
    return "\n".join([*_settings(), *_figures(found)]) + "\n"


def tags(directory: Path) -> list[str]:
    """The tags of a run's events, those of one kind under one name."""
    events = EventAccumulator(str(directory))
    events.Reload()
    kinds = [tag for kind in ("scalars", "images", "tensors") for tag in events.Tags()[kind]]
    for pattern, name in (
        (r"benchmark/.+/.+", "benchmark/<row>/<figure>"),
        (r"reference/.+", "reference/<baseline>"),
        (r"(ternary/\w+)_\d+", r"\1_<layer>"),
    ):
        kinds = [re.sub(f"^{pattern}$", name, tag) for tag in kinds]
    return sorted(dict.fromkeys(kinds))


def _settings() -> Iterable[str]:
    yield "# Reference\n\nGenerated by `python scripts/reference.py` from the code; do not edit.\n\n## Settings\n"
    yield "Every key can be given on the command line with its group before it, as in `market.gamma=0.05`.\n"
    for file in FILES:
        yield f"### `conf/{file}`\n\n```yaml\n{(ROOT / 'conf' / file).read_text(encoding='utf-8').strip()}\n```\n"
    yield "### Sections that a market may have\n"
    for name, schema in {**SECTIONS, **LISTS}.items():
        yield f"`market.flow.{name}`{' (a list)' * (name in LISTS)}: {_first_line(schema)}\n\n{_fields(schema)}\n"
    yield f"`market.rivals` (a list): {_first_line(RivalConfig)}\n\n{_fields(RivalConfig)}\n"
    yield "### Markets that ship\n\n| `market=` | |\n|---|---|"
    for path in sorted((ROOT / "conf" / "market").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        market = yaml.safe_load(text)
        about = market.get("description") or market.get("source") or text.partition("\n")[0].lstrip("# ")
        yield f"| `{path.stem}` | {about} |"


def _figures(found: Mapping[str, Mapping[str, list[str]]]) -> Iterable[str]:
    yield f"\n## Figures\n\nThe rows of a benchmark: {', '.join(f'`{name}`' for name in BASELINES)}; then policies."
    for title, keys in found.items():
        yield f"\n### {'Rows of benchmark.json' if title == 'rows' else title}\n\n| | | of |\n|---|---|---|"
        for key, names in keys.items():
            where = "all" if len(names) == len(RUNS) else _common(names)
            yield f"| `{key}` | {MEANINGS.get(f'{title}: {key}') or MEANINGS.get(key, '')} | {where} |"


def _common(names: list[str]) -> str:
    """The runs that have a figure, as the market or the learner that they share."""
    for part in (0, 1):
        for word in dict.fromkeys(name.split(", ")[part] for name in names):
            if [name for name in RUNS if name.split(", ")[part] == word] == names:
                return word
    return "; ".join(names)


def _fields(schema: type) -> str:
    """A table of a dataclass whose fields have their meaning in a comment."""
    comments = dict(FIELD.findall(inspect.getsource(schema)))
    rows = ["| key | default | |", "|---|---|---|"]
    for field in dataclasses.fields(schema):
        default = "required" if field.default is dataclasses.MISSING else json.dumps(field.default)
        rows.append(f"| `{field.name}` | {default} | {comments.get(field.name, '')} |")
    return "\n".join(rows)


def _first_line(schema: type) -> str:
    return (schema.__doc__ or "").split("\n")[0]


def _dotted(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {f"{key}.{name}": value for name, value in row[key].items()}


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
