"""The linear equations to which the continuous-time quoting problems reduce, solved for the logarithm.

Guéant-Lehalle-Fernandez-Tapia and Cartea-Jaimungal-Penalva both end in v' = -diagonal v + coupling (v_{q-1} +
v_{q+1}) in time left, with a missing neighbour taken as 0. Quotes are differences of ln v, and v itself may span
thousands of orders of magnitude over q, so every component needs its own relative accuracy.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.linalg.blas import dgbmv

from bitquote.errors import InputError

_LARGEST_NORM = 400.0  # of one series: its sum then stays below e^400, far from overflow
_MAX_SERIES = 250_000  # times n, beyond one a row: seconds of work, which only absurd parameters need
_STATIONARY = 1e-13  # largest difference between the components' growth in one series


class Solution(NamedTuple):
    """ln v = level + shape, apart so that the differences between components keep their digits."""

    level: np.ndarray  # float64 (steps,)
    shape: np.ndarray  # float64 (steps, n), the largest component of a row being 0


def log_solution(diagonal: np.ndarray, coupling: float, terminal: np.ndarray, dt: float, steps: int) -> Solution:
    """ln v at the times left steps dt .. dt; row 0 is the longest.

    In the frame w = v(tau + h) / v(tau) the generator is tridiagonal with coupling v_{q+-1} / v_q. Shifted by the
    largest diagonal entry it has no negative entry, so its exponential series adds only positive terms: each
    component is accurate to rounding and none can underflow. Once all components grow alike, they always will.

    Args:
        diagonal: Rates at which v decays, >= 0, 1/time, (n,).
        coupling: Rate from either neighbour, > 0, 1/time.
        terminal: ln v at the horizon, (n,).
        dt: Time between rows.
        steps: Number of rows.
    """
    levels, shapes = np.empty(steps), np.empty((steps, len(diagonal)))
    level, shape = 0.0, np.array(terminal, dtype=np.float64)
    budget = steps + _MAX_SERIES // len(diagonal)
    for row in range(steps - 1, -1, -1):
        remaining = dt
        while remaining > 0.0:
            generator, norm = _scaled_generator(diagonal, coupling, shape)
            budget -= 1
            if budget < 0 or not math.isfinite(norm):
                raise InputError(
                    f"the closed form's rates reach {norm:.3g} per unit of time over {dt * steps:.3g}: "
                    "must be less stiff (lower gamma, sigma, max_inventory or terminal penalty)"
                )
            span = min(remaining, _LARGEST_NORM / norm)
            growth = np.log(_exponential_series(generator, span)) - diagonal.max() * span
            if np.ptp(growth) <= _STATIONARY + np.finfo(float).eps * np.abs(shape).max():
                levels[row::-1] = level + growth.mean() / span * (remaining + dt * np.arange(row + 1))
                shapes[row::-1] = shape
                return Solution(levels, shapes)
            shape += growth
            level += shape.max()
            shape -= shape.max()
            remaining -= span
        levels[row], shapes[row] = level, shape
    return Solution(levels, shapes)


def _scaled_generator(diagonal: np.ndarray, coupling: float, log_v: np.ndarray) -> tuple[np.ndarray, float]:
    """The shifted generator in the frame of exp(log_v), in BLAS band storage (3, n), and its row-sum norm."""
    with np.errstate(over="ignore"):  # an infinite norm is reported by the caller
        growth = np.exp(np.diff(log_v))
        band = np.zeros((3, len(diagonal)), order="F")
        band[0, 1:] = coupling * growth  # row q, column q + 1
        band[1] = diagonal.max() - diagonal
        band[2, :-1] = coupling / growth  # row q + 1, column q
    norm = diagonal.max() + (np.append(band[0, 1:], 0.0) + np.append(0.0, band[2, :-1])).max()
    return band, float(norm)


def _exponential_series(generator: np.ndarray, span: float) -> np.ndarray:
    """exp(span generator) applied to the vector of ones, to rounding in every component."""
    size = generator.shape[1]
    term = np.ones(size)
    total = np.ones(size)
    order = 1
    while True:
        term = dgbmv(size, size, 1, 1, span / order, generator, term)
        total += term
        if order % 8 == 0 and np.all(term <= 1e-17 * total):
            return total
        order += 1
