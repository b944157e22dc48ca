"""Confidence intervals for estimates from one stretch of clustered events."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 0.95
NORMAL = float(stats.norm.ppf(0.5 + LEVEL / 2))
"""Standard errors on either side of a normal estimate at `LEVEL`."""


class Estimate(NamedTuple):
    """A positive figure with its confidence interval at `LEVEL`."""

    value: float
    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Whether the interval holds `value`."""
        return self.low <= value <= self.high


class Estimates(NamedTuple):
    """Arrays of one shape: figures with their intervals at `LEVEL`; an infinite end says that there is none."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def contains(self, value: np.ndarray | float) -> np.ndarray:
        """Whether each interval holds `value`, elementwise."""
        return (self.low <= value) & (value <= self.high)


def wald(value: ArrayLike, error: ArrayLike) -> Estimates:
    """value +- z error, cut at zero: for non-negative figures whose true value may be zero."""
    centre, margin = np.asarray(value, float), NORMAL * np.asarray(error, float)
    return Estimates(centre, np.maximum(centre - margin, 0.0), centre + margin)


def log_wald(value: ArrayLike, error: ArrayLike) -> Estimates:
    """value exp(+- z error / value): for positive figures, whose logarithm is closer to normal. `error` is of value."""
    centre = np.asarray(value, float)
    with np.errstate(over="ignore"):
        factor = np.exp(NORMAL * np.asarray(error, float) / centre)
    return Estimates(centre, centre / factor, centre * factor)


def covariance(gradient: Callable[[np.ndarray], np.ndarray], at: np.ndarray, step: float = 1e-4) -> np.ndarray:
    """The inverse of the observed information, float64 (n, n), infinite on the diagonal where nothing is known.

    Args:
        gradient: Of the negative log-likelihood, (n,) -> (n,).
        at: (n,) the estimate.
        step: Of the central differences, in units of the parameters.
    """
    rows = [(gradient(at + step * unit) - gradient(at - step * unit)) / (2.0 * step) for unit in np.eye(len(at))]
    information = 0.5 * (np.array(rows) + np.array(rows).T)
    result = np.diag(np.full(len(at), np.inf))
    known = np.diag(information) > 1e-9 * np.max(np.diag(information))
    if known.any():
        inverse = np.linalg.pinv(information[np.ix_(known, known)], rcond=1e-12, hermitian=True)
        variance = np.diag(inverse).copy()
        inverse[np.diag_indices_from(inverse)] = np.where(variance > 0.0, variance, np.inf)
        result[np.ix_(known, known)] = inverse
    return result


def block_index(time: np.ndarray, start: float, seconds: float, length: float) -> tuple[np.ndarray, int]:
    """Which of the equal blocks each time falls into, and their number.

    Args:
        time: (n,) seconds, within [start, start + seconds].
        start, seconds: The stretch that is cut.
        length: Wanted length of a block, seconds; at least 10 blocks are cut.
    """
    blocks = max(10, int(seconds / length))
    index = ((time - start) * (blocks / seconds)).astype(np.int64)
    return np.clip(index, 0, blocks - 1), blocks


def jackknife(estimate: Callable[[np.ndarray], np.ndarray], sums: np.ndarray) -> Estimate:
    """A positive estimate with its interval by the delete-one-block jackknife on the logarithm.

    Blocks longer than the clusters make the interval honest where a Poisson one would be too narrow. Student's t has
    one degree of freedom less than there are blocks. Source: Efron & Tibshirani, An Introduction to the Bootstrap,
    chapter 11.

    Args:
        estimate: Maps sufficient sums (..., s) to the estimate (...).
        sums: (blocks, s) sufficient sums of each block.
    """
    total = sums.sum(axis=0)
    blocks = len(sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(estimate(total))
        without = np.log(estimate(total - sums))
        error = np.sqrt((blocks - 1) / blocks * np.sum((without - without.mean()) ** 2))
    if not np.isfinite(error):  # some block holds all there is to know: no interval is honest
        return Estimate(value, 0.0, np.inf)
    factor = float(np.exp(stats.t.ppf(0.5 + LEVEL / 2, blocks - 1) * error))
    return Estimate(value, value / factor, value * factor)


def poisson_interval(count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact interval (Garwood 1936) for the mean of a Poisson count, elementwise."""
    tail = (1.0 - LEVEL) / 2.0
    low = np.where(count > 0, stats.chi2.ppf(tail, 2 * count) / 2, 0.0)
    return low, stats.chi2.ppf(1 - tail, 2 * (count + 1)) / 2
