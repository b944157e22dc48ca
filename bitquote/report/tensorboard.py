"""A finished run in TensorBoard: the benchmark beside the training curves, configuration, hyperparameters, pictures.

`writer` is a `torch.utils.tensorboard.SummaryWriter`, which is what a Lightning `TensorBoardLogger.experiment` is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from bitquote.report.figures import pixels
from bitquote.report.table import benchmark_text

FIGURES = (
    "objective",
    "regret",
    "ci_low",
    "ci_high",
    "normalised_gap",
    "mean_profit",
    "std_profit",
    "std_terminal_inventory",
    "mean_spread",
    "fills",
    "certainty_equivalent",
)
"""Figures of a row that become the scalars `benchmark/<row>/<figure>`; the whole table is there as text."""


def write_benchmark(writer: SummaryWriter, result: Mapping[str, Any], last_step: int) -> None:
    """Every row's figures as scalars, and the table as text.

    A baseline is written at the first and at the last step, so that it draws as a line across the training
    curves; a policy at the last step only, where it was judged.
    """
    for row in result["rows"]:
        steps = (last_step,) if _is_policy(row) else (0, last_step)
        for figure in FIGURES:
            if row.get(figure) is not None:
                for step in steps:
                    writer.add_scalar(tag(row["quoter"], figure), row[figure], step)
    writer.add_text("benchmark", _preformatted(benchmark_text(dict(result))), last_step)


def write_layout(writer: SummaryWriter, result: Mapping[str, Any], curves: Mapping[str, Sequence[str]]) -> None:
    """Charts that hold training curves and the baselines' lines together (TensorBoard's Custom Scalars).

    `curves` maps a figure of the benchmark ("objective", "normalised_gap") to the tags of the training curves that
    estimate it.
    """
    charts = {}
    for figure, tags in curves.items():
        rows = [row["quoter"] for row in result["rows"] if row.get(figure) is not None]
        exact_tags = [*tags, *(tag(row, figure) for row in rows)]
        charts[figure] = ["Multiline", [f"^{re.escape(name)}$" for name in exact_tags]]
    writer.add_custom_scalars({"policy and baselines": charts})


def write_hyperparameters(writer: SummaryWriter, config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """The flattened `config` with the policies' figures as metrics, for TensorBoard's HParams page."""
    metrics = {
        tag(row["quoter"], figure): row[figure]
        for row in result["rows"]
        if _is_policy(row)
        for figure in FIGURES
        if row.get(figure) is not None
    }
    events = writer.file_writer
    if events is None:
        raise ValueError("the writer is closed")
    for summary in hparams(flattened(config), metrics):
        events.add_summary(summary)


def write_config(writer: SummaryWriter, yaml: str) -> None:
    """The resolved configuration as text."""
    writer.add_text("config", _preformatted(yaml))


def write_pictures(writer: SummaryWriter, pictures: Mapping[str, Figure], step: int) -> None:
    """Figures as images under their names. About a quarter of a second each: for the end of a run."""
    for name, figure in pictures.items():
        writer.add_image(name, pixels(figure), step, dataformats="HWC")


def tag(row: str, figure: str) -> str:
    """The scalar's tag; TensorBoard has no colon in tags, so `policy:3` is written `policy.3`."""
    return f"benchmark/{row.replace(':', '.')}/{figure}"


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, int | float | str | bool]:
    """`config` with dotted keys; what HParams cannot hold (lists, None) as text."""
    flat: dict[str, int | float | str | bool] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{name}.")
        else:
            flat[name] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat


def _is_policy(row: Mapping[str, Any]) -> bool:
    return row["quoter"] == "policy" or row["quoter"].startswith("policy:")


def _preformatted(text: str) -> str:
    """Markdown that keeps line breaks: four spaces before every line."""
    return "\n".join("    " + line for line in text.splitlines())
