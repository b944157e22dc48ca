"""Intervals cover, certainty equivalents refuse, and both agree with the textbook."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from bitquote.evaluation import statistics

samples = arrays(np.float64, st.integers(2, 50), elements=st.floats(-1e3, 1e3).map(lambda x: round(x, 3)))


@settings(deadline=None)
@given(samples, st.floats(-100.0, 100.0))
def test_student_interval_is_centred_and_moves_with_the_data(sample, shift):
    interval, moved = statistics.student_interval(sample), statistics.student_interval(sample + shift)
    assert interval.low <= interval.mean <= interval.high
    assert interval.mean - interval.low == pytest.approx(interval.high - interval.mean, abs=1e-9)
    np.testing.assert_allclose(np.subtract(moved, interval), shift, atol=1e-6)


def test_student_interval_is_scipys():
    sample = np.random.default_rng(1).normal(3.0, 2.0, 17)
    expected = stats.ttest_1samp(sample, 0.0).confidence_interval(0.95)
    assert statistics.student_interval(sample)[1:] == pytest.approx((expected.low, expected.high))


def test_pairing_takes_the_common_noise_out():
    random = np.random.default_rng(2)
    common = random.normal(0.0, 10.0, 500)
    reference, other = common + 1.0, common + random.normal(0.0, 0.1, 500)
    interval = statistics.paired_interval(reference, other)
    assert interval.mean == pytest.approx(1.0, abs=0.02)
    assert interval.high - interval.low < 0.03


@settings(deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(2, 6), st.integers(2, 20)), elements=st.integers(-50, 50).map(float)))
def test_two_level_interval_is_at_least_as_wide_as_its_seeds_and_its_paths_alone(values):
    _, low, high = statistics.two_level_interval(values)
    seeds, paths = values.shape
    error = max(values.mean(axis=1).std(ddof=1) / math.sqrt(seeds), values.mean(axis=0).std(ddof=1) / math.sqrt(paths))
    assert high - low >= 2.0 * 1.95 * error - 1e-9


def test_two_level_interval_of_one_seed_is_that_of_its_paths():
    values = np.random.default_rng(3).normal(size=30)
    assert statistics.two_level_interval([values]) == statistics.student_interval(values)


def test_two_level_interval_of_identical_policies_is_that_of_the_paths():
    values = np.random.default_rng(4).normal(size=40)
    assert statistics.two_level_interval([values] * 3) == pytest.approx(statistics.student_interval(values), rel=1e-9)


@pytest.mark.parametrize(("seed_noise", "path_noise"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0)])
def test_two_level_interval_covers(seed_noise, path_noise):
    """95 % nominal over 600 draws of (5 seeds, 40 paths): between 92.5 % and all of them, whatever dominates."""
    random = np.random.default_rng(5)
    covered = 0
    for _ in range(600):
        values = (
            seed_noise * random.normal(size=(5, 1))
            + path_noise * random.normal(scale=3.0, size=(1, 40))
            + random.normal(scale=0.5, size=(5, 40))
        )
        _, low, high = statistics.two_level_interval(values)
        covered += low <= 0.0 <= high
    assert covered >= 0.925 * 600


def test_student_over_seed_means_alone_would_not_cover():
    """Why the paths are in the interval: every seed's policy is tested on the same ones."""
    random = np.random.default_rng(6)
    covered = 0
    for _ in range(300):
        values = 0.2 * random.normal(size=(5, 1)) + random.normal(scale=3.0, size=(1, 40))
        _, low, high = statistics.student_interval(values.mean(axis=1))
        covered += low <= 0.0 <= high
    assert covered < 0.6 * 300


def test_effective_sample_size_of_equal_weights_is_the_sample_size():
    assert statistics.effective_sample_size(np.full(123, 7.0), 0.5) == pytest.approx(123.0)


def test_effective_sample_size_of_one_dominating_path_is_one():
    profit = np.zeros(1000)
    profit[3] = -1e6
    assert statistics.effective_sample_size(profit, 0.5) == pytest.approx(1.0)


def test_certainty_equivalent_of_a_normal_profit_is_its_closed_form():
    profit = np.random.default_rng(7).normal(5.0, 2.0, 40_000)
    gamma = 0.2
    assert statistics.certainty_equivalent(profit, gamma) == pytest.approx(5.0 - gamma * 4.0 / 2.0, abs=0.05)


@pytest.mark.parametrize(
    ("std", "paths"), [(8.0, 40_000), (2.0, 5_000)], ids=["risk too large for the sample", "too few paths"]
)
def test_certainty_equivalent_refuses(std, paths):
    profit = np.random.default_rng(8).normal(0.0, std, paths)
    assert statistics.certainty_equivalent(profit, 0.1) is None


@settings(deadline=None)
@given(samples, st.floats(1e-4, 1e-2))
def test_influence_values_average_to_the_certainty_equivalent(profit, gamma):
    level = statistics.sample_certainty_equivalent(profit, gamma)
    assert statistics.certainty_equivalent_by_path(profit, gamma).mean() == pytest.approx(level, abs=1e-6 * 1e3)
    assert profit.min() - 1e-9 <= level <= profit.mean() + 1e-9


