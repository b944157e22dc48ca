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
    figures = pictures(market, policy, result)
    with SummaryWriter(str(directory)) as writer:
        tensorboard.write_config(writer, (directory / CONFIG).read_text(encoding="utf-8"))
        tensorboard.write_benchmark(writer, result, last_step)
        rows = [row["quoter"] for row in result["rows"] if row["objective"] is not None]
        tensorboard.write_layout(writer, market, rows, served=_served(node))
        tensorboard.write_hyperparameters(writer, chosen(node), result)
        tensorboard.write_pictures(writer, figures, last_step)
    for name, figure in figures.items():
        save(figure, directory / f"{name}.png")


def chosen(node: dict[str, Any]) -> dict[str, Any]:
    """What of a configuration one would compare runs by: neither the market's inside nor how the run was judged."""
    market = {key: node["market"][key] for key in ("name", "gamma")}
    server = {"server": node["server"]} if _served(node) else {}
    return {"market": market, **{key: node[key] for key in ("objective", "seed", "policy", "learner")}, **server}


def _served(node: dict[str, Any]) -> bool:
    return node.get("server", {}).get("engine", "none") != "none"
