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

from bitquote.market import Game, OrderBookMarket
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

REGRET = ("regret", "ci_low", "ci_high")
NEAR = ("glft", "glft_tuned")
"""Baselines that a policy is about as good as: among the others their differences are too small to be seen."""


def write_benchmark(writer: SummaryWriter, result: Mapping[str, Any], last_step: int) -> None:
    """Every row's figures as scalars, and the table as text.

    A baseline is written at the first and at the last step, so that it draws as a line across the training
    curves; a policy at the last step only, where it was judged, but for its regret, whose interval needs the width.
    """
    for row in result["rows"]:
        for figure in FIGURES:
            if row.get(figure) is not None:
                point = _is_policy(row) and figure not in REGRET
                for step in (last_step,) if point else (0, last_step):
                    writer.add_scalar(tag(row["quoter"], figure), row[figure], step)
    writer.add_text("benchmark", _preformatted(benchmark_text(dict(result))), last_step)


def write_layout(
    writer: SummaryWriter, market: Game | OrderBookMarket, rows: Sequence[str], *, served: bool = False
) -> None:
    """The charts of TensorBoard's Custom Scalars: training beside the lines of the benchmark's `rows`, once these are
    there, in an order book with margins; the ternary weights; the staleness of a training that a server `served`.
    """
    figure = "normalised_gap" if isinstance(market, Game) else "objective"
    near = [row for row in rows if row in NEAR or row.startswith("policy")]
    curves: dict[str, list[Any]] = {
        "score in validation": ["Multiline", ["^score$", "^reference/"]],
        f"{figure}: policy and the best closed forms": ["Multiline", _exactly(*_tags(near, figure))],
        f"{figure}: policy and every baseline": ["Multiline", _exactly(*_tags(rows, figure))],
    }
    margins: dict[str, list[Any]] = {}
    if isinstance(market, OrderBookMarket):
        validation = ["difference", "difference_low", "difference_high"]
        margins["policy - glft_tuned in validation"] = ["Margin", validation]
        for row in rows:
            if row != "glft_tuned":
                margins[f"glft_tuned - {row.replace(':', '.')}"] = ["Margin", [tag(row, name) for name in REGRET]]
    states = {
        "ternary weights: shares of -1, 0, 1": ["Multiline", ["^ternary/(negative|zeros|positive)_"]],
        "ternary weights: share that flipped in an epoch": ["Multiline", ["^ternary/flips_"]],
    }
    if served:
        delays = ["^server/(version_delay|clock_gap)_(mean|max)$"]
        states["staleness at the parameter server"] = ["Multiline", delays]
    categories = {"policy and baselines": curves, "objectives apart, with 95 % intervals": margins, "inside": states}
    writer.add_custom_scalars({title: charts for title, charts in categories.items() if charts})


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
    """Figures as images. About a quarter of a second each: for the end of a run."""
    for name, figure in pictures.items():
        writer.add_image(picture(name), pixels(figure), step, dataformats="HWC")


def tag(row: str, figure: str) -> str:
    """The scalar's tag; TensorBoard has no colon in tags, so `policy:3` is written `policy.3`."""
    return f"benchmark/{row.replace(':', '.')}/{figure}"


def picture(name: str) -> str:
    """The image's tag: all pictures make one group, which TensorBoard shows unfolded."""
    return f"policy/{name}"


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


def _tags(rows: Sequence[str], figure: str) -> list[str]:
    """The validation's score, which estimates the figure, and the rows' own."""
    return ["score", *(tag(row, figure) for row in rows)]


def _exactly(*tags: str) -> list[str]:
    """Regular expressions that match these tags alone."""
    return [f"^{re.escape(name)}$" for name in tags]


def _is_policy(row: Mapping[str, Any]) -> bool:
    return row["quoter"] == "policy" or row["quoter"].startswith("policy:")


def _preformatted(text: str) -> str:
    """Markdown that keeps line breaks: four spaces before every line."""
    return "\n".join("    " + line for line in text.splitlines())
