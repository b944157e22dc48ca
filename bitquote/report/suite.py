"""Several markets side by side: one table and one picture of who earns what where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from bitquote.evaluation.attribution import PARTS
from bitquote.report.figures import PART_COLOURS
from bitquote.report.numbers import decimals_for, number
from bitquote.report.table import p_value_text

SHOWN = (
    "no_quote", "symmetric_constant", "avellaneda_stoikov", "glft_asymptotic", "glft", "dynamic_program_penalty",
    "glft_tuned",
)  # fmt: skip
"""Rows of the closed forms that have a column here; policies follow."""
NARROWEST = 110
"""Columns that the table on the screen needs; a narrower terminal wraps its lines."""
_SHORT = {
    "no_quote": "no quote", "symmetric_constant": "best constant", "avellaneda_stoikov": "Avellaneda-\nStoikov",
    "glft_asymptotic": "GLFT\nasymptotic", "glft": "GLFT", "dynamic_program_penalty": "dynamic\nprogram",
    "glft_tuned": "GLFT tuned",
}  # fmt: skip


def columns(summary: Mapping[str, Any]) -> list[str]:
    """The quoters of the table: closed forms, and policies (their pooled row where there are several)."""
    names = [row["quoter"] for market in summary["markets"].values() for row in market["rows"]]
    policies = ["policy"] if "policy" in names else sorted({name for name in names if name.startswith("policy")})
    return [*SHOWN, *policies]


def _margins(summary: Mapping[str, Any], quoter: str) -> Table:
    """One line a market: by how much a policy beats the reference, how sure that is, and how often on a path."""
    table = Table("market", f"{quoter} - reference", "95 %", "p, Holm", "better on", box=box.SIMPLE_HEAD)
    for name, market in summary["markets"].items():
        row = _rows(market).get(quoter, {})
        if row.get("regret") is None:
            continue
        margin = row["ci_high"] - row["regret"]
        places = decimals_for([row["regret"], margin], 3)
        corrected, improves = row.get("p_holm"), row.get("probability_of_improvement")
        style = "bold" if corrected is not None and corrected < 0.05 else None
        table.add_row(
            name, number(-row["regret"], places), "± " + number(margin, places),
            p_value_text(corrected),
            "-" if improves is None else f"{100.0 * improves['mean']:.0f} % of paths", style=style,
        )  # fmt: skip
    return table


def pair_lines(summary: Mapping[str, Any]) -> list[str]:
    """A line on each two cells whose policies were compared with each other."""
    lines = []
    for name, pair in summary.get("pairs", {}).items():
        first, second, seeds = *pair["cells"], len(pair["training_seeds"])
        if pair["mean"] is None:
            lines.append(f"{name}: {first} less {second} cannot be told from this sample")
            continue
        margin = pair["high"] - pair["mean"]
        places = decimals_for([pair["mean"], margin], 3)
        over = f"{seeds} training seeds" + ("" if pair["exact"] else " and the paths")
        gain = f"{pair['mean']:+.{places}f} ± {number(margin, places)}"
        p = p_value_text(pair["p_holm"])
        lines.append(f"{name}: {first} less {second} {gain} (95 %, paired over {over}; p, Holm {p})")
    return lines


def untuned_note(summary: Mapping[str, Any]) -> list[str]:
    """A line on the markets in which `glft_tuned` is GLFT itself."""
    names = [name for name, market in summary["markets"].items() if market["untuned"]]
    return [f"not tuned, as the optimum lies beyond the grid: {', '.join(names)}"] if names else []


def _rows(market: Mapping[str, Any]) -> dict[str, Any]:
    return {row["quoter"]: row for row in market["rows"]}


def print_suite(summary: Mapping[str, Any], console: Console | None = None) -> None:
    """One line a market: the objective of each quoter, the best in bold, and the margin of the last column's."""
    console = console or Console(width=NARROWEST if Console().width < NARROWEST else None)
    shown = columns(summary)
    table = Table("market", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in shown:
        table.add_column(_SHORT.get(name, name), justify="right")
    for name, market in summary["markets"].items():
        rows = _rows(market)
        values = [rows[quoter]["objective"] if quoter in rows else None for quoter in shown]
        best = max((value for value in values if value is not None), default=None)
        places = decimals_for(values, 3)
        cells = [number(value, places) for value in values]
        table.add_row(
            name, *(f"[bold green]{cell}[/]" if v == best else cell for cell, v in zip(cells, values, strict=True))
        )
    console.print(table)
    meaning = {"penalty": "mean profit less the inventory penalty", "cara": "certainty equivalent"}
    objectives = {market["objective"] for market in summary["markets"].values()}
    console.print(f"objective: {' or '.join(sorted(meaning[name] for name in objectives))}; the best in bold")
    for name in shown[len(SHOWN) :]:
        console.print(_margins(summary, name))
    for line in [*pair_lines(summary), *untuned_note(summary)]:
        console.print(line)


def suite_figure(summary: Mapping[str, Any]) -> Figure:
    """Left, the objective of each quoter in each market; right, where the tuned reference's profit comes from."""
    markets, shown = summary["markets"], columns(summary)
    height = 1.6 + 0.42 * len(markets)
    figure = Figure(figsize=(6.0 + 0.95 * len(shown), height), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(0.95 * len(shown), 5.0))
    for place, market in enumerate(markets.values()):
        rows = _rows(market)
        values = np.array([_value(rows, quoter) for quoter in shown])
        _draw_market(left, place, values)
        _draw_parts(right, place, rows[market["reference"]]["attribution"])
    left.set_xticks(range(len(shown)), [_SHORT.get(name, name) for name in shown], fontsize=8)
    left.xaxis.tick_top()
    left.set_yticks(range(len(markets)), list(markets), parse_math=False)
    left.set_ylim(len(markets) - 0.5, -0.5)
    left.set_xlim(-0.5, len(shown) - 0.5)
    title = "objective; green as good as the best of its line (yellow: not quoting is), red worse than not quoting"
    left.set_title("\n".join([title, *untuned_note(summary)]), fontsize=9, parse_math=False)
    right.set_xscale("symlog", linthresh=1.0)
    right.axvline(0.0, color="#333333", linewidth=0.8)
    right.set_title("profit of the reference by source", fontsize=9)
    below = {"loc": "outside lower right", "ncols": 5, "frameon": False}
    figure.legend(handles=[_patch(part) for part in PARTS], fontsize=7, **below)
    return figure


def _value(rows: Mapping[str, Any], quoter: str) -> float:
    value = rows.get(quoter, {}).get("objective")
    return np.nan if value is None else float(value)


def _draw_market(axis: Any, place: int, values: np.ndarray) -> None:
    """A line of cells, coloured from not quoting (0) to the best of the line."""
    best = float(np.nanmax(values))
    places = decimals_for([float(v) for v in values if np.isfinite(v)], 3)
    colours = _colours()
    for at, value in enumerate(values):
        share = 0.5 if best <= 0.0 else np.clip(value / best, 0.0, 1.0)
        share = 0.0 if value < -1e-9 else share
        axis.fill_between([at - 0.5, at + 0.5], place - 0.46, place + 0.46, color=colours(share), linewidth=0)
        weight = "bold" if value == best else "normal"
        ink = "white" if share < 0.12 or share > 0.92 else "black"
        axis.text(at, place, number(None if np.isnan(value) else value, places), ha="center", va="center", fontsize=8,
                  fontweight=weight, color=ink)  # fmt: skip


def _colours() -> Any:
    from matplotlib import colormaps

    return colormaps["RdYlGn"].resampled(256)


def _draw_parts(axis: Any, place: int, parts: Mapping[str, float]) -> None:
    ends = {1: 0.0, -1: 0.0}
    for part in PARTS:
        sign = 1 if parts[part] >= 0.0 else -1
        axis.barh(place, parts[part], left=ends[sign], height=0.7, color=PART_COLOURS[part])
        ends[sign] += parts[part]


def _patch(part: Any) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=PART_COLOURS[part], label=part.replace("_", " "))
