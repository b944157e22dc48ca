"""What quoters made of a recording, as a table on the screen with its limits under it."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bitquote.evaluation.attribution import PARTS
from bitquote.report.numbers import decimals_for, number

LIMITS = """\
Nobody in the recording reacts to the maker: what it takes from others they still get, nobody cancels or quotes because
of it. That overestimates its fills, and hides whatever its quotes would tell others. Episodes follow one another in one
recording, so that they are hardly independent: an interval over them speaks of this stretch of time alone."""
WIDTH = 120
"""Columns of the table where the output is no terminal."""
_QUEUES = {
    "orders": "places in queues are exact: behind the orders that were there, and before those that came later",
    "proportional": "places in queues are estimates: cancellations come from ahead and behind in proportion",
    "conservative": "places in queues are estimates: cancellations come from behind, only trades advance",
}


def print_quoted(result: dict[str, Any], console: Console | None = None) -> None:
    """Print the `quoted` part of a replay's result."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=WIDTH, color_system=None)
    rows = result["rows"]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("quoter", no_wrap=True)
    columns = [[f"{row['fills']:g}" for row in rows], [f"{row['turnover']:g}" for row in rows]]
    columns += [_intervals([row[name] for row in rows]) for name in ("profit", "markout")]
    for part in PARTS:
        values = [row["attribution"][part] for row in rows]
        columns.append([number(value, decimals_for(values, 4)) for value in values])
    for title in ("fills", "turnover", "profit", "markout", "spread", "adverse", "inventory", "fees", "liquidation"):
        table.add_column(title, justify="right", no_wrap=True)
    for row, cells in zip(rows, zip(*columns, strict=True), strict=True):
        table.add_row(row["quoter"], *cells)
    console.print(table)
    note = (
        f"{result['market']}: {result['episodes']} episodes of {result['episode_seconds']:g} s, one after the other; "
        f"fills and turnover (orders) of all of them, the rest means of an episode in {result['units']}, markouts per "
        f"order after {result['markout_horizon']:g} s in price, ± 95 % over episodes; no_quote makes 0, so profit is "
        f"the advantage over it; {_QUEUES[result['queue_model']]}. {' '.join(LIMITS.split())}"
    )
    console.print(note, markup=False, highlight=False)


def _intervals(entries: list[dict[str, float | None]]) -> list[str]:
    places = decimals_for([entry["mean"] for entry in entries], 4)
    cells = []
    for entry in entries:
        mean, low, high = entry["mean"], entry["low"], entry["high"]
        half = "" if low is None or high is None or low == high else f" ± {number(0.5 * (high - low), places)}"
        cells.append(number(mean, places) + half)
    return cells
