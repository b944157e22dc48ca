"""How long work shows where it stands: a bar on a terminal, a line now and then elsewhere, both with the same words.

BITQUOTE_OUTPUT in the environment chooses: `rich` (a bar), `plain` (lines without control characters) or `quiet`
(neither). Left out, it is rich where stderr is a terminal and plain where it is none. Whatever it is, the lines also go
to the logger `bitquote`, to which the log.txt of a run directory listens.
"""

from __future__ import annotations

import logging
import math
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from bitquote.errors import require_choice

VARIABLE = "BITQUOTE_OUTPUT"
MODES = ("rich", "plain", "quiet")
INTERVAL = 10.0
"""Seconds between two lines."""
WINDOW = 15.0
"""Seconds that a rate is taken over."""
LOG = logging.getLogger("bitquote")

Report = Callable[[str, float, float], None]
"""Called as report(what, done, total) before each piece of work, as often as one likes."""


def output_mode() -> str:
    """`rich`, `plain` or `quiet`."""
    chosen = os.environ.get(VARIABLE) or ("rich" if sys.stderr.isatty() else "plain")
    return require_choice(VARIABLE, chosen, MODES)


@contextmanager
def progress(name: str, unit: str = "") -> Iterator[Report]:
    """Inside, report(what, done, total) shows how far `name` has come, its rate and the time left.

    Nothing is shown before the first report; of work that is done within `INTERVAL` no line is printed.
    """
    mode, pace = output_mode(), Pace(name, unit)
    began = told = time.monotonic()
    with ExitStack() as stack:
        draw: Callable[[], None] | None = None

        def report(what: str, done: float, total: float) -> None:
            nonlocal draw, told
            now = time.monotonic()
            pace.see(what, done, total, now)
            if mode == "rich":
                draw = draw or stack.enter_context(_bar(pace))
                draw()
            if now - told >= INTERVAL:
                told = now
                tell(pace.words(), printed=mode == "plain")

        yield report
    if pace.seen:
        tell(f"{name}: done in {clock(time.monotonic() - began)}", printed=mode == "plain" and told > began)


def tell(line: str, *, printed: bool = True) -> None:
    """A line for the log, and for stderr if it is to be printed."""
    LOG.info(line)
    if printed:
        print(line, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class Stages:
    """Announces the long pieces of a work one after the other, with the time that is left."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total = name, total
        self._began, self._spent = math.nan, list[float]()

    def begin(self, number: int, what: str) -> None:
        """Say on stdout, and in the log, that piece `number` (from 1) begins."""
        now = time.monotonic()
        if now - self._began > 1.0:  # what a former process has finished tells nothing
            self._spent.append(now - self._began)
        self._began = now
        left = ""
        if self._spent:
            left = f", {clock(statistics.mean(self._spent) * (self._total - number + 1))} left"
        line = f"{self._name} {number} of {self._total}{left}: {what}"
        print(line, flush=True)
        LOG.info(line)


class Pace:
    """How far a piece of work has come and how fast, of its last `WINDOW` seconds or its last two reports."""

    def __init__(self, name: str, unit: str = "") -> None:
        self.done, self.total = 0.0, 0.0
        self.seen: deque[tuple[float, float]] = deque()
        self._warm = False
        self._name, self._unit, self._what = name, f" {unit}" if unit else "", ""

    def see(self, what: str, done: float, total: float, now: float) -> None:
        """Take note of a report at the time `now`, in seconds."""
        self._what, self.done, self.total = what, done, total
        if len(self.seen) == 2 and not self._warm:  # the first piece of work waits for compilers: it tells no rate
            self.seen.popleft()
            self._warm = True
        self.seen.append((now, done))
        while now - self.seen[0][0] > WINDOW and len(self.seen) > 2:
            self.seen.popleft()

    def words(self) -> str:
        """As of the last report."""
        (then, before), (now, done) = self.seen[0], self.seen[-1]
        parts = [f"{_count(done)} of {_count(self.total)}{self._unit}"]
        if self._warm and now > then and done > before:
            rate = (done - before) / (now - then)
            parts += [f"{rate:.3g}{self._unit}/s", f"{clock((self.total - done) / rate)} left"]
        return f"{self._name}: {', '.join([*parts, *([self._what] if self._what else [])])}"


def _count(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


@contextmanager
def _bar(pace: Pace) -> Iterator[Callable[[], None]]:
    """A bar on stderr that moves to where `pace` stands when the yielded function is called."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = BarColumn(bar_width=20), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)
        yield lambda: bars.update(task, description=pace.words(), completed=pace.done, total=pace.total)
