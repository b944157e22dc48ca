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
    """Interval of the mean over training seeds *and* test paths, from values of shape (seeds, paths)."""
    return _interval(*_two_level(values), confidence)


def two_level_p_value(values: ArrayLike) -> float:
    """Two-sided p-value of a mean of zero, of the test that `two_level_interval` inverts; 1 where nothing varies."""
    mean, standard_error, freedom = _two_level(values)
    return float(2.0 * stats.t.sf(abs(mean) / standard_error, freedom)) if standard_error > 0.0 else float(mean == 0.0)


def interquartile_mean(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Mean over the middle half of the training seeds (Agarwal et al. 2021, Deep RL at the edge of the statistical
    precipice), from values (seeds, paths): one diverged seed does not move it. With fewer than four seeds, the mean.

    The seeds' share of its variance is that of a trimmed mean (Yuen 1974), the paths' that of the seeds that are left.
    """
    return _interval(*_two_level(values, trim=0.25), confidence)


def probability_of_improvement(differences: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """How often one quoter earns more than another on the same path, from differences (seeds, paths); ties count half.

    The interval ends where probabilities do.
    """
    mean, low, high = two_level_interval(0.5 * (1.0 + np.sign(np.atleast_2d(differences))), confidence)
    return Interval(mean, max(low, 0.0), min(high, 1.0))


def _two_level(values: ArrayLike, trim: float = 0.0) -> tuple[float, float, float]:
    """(mean, its standard error, degrees of freedom) of values (seeds, paths), seeds trimmed by `trim` at either end.

    Every seed's policy is tested on the same paths, so both levels vary and neither may be forgotten: with the
    two-way model value = mean + seed + path + rest, the variance of the grand mean is
    MS_seed/SP + MS_path/SP - MS_rest/SP (random-effects analysis of variance, crossed, one draw a cell; Searle,
    Casella & McCulloch, Variance Components, 1992), its degrees of freedom by Satterthwaite. The estimate is kept
    at or above either level alone. One seed leaves the paths as the only unit.
    """
    table = np.atleast_2d(np.asarray(values, np.float64))
    if 1 in table.shape:
        sample = table.ravel()
        return float(sample.mean()), float(sample.std(ddof=1)) / math.sqrt(sample.size), sample.size - 1.0
    order = np.argsort(table.mean(axis=1))
    cut = int(trim * order.size)
    kept = table[order[cut : order.size - cut]]
    seeds, paths = kept.shape
    seed_means, path_means, mean = kept.mean(axis=1), kept.mean(axis=0), kept.mean()
    rest = kept - seed_means[:, None] - path_means[None, :] + mean
    winsorised = np.concatenate([np.repeat(seed_means[0], cut), seed_means, np.repeat(seed_means[-1], cut)])
    of_seeds = winsorised.var(ddof=1) * (order.size - 1) / (seeds * (seeds - 1))
    of_paths = path_means.var(ddof=1) / paths
    of_rest = (rest * rest).sum() / ((seeds - 1) * (paths - 1)) / (seeds * paths)
    variance = max(of_seeds + of_paths - of_rest, of_seeds, of_paths)
    spread = of_seeds**2 / (seeds - 1) + of_paths**2 / (paths - 1) + of_rest**2 / ((seeds - 1) * (paths - 1))
    freedom = max(variance**2 / spread, 1.0) if spread > 0.0 else seeds - 1.0
    return float(mean), math.sqrt(variance), freedom


def two_level_bootstrap(
    values: ArrayLike, confidence: float = CONFIDENCE, resamples: int = 1999, seed: int = 0
) -> Interval:
    """Bootstrap-t interval of the mean of values (seeds, paths), both levels drawn anew: no normal law is assumed.

    Each resample is studentised by its own two-level error (Efron & Tibshirani 1993, ch. 12); a plain percentile
    bootstrap of five seeds covers 84 % where it says 95.
    """
    table = np.atleast_2d(np.asarray(values, np.float64))
    mean, error, _ = _two_level(table)
    generator = np.random.default_rng(seed)
    ratios = []
    for _ in range(resamples):
        rows, columns = (generator.integers(size, size=size) for size in table.shape)
        drawn, its_error, _ = _two_level(table[np.ix_(rows, columns)])
        if its_error > 0.0:
            ratios.append((drawn - mean) / its_error)
    low, high = np.quantile(ratios or [0.0], [0.5 + 0.5 * confidence, 0.5 - 0.5 * confidence])
    return Interval(mean, mean - float(low) * error, mean - float(high) * error)


def _interval(mean: float, standard_error: float, freedom: float, confidence: float) -> Interval:
    margin = float(stats.t.ppf(0.5 + confidence / 2.0, freedom)) * float(standard_error)
    return Interval(float(mean), float(mean) - margin, float(mean) + margin)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p-values corrected for looking at all of them (Holm 1979): below alpha, the family's error is at most alpha."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * (p.size - np.arange(p.size)))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(steps, 1.0)
    return corrected


def sharpe_ratio(profit: ArrayLike) -> float | None:
    """Mean over standard deviation of the profit of a path, not annualised; None where it does not vary."""
    values = np.asarray(profit, np.float64)
    spread = float(values.std(ddof=1))
    return float(values.mean()) / spread if spread > 0.0 else None


def deflated_sharpe_ratio(profit: ArrayLike, trials: int, trial_spread: float) -> float | None:
    """Probability that the Sharpe ratio of the best of `trials` attempts is above what chance alone would have given.

    `trial_spread` is the standard deviation of the attempts' Sharpe ratios; skewness and kurtosis of the profits enter
    (Bailey & Lopez de Prado 2014, The deflated Sharpe ratio). None where the profit does not vary.
    """
    values = np.asarray(profit, np.float64)
    ratio = sharpe_ratio(values)
    if ratio is None:
        return None
    luck = 0.0
    if trials > 1:
        luck = (1.0 - np.euler_gamma) * stats.norm.isf(1.0 / trials)
        luck += np.euler_gamma * stats.norm.isf(1.0 / (trials * math.e))
    skewness, kurtosis = stats.skew(values), stats.kurtosis(values, fisher=False)
    error = math.sqrt(max(1.0 - skewness * ratio + 0.25 * (kurtosis - 1.0) * ratio**2, 0.0) / (values.size - 1))
    return float(stats.norm.cdf((ratio - trial_spread * luck) / error)) if error > 0.0 else None


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
