"""How often 95 % intervals hold the planted value, over many samples: the table of docs/calibration.md.

Shown with: python -m pytest -m study -s tests/calibration/test_coverage.py
"""

from __future__ import annotations

from collections.abc import Callable

import naive_hawkes
import numpy as np
import pytest
from planted_flow import (
    BIRTH,
    BUYS,
    BY_DISTANCE,
    CANCELLED,
    CANCELS,
    NEWS,
    SELLS,
    SIZES,
    TAKEN,
    planted_counts,
    planted_events,
    planted_spells,
)
from scipy import stats

from bitquote.calibration import fit_hawkes, fit_pin, fit_queue_reactive, fit_zero_intelligence
from bitquote.calibration.hawkes import Parameters

SAMPLES = 400
FIRST = 10_000  # seeds that no other test uses
HAWKES = Parameters(np.array([0.5, 0.8]), np.array([[[0.3, 0.2], [0.1, 0.4]]]), np.array([3.0]))
TWO_SCALES = Parameters(np.array([0.6]), np.array([[[0.3]], [[0.3]]]), np.array([0.5, 20.0]))

Held = dict[str, np.ndarray | bool]


def hawkes(planted: Parameters, seconds: float, seed: int) -> Held:
    times, kinds = naive_hawkes.simulate(planted, seconds, seed)
    fit = fit_hawkes(times, kinds, len(planted.baseline), seconds, len(planted.decay))
    radius = float(np.abs(np.linalg.eigvals(planted.weight.sum(axis=0))).max())
    return {
        "baseline": fit.baseline.contains(planted.baseline),
        "weight": fit.weight.contains(planted.weight),
        "decay": fit.decay.contains(planted.decay),
        "branching ratio": fit.branching_ratio.contains(radius),
    }


def pin(seed: int) -> Held:
    fit = fit_pin(*planted_counts(NEWS, 150, seed))
    truth = {**NEWS._asdict(), "pin": NEWS.pin}
    return {name: getattr(fit, name).contains(value) for name, value in truth.items()}


def zero_intelligence(seed: int) -> Held:
    fit = fit_zero_intelligence(planted_events(seed), 1.0, distances=3)
    return {
        "limit rate": fit.by_distance.contains(BY_DISTANCE),
        "cancel rate": fit.cancel_rate.contains(CANCELS),
        "market rate": np.array([fit.market_bid.contains(SELLS), fit.market_ask.contains(BUYS)]),
    }


def queue_reactive(seed: int) -> Held:
    fit = fit_queue_reactive(planted_spells(seed), 2, SIZES)
    pairs = {"limit": (fit.limit, BIRTH), "cancel": (fit.cancel, CANCELLED), "market": (fit.market, TAKEN)}
    return {name: table.contains(truth)[truth > 0.0] for name, (table, truth) in pairs.items()}


@pytest.mark.study
@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("Hawkes, two types", lambda seed: hawkes(HAWKES, 800.0, seed)),
        ("Hawkes, two decays", lambda seed: hawkes(TWO_SCALES, 2000.0, seed)),
        ("PIN", pin),
        ("zero intelligence", zero_intelligence),
        ("queue-reactive", queue_reactive),
    ],
)
def test_intervals_cover_as_often_as_they_say(name: str, held: Callable[[int], Held]) -> None:
    samples = [held(seed) for seed in range(FIRST, FIRST + SAMPLES)]
    for figure in samples[0]:
        share = np.mean([np.atleast_1d(sample[figure]) for sample in samples], axis=0)  # of each parameter alone
        worst = round(float(share.min()) * SAMPLES)
        low, high = stats.binomtest(worst, SAMPLES).proportion_ci()
        print(f"{name} | {figure} | {share.mean():.3f} | {share.min():.3f} [{low:.3f}, {high:.3f}]")
        assert share.mean() >= 0.92
        assert share.min() >= 0.90
