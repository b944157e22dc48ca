"""What a finished run shows in TensorBoard, and as pictures in its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from bitquote.market import Game, OrderBookMarket
from bitquote.report import tensorboard
from bitquote.report.figures import save
from bitquote.report.pictures import pictures
from bitquote.run import CONFIG
from bitquote.ternary import Policy


def present(
    directory: Path,
    node: dict[str, Any],
    market: Game | OrderBookMarket,
    policy: Policy,
    result: dict[str, Any],
    last_step: int,
) -> None:
    """Write the benchmark `result`, the configuration `node` and the pictures beside the training curves."""
    # The tags of the learning curves that estimate a figure of the benchmark.
    curves = {"normalised_gap": ["score"]} if isinstance(market, Game) else {"objective": ["score"]}
    figures = pictures(market, policy, result)
    with SummaryWriter(str(directory)) as writer:
        tensorboard.write_config(writer, (directory / CONFIG).read_text(encoding="utf-8"))
        tensorboard.write_benchmark(writer, result, last_step)
        tensorboard.write_layout(writer, result, curves)
        tensorboard.write_hyperparameters(writer, node, result)
        tensorboard.write_pictures(writer, figures, last_step)
    for name, figure in figures.items():
        save(figure, directory / f"{name}.png")
