"""Along a quoter's paths: markouts after its fills, inventory, gains; and the grid that the baseline was tuned on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bitquote.evaluation.market_quality import clustered_mean
from bitquote.market.simulation import Rollout
from bitquote.report.figures import BASELINE, MID, POLICY, Units

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
HORIZONS = 24
"""Points of a markout curve, at most."""


class Markout(NamedTuple):
    """Mean signed move of the mid after own fills, price; a negative one is against the maker. Shapes (horizons,)."""

    time: NDArray[np.float64]
    mean: NDArray[np.float64]
    margin: NDArray[np.float64]  # half of the 95 % interval over paths


def markouts(rollout: Rollout, dt: float, price_unit: float) -> Markout | None:
    """The mid's move from the decision before a fill to up to a quarter of the horizon later.

    A record of decisions does not say when between two of them a fill was: the curve begins at the mid from which the
    quote was taken, and its first point is the next decision's. All horizons are of the same fills, weighted by size.
    None where nothing was filled.
    """
    steps = rollout.mid.shape[1] - 1
    longest = max(1, steps // 4)
    decisions = np.unique(np.geomspace(1, longest, HORIZONS).round().astype(np.int64))
    first = steps + 1 - longest  # decisions after which every horizon is inside the path
    signed = (rollout.filled[..., 0] - rollout.filled[..., 1])[:, :first]  # (paths, first)
    sums = [
        (signed * (rollout.mid[:, k : k + first] - rollout.mid[:, :first])).sum(axis=1) * price_unit for k in decisions
    ]
    filled = rollout.filled[:, :first].sum(axis=(1, 2), dtype=np.float64)
    if filled.sum() == 0.0:
        return None
    number = np.broadcast_to(filled[:, None], (filled.size, decisions.size))
    mean, margin = clustered_mean(np.stack(sums, axis=1), number)
    return Markout(np.asarray(decisions * dt, np.float64), mean, margin)


def accrued(rollout: Rollout) -> NDArray[np.float64]:
    """Profit less penalty so far, float64 (paths, steps + 1); its last column's mean is the objective's."""
    paths, steps = rollout.reward.shape
    total = np.zeros((paths, steps + 1))
    np.cumsum(rollout.reward, axis=1, dtype=np.float64, out=total[:, 1:])
    return total


def markout_figure(rollouts: Mapping[str, Rollout], dt: float, price_unit: float, units: Units) -> Figure:
    """A curve a quoter with its 95 % band; `rollouts` are the quoter's that is shown and the reference's."""
    figure = Figure(figsize=(12.0, 4.0), layout="constrained")
    axis = figure.subplots()
    for (name, rollout), colour in zip(rollouts.items(), (POLICY, BASELINE), strict=True):
        curve = markouts(rollout, dt, price_unit)
        if curve is None:
            axis.plot([], [], color=colour, label=f"{name}: no fill")
            continue
        axis.plot(curve.time, curve.mean, "o-", markersize=3, color=colour, label=name)
        axis.fill_between(
            curve.time, curve.mean - curve.margin, curve.mean + curve.margin, color=colour, alpha=0.2, linewidth=0
        )
    axis.axhline(0.0, color=MID, linewidth=0.8)
    axis.set_xlabel(f"{units.time} since the decision before the fill")
    axis.set_ylabel(f"move of the mid in\nthe maker's favour ({units.price})")
    axis.legend(frameon=False)
    axis.grid(alpha=0.25)
    return figure


def course_figure(rollouts: Mapping[str, Rollout], dt: float, units: Units, money: str) -> Figure:
    """Quantiles over paths of the inventory, of profit less penalty so far, and of its fall from its highest."""
    figure = Figure(figsize=(12.0, 8.0), layout="constrained")
    axes = figure.subplots(3, len(rollouts), sharex=True, sharey="row", squeeze=False)
    for column, (name, rollout), colour in zip(axes.T, rollouts.items(), (POLICY, BASELINE), strict=True):
        total = accrued(rollout)
        time = dt * np.arange(total.shape[1])
        _draw_fan(column[0], time, rollout.inventory, colour)
        _draw_fan(column[1], time, total, colour)
        _draw_fan(column[2], time, np.maximum.accumulate(total, axis=1) - total, colour)
        column[0].set_title(name)
        column[2].set_xlabel(units.time)
    axes[0, 0].set_ylabel(f"inventory ({units.inventory})")
    axes[1, 0].set_ylabel(f"profit less penalty so far\n({money})")
    axes[2, 0].set_ylabel(f"its fall from its highest\n({money})")
    axes[1, -1].legend(fontsize=8, frameon=False, loc="best")
    return figure


def _draw_fan(axis: Axes, time: NDArray, values: NDArray, colour: str) -> None:
    """The median, and the bands that hold half and nine tenths of the paths."""
    lowest, low, middle, high, highest = np.quantile(values, QUANTILES, axis=0)
    axis.fill_between(time, lowest, highest, color=colour, alpha=0.15, linewidth=0, label="9 of 10 paths")
    axis.fill_between(time, low, high, color=colour, alpha=0.3, linewidth=0, label="half of the paths")
    axis.plot(time, middle, color=colour, label="median")
    axis.axhline(0.0, color=MID, linewidth=0.6)
    axis.margins(x=0.01)
    axis.grid(alpha=0.25)


def tuning_figure(tuning: Mapping[str, Any], money: str) -> Figure | None:
    """The objective over the grid on which `glft_tuned` was chosen; None where it was not tuned."""
    if "scores" not in tuning:
        return None
    shifts, scales = tuning["shifts"], tuning["scales"]
    scores = np.array(tuning["scores"], np.float64)  # (shifts, scales); None becomes NaN
    figure = Figure(figsize=(12.0, 1.8 + 0.38 * len(scales)), layout="constrained")
    axis = figure.subplots()
    best = np.nanmax(scores)
    # Colours for the better half alone: what is far off would take all of them.
    image = axis.imshow(scores.T, cmap="viridis", vmin=np.nanmedian(scores), vmax=best, aspect="auto", origin="lower")
    for (i, j), score in np.ndenumerate(scores):
        if np.isfinite(score):
            ink = "black" if score > 0.5 * (np.nanmedian(scores) + best) else "white"
            axis.text(i, j + 0.3, f"{score:.4g}", ha="center", va="center", fontsize=7, color=ink)
    for shift, scale, _ in tuning["refined"]:
        axis.plot(*_place(shift, scale, shifts, scales), ".", color=MID, markersize=5)
    place = _place(tuning["shift"] / tuning["shift_unit"], tuning["scale"], shifts, scales)
    axis.plot(*place, "*", color=POLICY, markersize=16, markeredgecolor="white")
    axis.set_xticks(range(len(shifts)), [f"{shift:g}" for shift in shifts])
    axis.set_yticks(range(len(scales)), [f"{scale:g}" for scale in scales])
    axis.set_xlabel(f"shift of the half-spread (1/k, which is {tuning['shift_unit']:.4g} of price)")
    axis.set_ylabel("factor of the skew")
    figure.colorbar(image, ax=axis, label=f"objective ({money})", extend="min")
    return figure


def _place(shift: float, scale: float, shifts: list[float], scales: list[float]) -> tuple[float, float]:
    """Where a point between those of the grid is drawn, on axes that count the grid's."""
    x, y = (np.interp(value, axis, range(len(axis))) for value, axis in ((shift, shifts), (scale, scales)))
    return float(x), float(y)
