"""Zero-intelligence rates: planted ones are recovered, and what cannot be is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planted_flow import BUYS, BY_DISTANCE, CANCELS, SELLS, SIZE, planted_events

from bitquote.calibration.order_flow import CANCEL, LIMIT
from bitquote.calibration.zero_intelligence import fit_zero_intelligence
from bitquote.errors import InputError


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
