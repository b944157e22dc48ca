"""Pictures: quote surfaces, one episode, the benchmark. Figures without pyplot, so nothing global is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bitquote.evaluation.attribution import PARTS
from bitquote.market.simulation import Rollout
from bitquote.report.surface import Surface, matched
from bitquote.report.table import ranked

BID, ASK, MID, POLICY, BASELINE = "#1f77b4", "#d62728", "#333333", "#e8710a", "#5b7fa6"
PART_COLOURS = dict(zip(PARTS, ("#4c9f70", "#c8553d", "#8d99ae", "#edc948", "#7b5ea7"), strict=True))
_ABSENT = "#dddddd"


class Units(NamedTuple):
    """What the labels of an axis name."""

    price: str = "price"
    inventory: str = "lots"
    time: str = "time"


def save(figure: Figure, path: Path, dpi: int = 120) -> None:
    """Write `figure` as a picture; the suffix of `path` names the format."""
    figure.savefig(path, dpi=dpi)


def pixels(figure: Figure) -> np.ndarray:
    """The figure as uint8 (height, width, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def quote_surfaces(
    policy: Surface, reference: Surface, *, reference_name: str, units: Units, name: str = "policy"
) -> Figure:
    """Half-spread and skew over (time, inventory): policy, reference, difference; one colour scale for the pair.

    `name` is the row of the quoter in the policy's place.
    """
    policy, reference = matched(policy, reference)
    figure = Figure(figsize=(12.0, 6.4), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True, sharey=True)
    for row, side in enumerate(("half_spread", "skew")):
        pair = getattr(policy, side), getattr(reference, side)
        scale = _symmetric(*pair) if side == "skew" else _span(*pair)
        colours = "RdBu_r" if side == "skew" else "viridis"
        label = f"{side.replace('_', '-')} ({units.price})"
        meshes = [
            _surface(axis, policy, values, colours, scale) for axis, values in zip(axes[row, :2], pair, strict=True)
        ]
        figure.colorbar(meshes[0], ax=axes[row, :2], label=label, pad=0.01)
        mesh = _surface(axes[row, 2], policy, pair[0] - pair[1], "PuOr", _symmetric(pair[0] - pair[1]))
        figure.colorbar(mesh, ax=axes[row, 2], label=f"difference of {label}", pad=0.02)
        axes[row, 0].set_ylabel(f"inventory ({units.inventory})")
    for axis, title in zip(axes[0], (name, reference_name, f"{name} - {reference_name}"), strict=True):
        axis.set_title(title)
    for axis in axes[1]:
        axis.set_xlabel(units.time)
    return figure


class QuotePainter:
    """Half-spread and skew over (time, inventory) as pixels, one surface after the other on the axes and the colours of
    the first figure: to repaint takes a small part of a new figure's time.
    """

    def __init__(self, first: Surface, reference: Surface, *, units: Units) -> None:
        self._figure = Figure(figsize=(5.0, 5.6), dpi=80)
        self._canvas = FigureCanvasAgg(self._figure)
        self._figure.subplots_adjust(left=0.12, right=0.94, bottom=0.09, top=0.94, hspace=0.18)
        self._axes = self._figure.subplots(2, 1, sharex=True)
        self._meshes = []
        for axis, name in zip(self._axes, ("half_spread", "skew"), strict=True):
            seen = getattr(reference, name)
            scale, colours = (_symmetric(1.5 * seen), "RdBu_r") if name == "skew" else (_twice(seen), "viridis")
            mesh = _surface(axis, first, getattr(first, name), colours, scale)
            self._figure.colorbar(mesh, ax=axis, pad=0.02, extend="both", label=units.price)
            axis.set_title(f"policy's {name.replace('_', '-')}")
            axis.set_ylabel(f"inventory ({units.inventory})")
            mesh.set_animated(True)
            self._meshes.append(mesh)
        self._axes[1].set_xlabel(units.time)
        self._canvas.draw()
        self._empty = self._canvas.copy_from_bbox(self._figure.bbox)

    def paint(self, surface: Surface) -> np.ndarray:
        """The picture of a surface on the grid of the first, uint8 (height, width, 3)."""
        self._canvas.restore_region(self._empty)
        for axis, mesh, values in zip(self._axes, self._meshes, (surface.half_spread, surface.skew), strict=True):
            mesh.set_array(np.ma.masked_invalid(values.T))
            axis.draw_artist(mesh)
        return np.asarray(self._canvas.buffer_rgba())[..., :3].copy()


def _twice(values: np.ndarray) -> Normalize:
    """From nothing to twice the median of `values`."""
    return Normalize(0.0, max(2.0 * float(np.median(_finite(values))), 1e-12))


def _surface(axis: Axes, surface: Surface, values: np.ndarray, colours: str, scale: Normalize):
    axis.set_facecolor(_ABSENT)
    edges = np.append(surface.inventory - 0.5, surface.inventory[-1] + 0.5)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    # Thousands of cells: pixels also where the rest of a picture is drawn in lines.
    cells = np.ma.masked_invalid(values.T)
    return axis.pcolormesh(surface.time, edges, cells, cmap=colours, norm=scale, rasterized=True)


def _finite(*arrays: np.ndarray) -> np.ndarray:
    values = np.concatenate([array[np.isfinite(array)] for array in arrays])
    return values if values.size else np.zeros(1)


def _span(*arrays: np.ndarray) -> Normalize:
    """From the 1st to the 99th percentile, so that a few cells do not hide the rest."""
    low, high = np.percentile(_finite(*arrays), (1, 99))
    return Normalize(low, high if high > low else low + 1e-12)


def _symmetric(*arrays: np.ndarray) -> TwoSlopeNorm:
    high = max(float(np.percentile(np.abs(_finite(*arrays)), 99)), 1e-12)
    return TwoSlopeNorm(0.0, -high, high)


def episode(rollout: Rollout, path: int, *, dt: float, price_unit: float, units: Units) -> Figure:
    """One path of a rollout: the mid with the quotes and the fills, the inventory, the objective as it accrues.

    `dt` is the time between decisions, `price_unit` the price of one unit of the rollout's mids and distances.
    """
    figure = Figure(figsize=(11.0, 7.0), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(3.2, 1.2, 1.2))
    start = int(rollout.start[path])
    time = dt * np.arange(start, rollout.mid.shape[1])
    _draw_quotes(top, rollout, path, time, price_unit)
    top.set_ylabel(f"mid and quotes ({units.price})")
    held = rollout.inventory[path, start:]
    middle.step(time, held, where="post", color=POLICY)
    middle.fill_between(time, held, step="post", color=POLICY, alpha=0.2)
    middle.axhline(0.0, color=MID, linewidth=0.6)
    middle.set_ylabel(f"inventory\n({units.inventory})")
    middle.yaxis.set_major_locator(MaxNLocator(integer=True))
    bottom.plot(time[1:], np.cumsum(rollout.reward[path, start:]), color=BASELINE)
    bottom.axhline(0.0, color=MID, linewidth=0.6)
    bottom.set_ylabel("profit less\npenalty so far")
    bottom.set_xlabel(units.time)
    for axis in (top, middle, bottom):
        axis.margins(x=0.01)
        axis.grid(alpha=0.25)
        axis.ticklabel_format(axis="y", useOffset=False)
    return figure


def _draw_quotes(axis: Axes, rollout: Rollout, path: int, time: np.ndarray, price_unit: float) -> None:
    """The mid, both quotes as steps, and a triangle at the quote of every decision after which it was filled."""
    first = int(rollout.start[path])
    mid, distances = rollout.mid[path, first:], rollout.distance[path, first:]
    axis.plot(time, mid * price_unit, color=MID, linewidth=1.1, label="mid")
    for column, (name, colour, marker, side) in enumerate((("bid", BID, "^", -1.0), ("ask", ASK, "v", 1.0))):
        distance = distances[:, column]
        quote = (mid[:-1] + side * np.where(np.isfinite(distance), distance, np.nan)) * price_unit
        axis.step(time[:-1], quote, where="post", color=colour, linewidth=0.8, alpha=0.7, label=name)
        filled = rollout.filled[path, first:, column] > 0.0
        look = {"color": colour, "markersize": 6, "markeredgecolor": "white", "label": f"{name} filled"}
        axis.plot(time[:-1][filled], quote[filled], marker, **look)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=5, frameon=False)


