"""What a running server shows: scalars and histograms for TensorBoard, a live view in a terminal.

All of it is made from the plain dictionary of `statistics()`; nothing here talks to a server by itself.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from bitquote.progress import INTERVAL, clock, output_mode, progress
from bitquote.server.errors import ServerError

if TYPE_CHECKING:
    from rich.console import RenderableType

Statistics = Mapping[str, Any]

TOTALS = ("lost", "duplicates", "fenced", "evicted", "joined", "left", "snapshots", "gate_waits", "gate_wait_seconds")
"""Counts since the beginning that become scalars as they are."""
HISTOGRAMS = ("version_delay", "clock_gap")
POLL = 0.5
"""Seconds between two looks of the live view."""
WINDOW = 10.0
"""Seconds that the live view takes a rate over."""


def mean_and_max(counts: Sequence[int] | np.ndarray) -> tuple[float, int]:
    """Mean and largest of whole numbers 0, 1, ... of which there are counts[0], counts[1], ...; zeros without any."""
    array = np.asarray(counts, np.float64)
    if not array.any():
        return 0.0, 0
    return float(array @ np.arange(len(array)) / array.sum()), int(np.flatnonzero(array)[-1])


def refused(statistics: Statistics) -> int:
    """Pushes that were counted and not applied, whatever the reason."""
    return sum(statistics.get("refused", {}).values())


def bytes_saved(statistics: Statistics) -> float:
    """Share of the bytes of plain float32 messages that filters saved, both ways together, 0..1."""
    moved = statistics.get("bytes_received", 0) + statistics.get("bytes_sent", 0)
    raw = statistics.get("bytes_raw_received", 0) + statistics.get("bytes_raw_sent", 0)
    return 1.0 - moved / raw if raw else 0.0


def summary(statistics: Statistics) -> dict[str, Any]:
    """The figures of a whole run, for a file of results: counts, and delays as mean and largest."""
    figures: dict[str, Any] = {key: statistics.get(key, 0) for key in ("pushed", "applied")}
    figures |= {"refused": dict(statistics.get("refused", {})), **{key: statistics.get(key, 0) for key in TOTALS}}
    for name in HISTOGRAMS:
        figures[f"{name}_mean"], figures[f"{name}_max"] = mean_and_max(statistics.get(name, ()))
    for key in ("bytes_received", "bytes_sent"):
        figures[key] = statistics.get(key, 0)
    return figures | {"bytes_saved_share": bytes_saved(statistics), "term": statistics.get("term", 0)}


def scalars(statistics: Statistics, elapsed: float, previous: Statistics | None = None) -> dict[str, float]:
    """What `log_statistics` logs, by tag."""
    before = previous or {}
    figures = {f"server/{key}": float(statistics.get(key, 0)) for key in ("version", "term", *TOTALS)}
    for name in HISTOGRAMS:
        mean, largest = mean_and_max(_difference(statistics.get(name, ()), before.get(name, ())))
        figures |= {f"server/{name}_mean": mean, f"server/{name}_max": float(largest)}
    figures["server/workers"] = float(len(statistics.get("members", ())))
    figures["server/refused"] = float(refused(statistics))
    figures |= {f"server/refused_{why}": float(count) for why, count in statistics.get("refused", {}).items()}
    figures |= {f"server/{key}": float(statistics.get(key, 0)) for key in ("bytes_received", "bytes_sent")}
    figures["server/bytes_saved_share"] = bytes_saved(statistics)
    if elapsed > 0.0:
        figures["server/pushes_per_second"] = (statistics.get("pushed", 0) - before.get("pushed", 0)) / elapsed
    return figures


def log_statistics(
    loggers: Sequence[Any], statistics: Statistics, step: int, elapsed: float, previous: Statistics | None = None
) -> None:
    """Log scalars `server/...`, and histograms of version delay and clock gap to loggers that can hold them.

    Args:
        loggers: of Lightning.
        statistics: of a server.
        step: the number of applied pushes, or another x axis.
        elapsed: seconds since `previous` was taken, or since the start.
        previous: the statistics of the call before; rates and delays are of what happened in between.
    """
    figures = scalars(statistics, elapsed, previous)
    for logger in loggers:
        logger.log_metrics(figures, step=step)
        if hasattr(getattr(logger, "experiment", None), "add_histogram_raw"):
            for name in HISTOGRAMS:
                counts = _difference(statistics.get(name, ()), (previous or {}).get(name, ()))
                _add_histogram(logger.experiment, f"server/{name}", counts, step)


def _difference(counts: Sequence[int], before: Sequence[int]) -> np.ndarray:
    """What came to `counts` since `before`, which a restarted server may have forgotten a part of."""
    array = np.array(counts, np.int64)
    shared = min(len(array), len(before))
    array[:shared] -= np.asarray(before[:shared], np.int64)
    return array.clip(0)


def _add_histogram(writer: Any, tag: str, counts: np.ndarray, step: int) -> None:
    """Whole numbers as a TensorBoard histogram with one bucket each, centred on the number."""
    if not counts.any():
        return
    counts = counts[: np.flatnonzero(counts)[-1] + 1]
    values = np.arange(len(counts))
    writer.add_histogram_raw(
        tag,
        min=float(np.flatnonzero(counts)[0]),
        max=float(len(counts) - 1),
        num=int(counts.sum()),
        sum=float(counts @ values),
        sum_squares=float(counts @ values**2),
        bucket_limits=(values + 0.5).tolist(),
        bucket_counts=counts.tolist(),
        global_step=step,
    )


@contextmanager
def live_view(read: Callable[[], Statistics], total: int | None = None, *, enabled: bool = True) -> Iterator[None]:
    """Show a server's statistics on stderr while the body runs: as a live view, or lines of how many pushes there were.

    Args:
        read: gives the statistics; called twice a second in a thread of its own, where it may block or raise
            ServerError; {} while there is no server yet.
        total: pushes of the whole run, if known; without it there are no lines.
        enabled: False shows nothing.
    """
    mode = output_mode()
    if not enabled or mode == "quiet" or (mode == "plain" and total is None):
        yield
        return
    with _lines(read, total or 0) if mode == "plain" else _view(read, total):
        yield


@contextmanager
def _lines(read: Callable[[], Statistics], total: int) -> Iterator[None]:
    with progress("training") as report:
        pushed = 0

        def look() -> None:
            nonlocal pushed
            with suppress(ServerError):
                pushed = read().get("pushed", pushed)
            report("", pushed, total)

        with _polling(look, INTERVAL / 2):
            yield


@contextmanager
def _view(read: Callable[[], Statistics], total: int | None) -> Iterator[None]:
    from rich.console import Console
    from rich.live import Live

    view = View(total)

    def look() -> None:
        try:
            view.see(read(), time.monotonic())
        except ServerError as error:
            view.trouble = str(error)

    console = Console(stderr=True)
    live = Live(get_renderable=view.render, console=console, refresh_per_second=2, transient=True)
    with _polling(look, POLL), live:
        yield


@contextmanager
def _polling(look: Callable[[], None], seconds: float) -> Iterator[None]:
    """Inside, `look` is called every so many seconds, in a thread of its own."""
    stop = threading.Event()

    def poll() -> None:
        while not stop.wait(seconds):
            look()

    # A daemon: a server that no longer answers must not hold up the end of the program.
    threading.Thread(target=poll, name="live view", daemon=True).start()
    try:
        yield
    finally:
        stop.set()


class View:
    """What the live view draws, from the statistics that it has seen so far."""

    def __init__(self, total: int | None = None) -> None:
        self.trouble = ""
        self._total = total
        self._seen: deque[tuple[float, Statistics]] = deque()
        self._pushes: dict[int, int] = {}
        self._first = 0.0

    def see(self, statistics: Statistics, now: float) -> None:
        """Take note of `statistics` at the time `now`, in seconds."""
        self.trouble = ""
        if not statistics:
            return
        self._first = self._first or now
        self._pushes |= {member["worker"]: member["pushed"] for member in statistics.get("members", ())}
        self._seen.append((now, statistics))
        while now - self._seen[0][0] > WINDOW and len(self._seen) > 2:
            self._seen.popleft()

    def render(self) -> RenderableType:
        """The picture of now."""
        from rich.console import Group
        from rich.text import Text

        if not self._seen:
            return Text(self.trouble or "starting the server and its workers ...")
        # One look at the list, which another thread appends to.
        (then, before), (now, statistics) = self._seen[0], self._seen[-1]
        elapsed = now - then
        parts: list[RenderableType] = [self._progress(statistics, before, now, elapsed)]
        parts += [self._workers(statistics, before, elapsed), Text(_figures(statistics))]
        return Group(*parts, *([Text(self.trouble, style="yellow")] if self.trouble else []))

    def _progress(self, statistics: Statistics, before: Statistics, now: float, elapsed: float) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        done = statistics.get("pushed", 0)
        rate = _rate(done, before.get("pushed", 0), elapsed)
        count = f"{done:,}" if self._total is None else f"{done:,} of {self._total:,}"
        text = Text(f"{count} pushes  {rate:,.0f}/s  {clock(now - self._first)}")
        if self._total is None:
            return text
        if rate > 0.0 and done < self._total:
            text.append(f"  {clock((self._total - done) / rate)} to go")
        return Group(text, ProgressBar(total=self._total, completed=min(done, self._total), width=60))

    def _workers(self, statistics: Statistics, before: Statistics, elapsed: float) -> RenderableType:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        if not self._pushes:
            return Text("\nthe workers are starting ...\n")
        table = Table("worker", "pushes", "pushes/s", "clock", "state", box=box.SIMPLE_HEAD)
        earlier = {member["worker"]: member["pushed"] for member in before.get("members", ())}
        members = {member["worker"]: member for member in statistics.get("members", ())}
        for worker, pushes in sorted(self._pushes.items()):
            member = members.get(worker)
            if member is None:
                table.add_row(str(worker), f"{pushes:,}", "", "", "gone")
                continue
            rate = _rate(pushes, earlier.get(worker, pushes), elapsed)
            table.add_row(str(worker), f"{pushes:,}", f"{rate:,.0f}", f"{member['clock']:,}", _state(member))
        return table


def _state(member: Mapping[str, Any]) -> str:
    if member.get("parked"):
        return "waits at the gate"
    return "idle" if member.get("idle") else "works"


def _rate(now: int, before: int, elapsed: float) -> float:
    return max(0.0, (now - before) / elapsed) if elapsed > 0.0 else 0.0


def _figures(statistics: Statistics) -> str:
    """The server's figures in two lines."""
    mean, largest = mean_and_max(statistics.get("version_delay", ()))
    moved = statistics.get("bytes_received", 0) + statistics.get("bytes_sent", 0)
    lines = (
        f"version {statistics.get('version', 0):,}  delay {mean:.2f} mean, {largest} largest  "
        f"gate {statistics.get('gate_wait_seconds', 0.0):.1f} s  "
        f"{moved / 2**20:,.1f} MB, {bytes_saved(statistics):.0%} saved",
        f"refused {refused(statistics):,}  lost {statistics.get('lost', 0):,}  "
        f"evicted {statistics.get('evicted', 0):,}  snapshots {statistics.get('snapshots', 0):,}  "
        f"term {statistics.get('term', 0)}",
    )
    return "\n".join(lines)
