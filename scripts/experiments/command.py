"""What the commands of both experiments have in common: words, progress, tables, files."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bitquote.errors import InputError, require, require_choice, require_integer
from bitquote.server import ServerError
from bitquote.server.config import core_count

ENGINES = ("inproc", "shm", "ray")
COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "workers": lambda row: str(row["workers"]),
    "τ": lambda row: str(row["tau"]),
    "seconds": lambda row: f"{row['seconds']:.2f}",
    "pushes/s": lambda row: f"{row['pushes'] / row['seconds']:,.0f}",
    "delay": lambda row: f"{row['mean_delay']:.2f}",
    "most": lambda row: str(row["largest_delay"]),
}
"""Of every table of runs, and what each shows of a run."""
Item = TypeVar("Item")


def parser(description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """The words that both experiments know; `rounds` is the default."""
    words = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--engine", default="shm", help="inproc, shm (default) or ray")
    words.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of workers to compare (1 2)")
    words.add_argument("--tau", type=int, nargs="+", default=[0, 1, 4, 16], help="bounds to compare; 0: bsp (0 1 4 16)")
    words.add_argument("--rounds", type=int, default=rounds, help=f"pushes of every worker ({rounds})")
    words.add_argument("--seed", type=int, default=0, help="of everything that is drawn (0)")
    words.add_argument("--quick", action="store_true", help="a small part of the work, to see that it runs")
    words.add_argument("--output", type=Path, help="folder for results.json and the figures")
    return words


def check(options: argparse.Namespace) -> None:
    """Raise `InputError` for words that make no sense."""
    require_choice("--engine", options.engine, ENGINES)
    for workers in options.workers:
        require_integer("--workers", workers, 1, 1024)
    for tau in options.tau:
        require_integer("--tau", tau, 0, 1023)
    require_integer("--rounds", options.rounds, 10)
    require_integer("--seed", options.seed, 0, 2**32 - 1)
    output = options.output
    require(output is None or not output.exists() or output.is_dir(), "--output", str(output), "a folder")


def surroundings(options: argparse.Namespace) -> dict[str, Any]:
    """What a reader of results.json must know besides the figures."""
    names = ("engine", "rounds", "seed", "quick")
    return {name: getattr(options, name) for name in names} | {"cores": core_count()}


def tracked(items: Sequence[Item], label: Callable[[Item], str], console: Console) -> Iterator[Item]:
    """The items, with a bar that names the one at work."""
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(items))
        for item in items:
            progress.update(task, description=label(item))
            yield item
            progress.advance(task)


def write(directory: Path | None, results: dict[str, Any], figures: dict[str, Figure], console: Console) -> None:
    """results.json and a PNG a figure; nothing without a folder. Raises `InputError` where it cannot be written."""
    if directory is None:
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "results.json").write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
        for name, figure in figures.items():
            figure.savefig(directory / f"{name}.png", dpi=120)
    except OSError as error:
        raise InputError(f"--output is {str(directory)!r}: {error.strerror or error}") from None
    written = ", ".join(["results.json", *(f"{name}.png" for name in figures)])
    console.print(f"{directory}: {written}", highlight=False, soft_wrap=True)


def numbers(values: Iterable[float]) -> list[float | None]:
    """For JSON: floats, None where undefined."""
    return [float(value) if math.isfinite(value) else None for value in values]


def cell(value: float | None, form: str = "{:.3g}") -> str:
    """For a table: a dash where there is nothing."""
    return "-" if value is None or not math.isfinite(value) else form.format(value)


def first_at_most(values: np.ndarray, level: float, along: np.ndarray) -> float | None:
    """The entry of `along` where `values` is at most `level` for the first time; None when it never is."""
    reached = np.flatnonzero(values <= level)
    return float(along[reached[0]]) if reached.size else None


def runs_table(runs: list[dict[str, Any]], title: str, own: dict[str, Callable[[dict[str, Any]], str]]) -> Table:
    """A line a run: the columns that both experiments have, then the `own` of one of them."""
    columns, table = COLUMNS | own, Table(title=title)
    for name in columns:
        table.add_column(name, justify="right")
    for row in runs:
        table.add_row(*(show(row) for show in columns.values()))
    return table


def run(main: Callable[[], None]) -> None:
    """Call `main`; bad input and servers that fail end in one line and exit status 1."""
    try:
        main()
    except (InputError, ServerError) as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
