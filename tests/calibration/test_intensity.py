"""Fill intensities: planted A and k, taker orders worked out by hand, the goodness of fit."""

from __future__ import annotations

import numpy as np
import pytest
from planted import planted_tape

from bitquote.calibration.intensity import bursts, fit_intensities, taker_orders
from bitquote.errors import InputError
from bitquote.market.simulation import Tape

A, K = 2.0, 0.5


def tape_of(quotes: list[tuple[float, float, float]], trades: list[tuple[float, float, float, int]]) -> Tape:
    """A tape of (time, bid, ask) and (time, price, quantity, aggressor)."""
    quote_time, bid, ask = np.array(quotes, dtype=float).T
    time, price, quantity, aggressor = np.array(trades, dtype=float).reshape(-1, 4).T
    ones = np.ones(len(bid))
    empty = np.zeros(0), np.zeros((0, 2, 1, 2))
    return Tape(time, price, quantity, aggressor.astype(np.int8), quote_time, bid, ask, ones, ones, *empty)


def test_trades_of_one_time_and_side_are_one_taker_order() -> None:
    tape = tape_of(
        [(0.0, 99.0, 101.0), (1.0, 99.0, 103.0), (2.0, 98.0, 100.0)],
        [
            (0.0, 101.0, 5.0, 1),  # no quote before it
            (1.0, 101.0, 1.0, 1),
            (1.0, 102.0, 2.0, 1),  # the same order, deeper; the quote of the same time is its effect
            (1.0, 99.0, 4.0, -1),
            (1.5, 98.0, 3.0, -1),
            (2.5, 97.0, 1.0, -1),
            (2.5, 96.0, 1.0, -1),
        ],
    )
    orders = taker_orders(tape)
    assert orders.time.tolist() == [1.0, 1.0, 1.5, 2.5]
    assert orders.side.tolist() == [1, -1, -1, -1]
    assert orders.mid.tolist() == [100.0, 100.0, 101.0, 99.0]
    assert orders.reach.tolist() == [2.0, 1.0, 3.0, 3.0]
    assert orders.price.tolist() == [102.0, 99.0, 98.0, 96.0]
    assert orders.quantity.tolist() == [3.0, 4.0, 3.0, 2.0]


def test_a_tape_without_trades_has_no_taker_orders() -> None:
    assert len(taker_orders(tape_of([(0.0, 99.0, 101.0)], [])).time) == 0


def test_orders_that_follow_each_other_are_a_burst() -> None:
    tape = tape_of(
        [(0.0, 99.0, 101.0), (1.01, 99.0, 103.0), (1.05, 101.0, 103.0)],
        [
            (1.0, 101.0, 1.0, 1),
            (1.02, 103.0, 2.0, 1),
            (1.04, 98.0, 5.0, -1),
            (1.11, 102.0, 4.0, 1),
            (1.3, 103.0, 1.0, 1),
        ],
    )
    found = bursts(taker_orders(tape), 0.1)
    assert found.time.tolist() == [1.0, 1.04, 1.3]
    assert found.side.tolist() == [1, -1, 1]
    assert found.mid.tolist() == [100.0, 101.0, 102.0]
    assert found.reach.tolist() == [3.0, 3.0, 1.0]
    assert found.price.tolist() == [103.0, 98.0, 103.0]
    assert found.quantity.tolist() == [7.0, 5.0, 1.0]
    assert len(bursts(taker_orders(tape_of([(0.0, 99.0, 101.0)], [])), 0.1).time) == 0


def test_bursts_lower_the_intensity_of_clustered_orders_only() -> None:
    tape = planted_tape(3)
    alone, together = (fit_intensities(tape, 1.0, gap=gap, resamples=0).pooled for gap in (None, 1e-4))
    assert together.A.value == pytest.approx(alone.A.value, rel=0.01)
    twice = tape._replace(
        **{name: np.repeat(getattr(tape, name), 2) for name in ("trade_price", "trade_quantity", "trade_aggressor")},
        trade_time=np.repeat(tape.trade_time, 2) + np.tile([0.0, 1e-3], len(tape.trade_time)),
    )
    twice = Tape(*(column[np.argsort(twice.trade_time)] for column in twice[:4]), *twice[4:])
    counted = fit_intensities(twice, 1.0, resamples=0).pooled.at_touch.value
    assert counted > 1.8 * fit_intensities(twice, 1.0, gap=2e-3, resamples=0).pooled.at_touch.value