def benchmark_figure(result: dict[str, Any]) -> Figure:
    """Regret by row with its 95 % interval, best on top; in an order book the split of the profit beside it."""
    rows = [row for row in ranked(result) if row["regret"] is not None][::-1]
    exact = any(row["exact"] for row in rows)
    figure = Figure(figsize=(7.5 if exact else 12.0, 1.4 + 0.34 * len(rows)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, 1 if exact else 2, sharey=True))
    _draw_regret(axes[0], rows, result, logarithmic=exact)
    if not exact:
        _draw_attribution(axes[1], rows, result["units"])
    # A user's name is text, dollars and all.
    figure.suptitle(f"{result['market']}, gamma {result['gamma']:g}", parse_math=False)
    return figure


def _draw_regret(axis: Axes, rows: list[dict[str, Any]], result: dict[str, Any], *, logarithmic: bool) -> None:
    regrets = np.array([row["regret"] for row in rows])
    low, high = _limits(rows)
    if logarithmic:
        smallest = 10.0 ** np.floor(np.log10(regrets[regrets > 0.0].min(initial=1.0)))
        axis.set_xscale("symlog", linthresh=smallest, linscale=0.5)
        low, high = min(regrets.min(), 0.0) - 0.2 * smallest, 6.0 * regrets.max()
    axis.set_xlim(low, high)
    for place, row in enumerate(rows):
        colour = POLICY if row["quoter"].startswith("policy") else BASELINE
        beyond = row["regret"] > high
        position = high if beyond else row["regret"]
        axis.hlines(place, 0.0, position, color=colour, alpha=0.35, linewidth=5)
        if not beyond:
            axis.hlines(place, row["ci_low"], row["ci_high"], color=MID, linewidth=1.4)
        axis.plot(position, place, ">" if beyond else "o", color=colour, clip_on=False, zorder=3)
        side = "right" if beyond or row["regret"] > low + 0.75 * (high - low) else "left"
        label = f"  {row['regret']:.3g}  "
        axis.annotate(label, (position, place + 0.22), fontsize=8, ha=side, annotation_clip=False)
    axis.axvline(0.0, color=MID, linewidth=0.8)
    axis.set_yticks(range(len(rows)), [row["quoter"] for row in rows])
    axis.set_xlabel(f"regret to {result['reference']} ({result['units']})")
    axis.grid(axis="x", alpha=0.25)


