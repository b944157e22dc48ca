"""Goodness of fit of point processes: time-rescaled waiting times against independent exponentials."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

LAGS = 20


class Rescaled(NamedTuple):
    """Whether waiting times are independent Exp(1).

    The p values take the parameters as known; as they were fitted to the same events, these are a little too large.
    """

    events: int
    ks: float  # Kolmogorov-Smirnov distance to Exp(1)
    ks_p_value: float
    ljung_box: float  # statistic of the first `LAGS` autocorrelations
    ljung_box_p_value: float


def rescaled_goodness(waits: np.ndarray) -> Rescaled:
    """Kolmogorov-Smirnov and Ljung-Box tests of rescaled waiting times (n,), see `hawkes.residuals`."""
    ks = stats.kstest(waits, "expon")
    statistic, p_value = ljung_box(waits)
    return Rescaled(len(waits), float(ks.statistic), float(ks.pvalue), statistic, p_value)


def autocorrelation(values: np.ndarray, lags: int) -> np.ndarray:
    """Sample autocorrelations at lags 1 to `lags`, float64 (lags,); 0 for a constant series."""
    centred = np.asarray(values, float) - np.mean(values)
    size = 1 << int(2 * len(centred) - 1).bit_length()
    power = np.abs(np.fft.rfft(centred, size)) ** 2
    covariance = np.fft.irfft(power, size)[: lags + 1]
    return covariance[1:] / covariance[0] if covariance[0] > 0.0 else np.zeros(lags)


def ljung_box(values: np.ndarray, lags: int = LAGS) -> tuple[float, float]:
    """(statistic, p value) of no autocorrelation at lags 1 to `lags` (Ljung & Box, Biometrika 65, 1978)."""
    n = len(values)
    lags = min(lags, n // 2)
    statistic = n * (n + 2) * float(np.sum(autocorrelation(values, lags) ** 2 / (n - np.arange(1, lags + 1))))
    return statistic, float(stats.chi2.sf(statistic, lags))
