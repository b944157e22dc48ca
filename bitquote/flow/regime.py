"""Pumps and crashes: the efficient price is carried to a multiple of itself, and a crowd runs after it.

Within [start, start + duration) the price grows or falls geometrically by `factor` in all, on top of its diffusion,
and `taker_rate` market orders per second go in the direction of the move: buyers who fear to miss it, sellers who fear
to be last (Xu & Livshits 2019, The anatomy of a cryptocurrency pump-and-dump scheme; Kirilenko et al. 2017, The flash
crash). A pump that is dumped is two moves, one after the other.
"""

import math
from typing import NamedTuple

import numpy as np

from bitquote.compilation import kernel


class Regime(NamedTuple):
    """Parameters, one entry a move; moves may overlap."""

    start: np.ndarray  # float64 (moves,), s
    duration: np.ndarray  # float64 (moves,), s
    factor: np.ndarray  # float64 (moves,)
    taker_rate: np.ndarray  # float64 (moves,), 1/s


@kernel
def carry_price(regime, state, time, seconds):
    """Move the efficient price over the step of `seconds` that ends at `time`, and count the crowd."""
    now = state.now[0]
    now.move_rate = 0.0
    for i in range(regime.start.size):
        end = regime.start[i] + regime.duration[i]
        inside = min(time, end) - max(time - seconds, regime.start[i])
        if inside > 0.0:
            now.efficient *= math.exp(math.log(regime.factor[i]) * inside / regime.duration[i])
            if time < end:
                now.move_rate += regime.taker_rate[i] if regime.factor[i] > 1.0 else -regime.taker_rate[i]
