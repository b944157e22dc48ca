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
