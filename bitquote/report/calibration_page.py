"""One page of pictures that shows a calibrated market's simulation beside the recording it comes from."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bitquote.calibration.intensity import Intensity, fit_intensities
from bitquote.calibration.resemblance import FAR
from bitquote.calibration.statistics import NEAR, depth_profile
from bitquote.calibration.volatility import sampled_mid
from bitquote.market import build
from bitquote.market.simulation import Tape
from bitquote.recorded import Recording
from bitquote.report.figures import save

RECORDED, SIMULATED = "#1f4e79", "#e8710a"
DISTANCES = 30
"""Steps on either side of the mid that the pictures show."""
_FIGURE_LABELS = {
    "sigma": "sigma (price/sqrt(s))",
    "bid_rate": "takers reaching a bid (1/s)",
    "ask_rate": "takers reaching an ask (1/s)",
    "k": "k (1/price)",
    "reach": f"reach of {1 - FAR:.0%} of takers (price)",
    "depth": f"depth within {NEAR} steps",
    "far_depth": "depth as far as simulated",
    "markout": "markout at 1 s (price)",
    "spread": "mean spread (price)",
}


def calibration_text(market: Mapping[str, Any]) -> str:
    """What a calibrated market's `recording` says, as lines for a screen."""
    record = market["recording"]
    evidence, tick, clock = record["evidence"], record["evidence"]["tick"], record["evidence"].get("clock")
    skipped = ", ".join(f"{count} x {reason}" for reason, count in evidence["skipped"].items()) or "nothing"
    lines = [
        f"{market['name']}: {market['source']}",
        f"read: {', '.join(f'{count} {name}' for name, count in evidence['messages'].items())}; left out: {skipped}",
        f"tick: {tick['size']:g}, the common step of {tick['distinct_prices']} distinct prices",
        *([_clock_line(clock)] if clock else []),
        "sigma {:.4g} [{:.4g}, {:.4g}] price per sqrt(s), 95 % interval".format(*record["sigma"]),
    ]
    for side in ("bid", "ask", "pooled"):
        fit = record["intensity"][side]
        lines.append(
            "{}: A {:.3g} [{:.3g}, {:.3g}] 1/s, ".format(side, *fit["A"])
            + "k {:.3g} [{:.3g}, {:.3g}] 1/price; ".format(*fit["k"])
            + f"distance to the exponential law (KS) {fit['ks']:.2g}, p {fit['p_value']:.2g}"
        )
    lines += _order_flow_lines(record)
    for name, pair in record["figures"].items():
        lines.append(f"{_FIGURE_LABELS[name]}: recorded {pair['recorded']:.4g}, simulated {pair['simulated']:.4g}")
    return "\n".join(lines)


def _clock_line(clock: Mapping[str, float]) -> str:
    return (
        f"clock: the recorder's is {clock['offset']:+.4f} s from the exchange's (smallest latency included) "
        f"and drifts by {clock['drift'] * 1e6:+.2f} us/s; corrected"
    )


def _order_flow_lines(record: Mapping[str, Any]) -> list[str]:
    """Clustering and information, of markets whose calibration recorded them; a reason in place of a figure is said."""
    lines = []
    named = (("taker orders", "taker_orders"), ("best quotes", "best_quotes"))
    for name, fit in ((name, record["hawkes"][key]) for name, key in named if "hawkes" in record):
        if isinstance(fit, str):
            lines.append(f"Hawkes, {name}: {fit}")
            continue
        decays = " and ".join(f"{decay[0]:.3g}" for decay in fit["decay"])
        tests = fit["goodness"].values()
        worst = min(test[key] for test in tests for key in ("ks_p_value", "ljung_box_p_value"))
        lines.append(
            f"Hawkes, {name}: branching ratio {_interval(fit['branching_ratio'])}, decays {decays} 1/s, AIC better "
            f"than constant rates by {fit['aic_gain_over_poisson']:.0f}; least p of the rescaled times {worst:.2g}"
        )
    if "informed" in record:
        pin, vpin = record["informed"]["pin"], record["informed"]["vpin"]
        lines.append(f"PIN {pin if isinstance(pin, str) else _interval(pin['pin'])}")
        lines.append(f"VPIN {vpin if isinstance(vpin, str) else _interval(vpin)}")
    clustering = record.get("clustering")
    if clustering:
        for name, found in clustering.items() if not isinstance(clustering, str) else ():
            signs = ", ".join(f"{value:.2f}" for value in found["sign_autocorrelation"].values())
            lines.append(
                f"takers reaching half a step, {name}: {found['orders_per_second']:.3g} 1/s, branching ratio "
                f"{_interval(found['branching_ratio'])}, autocorrelation of signs {signs}"
            )
    bursts = record.get("bursts")
    if bursts:
        known = not isinstance(bursts, str)
        text = f"A {_interval(bursts['A'])} 1/s, k {_interval(bursts['k'])} 1/price" if known else bursts
        lines.append(f"taker orders within a decision counted once: {text}")
    return lines


