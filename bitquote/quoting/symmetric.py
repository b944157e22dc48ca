"""Quotes that ignore the inventory: the benchmark of Avellaneda & Stoikov 2008, section 3.3, and the best constant."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import minimize_scalar

from bitquote.quoting.avellaneda_stoikov import half_spreads
from bitquote.quoting.parameters import GameParameters
from bitquote.quoting.recursion import occupancy, outcome_probabilities, start_distribution
from bitquote.quoting.table import QuoteTable, bounded, inventories


def symmetric(parameters: GameParameters) -> QuoteTable:
    """Half of the Avellaneda-Stoikov spread on each side of the mid."""
    half_spread = half_spreads(parameters)[:, None]
    return bounded(half_spread, half_spread, parameters)


def symmetric_constant(parameters: GameParameters) -> QuoteTable:
    """The constant half-spread that maximises the penalised objective, the zero of the normalised gap."""
    half_spread = best_half_spread(parameters)
    return bounded(half_spread, half_spread, parameters)


def best_half_spread(parameters: GameParameters) -> float:
    """Argument of the maximum of the penalised objective over constant half-spreads, in price.

    The objective may have more than one local maximum when the penalty is large, so a grid comes first. It runs
    from the widest certain fill (or 0) to where a fill is as good as impossible.
    """
    k = parameters.k
    lowest = min(0.0, math.log(parameters.A * parameters.dt) / k)
    grid = np.linspace(lowest, parameters.no_quote, 97)
    best = int(np.argmax([_objective(half_spread, parameters) for half_spread in grid]))
    bracket = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = minimize_scalar(
        lambda half_spread: -_objective(half_spread, parameters),
        bounds=bracket,
        method="bounded",
        options={"xatol": 1e-9 / k},
    )
    return float(found.x)


def _objective(half_spread: float, parameters: GameParameters) -> float:
    """E[W_T] - phi E[int q^2 dt] of a constant half-spread from inventory 0, price x lots."""
    table = bounded(half_spread, half_spread, parameters)
    chances = outcome_probabilities(table, parameters)
    visits = occupancy(chances, start_distribution(parameters))
    fills = (visits[:-1] * (chances[1] + chances[2] + 2.0 * chances[3])).sum()
    squares = (visits[1:] * inventories(parameters) ** 2).sum()
    return float(half_spread * fills - parameters.penalty * parameters.dt * squares)
