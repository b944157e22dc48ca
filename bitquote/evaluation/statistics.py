"""Intervals and estimates for simulated scores: what a sample of paths, and of training seeds, can and cannot say."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
LARGEST_RISK = 0.75
"""gamma * std(profit) from which a simulated certainty equivalent is not trusted: its tail rules it."""
SMALLEST_SAMPLE = 1e4
"""Effective sample size of the weights exp(-gamma * profit) that a simulated certainty equivalent needs."""


class Interval(NamedTuple):
    """A mean and the two ends of its confidence interval."""

    mean: float
    low: float
    high: float


def student_interval(sample: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Student's interval of the mean of independent draws, shape (n,) with n >= 2."""
    values = np.asarray(sample, np.float64)
    standard_error = values.std(ddof=1) / math.sqrt(values.size)
    return _interval(values.mean(), standard_error, values.size - 1, confidence)


def paired_interval(reference: ArrayLike, other: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Student's interval of the mean of `reference - other`, path by path: both shape (paths,), same random numbers."""
    return student_interval(np.subtract(reference, other), confidence)


def two_level_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Interval of the mean over training seeds *and* test paths, from values of shape (seeds, paths).

    Every seed's policy is tested on the same paths, so both levels vary and neither may be forgotten: with the
    two-way model value = mean + seed + path + rest, the variance of the grand mean is
    MS_seed/SP + MS_path/SP - MS_rest/SP (random-effects analysis of variance, crossed, one draw a cell; Searle,
    Casella & McCulloch, Variance Components, 1992), its degrees of freedom by Satterthwaite. The estimate is kept
    at or above either level alone. One seed leaves the paths as the only unit.
    """
    table = np.atleast_2d(np.asarray(values, np.float64))
    seeds, paths = table.shape
    if seeds == 1:
        return student_interval(table[0], confidence)
    if paths == 1:
        return student_interval(table[:, 0], confidence)
    seed_means, path_means, mean = table.mean(axis=1), table.mean(axis=0), table.mean()
    rest = table - seed_means[:, None] - path_means[None, :] + mean
    of_seeds = seed_means.var(ddof=1) / seeds
    of_paths = path_means.var(ddof=1) / paths
    of_rest = (rest * rest).sum() / ((seeds - 1) * (paths - 1)) / (seeds * paths)
    variance = max(of_seeds + of_paths - of_rest, of_seeds, of_paths)
    spread = of_seeds**2 / (seeds - 1) + of_paths**2 / (paths - 1) + of_rest**2 / ((seeds - 1) * (paths - 1))
    freedom = max(variance**2 / spread, 1.0) if spread > 0.0 else seeds - 1
    return _interval(mean, math.sqrt(variance), freedom, confidence)


def _interval(mean: float, standard_error: float, freedom: float, confidence: float) -> Interval:
    margin = float(stats.t.ppf(0.5 + confidence / 2.0, freedom)) * float(standard_error)
    return Interval(float(mean), float(mean) - margin, float(mean) + margin)


def effective_sample_size(profit: ArrayLike, gamma: float) -> float:
    """(sum w)^2 / sum w^2 of the weights w = exp(-gamma * profit): how many paths carry the certainty equivalent."""
    exponent = -gamma * np.asarray(profit, np.float64)
    return math.exp(2.0 * _log_sum_exp(exponent) - _log_sum_exp(2.0 * exponent))


def is_risk_moderate(profit: ArrayLike, gamma: float) -> bool:
    """Whether gamma * std(profit) is small enough that the tail beyond the sample hardly matters."""
    return gamma * float(np.asarray(profit, np.float64).std(ddof=1)) < LARGEST_RISK


def certainty_equivalent(profit: ArrayLike, gamma: float) -> float | None:
    """-log(mean(exp(-gamma * profit))) / gamma of a sample of paths, or None where it is not estimable.

    Refused unless gamma * std(profit) < 0.75 and the effective sample size exceeds 1e4: beyond that the mean is
    ruled by paths that the sample does not hold, and its standard error hides it.
    """
    if np.ptp(profit) == 0.0:  # a sure profit, such as that of not quoting, needs no estimate
        return float(np.asarray(profit, np.float64)[0])
    if not is_risk_moderate(profit, gamma) or effective_sample_size(profit, gamma) <= SMALLEST_SAMPLE:
        return None
    return sample_certainty_equivalent(profit, gamma)


def sample_certainty_equivalent(profit: ArrayLike, gamma: float) -> float:
    """The same without the refusal: good for ranking on common random numbers, not for publishing."""
    values = np.asarray(profit, np.float64)
    return (math.log(values.size) - _log_sum_exp(-gamma * values)) / gamma


def certainty_equivalent_by_path(profit: ArrayLike, gamma: float) -> NDArray[np.float64]:
    """One value a path, shape (paths,), whose mean is the sample's certainty equivalent.

    They are its first-order influence values, so that the spread of their paired differences gives the delta
    method's interval of a difference of certainty equivalents.
    """
    values = np.asarray(profit, np.float64)
    level = sample_certainty_equivalent(values, gamma)
    return level - np.expm1(-gamma * (values - level)) / gamma


def _log_sum_exp(exponent: NDArray[np.float64]) -> float:
    largest = float(exponent.max())
    return largest + math.log(np.exp(exponent - largest).sum())


def finite_mean(values: ArrayLike) -> float | None:
    """Mean of the finite entries, None when there are none."""
    array = np.asarray(values, np.float64)
    finite = array[np.isfinite(array)]
    return float(finite.mean()) if finite.size else None
