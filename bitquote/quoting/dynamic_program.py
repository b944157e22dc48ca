"""The exact optimum of the discrete game, by backward induction over (step, inventory): the ceiling of every table."""

from __future__ import annotations

import math

import numpy as np

from bitquote.quoting.objective import certainty_equivalent, inventory_costs, risk_aversion
from bitquote.quoting.parameters import GameParameters
from bitquote.quoting.recursion import edges, fill_chances, neighbours, outcome_probabilities, outcome_scores
from bitquote.quoting.table import QuoteTable, bounded

_TOLERANCE = 1e-13  # of a distance, relative to 1/k
_LAST_STEP = 1e-8  # of Newton's method: its error is the square
_ROUNDING = 2e-15  # keeps a certain fill certain: 1e-16 short of it may rule a certainty equivalent
_MAX_SWEEPS = 100


def dynamic_program(parameters: GameParameters, objective: str = "penalty") -> QuoteTable:
    """The table that maximises the game's objective exactly.

    Args:
        parameters: The game.
        objective: `penalty` for E[W_T] - phi E[int q^2 dt], `cara` for the certainty equivalent.
    """
    gamma = risk_aversion(parameters, objective)
    costs = inventory_costs(parameters, objective)
    bid, ask = np.empty(parameters.shape), np.empty(parameters.shape)
    value = np.zeros(len(costs))
    for step in range(parameters.steps - 1, -1, -1):
        bid[step], ask[step], value = _best_quotes(value - costs, parameters, gamma)
    return bounded(bid, ask, parameters)