def test_influence_values_give_the_error_of_the_certainty_equivalent():
    random = np.random.default_rng(9)
    draws = random.normal(0.0, 3.0, (400, 500))
    levels = [statistics.sample_certainty_equivalent(row, 0.2) for row in draws]
    by_path = statistics.certainty_equivalent_by_path(draws[0], 0.2)
    assert by_path.std(ddof=1) / math.sqrt(500) == pytest.approx(np.std(levels), rel=0.25)


def test_finite_mean_leaves_out_what_is_undefined():
    assert statistics.finite_mean([1.0, math.nan, 3.0, math.inf]) == 2.0
    assert statistics.finite_mean([math.nan]) is None


# ---- many looks, and what they cost


def planted(kind, seeds, paths, random):
    """Values (seeds, paths) of mean zero: effects of seeds, normal or skewed, of paths and of both, with fat tails."""
    effect = random.standard_normal(seeds) if kind == "normal" else random.exponential(1.0, seeds) - 1.0
    return 0.02 * effect[:, None] + 0.3 * random.standard_t(4, paths) + 0.5 * random.standard_t(4, (seeds, paths))


@pytest.mark.study
@pytest.mark.parametrize("kind", ["normal", "skewed"])
@pytest.mark.parametrize("seeds", [5, 10])
def test_two_level_intervals_hold_what_they_promise(kind, seeds):
    """Between 93 and 97 % at nominal 95, within the simulation's own error (0.7 and 1.1 points)."""
    random = np.random.default_rng(seeds)
    student = [statistics.two_level_interval(planted(kind, seeds, 300, random)) for _ in range(1000)]
    drawn = [statistics.two_level_bootstrap(planted(kind, seeds, 300, random), resamples=499) for _ in range(400)]
    for intervals, error in ((student, 0.007), (drawn, 0.011)):
        covered = np.mean([interval.low <= 0.0 <= interval.high for interval in intervals])
        assert 0.93 - 2.0 * error <= covered <= 0.97 + 2.0 * error


def test_a_planted_zero_is_significant_in_at_most_one_suite_of_twenty():
    random = np.random.default_rng(8)
    found = 0
    for _ in range(300):
        p_values = [statistics.two_level_p_value(planted("normal", 5, 60, random)) for _ in range(14)]
        found += bool((statistics.holm(p_values) < 0.05).any())
    assert found / 300 <= 0.05 + 2.0 * math.sqrt(0.05 * 0.95 / 300)


def test_p_value_and_interval_are_one_test():
    random = np.random.default_rng(9)
    for shift in (0.0, 0.05, 0.1):
        values = planted("normal", 6, 80, random) + shift
        p = statistics.two_level_p_value(values)
        interval = statistics.two_level_interval(values, 1.0 - p)
        assert min(abs(interval.low), abs(interval.high)) < 1e-9
    assert statistics.two_level_p_value([[0.0, 0.0], [0.0, 0.0]]) == 1.0


def test_holm_is_the_textbooks():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.5, 0.9]).tolist() == [1.0, 1.0] and statistics.holm([0.2]).tolist() == [0.2]


def test_interquartile_mean_does_not_hear_a_diverged_seed():
    values = np.random.default_rng(10).normal(1.0, 0.1, (8, 200))
    values[3] = -50.0
    interval = statistics.interquartile_mean(values)
    assert interval.low < 1.0 < interval.high and interval.high - interval.low < 0.1
    seeds = values.mean(axis=1)
    assert interval.mean == pytest.approx(stats.trim_mean(seeds, 0.25))
    assert statistics.interquartile_mean(values[:3]) == statistics.two_level_interval(values[:3])


def test_probability_of_improvement():
    values = np.random.default_rng(11).normal(0.5, 1.0, (5, 4000))
    interval = statistics.probability_of_improvement(values)
    assert interval.low < stats.norm.cdf(0.5) < interval.high
    assert statistics.probability_of_improvement(np.zeros((3, 4))) == (0.5, 0.5, 0.5)
    assert statistics.probability_of_improvement(np.array([[1.0, 1.0, 1.0, -1.0]])).high == 1.0


def test_the_best_of_many_lucky_attempts_does_not_pass_the_deflated_sharpe_ratio():
    """The best of 50 attempts without skill looks good alone, and like luck beside its fellows."""
    random = np.random.default_rng(12)
    alone, deflated = [], []
    for _ in range(200):
        attempts = random.normal(0.0, 1.0, (50, 250))
        ratios = [statistics.sharpe_ratio(attempt) for attempt in attempts]
        best = attempts[int(np.argmax(ratios))]
        alone.append(statistics.deflated_sharpe_ratio(best, 1, 0.0))
        deflated.append(statistics.deflated_sharpe_ratio(best, 50, float(np.std(ratios, ddof=1))))
    assert np.mean(np.array(alone) > 0.95) > 0.8
    assert 0.3 < np.mean(deflated) < 0.7 and np.mean(np.array(deflated) > 0.95) <= 0.05
    skilled = statistics.deflated_sharpe_ratio(random.normal(1.0, 1.0, 250), 50, 0.06)
    assert skilled > 0.999
    assert statistics.deflated_sharpe_ratio(np.ones(5), 1, 0.0) is None
