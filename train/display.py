"""What a verb shows while it works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def progress(name: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr where that is a terminal, moved by calling report(what, done, total)."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(name, total=None)

        def report(what: str, done: int, total: int) -> None:
            bars.update(task, description=f"{name}: {what}", completed=done, total=total)

        yield report
