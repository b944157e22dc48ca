"""One page of pictures: the stylised facts of a recording beside those of its simulation."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bitquote.calibration.hawkes import HawkesFit, residuals
from bitquote.calibration.statistics import NEAR
from bitquote.calibration.stylised_facts import (
    INTERVALS,
    LAGS,
    RETURN_SECONDS,
    Distribution,
    StylisedFacts,
    ks_distances,
    stylised_facts,
)
from bitquote.calibration.volatility import fit_volatility
from bitquote.market.simulation import Tape
from bitquote.report.calibration_page import RECORDED, SIMULATED
from bitquote.report.figures import save

Pair = Mapping[str, StylisedFacts]
_COLOURS = {"recorded": RECORDED, "simulated": SIMULATED}


def stylised_page(
    recorded: Tape,
    simulated: Tape,
    step: float,
    title: str,
    path: Path | None = None,
    *,
    takers: HawkesFit | None = None,
) -> Figure:
    """Draw the page, and write it to `path` (PNG, or what the suffix names) if there is one.

    Args:
        recorded, simulated: Two tapes of about the same length.
        step: Price step of the depth's distances.
        title: Of the page.
        takers: A Hawkes fit of the recording's taker orders, whose rescaled waiting times are shown.
    """
    facts = {"recorded": stylised_facts(recorded, step), "simulated": stylised_facts(simulated, step)}
    distance = ks_distances(facts["recorded"], facts["simulated"])
    figure = Figure(figsize=(14.0, 7.6), layout="constrained")
    figure.suptitle(textwrap.fill(title, 170), fontsize=9)
    axes = figure.subplots(2, 4)
    _draw_shares(axes[0, 0], {name: fact.spread for name, fact in facts.items()})
    axes[0, 0].set(title=f"spread, KS {distance['spread']:.2f}", xlabel="spread (price)")
    axes[0, 0].set(ylabel="share of time at or below")
    _draw_shares(axes[0, 1], {name: fact.depth for name, fact in facts.items()})
    axes[0, 1].set(title=f"depth within {NEAR} steps, KS {distance['depth']:.2f}")
    axes[0, 1].set(xlabel="quantity a side (base units)", ylabel="share of pictures at or below")
    _draw_signature(axes[0, 2], facts, {"recorded": recorded, "simulated": simulated})
    _draw_survival(axes[0, 3], {name: fact.taker_size for name, fact in facts.items()})
    axes[0, 3].set(title=f"sizes of taker orders, KS {distance['taker_size']:.2f}", xlabel="quantity (base units)")
    _draw_signs(axes[1, 0], facts)
    _draw_returns(axes[1, 1], facts)
    _draw_survival(axes[1, 2], {name: fact.taker_wait for name, fact in facts.items()})
    axes[1, 2].set(title=f"between taker orders, KS {distance['taker_wait']:.2f}", xlabel="time (s)")
    if takers is None:
        _draw_survival(axes[1, 3], {name: fact.quote_wait for name, fact in facts.items()})
        axes[1, 3].set(title=f"between quotes, KS {distance['quote_wait']:.2f}", xlabel="time (s)")
    else:
        _draw_rescaled(axes[1, 3], takers)
    if path is not None:
        save(figure, path)
    return figure


def _draw_shares(axes: Axes, pair: Mapping[str, Distribution]) -> None:
    for name, distribution in pair.items():
        axes.step(distribution.value, distribution.share, where="post", color=_COLOURS[name], label=name)
    axes.set(xscale="log", ylim=(0.0, 1.02))
    axes.legend()


def _draw_survival(axes: Axes, pair: Mapping[str, Distribution]) -> None:
    for name, distribution in pair.items():
        above = np.r_[1.0, 1.0 - distribution.share[:-1]]  # the share at least as large
        axes.step(distribution.value, above, where="pre", color=_COLOURS[name], label=name)
    axes.set(xscale="log", yscale="log", ylabel="share at least as large")
    axes.legend(loc="lower left")


def _draw_signature(axes: Axes, pair: Pair, tapes: Mapping[str, Tape]) -> None:
    for name, facts in pair.items():
        sigma = fit_volatility(tapes[name])
        axes.axhspan(sigma.low, sigma.high, color=_COLOURS[name], alpha=0.1)
        axes.plot(INTERVALS, facts.signature, "o-", markersize=3, color=_COLOURS[name], label=name)
    axes.set(title="signature of the mid", xscale="log", xlabel="interval (s)", ylim=(0.0, None))
    axes.set(ylabel="volatility (price per sqrt(s))")
    axes.legend(title="bands: sigma, 95 %", title_fontsize=8)


def _draw_signs(axes: Axes, pair: Pair) -> None:
    lags = np.arange(1, LAGS + 1)
    for name, facts in pair.items():
        axes.plot(lags, facts.sign_autocorrelation, ".-", markersize=3, linewidth=0.8, color=_COLOURS[name], label=name)
        axes.axhline(2.0 / np.sqrt(facts.takers), color=_COLOURS[name], linestyle=":", linewidth=0.8)
    axes.axhline(0.0, color="#999999", linewidth=0.6)
    axes.set(title="order flow: signs of taker orders", xscale="log", xlabel="lag (orders)")
    axes.set(ylabel="autocorrelation")
    axes.legend(title="dots: two standard errors", title_fontsize=8)


def _draw_returns(axes: Axes, pair: Pair) -> None:
    time = RETURN_SECONDS * np.arange(1, LAGS + 1)
    for name, facts in pair.items():
        colour = _COLOURS[name]
        axes.plot(time, facts.size_autocorrelation, color=colour, label=f"{name}, absolute")
        axes.plot(time, facts.return_autocorrelation, color=colour, alpha=0.5, linewidth=0.7, label=f"{name}, signed")
    axes.axhline(2.0 / np.sqrt(pair["recorded"].returns), color="#999999", linestyle=":", linewidth=0.8)
    axes.set(title=f"returns over {RETURN_SECONDS:g} s", xscale="log", xlabel="lag (s)", ylabel="autocorrelation")
    axes.legend(fontsize=8)


def _draw_rescaled(axes: Axes, fit: HawkesFit) -> None:
    """Waiting times in units of the fitted intensity, beside the exponential law that they should have."""
    value, low, high = fit.branching_ratio
    waits = np.sort(np.concatenate(residuals(fit)))
    above = 1.0 - np.arange(len(waits)) / len(waits)
    axes.step(waits, above, color=RECORDED, label=f"Hawkes, branching\n{value:.2f} [{low:.2f}, {high:.2f}]")
    counts = [np.diff(fit.times[fit.kinds == kind]) for kind in range(len(fit.baseline.value))]
    poisson = np.sort(np.concatenate([wait / wait.mean() for wait in counts]))
    axes.step(poisson, 1.0 - np.arange(len(poisson)) / len(poisson), color="#999999", label="constant rates")
    line = np.linspace(0.0, -np.log(above[-1]), 50)
    axes.plot(line, np.exp(-line), "k:", label="exponential")
    axes.set(title="recorded takers, rescaled", yscale="log", xlim=(0.0, 2.0 * line[-1]))
    axes.set(xlabel="integrated intensity between orders", ylabel="share at least as large")
    axes.legend(fontsize=8)