def _best_quotes(
    rest: np.ndarray, parameters: GameParameters, gamma: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bid, ask and value by inventory, (inventories,) each, given the score `rest` after a step's fills.

    The sides meet in the case that both fill, which leaves the inventory alone; so a likely ask fill makes a bid
    fill cheaper. Responses to one another therefore rise together: alternating from "the other side never fills"
    and from "it surely fills" reaches the two extreme equilibria, and the better one is the optimum.
    """
    up, down = neighbours(rest)
    gain_bid, gain_ask = up - rest, down - rest
    bid = _best_response(np.stack([gain_bid, -gain_ask]), parameters, gamma)
    bid[:, -1] = np.inf
    ask = np.full_like(bid, np.inf)
    for _ in range(_MAX_SWEEPS):
        previous = bid, ask
        ask = _best_response(_continuation(gain_ask, gain_bid, bid, parameters, gamma), parameters, gamma)
        ask[:, 0] = np.inf
        bid = _best_response(_continuation(gain_bid, gain_ask, ask, parameters, gamma), parameters, gamma)
        bid[:, -1] = np.inf
        if all(_settled(new, old, parameters) for new, old in zip((bid, ask), previous, strict=True)):
            break
    value = _value(bid, ask, rest, parameters, gamma)
    better = np.argmax(value, axis=0)[None]
    return tuple(np.take_along_axis(array, better, axis=0)[0] for array in (bid, ask, value))


def _continuation(
    gain: np.ndarray, other_gain: np.ndarray, other: np.ndarray, parameters: GameParameters, gamma: float
) -> np.ndarray:
    """What one side's fill adds to the score beyond its edge, given the other side's quote, same shape as `other`.

    The certainty equivalent with the fill (inventory moves, or both fill and it stays) less the one without.
    """
    chances = fill_chances(other, parameters)
    edge = np.where(np.isfinite(other), other, 0.0)
    with_fill = certainty_equivalent(chances, np.stack(np.broadcast_arrays(gain, edge)), gamma)
    without = certainty_equivalent(chances, np.stack(np.broadcast_arrays(0.0, edge + other_gain)), gamma)
    return with_fill - without


def _best_response(continuation: np.ndarray, parameters: GameParameters, gamma: float) -> np.ndarray:
    """The distance d that maximises p(d) u(d + continuation), u(x) = x, or (1 - exp(-gamma x)) / gamma.

    Its condition is d + continuation = margin(-p / p'), with margin(x) = x, or ln(1 + gamma x) / gamma.
    """
    k, rate_at_mid = parameters.k, math.log(parameters.A * parameters.dt)
    if parameters.fill_convention == "linear":  # -p / p' = 1/k until the fill is certain
        margin = 1.0 / k if gamma == 0.0 else math.log1p(gamma / k) / gamma
        certain = (rate_at_mid - _ROUNDING * (1.0 + abs(rate_at_mid))) / k
        return np.maximum(margin - continuation, certain)
    log_rate = _solve_exponential(rate_at_mid + k * continuation, gamma / k)
    return (rate_at_mid - log_rate) / k


def _solve_exponential(target: np.ndarray, aversion: float) -> np.ndarray:
    """The root x = ln(intensity dt) of x + k margin(-p / p') = target for p = 1 - exp(-intensity dt).

    -k p / p' = (e^y - 1) / y with y = e^x. The left side rises with slope at least 1 and stays above x + its
    value at y = 0, which brackets the root from above; Newton's method stays inside the bracket by bisection.

    Args:
        target: ln(A dt) + k continuation, any shape.
        aversion: gamma / k, 0 for the penalised objective.
    """
    least = 1.0 if aversion == 0.0 else math.log1p(aversion) / aversion
    steep = np.maximum(target, 1.0)  # (e^y - 1) / y >= e^(y/2) bounds y where the target is large
    rate_bound = 2.0 * np.log(steep) if aversion == 0.0 else 2.0 * (aversion * steep - math.log(aversion))
    high = np.minimum(target - least, np.log(np.maximum(rate_bound, 1.0)))
    low = high - 1.0
    while np.any(outside := _condition(low, aversion)[0] > target):
        low = np.where(outside, low - 2.0 * (high - low), low)
    x = high
    for _ in range(100):
        value, slope = _condition(x, aversion)
        high = np.where(value >= target, x, high)
        low = np.where(value <= target, x, low)
        newton = x - (value - target) / slope
        following = np.where((newton >= low) & (newton <= high), newton, 0.5 * (low + high))
        if np.all(np.abs(following - x) <= _LAST_STEP * np.maximum(1.0, np.abs(x))):
            return following
        x = following
    return x


def _condition(x: np.ndarray, aversion: float) -> tuple[np.ndarray, np.ndarray]:
    """x + k margin((e^y - 1) / (k y)) with y = e^x, and its derivative with respect to x."""
    rate = np.exp(np.maximum(x, -700.0))  # where it would vanish, its limits hold
    log_ratio = rate + np.log(-np.expm1(-rate) / rate)
    ratio_slope = rate / -np.expm1(-rate) - 1.0  # d log_ratio / dx
    if aversion == 0.0:
        ratio = np.exp(log_ratio)
        return x + ratio, 1.0 + ratio * ratio_slope
    scaled = math.log(aversion) + log_ratio
    margin = np.logaddexp(0.0, scaled) / aversion
    share = np.exp(scaled - np.logaddexp(0.0, scaled))
    return x + margin, 1.0 + share * ratio_slope / aversion


def _value(bid: np.ndarray, ask: np.ndarray, rest: np.ndarray, parameters: GameParameters, gamma: float) -> np.ndarray:
    """Score before a decision that quotes (bid, ask), same shape."""
    table = QuoteTable(bid, ask)
    return certainty_equivalent(outcome_probabilities(table, parameters), outcome_scores(*edges(table), rest), gamma)


def _settled(new: np.ndarray, old: np.ndarray, parameters: GameParameters) -> bool:
    """Whether a sweep moved no distance by more than the tolerance."""
    quoted = np.isfinite(new)
    with np.errstate(invalid="ignore"):
        moved = np.abs(np.where(quoted, new - old, 0.0))
    return bool(np.all(moved * parameters.k <= _TOLERANCE * (1.0 + parameters.k * np.abs(np.where(quoted, new, 0.0)))))
