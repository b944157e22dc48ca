"""Zero-intelligence rates: planted ones are recovered, and what cannot be is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bitquote.calibration.order_flow import CANCEL, LIMIT, MARKET, OrderEvents
from bitquote.calibration.zero_intelligence import fit_zero_intelligence
from bitquote.errors import InputError

BY_DISTANCE = np.array([3.0, 2.0, 1.0])  # limit orders per second and side
CANCELS = 0.5  # per second and order
SELLS, BUYS = 0.4, 0.7
SIZE = 2.0


def planted_events(seed: int, seconds: float = 120.0) -> OrderEvents:
    """Orders that live for an exponential time, and takers that leave them alone."""
    random = np.random.default_rng(seed)
    rows: list[tuple[float, int, int, float, float]] = []
    for side in (1, -1):
        for distance, rate in enumerate(BY_DISTANCE):
            born = random.uniform(0.0, seconds, random.poisson(rate * seconds))
            dead = born + random.exponential(1.0 / CANCELS, len(born))
            size = random.exponential(SIZE, len(born))
            rows += [(t, LIMIT, side, distance + 0.5, q) for t, q in zip(born, size, strict=True)]
            rows += [(t, CANCEL, side, distance + 0.5, q) for t, q in zip(dead, size, strict=True) if t < seconds]
        takers = random.poisson((SELLS if side > 0 else BUYS) * seconds)
        rows += [(t, MARKET, side, 0.5, 1.0) for t in random.uniform(0.0, seconds, takers)]
    rows.sort()
    time, kind, side, distance, size = (np.array(column) for column in zip(*rows, strict=True))
    change = np.where(kind == LIMIT, 1, np.where(kind == CANCEL, -1, 0))
    resting = np.r_[0.0, np.cumsum(change)[:-1]]
    return OrderEvents(time, kind.astype(np.int8), side.astype(np.int8), distance, size, resting, seconds)


def test_intervals_cover_planted_values_as_often_as_they_say() -> None:
    samples = 120
    covered = np.zeros(9)
    for seed in range(samples):
        fit = fit_zero_intelligence(planted_events(seed), 1.0, distances=3)
        covered += [
            fit.limit_rate.contains(BY_DISTANCE.sum()),
            *fit.by_distance.contains(BY_DISTANCE),
            fit.cancel_rate.contains(CANCELS),
            fit.market_bid.contains(SELLS),
            fit.market_ask.contains(BUYS),
            fit.limit_size.contains(SIZE),
            fit.market_size.low == fit.market_size.high == pytest.approx(1.0),
        ]
    assert (covered >= 0.88 * samples).all()  # 95 %, three standard errors below


def test_the_estimates_are_counts_over_time() -> None:
    events = planted_events(1)
    fit = fit_zero_intelligence(events, 1.0, distances=2)
    limits = events.kind == LIMIT
    assert fit.limit_rate.value == pytest.approx(np.count_nonzero(limits) / 240.0)
    assert fit.by_distance.value[1] == pytest.approx(np.count_nonzero(limits & (events.distance == 1.5)) / 240.0)
    assert fit.beyond == np.count_nonzero(limits & (events.distance > 2))
    order_seconds = np.sum(np.diff(np.r_[0.0, events.time]) * events.resting)
    order_seconds += (120.0 - events.time[-1]) * events.resting[-1]
    assert fit.cancel_rate.value == pytest.approx(np.count_nonzero(events.kind == CANCEL) / order_seconds)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": lambda e: e.time[::-1]}, "ascending"),
        ({"time": lambda e: e.time + np.where(np.arange(len(e.time)) == 3, np.nan, 0.0)}, r"time\[3\] is not finite"),
        ({"seconds": lambda e: 10.0}, "from 0 to 10"),
        ({"side": lambda e: 0 * e.side}, r"\+1 or -1"),
        ({"kind": lambda e: e.kind + 1}, "kind is"),
        ({"kind": lambda e: 0 * e.kind}, "the number of market orders is 0"),
        ({"size": lambda e: -e.size}, "above 0"),
        ({"resting": lambda e: e.resting - 1}, "resting"),
        ({"size": lambda e: e.size[1:]}, "of the shape of time"),
    ],
)
def test_bad_events_are_one_line(change: dict[str, Any], message: str) -> None:
    events = planted_events(0)
    broken = events._replace(**{name: make(events) for name, make in change.items()})
    with pytest.raises(InputError, match=message):
        fit_zero_intelligence(broken, 1.0)
    with pytest.raises(InputError, match="step is 0"):
        fit_zero_intelligence(events, 0.0)
