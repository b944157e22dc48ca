"""PIN and VPIN: planted news, the likelihood by hand, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from planted import planted_tape
from planted_flow import NEWS, planted_counts
from scipy import optimize, stats

from bitquote.calibration.informed import (
    PinParameters,
    _parameters,
    _score,
    fit_pin,
    fit_pin_to_tape,
    log_likelihood,
    vpin,
)
from bitquote.errors import InputError


def test_the_likelihood_is_the_mixture_of_poissons() -> None:
    buys, sells = planted_counts(NEWS, 30, 1)
    alpha, delta, mu, eps_buy, eps_sell = NEWS
    chance = (
        (1 - alpha) * stats.poisson.pmf(buys, eps_buy) * stats.poisson.pmf(sells, eps_sell)
        + alpha * delta * stats.poisson.pmf(buys, eps_buy) * stats.poisson.pmf(sells, eps_sell + mu)
        + alpha * (1 - delta) * stats.poisson.pmf(buys, eps_buy + mu) * stats.poisson.pmf(sells, eps_sell)
    )
    assert log_likelihood(buys, sells, NEWS) == pytest.approx(np.log(chance).sum())


def test_large_counts_do_not_overflow() -> None:
    assert np.isfinite(log_likelihood(np.array([20_000]), np.array([30_000]), NEWS._replace(mu=1e4)))


def test_the_score_is_the_slope() -> None:
    buys, sells = (side.astype(float) for side in planted_counts(NEWS, 40, 2))
    x = np.array([-0.3, 0.2, 2.5, 2.0, 2.8])
    slope = optimize.approx_fprime(x, lambda y: log_likelihood(buys, sells, _parameters(y)), 1e-6)
    np.testing.assert_allclose(_score(buys, sells, _parameters(x)), slope, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("planted", [NEWS, PinParameters(0.2, 0.7, 30.0, 10.0, 10.0)])
def test_intervals_cover_planted_values_as_often_as_they_say(planted: PinParameters) -> None:
    covered = np.zeros(6)
    samples = 100
    for seed in range(samples):
        fit = fit_pin(*planted_counts(planted, 150, seed))
        assert fit.log_likelihood > fit.poisson_log_likelihood
        estimates = fit.alpha, fit.delta, fit.mu, fit.eps_buy, fit.eps_sell, fit.pin
        covered += [e.contains(value) for e, value in zip(estimates, (*planted, planted.pin), strict=True)]
    assert (covered >= 0.89 * samples).all()  # 95 %, less three standard errors of 100 samples


def test_a_tape_without_news_shows_little_information() -> None:
    """Independent Poisson orders: PIN is not identified, and its interval reaches nearly to zero."""
    lows = [fit_pin_to_tape(planted_tape(seed), 3.0).pin.low for seed in range(20)]
    assert np.median(lows) < 0.05


def test_vpin_is_one_when_all_trade_one_way_and_small_when_they_alternate() -> None:
    tape = planted_tape(1)
    n = len(tape.trade_time)
    one_way = tape._replace(trade_aggressor=np.ones(n, np.int8))
    assert vpin(one_way, 1.03).value == pytest.approx(1.0)
    alternating = tape._replace(trade_aggressor=np.where(np.arange(n) % 2, 1, -1).astype(np.int8))
    assert vpin(alternating, 1.0).value < 0.11
    assert vpin(alternating, 1.0).low > 0.0 or vpin(alternating, 1.0).value == pytest.approx(0.0, abs=1e-9)


def test_vpin_of_random_signs_is_the_mean_of_a_binomial_imbalance() -> None:
    trades, covered = 10, 0
    truth = np.mean(np.abs(2 * stats.binom.rvs(trades, 0.5, size=400_000, random_state=3) - trades)) / trades
    for seed in range(60):
        tape = planted_tape(seed)
        signs = np.random.default_rng(seed).choice([-1, 1], len(tape.trade_time)).astype(np.int8)
        covered += vpin(tape._replace(trade_aggressor=signs), trades * 0.1).contains(truth)
    assert covered >= 52  # 95 % of 60, less three standard errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 1.2}, "the probability alpha is 1.2: must be a finite number of at least 0 and at most 1"),
        ({"delta": -0.1}, "the probability delta is -0.1"),
        ({"mu": float("nan")}, "the mean count mu is nan"),
    ],
)
def test_impossible_parameters_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        log_likelihood(np.ones(5), np.ones(5), NEWS._replace(**change))


def test_bad_counts_are_refused() -> None:
    some = np.arange(30)
    for buys, sells, message in (
        (some - 5, some, "buys is -5"),
        (some, some[:-1], "sells is 29"),
        (some[:5], some[:5], "periods of buys is 5"),
        (some, 0 * some, "sells is 0: must be above 0"),
        (some * 1.0, some, "a row of integers"),
    ):
        with pytest.raises(InputError, match=message):
            fit_pin(buys, sells)
    with pytest.raises(InputError, match="period is 100"):
        fit_pin_to_tape(planted_tape(0), 100.0)
    with pytest.raises(InputError, match="bucket is 1000"):
        vpin(planted_tape(0), 1000.0)
