"""The benchmark as a table on the screen: best quoter first, with a legend that says what every number is."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from bitquote.report.numbers import MISSING, decimals_for, number

FEWEST_PATHS = 100
"""Simulated paths from which a difference of profits, skewed as they are, has an interval worth the name."""
WIDTH = 100
"""Columns that the table is laid out for; a narrower terminal drops the columns of least weight."""

_BEST, _POLICY = "bold green", "bold cyan"


class Column(NamedTuple):
    """A heading and one cell a row, drawn only where there is room: a small `weight` goes first."""

    title: str
    cells: list[str]
    weight: int


def print_benchmark(result: dict[str, Any], console: Console | None = None) -> None:
    """Print the content of benchmark.json as a table: in colour on a terminal, plain where the output is none."""
    console = console or Console()
    if console.is_terminal:
        console.print(benchmark_table(result, min(console.width, WIDTH)))
    else:
        console.print(benchmark_text(result), markup=False, highlight=False, soft_wrap=True, end="")


def benchmark_text(result: dict[str, Any], width: int = WIDTH) -> str:
    """The same table as plain text of at most `width` columns, for a file or TensorBoard."""
    text = io.StringIO()
    Console(file=text, width=width, force_terminal=False, color_system=None).print(benchmark_table(result, width))
    return text.getvalue()


def benchmark_table(result: dict[str, Any], width: int = WIDTH) -> Group:
    """A Rich renderable: title, rows by falling objective, legend."""
    rows = ranked(result)
    columns = _fitting(table_columns(rows, result), min(width, WIDTH))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column.title, justify="left" if column.title == "quoter" else "right", no_wrap=True)
    best = next((row["objective"] for row in rows if row["objective"] is not None), None)
    for index, row in enumerate(rows):
        table.add_row(*(column.cells[index] for column in columns), style=_style(row, best))
    title = Text(f"{result['market']}: {OBJECTIVES[result['objective']]}, gamma {result['gamma']:g}", style="bold")
    return Group(title, table, Text(legend(result), style="dim"))


def ranked(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows by falling objective; those that have none come last, in their own order."""
    return sorted(
        result["rows"], key=lambda row: -math.inf if row["objective"] is None else row["objective"], reverse=True
    )


def too_few_paths(result: Mapping[str, Any]) -> bool:
    """Whether the profits of the paths are so few that Student's interval of their mean is not to be trusted."""
    return not is_exact(result) and result["paths"] < FEWEST_PATHS


def legend(result: Mapping[str, Any]) -> str:
    """What the numbers are: units, reference, paths, conventions, what is exact, and the recording's figures."""
    exact = is_exact(result)
    lines = [
        f"Money in {result['units']}. Regret: objective of {result['reference']} (*) less the row's, "
        + ("exact." if exact else "paired, with its 95 % interval; below zero beats it."),
        _sampling(result, exact),
        f"Closed forms: {result['fill_convention']} fills, {result['mid_convention'].replace('_', '-')} mid, "
        f"dt {result['dt']:g}. Liquidation: {result['liquidation']}.",
    ]
    if exact:
        lines.insert(1, "Gap: regret as a share of symmetric_constant's.")
    else:
        horizon = f"{result['markout_horizon']:g} s"
        lines.insert(
            1, f"Markout: move of the mid {horizon} after own fills, in price; fills/s: orders a second and side."
        )
    tuning = result.get("tuning")
    if tuning and "untuned" in tuning:
        lines.append("glft_tuned: not tuned, GLFT itself, as the optimum lies beyond the grid.")
    elif tuning:
        grid = f"{len(tuning['shifts'])} x {len(tuning['scales'])} grid"
        lines.append(
            f"glft_tuned: half-spread {tuning['shift']:+.4g}, skew x {tuning['scale']:.4g}, "
            f"the best of a {grid} and its refinement (seed {tuning['seed']})."
        )
    lines += _distances(result)
    recorded = [f"{key} {value:.4g}" for key, value in result.get("recording", {}).items() if _is_number(value)]
    if recorded:
        lines.append("In the recording: " + ", ".join(recorded) + ".")
    return "\n".join(lines)


OBJECTIVES = {"penalty": "mean profit less the inventory penalty", "cara": "certainty equivalent"}


