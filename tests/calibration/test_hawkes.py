"""Hawkes processes: the recursion against its double sum, planted parameters, residuals, refusals."""

from __future__ import annotations

import naive_hawkes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from bitquote.calibration.goodness import autocorrelation, ljung_box, rescaled_goodness
from bitquote.calibration.hawkes import (
    Parameters,
    _likelihood,
    fit_hawkes,
    flow_excitation,
    log_likelihood,
    require_stationary,
    residuals,
    spread_ties,
)
from bitquote.errors import InputError

PLANTED = Parameters(np.array([0.5, 0.8]), np.array([[[0.3, 0.2], [0.1, 0.4]]]), np.array([3.0]))
RADIUS = float(np.abs(np.linalg.eigvals(PLANTED.weight[0])).max())  # 0.5
SECONDS = 800.0

positive = st.floats(0.01, 3.0)


@st.composite
def processes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, float, Parameters]:
    """A handful of events and any parameters."""
    d, p, n = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 12))
    times = np.cumsum(draw(st.lists(st.floats(1e-4, 5.0), min_size=n, max_size=n)))
    kinds = np.array(draw(st.lists(st.integers(0, d - 1), min_size=n, max_size=n)))
    numbers = st.lists(positive, min_size=d + p * d * d + p, max_size=d + p * d * d + p).map(np.array)
    values = draw(numbers)
    weight = values[d : d + p * d * d].reshape(p, d, d)
    return times, kinds, times[-1] + draw(st.floats(0.0, 2.0)), Parameters(values[:d], weight, values[d + p * d * d :])


@given(processes())
def test_the_recursion_is_the_double_sum(process: tuple[np.ndarray, np.ndarray, float, Parameters]) -> None:
    assert log_likelihood(*process) == pytest.approx(naive_hawkes.log_likelihood(*process), rel=1e-9, abs=1e-9)


@given(processes())
def test_the_gradient_is_the_slope_of_the_double_sum(
    process: tuple[np.ndarray, np.ndarray, float, Parameters],
) -> None:
    times, kinds, seconds, parameters = process
    d, shape = len(parameters.baseline), parameters.weight.shape

    def value(x: np.ndarray) -> float:
        split = Parameters(x[:d], x[d : -len(parameters.decay)].reshape(shape), x[-len(parameters.decay) :])
        return naive_hawkes.log_likelihood(times, kinds, seconds, split)

    at = np.concatenate([part.ravel() for part in parameters])
    slope = optimize.approx_fprime(at, value, 1e-6)
    _, *gradient = _likelihood(times, kinds, seconds, *parameters)
    np.testing.assert_allclose(np.concatenate([part.ravel() for part in gradient]), slope, rtol=2e-3, atol=2e-3)


def test_an_impossible_intensity_has_no_likelihood() -> None:
    none = Parameters(np.zeros(1), np.zeros((1, 1, 1)), np.ones(1))
    assert log_likelihood(np.array([1.0]), np.array([0]), 2.0, none) == -np.inf


def test_intervals_cover_planted_values_as_often_as_they_say() -> None:
    covered = np.zeros(8)
    samples = 100
    for seed in range(samples):
        times, kinds = naive_hawkes.simulate(PLANTED, SECONDS, seed)
        fit = fit_hawkes(times, kinds, 2, SECONDS)
        assert fit.converged
        assert fit.stationary
        covered += [
            *fit.baseline.contains(PLANTED.baseline),
            *fit.weight.contains(PLANTED.weight).ravel(),
            *fit.decay.contains(PLANTED.decay),
            fit.branching_ratio.contains(RADIUS),
        ]
    assert (covered >= 0.89 * samples).all()  # 95 %, less three standard errors of 100 samples
    assert covered.mean() <= 0.99 * samples


def test_a_fit_that_is_given_decays_holds_them() -> None:
    times, kinds = naive_hawkes.simulate(PLANTED, SECONDS, 1)
    free, held = fit_hawkes(times, kinds, 2, SECONDS), fit_hawkes(times, kinds, 2, SECONDS, [3.0])
    assert held.decay.value.tolist() == held.decay.low.tolist() == held.decay.high.tolist() == [3.0]
    assert held.parameters == free.parameters - 1
    assert held.log_likelihood <= free.log_likelihood
    np.testing.assert_allclose(held.excitation, 3.0 * held.weight.value)


def test_the_right_process_leaves_independent_exponentials() -> None:
    p_values = []
    for seed in range(20):
        times, kinds = naive_hawkes.simulate(PLANTED, SECONDS, seed)
        for waits in residuals(fit_hawkes(times, kinds, 2, SECONDS)):
            assert waits.mean() == pytest.approx(1.0, abs=0.05)
            goodness = rescaled_goodness(waits)
            p_values.append((goodness.ks_p_value, goodness.ljung_box_p_value))
    assert (np.mean(np.array(p_values) < 0.05, axis=0) <= 0.15).all()


def test_residuals_are_the_integral_of_the_intensity() -> None:
    times, kinds = naive_hawkes.simulate(PLANTED, 60.0, 2)
    fit = fit_hawkes(times, kinds, 2, 60.0)
    found = Parameters(fit.baseline.value, fit.weight.value, fit.decay.value)
    grid = np.linspace(0.0, times[-1], 40_001)
    middle, width = 0.5 * (grid[1:] + grid[:-1]), grid[1] - grid[0]
    for kind, waits in enumerate(residuals(fit)):
        values = [naive_hawkes.intensity(kind, t, times, kinds, found) for t in middle]
        last = times[kinds == kind][-1]
        assert waits.sum() == pytest.approx(width * np.sum(np.array(values)[middle < last]), rel=2e-3)


