"""A search as a table and as a picture, from the content of its sweep.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich import box
from rich.console import Console
from rich.table import Column, Table

from bitquote.report.figures import BASELINE, MID, POLICY
from bitquote.report.numbers import decimals_for, number


def print_search(summary: Mapping[str, Any]) -> None:
    """One line a trial: what became of it, the score by which it was ranked, and the words in which it differs."""
    rows = summary["runs"]
    shared = set.intersection(*(set(row["overrides"]) for row in rows)) if len(rows) > 1 else set()
    name = summary["score"]["name"].replace("_", " ")
    table = Table("trial", Column("what differs", overflow="fold"), "state", box=box.SIMPLE_HEAD)
    for column in ("epochs", name, "Sharpe ratio"):
        table.add_column(column, justify="right", no_wrap=True)
    decimals = {key: decimals_for((row[key] for row in rows), 4) for key in ("score", "sharpe_ratio")}
    for row in rows:
        words = " ".join(word for word in row["overrides"] if word not in shared)
        state = "selected" if row["directory"] == summary["selected"] else row["state"]
        figures = (number(row[key], decimals[key]) for key in decimals)
        table.add_row(row["directory"], words, state, number(row["epochs"], 0), *figures)
    Console(soft_wrap=True).print(table)


def search_figure(summary: Mapping[str, Any]) -> Figure:
    """The score of every trial with the best so far, and how much each searched word matters where that is known."""
    importances = summary["importances"]
    widths = [7.0, 4.0] if importances else [7.0]
    figure = Figure(figsize=(sum(widths), 4.2), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(widths), width_ratios=widths))
    _draw_trials(axes[0], summary)
    if importances:
        names = list(importances)[::-1]
        axes[1].barh(names, [importances[name] for name in names], color=BASELINE, height=0.6)
        axes[1].set_xlabel("share of the score's variation (PED-ANOVA)")
        axes[1].grid(axis="x", alpha=0.25)
    return figure


def _draw_trials(axis: Axes, summary: Mapping[str, Any]) -> None:
    score = summary["score"]
    rows = [row | {"number": int(row["directory"])} for row in summary["runs"] if row["score"] is not None]
    kinds = {"complete": ("o", BASELINE, "finished"), "pruned": ("x", MID, "pruned")}
    for state, (marker, colour, label) in kinds.items():
        there = [row for row in rows if row["state"] == state]
        axis.plot([row["number"] for row in there], [row["score"] for row in there], marker, color=colour, label=label)
    done = [row for row in rows if row["state"] == "complete"]
    best = (np.minimum if score["lower_is_better"] else np.maximum).accumulate([row["score"] for row in done])
    axis.step([row["number"] for row in done], best, where="post", color=POLICY, label="best so far")
    if score["lower_is_better"] and min(row["score"] for row in rows) > 0.0:
        axis.set_yscale("log")
    axis.set_xlabel("trial")
    axis.set_ylabel(f"{score['name'].replace('_', ' ')} on validation")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False)
    axis.grid(alpha=0.25)
