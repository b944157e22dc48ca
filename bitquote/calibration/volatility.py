"""Volatility of the mid by two time scales, robust to the bounce of the quotes.

Source: Zhang, Mykland & Aït-Sahalia, A tale of two time scales, JASA 100, 2005: the average of the realised variances
over all shifted grids of the slow scale, less the fast scale's share, which holds the noise.
"""

from __future__ import annotations

import numpy as np

from bitquote.calibration.intervals import Estimate, block_index, jackknife
from bitquote.errors import InputError
from bitquote.market.simulation import Tape

FAST = 0.01
SLOW = 1.0


def sampled_mid(tape: Tape, interval: float) -> np.ndarray:
    """The mid at regular times, float64, each the last one quoted by then."""
    time = np.arange(tape.quote_time[0], tape.quote_time[-1], interval)
    latest = np.searchsorted(tape.quote_time, time, side="right") - 1
    return 0.5 * (tape.bid[latest] + tape.ask[latest])


def fit_volatility(tape: Tape, fast: float = FAST, slow: float = SLOW, block: float = 10.0) -> Estimate:
    """sigma of the mid in price per square root of a second.

    Args:
        tape: Recorded or simulated.
        fast: Seconds of the scale at which noise is measured.
        slow: Seconds of the scale at which the price is a diffusion; also the scale that sigma belongs to.
        block: Seconds of a block of the jackknife, well above `slow`.
    """
    mid = sampled_mid(tape, fast)
    lag = round(slow / fast)
    windows = len(mid) - lag
    if windows < 10 * lag:
        raise InputError(f"the quotes span {len(mid) * fast:.3g} s: too short for a volatility at {slow:g} s")
    slow_square = (mid[lag:] - mid[:-lag]) ** 2
    fast_square = np.diff(mid)[:windows] ** 2
    variance = (slow_square - fast_square) / (slow - fast)  # of one second, noise removed
    index, blocks = block_index(np.arange(windows) * fast, 0.0, windows * fast, block)
    sums = np.stack((np.bincount(index, variance, blocks), np.bincount(index, minlength=blocks)), axis=1)
    sigma = jackknife(lambda s: np.sqrt(np.maximum(s[..., 0], 0.0) / s[..., 1]), sums)
    if sigma.value == 0.0:
        raise InputError(f"the mid does not move beyond its noise over {len(mid) * fast:.3g} s: there is no volatility")
    return sigma


def signature(tape: Tape, intervals: np.ndarray) -> np.ndarray:
    """sqrt(realised variance per second) at each sampling interval (s); flat for a diffusion."""
    points = []
    for interval in intervals:
        mid = sampled_mid(tape, interval / 10)  # ten shifted grids
        points.append(np.sqrt(np.mean((mid[10:] - mid[:-10]) ** 2) / interval))
    return np.array(points)
