"""Figures of both experiments: what is minimised against time, for every number of workers and every tau."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

GREY = "#555555"


class Curve(NamedTuple):
    """One run: `value` (marks,) against `seconds` (marks,), and when it reached the level in question, if it did.

    The first mark is the start, which a logarithmic axis of time does not show.
    """

    workers: int
    tau: int
    seconds: np.ndarray
    value: np.ndarray
    reached: float | None


def colours(keys: Sequence[int]) -> dict[int, Any]:
    """One colour a key, from dark to light."""
    ordered = sorted(set(keys))
    places = np.linspace(0.05, 0.85, len(ordered)) if len(ordered) > 1 else [0.3]
    return {key: colormaps["viridis"](place) for key, place in zip(ordered, places, strict=True)}


def against_time(
    curves: Sequence[Curve], *, value: str, level: float, level_name: str, logarithmic: bool, title: str
) -> Figure:
    """A panel for each number of workers with a line for each tau; then the seconds to the level, side by side.

    Args:
        value: label of the axis of values.
        level: drawn as a line across the panels; `level_name` says what it is.
        logarithmic: scale of the values.
    """
    workers = sorted({curve.workers for curve in curves})
    colour = colours([curve.tau for curve in curves])
    figure = Figure(figsize=(4.2 * (len(workers) + 1), 4.4), layout="constrained")
    grid = figure.add_gridspec(1, len(workers) + 1)
    first: Axes | None = None
    for place, count in enumerate(workers):
        axis = figure.add_subplot(grid[place], sharex=first, sharey=first)
        first = first or axis
        for curve in curves:
            if curve.workers == count:
                label = f"τ = {curve.tau}" if curve.tau else "τ = 0 (bsp)"
                axis.plot(curve.seconds[1:], curve.value[1:], color=colour[curve.tau], label=label)
        axis.axhline(level, color=GREY, linewidth=0.8, linestyle="--")
        axis.set_xscale("log")
        axis.set_yscale("log" if logarithmic else "linear")
        axis.set_title(f"{count} worker{'s' if count > 1 else ''}")
        axis.set_xlabel("seconds")
        axis.grid(alpha=0.25)
        if place:
            axis.tick_params(labelleft=False)
        else:
            axis.set_ylabel(value)
            axis.annotate(level_name, (0.02, level), (0, 3), xycoords=axis.get_yaxis_transform(),
                          textcoords="offset points", color=GREY, fontsize=8)  # fmt: skip
            axis.legend(frameon=False, fontsize=8)
    _bars(figure.add_subplot(grid[-1]), curves, workers, level_name)
    figure.suptitle(title)
    return figure


def _bars(axis: Axes, curves: Sequence[Curve], workers: Sequence[int], level_name: str) -> None:
    """Seconds to the level by tau, a bar for each number of workers; a cross where it was not reached."""
    taus = sorted({curve.tau for curve in curves})
    width = 0.8 / len(workers)
    fills = dict(zip(workers, colormaps["Blues"](np.linspace(0.45, 0.9, len(workers))), strict=True))
    for curve in curves:
        place = taus.index(curve.tau) + width * (workers.index(curve.workers) - (len(workers) - 1) / 2)
        if curve.reached is None:
            axis.plot(place, 0.03, "x", color=fills[curve.workers], transform=axis.get_xaxis_transform())
        else:
            axis.bar(place, curve.reached, width, color=fills[curve.workers])
            axis.annotate(f"{curve.reached:.2g}", (place, curve.reached), (0, 1), textcoords="offset points",
                          ha="center", fontsize=7)  # fmt: skip
    if any(curve.reached is None for curve in curves):
        axis.plot([], [], "x", color=GREY, label="not reached")
    for count, fill in fills.items():
        axis.bar(0, 0, color=fill, label=f"{count} worker{'s' if count > 1 else ''}")
    axis.set_xticks(range(len(taus)), [str(tau) for tau in taus])
    axis.set_xlabel("τ")
    axis.set_ylabel(f"seconds to {level_name}")
    axis.margins(y=0.12)
    axis.set_ylim(bottom=0.0)
    axis.grid(axis="y", alpha=0.25)
    axis.legend(frameon=False, fontsize=8)


def plain_ticks(axis: Axes) -> None:
    """Numbers instead of powers of ten on a logarithmic axis that spans less than two decades."""
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)))
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.yaxis.set_minor_formatter(NullFormatter())