def _limits(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Limits that hold every interval but those of rows far worse than the middle one."""
    regrets = np.array([row["regret"] for row in rows])
    widest = 4.0 * max(float(np.median(np.abs(regrets))), 1e-12)
    near = [row for row in rows if row["regret"] <= widest]
    low = min(0.0, min(row["ci_low"] for row in near))
    high = max(0.0, max(row["ci_high"] for row in near))
    margin = 0.08 * (high - low) + 1e-12
    return low - margin, high + margin


def _draw_attribution(axis: Axes, rows: list[dict[str, Any]], units: str) -> None:
    """Stacked bars: gains to the right of zero, losses to the left, the mean profit as a mark."""
    places = np.arange(len(rows))
    gained, lost = np.zeros(len(rows)), np.zeros(len(rows))
    for part in PARTS:
        values = np.array([row["attribution"][part] for row in rows])
        left = np.where(values >= 0.0, gained, lost)
        axis.barh(places, values, left=left, height=0.6, color=PART_COLOURS[part], label=part.replace("_", " "))
        gained, lost = gained + np.maximum(values, 0.0), lost + np.minimum(values, 0.0)
    axis.plot([row["mean_profit"] for row in rows], places, "D", color="black", markersize=4, label="mean profit")
    axis.axvline(0.0, color=MID, linewidth=0.8)
    axis.set_xlabel(f"where the profit comes from ({units})")
    axis.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    axis.grid(axis="x", alpha=0.25)
