"""The price tick of a recording, inferred from its prices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UNITS = 10**8
"""Prices and quantities are held as exact integers of 1e-8, the finest step that Binance prints."""


@dataclass(frozen=True)
class Tick:
    """The largest step on which every recorded price lies, and what supports it.

    Attributes:
        size: Price units: the greatest common divisor of all increments.
        prices: Number of distinct prices seen.
        at_one_tick: How many neighbouring distinct prices are exactly one tick apart. Zero would mean that no increment
            shows the tick directly.
    """

    size: float
    prices: int
    at_one_tick: int


def infer_tick(prices: np.ndarray) -> Tick | None:
    """The tick of an (n,) int64 array of prices in `UNITS`; None when fewer than two prices differ."""
    distinct = np.unique(prices)
    if len(distinct) < 2:
        return None
    increments = np.diff(distinct)
    size = int(np.gcd.reduce(increments))
    if distinct[0] % size:  # a common remainder, such as prices at half ticks only, is no grid through zero
        size = int(np.gcd(size, distinct[0]))
    return Tick(size / UNITS, len(distinct), int(np.count_nonzero(increments == size)))
