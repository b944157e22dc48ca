"""Guéant, Lehalle & Fernandez-Tapia, "Dealing with the inventory risk", Math. Financ. Econ. 7, 2013."""

from __future__ import annotations

import math

import numpy as np

from bitquote.quoting.parameters import GameParameters
from bitquote.quoting.table import QuoteTable, bounded, inventories
from bitquote.quoting.tridiagonal import Solution, log_solution


def glft(parameters: GameParameters) -> QuoteTable:
    """The exact optimum of the continuous-time CARA problem with the inventory bound (their theorem 1)."""
    value = _solution(parameters).shape / parameters.k
    margin = _margin(parameters)
    gain = np.diff(value, axis=1)  # of one more lot, from each inventory but the last
    bid = np.pad(margin - gain, ((0, 0), (0, 1)), constant_values=np.inf)
    ask = np.pad(margin + gain, ((0, 0), (1, 0)), constant_values=np.inf)
    return bounded(bid, ask, parameters)


def glft_asymptotic(parameters: GameParameters) -> QuoteTable:
    """The quotes far from the horizon, in their closed-form approximation: linear in the inventory."""
    slope = math.sqrt(parameters.sigma**2 * parameters.gamma / (2.0 * _peak_rate(parameters) * parameters.k))
    shift = slope * inventories(parameters)
    half_spread = _margin(parameters) + 0.5 * slope
    return bounded(half_spread + shift, half_spread - shift, parameters)


def glft_shifted(parameters: GameParameters, shift: float, scale: float) -> QuoteTable:
    """The exact quotes with `shift` (price) added to the half-spread and the skew multiplied by `scale`.

    This is the family over which `glft_tuned` is chosen. A side without its counterpart, at the bound, keeps
    GLFT's own distance plus the shift.
    """
    bid, ask = glft(parameters)
    both = np.isfinite(bid) & np.isfinite(ask)
    skew = np.where(both, 0.5 * (np.where(both, bid, 0.0) - np.where(both, ask, 0.0)), 0.0)
    change = (scale - 1.0) * skew
    return bounded(bid + shift + change, ask + shift - change, parameters)


def continuous_certainty_equivalent(parameters: GameParameters) -> float:
    """What the exact quotes are worth at the start, from inventory 0, in continuous time: ln v_0(0) / k."""
    level, shape = _solution(parameters)
    return float(level[0] + shape[0, parameters.max_inventory]) / parameters.k


def _solution(parameters: GameParameters) -> Solution:
    """v' = alpha q^2 v - eta (v_{q-1} + v_{q+1}), alpha = k gamma sigma^2 / 2, eta = A (1 + gamma/k)^-(1 + k/gamma)."""
    diagonal = parameters.k * parameters.penalty * inventories(parameters) ** 2
    terminal = np.zeros(len(diagonal))
    return log_solution(diagonal, _peak_rate(parameters), terminal, parameters.dt, parameters.steps)


def _margin(parameters: GameParameters) -> float:
    """ln(1 + gamma/k) / gamma: the distance of a maker without inventory cost, in price."""
    return math.log1p(parameters.gamma / parameters.k) / parameters.gamma


def _peak_rate(parameters: GameParameters) -> float:
    """eta = A (1 + gamma/k)^-(1 + k/gamma), in 1/time."""
    gamma, k = parameters.gamma, parameters.k
    return parameters.A * math.exp(-(1.0 + k / gamma) * math.log1p(gamma / k))
