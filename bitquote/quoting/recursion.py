"""Exact recursions over (step, inventory) of the discrete game: values, occupancy, moments and gradients.

Within a step the bid fills with probability p and the ask, independently, with probability r; then the mid
moves. The inventory after the fills carries the move, and the penalty.
"""

from __future__ import annotations

import numpy as np

from bitquote.quoting.objective import certainty_equivalent, inventory_costs, risk_aversion
from bitquote.quoting.parameters import GameParameters
from bitquote.quoting.table import QuoteTable, inventories

_LARGEST_EXPONENT = 700.0  # exp stays finite


def fill_probabilities(distance: np.ndarray, parameters: GameParameters) -> np.ndarray:
    """Probability of a fill within one step at `distance` (price; +inf never fills), same shape."""
    rate = _rates(distance, parameters)
    return np.minimum(1.0, rate) if parameters.fill_convention == "linear" else -np.expm1(-rate)


def fill_chances(distance: np.ndarray, parameters: GameParameters) -> np.ndarray:
    """Probabilities of (no fill, a fill), float64 (2, ...): the first is not 1 - the second where that is all rounding.

    Under risk aversion even a chance of 1e-20 to be left with a bad inventory can rule a certainty equivalent.
    """
    fill = fill_probabilities(distance, parameters)
    if parameters.fill_convention == "linear":
        return np.stack([1.0 - fill, fill])
    return np.stack([np.exp(-_rates(distance, parameters)), fill])


def fill_slopes(distance: np.ndarray, parameters: GameParameters) -> np.ndarray:
    """Derivative of `fill_probabilities` with respect to the distance, in 1/price; 0 where the fill is certain."""
    rate = _rates(distance, parameters)
    survival = rate < 1.0 if parameters.fill_convention == "linear" else np.exp(-rate)
    return -parameters.k * rate * survival


def edges(table: QuoteTable) -> QuoteTable:
    """The distances with 0 where there is no quote, so that probability 0 times them is 0."""
    return QuoteTable(*(np.where(np.isfinite(side), side, 0.0) for side in table))


def values(table: QuoteTable, parameters: GameParameters, objective: str) -> np.ndarray:
    """Score still to come before each decision and, 0, at the horizon: float64 (steps + 1, inventories)."""
    gamma = risk_aversion(parameters, objective)
    costs = inventory_costs(parameters, objective)
    bid, ask = edges(table)
    chances = outcome_probabilities(table, parameters)
    if gamma == 0.0:
        return _expected_values(chances, bid, ask, costs)
    result = np.zeros((parameters.steps + 1, len(costs)))
    for step in range(parameters.steps - 1, -1, -1):
        scores = outcome_scores(bid[step], ask[step], result[step + 1] - costs)
        result[step] = certainty_equivalent(chances[:, step], scores, gamma)
    return result


