"""Confidence intervals for estimates from one stretch of clustered events."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95


class Estimate(NamedTuple):
    """A positive figure with its confidence interval at `LEVEL`."""

    value: float
    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Whether the interval holds `value`."""
        return self.low <= value <= self.high


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