def test_a_wrong_process_is_found_out() -> None:
    """Events that only the other type excites, fitted as if nothing excited them."""
    times, kinds = naive_hawkes.simulate(PLANTED, SECONDS, 3)
    fit = fit_hawkes(times, kinds, 2, SECONDS)
    assert fit.aic_gain > 100.0
    rate = len(times) / SECONDS
    assert rescaled_goodness(np.diff(times) * rate).ks_p_value < 1e-3


def test_poisson_events_show_no_excitation() -> None:
    random = np.random.default_rng(5)
    gains, ratios = [], []
    for _ in range(20):
        times = np.sort(random.uniform(0.0, SECONDS, random.poisson(SECONDS)))
        fit = fit_hawkes(times, np.zeros(len(times), np.int64), 1, SECONDS)
        gains.append(fit.aic_gain)
        ratios.append(fit.branching_ratio.low)
    assert np.mean(np.array(gains) <= 0.0) >= 0.5
    assert np.mean(np.array(ratios) <= 0.01) >= 0.8


def test_the_flow_keeps_its_mean_rates_and_the_branching_ratio() -> None:
    times, kinds = naive_hawkes.simulate(PLANTED, SECONDS, 4)
    fit = fit_hawkes(times, kinds, 2, SECONDS)
    rates = np.array([7.0, 0.4, 30.0, 30.0, 9.0, 9.0])
    flow = flow_excitation(fit, rates, types=(0, 1))
    weight = np.array(flow["hawkes"]["excitation"]) / np.array(flow["hawkes"]["decay"])[:, None, None]
    branching = weight.sum(axis=0)
    assert np.abs(np.linalg.eigvals(branching)).max() == pytest.approx(fit.branching_ratio.value)
    np.testing.assert_allclose(np.linalg.solve(np.eye(6) - branching, flow["baseline"]), rates)
    assert flow["baseline"][2:] == rates[2:].tolist()  # types that were not fitted stay as they are
    assert min(flow["baseline"]) >= 0.0


def test_a_process_that_explodes_is_refused() -> None:
    with pytest.raises(InputError, match=r"branching ratio of the Hawkes process is 1\.1"):
        require_stationary(np.array([[[0.6]], [[0.5]]]))


def test_spread_ties_keeps_order_and_stamps() -> None:
    stamps = np.repeat(np.arange(100) * 1e-3, 5)
    spread = spread_ties(stamps, 1e-3, 7)
    assert (np.diff(spread) > 0).all()
    np.testing.assert_array_equal(np.floor(spread / 1e-3 + 1e-9), np.repeat(np.arange(100), 5))


def test_spread_ties_parts_what_a_double_hardly_can() -> None:
    stamps = np.repeat([23_400.0, 23_400.0 + 1e-9], 500)  # the doubles there are 4e-12 apart
    spread = spread_ties(stamps, 1e-9)
    assert (np.diff(spread) > 0.0).all()
    np.testing.assert_allclose(spread, stamps, rtol=0, atol=4e-9)


def good() -> dict[str, object]:
    return {"times": np.arange(1.0, 51.0), "kinds": np.arange(50) % 2, "dimensions": 2, "seconds": 60.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": np.r_[1.0, 1.0, np.arange(3.0, 51.0)]}, r"times\[1\].*spread_ties"),
        ({"times": np.arange(1.0, 51.0)[::-1]}, r"times\[1\]"),
        ({"times": np.r_[np.nan, np.arange(2.0, 51.0)]}, "finite"),
        ({"times": np.arange(-1.0, 49.0)}, r"times\[0\] is -1"),
        ({"seconds": 40.0}, r"times\[49\] is 50.0: must be at most seconds"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"kinds": np.zeros(50, int)}, "events of type 1 is 0"),
        ({"kinds": np.arange(50) % 3}, "kinds is"),
        ({"kinds": np.zeros(50)}, "integers"),
        ({"kinds": np.zeros(4, int)}, "shape"),
        ({"dimensions": 0}, "dimensions is 0"),
        ({"decays": 0}, "decays is 0"),
        ({"decays": True}, "decays"),
        ({"decays": [1.0, 1.0]}, "different"),
        ({"decays": [-1.0]}, "decays is -1"),
        ({"decays": []}, "one or more"),
    ],
)
def test_bad_input_is_one_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_hawkes(**(good() | change))  # type: ignore[arg-type]


def test_autocorrelation_is_its_definition() -> None:
    values = np.random.default_rng(1).normal(size=300)
    centred = values - values.mean()
    slow = [np.sum(centred[k:] * centred[:-k]) / np.sum(centred**2) for k in range(1, 6)]
    np.testing.assert_allclose(autocorrelation(values, 5), slow)
    assert autocorrelation(np.ones(10), 3).tolist() == [0.0, 0.0, 0.0]
    statistic, p_value = ljung_box(values, 5)
    assert statistic == pytest.approx(300 * 302 * np.sum(np.array(slow) ** 2 / (300 - np.arange(1, 6))))
    assert 0.0 < p_value < 1.0