def _expected_values(chances: np.ndarray, bid: np.ndarray, ask: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """`values` of an objective without risk aversion, for the edges of the fills and the costs of carrying."""
    stay, up, down = chances[0] + chances[3], chances[1], chances[2]
    result = np.zeros((len(stay) + 1, len(costs)))
    result[:-1] = (up + chances[3]) * bid + (down + chances[3]) * ask
    for step in range(len(stay) - 1, -1, -1):
        rest = result[step + 1] - costs
        before = result[step]
        before += stay[step] * rest
        before[:-1] += up[step, :-1] * rest[1:]
        before[1:] += down[step, 1:] * rest[:-1]
    return result


def outcome_probabilities(table: QuoteTable, parameters: GameParameters) -> np.ndarray:
    """Probabilities of (no fill, bid only, ask only, both), float64 (4, steps, inventories)."""
    (no_bid, bid), (no_ask, ask) = (fill_chances(side, parameters) for side in table)
    return np.stack([no_bid * no_ask, bid * no_ask, no_bid * ask, bid * ask])


def outcome_scores(bid: np.ndarray, ask: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Score of (no fill, bid only, ask only, both) by inventory: edges and the rest, float64 (4, ..., inventories).

    Args:
        bid: Edge of a bid fill, price, (..., inventories).
        ask: Edge of an ask fill, likewise.
        rest: Score of each inventory after the fills, price x lots, (..., inventories).
    """
    gain_bid, gain_ask = neighbours(rest)
    return np.stack(np.broadcast_arrays(rest, bid + gain_bid, ask + gain_ask, bid + ask + rest))


def neighbours(rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`rest` one lot up and one lot down; at the bound, where no fill leads further, its own value."""
    return (
        np.concatenate([rest[..., 1:], rest[..., -1:]], axis=-1),
        np.concatenate([rest[..., :1], rest[..., :-1]], axis=-1),
    )


def occupancy(chances: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Distribution of the inventory before each decision and at the horizon, float64 (steps + 1, inventories).

    Args:
        chances: Probabilities of the four outcomes, (4, steps, inventories).
        start: Distribution at the start, (inventories,).
    """
    stay, up, down = chances[0] + chances[3], chances[1], chances[2]
    result = np.empty((len(stay) + 1, len(start)))
    result[0] = start
    for step, before in enumerate(result[:-1]):
        after = result[step + 1]
        np.multiply(before, stay[step], out=after)
        after[1:] += (before * up[step])[:-1]
        after[:-1] += (before * down[step])[1:]
    return result


def start_distribution(parameters: GameParameters, spread: int = 0) -> np.ndarray:
    """Uniform over inventories -spread .. spread (within the bound), float64 (inventories,)."""
    inside = np.abs(inventories(parameters)) <= spread
    return inside / inside.sum()


def profit_variance(table: QuoteTable, parameters: GameParameters, chances: np.ndarray, visits: np.ndarray) -> float:
    """Exact variance of the terminal wealth, (price x lots)^2.

    Wealth is a sum of uncorrelated surprises: each step adds the variance of its edges and of the expected
    profit to come, and that of the mid's move.

    Args:
        table: The quotes.
        parameters: The game.
        chances: `outcome_probabilities(table, parameters)`.
        visits: `occupancy(chances, start)` with one certain start.
    """
    bid, ask = edges(table)
    to_come = _expected_values(chances, bid, ask, np.zeros(bid.shape[1]))
    surprise = outcome_scores(bid, ask, to_come[1:]) - to_come[:-1]
    of_fills = (visits[:-1] * (chances * surprise**2).sum(axis=0)).sum()
    of_mid = parameters.sigma**2 * parameters.dt * (visits[1:] * inventories(parameters) ** 2).sum()
    return float(of_fills + of_mid)


def exact_gradient(
    table: QuoteTable, parameters: GameParameters, objective: str = "penalty", start: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient of the objective, averaged over the starting inventory, with respect to every cell of the table.

    The policy gradient theorem with exact values: occupancy times (fill probability + its slope times the gain of
    a fill). Under `cara` the occupancy is that of paths weighted by exp(-gamma wealth).

    Args:
        table: The quotes.
        parameters: The game.
        objective: `penalty` or `cara`.
        start: Distribution of the starting inventory, (inventories,); all at 0 by default.

    Returns:
        Bid gradient, ask gradient, occupancy: float64 (steps, inventories) each; 0 where there is no quote.
    """
    gamma = risk_aversion(parameters, objective)
    value = values(table, parameters, objective)
    scores = outcome_scores(*edges(table), value[1:] - inventory_costs(parameters, objective)) - value[:-1]
    chances = outcome_probabilities(table, parameters)
    tilts = np.exp(-gamma * np.where(chances > 0.0, scores, 0.0))  # all 1 under the penalty
    visits = occupancy(chances * tilts, start_distribution(parameters) if start is None else start)[:-1]

    utility = scores if gamma == 0.0 else -np.expm1(-gamma * scores) / gamma
    (no_bid, bid), (no_ask, ask) = (fill_chances(side, parameters) for side in table)
    bid_gain = no_ask * (utility[1] - utility[0]) + ask * (utility[3] - utility[2])
    ask_gain = no_bid * (utility[2] - utility[0]) + bid * (utility[3] - utility[1])
    weight = chances * tilts
    bid_gradient = visits * (weight[1] + weight[3] + fill_slopes(table.bid, parameters) * bid_gain)
    ask_gradient = visits * (weight[2] + weight[3] + fill_slopes(table.ask, parameters) * ask_gain)
    return bid_gradient, ask_gradient, visits


def _rates(distance: np.ndarray, parameters: GameParameters) -> np.ndarray:
    """Expected fills within a step, intensity x dt."""
    exponent = np.minimum(np.log(parameters.A * parameters.dt) - parameters.k * distance, _LARGEST_EXPONENT)
    return np.exp(exponent)
