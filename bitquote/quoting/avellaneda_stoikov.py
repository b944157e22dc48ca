"""Avellaneda & Stoikov, "High-frequency trading in a limit order book", Quantitative Finance 8(3), 2008."""

from __future__ import annotations

import math

import numpy as np

from bitquote.quoting.parameters import GameParameters
from bitquote.quoting.table import QuoteTable, bounded, inventories, times_left


def avellaneda_stoikov(parameters: GameParameters) -> QuoteTable:
    """Quotes symmetric about the reservation price S - q gamma sigma^2 (T - t), their equations (3.10) to (3.12)."""
    shift = _variance_cost(parameters)[:, None] * inventories(parameters)
    half_spread = half_spreads(parameters)[:, None]
    return bounded(half_spread + shift, half_spread - shift, parameters)


def half_spreads(parameters: GameParameters) -> np.ndarray:
    """gamma sigma^2 (T - t) / 2 + ln(1 + gamma / k) / gamma, in price, float64 (steps,)."""
    gamma = parameters.gamma
    return 0.5 * _variance_cost(parameters) + math.log1p(gamma / parameters.k) / gamma


def _variance_cost(parameters: GameParameters) -> np.ndarray:
    """gamma sigma^2 (T - t), in price per lot, float64 (steps,)."""
    return parameters.gamma * parameters.sigma**2 * times_left(parameters)