def _interval(estimate: Sequence[float | None]) -> str:
    value, low, high = ("?" if end is None else f"{end:.3g}" for end in estimate)
    return f"{value} [{low}, {high}]"


def calibration_page(
    recording: Recording,
    market: Mapping[str, Any],
    path: Path | None = None,
    *,
    seed: int = 1000,
    tape: Tape | None = None,
) -> Figure:
    """Draw the page, and write it to `path` (PNG, or what the suffix names) if there is one.

    Args:
        recording: What the market was calibrated on.
        market: The calibrated market's configuration.
        seed: Of the simulation shown, which lasts as long as the recording.
        tape: The simulation to show instead of a new one.
    """
    step = float(market["venue"]["tick"])
    if tape is None:
        tape = build(market).tape(recording.duration, seed, levels=2 * DISTANCES)
    tapes = {"recorded": recording.tape, "simulated": tape}
    fits = {name: fit_intensities(shown, step, distances=DISTANCES, resamples=0) for name, shown in tapes.items()}
    figure = Figure(figsize=(15, 8), layout="constrained")
    figure.suptitle(textwrap.fill(f"{market['name']}: {market['source']}", 170), fontsize=9)
    axes = figure.subplot_mosaic([["mid", "depth", "table"], ["bid", "ask", "table"]])
    _draw_mid(axes["mid"], tapes)
    _draw_depth(axes["depth"], tapes, step)
    for side in ("bid", "ask"):
        _draw_intensity(axes[side], side, {name: getattr(fit, side) for name, fit in fits.items()})
    _draw_table(axes["table"], market)
    if path is not None:
        save(figure, path)
    return figure


def _colour(name: str) -> str:
    return RECORDED if name == "recorded" else SIMULATED


def _draw_mid(axes: Axes, tapes: Mapping[str, Tape]) -> None:
    for name, tape in tapes.items():
        mid = sampled_mid(tape, 0.1)
        axes.plot(0.1 * np.arange(len(mid)), mid - mid[0], color=_colour(name), linewidth=0.8, label=name)
    axes.set(title="mid", xlabel="time (s)", ylabel="change since the start (price)")
    axes.legend()


def _draw_depth(axes: Axes, tapes: Mapping[str, Tape], step: float) -> None:
    distance = (np.arange(DISTANCES) + 0.5) * step
    for shift, (name, tape) in zip((-0.2, 0.2), tapes.items(), strict=True):
        profile = depth_profile(tape, step, DISTANCES)
        axes.bar(distance + shift * step, profile, 0.4 * step, color=_colour(name), label=name)
    axes.set(
        title=f"mean depth per {step:g} of price",
        xlabel="distance from the mid (price)",
        ylabel="quantity (base units)",
    )
    axes.legend()


def _draw_intensity(axes: Axes, side: str, fits: Mapping[str, Intensity]) -> None:
    for name, fit in fits.items():
        seen = fit.rate > 0
        bars = np.stack((fit.rate - fit.low, fit.high - fit.rate))[:, seen]
        style = {"fmt": "o", "markersize": 3, "linewidth": 0.7, "color": _colour(name)}
        axes.errorbar(fit.distance[seen], fit.rate[seen], bars, **style)
        A, k = (f"{e.value:.3g} [{e.low:.2g}, {e.high:.2g}]" for e in (fit.A, fit.k))
        label = f"{name}: A {A}, k {k}, KS {fit.ks:.2g}"
        axes.plot(fit.distance, fit.fitted(fit.distance), color=_colour(name), linewidth=1.2, label=label)
    high = max(fit.high.max() for fit in fits.values())
    low = 0.5 * min(fit.rate[fit.rate > 0].min() for fit in fits.values())
    axes.set(title=f"fill intensity, {side}: counts with 95 % intervals, fit", yscale="log", ylim=(low, 3.0 * high))
    axes.set(xlabel="distance from the mid (price)", ylabel="taker orders that reach it (1/s)")
    axes.legend(fontsize=7, loc="upper right")


def _draw_table(axes: Axes, market: Mapping[str, Any]) -> None:
    """The matched figures as numbers, from the market's own record."""
    axes.axis("off")
    rows = [
        [_FIGURE_LABELS[name], f"{pair['recorded']:.3g}", f"{pair['simulated']:.3g}"]
        for name, pair in market["recording"]["figures"].items()
    ]
    table = axes.table(
        rows,
        colLabels=["", "recorded", "simulated"],
        colWidths=[0.56, 0.22, 0.22],
        loc="upper center",
        cellLoc="right",
        edges="horizontal",
    )
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    table.scale(1.0, 2.4)
    axes.set_title("figures, simulated over a longer run")
