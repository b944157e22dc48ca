"""The two objectives: expected profit less a running penalty, and the certainty equivalent of CARA utility."""

from __future__ import annotations

import math

import numpy as np

from bitquote.errors import require_choice
from bitquote.quoting.parameters import GameParameters
from bitquote.quoting.table import inventories

OBJECTIVES = ("penalty", "cara")


def risk_aversion(parameters: GameParameters, objective: str) -> float:
    """gamma under `cara`; 0, which makes every certainty equivalent a mean, under `penalty`."""
    return parameters.gamma if require_choice("objective", objective, OBJECTIVES) == "cara" else 0.0


def inventory_costs(parameters: GameParameters, objective: str) -> np.ndarray:
    """Cost of carrying each inventory through one move of the mid, price x lots, float64 (inventories,).

    Under `penalty` phi q^2 dt. Under `cara` what the uninsured move takes off the certainty equivalent:
    ln cosh(gamma q sigma sqrt(dt)) / gamma for a two-point mid, gamma q^2 sigma^2 dt / 2 = phi q^2 dt for a normal one.
    """
    quantity = inventories(parameters)
    if risk_aversion(parameters, objective) == 0.0 or parameters.mid_convention == "gaussian":
        return parameters.penalty * parameters.dt * quantity**2
    return _log_cosh(parameters.gamma * parameters.sigma * math.sqrt(parameters.dt) * quantity) / parameters.gamma


def inventory_slopes(parameters: GameParameters, objective: str) -> np.ndarray:
    """Derivative of `inventory_costs` with respect to the inventory, in price, float64 (inventories,)."""
    quantity = inventories(parameters)
    if risk_aversion(parameters, objective) == 0.0 or parameters.mid_convention == "gaussian":
        return 2.0 * parameters.penalty * parameters.dt * quantity
    move = parameters.sigma * math.sqrt(parameters.dt)
    return move * np.tanh(parameters.gamma * move * quantity)


def certainty_equivalent(probabilities: np.ndarray, outcomes: np.ndarray, gamma: float) -> np.ndarray:
    """-ln(sum_j p_j exp(-gamma x_j)) / gamma over the first axis; the mean where gamma is 0.

    Neither large nor small gamma x loses digits: exponents are taken relative to the worst possible outcome,
    and a sum near 1 goes through expm1 and log1p.

    Args:
        probabilities: (m, ...), summing to 1 over the first axis; an impossible outcome has probability 0.
        outcomes: (m, ...), finite.
        gamma: Risk aversion, >= 0, in 1/outcome.
    """
    if gamma == 0.0:
        return (probabilities * outcomes).sum(axis=0)
    possible = np.where(probabilities > 0.0, outcomes, np.inf)
    worst = possible.min(axis=0)
    exponents = gamma * (worst - possible)
    excess = (probabilities * np.expm1(exponents)).sum(axis=0)
    far = excess < -0.5
    log_mean = np.log1p(np.where(far, 0.0, excess))
    if far.any():
        log_mean = np.where(far, np.log((probabilities * np.exp(exponents)).sum(axis=0)), log_mean)
    return worst - log_mean / gamma


def _log_cosh(x: np.ndarray) -> np.ndarray:
    """ln cosh x to rounding for small and for large x."""
    size = np.abs(x)
    near = np.log1p(2.0 * np.sinh(0.5 * np.minimum(size, 1.0)) ** 2)
    return np.where(size < 1.0, near, size + np.log1p(np.exp(-2.0 * size)) - math.log(2.0))