def test_the_estimates_are_the_likelihoods_maximum() -> None:
    """The geometric law's maximum likelihood, found again by brute force on a grid of k."""
    tape = planted_tape(3)
    fit = fit_intensities(tape, 1.0, resamples=0).bid
    orders = taker_orders(tape)
    reach = orders.reach[(orders.side < 0) & (orders.reach >= 0.5)]
    beyond = np.floor(reach - 0.5)
    grid = np.linspace(0.2, 1.0, 8001)
    likelihood = -grid * beyond.sum() + len(reach) * np.log1p(-np.exp(-grid))
    assert fit.k.value == pytest.approx(grid[np.argmax(likelihood)], abs=2e-4)
    assert fit.at_touch.value == pytest.approx(fit.fitted(np.array([0.5]))[0])


@pytest.mark.parametrize("step", [0.01, 1.0, 3.0])
def test_intervals_cover_planted_values_as_often_as_they_say(step: float) -> None:
    covered = np.zeros((3, 2))
    tapes = 120
    for seed in range(tapes):
        fit = fit_intensities(planted_tape(seed, A=A, k=K, seconds=120.0), step, resamples=0)
        for i, side in enumerate((fit.bid, fit.ask, fit.pooled)):
            covered[i] += side.A.contains(A), side.k.contains(K)
    assert (covered >= 0.88 * tapes).all()  # 95 %, three standard errors below


def test_clustering_widens_the_intervals() -> None:
    calm, clustered = (
        np.mean([fit_intensities(planted_tape(s, clustered=c), 1.0, resamples=0).pooled.A for s in range(10)], axis=0)
        for c in (False, True)
    )
    assert clustered[0] == pytest.approx(calm[0], rel=0.05)
    assert clustered[2] - clustered[1] < 2 * (calm[2] - calm[1])  # bursts shorter than a block average out
    fine = fit_intensities(planted_tape(0, clustered=True), 1.0, block=2.0, resamples=0).pooled.A
    coarse = fit_intensities(planted_tape(0, clustered=False), 1.0, block=2.0, resamples=0).pooled.A
    assert fine.high - fine.low > 1.3 * (coarse.high - coarse.low)


def test_the_non_parametric_intensity_surrounds_the_planted_one() -> None:
    fits = [fit_intensities(planted_tape(seed, A=A, k=K), 1.0, distances=8, resamples=0).pooled for seed in range(60)]
    truth = A * np.exp(-K * fits[0].distance)
    covered = np.mean([(fit.low <= truth) & (truth <= fit.high) for fit in fits], axis=0)
    assert (covered >= 0.88).all()  # 95 % or more: the intervals are exact, so a little wide


def test_the_goodness_of_fit_accepts_the_exponential_and_refuses_a_mixture() -> None:
    accepted = [fit_intensities(planted_tape(seed), 1.0, resamples=99).bid.p_value for seed in range(20)]
    assert np.mean(np.array(accepted) < 0.05) <= 0.2
    tape = planted_tape(1, k=2.0)
    mid = taker_orders(tape).mid
    far = np.where(np.arange(len(mid)) % 3 == 0, 20.0, 1.0)  # every third order reaches twenty times as far
    fit = fit_intensities(tape._replace(trade_price=mid + far * (tape.trade_price - mid)), 1.0, resamples=99).bid
    assert fit.p_value < 0.05
    assert fit.ks > 0.1


def test_orders_that_never_meet_the_grid_are_counted() -> None:
    tape = planted_tape(2)
    fit = fit_intensities(tape, 4.0, resamples=0)
    orders = taker_orders(tape)
    assert fit.nearer == np.count_nonzero(orders.reach < 2.0)
    assert fit.nearer + fit.bid.count + fit.ask.count == len(orders.time)


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan"), True])
def test_an_impossible_step_is_refused(step: float) -> None:
    with pytest.raises(InputError, match="step is"):
        fit_intensities(planted_tape(0), step)


def test_too_few_orders_are_refused() -> None:
    with pytest.raises(InputError, match="too few"):
        fit_intensities(planted_tape(0, A=0.05), 1.0)
    with pytest.raises(InputError, match="too few"):
        fit_intensities(tape_of([(0.0, 99.0, 101.0), (9.0, 99.0, 101.0)], []), 1.0)