def _distances(result: Mapping[str, Any]) -> list[str]:
    """How far policies quote from glft_tuned, over all training seeds where there are several."""
    rows = [row for row in result["rows"] if row.get("distance_to_glft")]
    rows = [row for row in rows if row["quoter"] == "policy"] or rows
    return [
        "{}: half-spread {half_spread:.3g} and skew {skew:.3g} from glft_tuned's (mean distance).".format(
            row["quoter"], **row["distance_to_glft"]
        )
        for row in rows
    ]


def is_exact(result: Mapping[str, Any]) -> bool:
    """Whether the figures are exact expectations, as in the game, and no estimates."""
    return any(row["exact"] for row in result["rows"])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sampling(result: Mapping[str, Any], exact: bool) -> str:
    sample = f"{result['paths']:,} paths of seed {result['seed']} on common random numbers"
    seeds = f"; training seeds {', '.join(map(str, result['training_seeds']))}" if result["training_seeds"] else ""
    few = f". So few paths make no claim, {FEWEST_PATHS} are the least" if too_few_paths(result) else ""
    return (f"Drawdown: {sample}" if exact else f"Simulated: {sample}") + seeds + few + "."


def _style(row: dict[str, Any], best: float | None) -> str:
    if row["objective"] is not None and row["objective"] == best:
        return _BEST
    return _POLICY if row["quoter"].startswith("policy") else ""


def table_columns(rows: Sequence[dict[str, Any]], result: Mapping[str, Any]) -> list[Column]:
    """Every column that says something about these rows, in reading order."""

    def column(title: str, value: Callable[[dict[str, Any]], float | None], weight: int, digits: int = 4) -> Column:
        values = [value(row) for row in rows]
        places = decimals_for(values, digits)
        return Column(title, [number(entry, places) for entry in values], weight)

    names = [row["quoter"] + (" *" if row["quoter"] == result["reference"] else "") for row in rows]
    money = decimals_for([row["objective"] for row in rows], 6 if is_exact(result) else 5)
    drawn = [
        Column("quoter", names, 99),
        Column("objective", [number(row["objective"], money) for row in rows], 98),
        Column("regret", [regret_text(row, money) for row in rows], 97),
        Column("p", [p_value_text(row.get("p_value")) for row in rows], 12),
        Column("improves", [_probability(row.get("probability_of_improvement")) for row in rows], 11),
        column("gap %", lambda row: _times(row["normalised_gap"], 100.0), 96),
        column("profit", lambda row: row["mean_profit"], 90, 5),
        column("std", lambda row: row["std_profit"], 70),
        column("std q", lambda row: row["std_terminal_inventory"], 85, 3),
        column("spread", lambda row: row["mean_spread"], 80),
        column("fills", lambda row: row["fills"], 50),
        column("fills/s", lambda row: row.get("fill_rate"), 81, 3),
        column("markout", lambda row: row.get("markout_1s"), 82, 3),
        column("drawdown", lambda row: row["max_drawdown"], 20),
        Column("certainty", [number(row["certainty_equivalent"], money) for row in rows], 10),
        column("Sharpe", lambda row: row.get("sharpe_ratio"), 9, 3),
        column("deflated", lambda row: row.get("deflated_sharpe_ratio"), 8, 3),
    ]
    return [entry for entry in drawn if any(cell != MISSING for cell in entry.cells)]


def regret_text(row: Mapping[str, Any], places: int) -> str:
    """The regret, with half the width of its interval where it has one."""
    text = number(row["regret"], places)
    if row["regret"] is None or row["ci_low"] == row["ci_high"]:
        return text
    return f"{text} ± {number(0.5 * (row['ci_high'] - row['ci_low']), places)}"


def p_value_text(value: float | None) -> str:
    """A p-value; how far below 0.0001 it is, nobody knows."""
    if value is None:
        return MISSING
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _probability(interval: dict[str, float] | None) -> str:
    return MISSING if interval is None else "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**interval)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def _fitting(columns: list[Column], width: int) -> list[Column]:
    """The columns of most weight whose widths, with the separators, fit `width`; in reading order."""
    kept = list(columns)
    while len(kept) > 2 and sum(_width(column) for column in kept) > width:
        kept.remove(min(kept, key=lambda column: column.weight))
    return kept


def _width(column: Column) -> int:
    return max(map(len, [column.title, *column.cells])) + 2
