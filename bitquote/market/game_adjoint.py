"""The pathwise gradient of the game: sampled fills forward, expected-intensity derivatives backward.

Fills are sampled hard, and a costate runs backwards along each path: the derivative of the score to come with
respect to the inventory. A quote's gradient is then the fill itself plus the slope of the fill probability times
the gain of a fill, which is the distance plus the costate half a lot on, at the midpoint of the move. A path knows
its costate only where it went; the least-squares line of the costate over the inventory, over the paths of a
block, carries it to the midpoint and removes the bias of the plain straight-through estimate.

Under the certainty equivalent paths are weighted by exp(-gamma score), and the mid's noise is integrated out. The
weights would be ruled by a few paths, so the fills are drawn from probabilities tilted by exp(-gamma gain), with
Guéant-Lehalle-Fernandez-Tapia's marginal value of a lot in the gain; importance weights make up for it exactly.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from bitquote.flow.random import next_word, seed_generator
from bitquote.market.game_paths import fill_thresholds, fills_of, start_inventory
from bitquote.quoting.objective import inventory_costs, inventory_slopes, risk_aversion
from bitquote.quoting.parameters import GameParameters
from bitquote.quoting.recursion import edges, fill_probabilities, fill_slopes
from bitquote.quoting.table import QuoteTable

_STREAM = 2
_STEEPEST_TILT = 30.0  # of gamma x gain, so that weights stay finite for any table


class AdjointTable(NamedTuple):
    """A table as the adjoint reads it; arrays are (steps, inventories, 2), [bid, ask], unless stated."""

    gamma: float  # 0 for the penalised objective
    thresholds: np.ndarray  # uint32: of the probabilities that fills are drawn with
    fills: np.ndarray  # fill probabilities
    slopes: np.ndarray  # their derivatives with respect to the distance, 1/price
    edges: np.ndarray  # price; 0 without a quote
    responses: np.ndarray  # derivative of the distance with respect to the inventory, price per lot
    log_weights: np.ndarray  # (steps, inventories, 2, 2): ln of a path's weight, without [0] and with [1] a fill
    costs: np.ndarray  # (inventories,): of carrying each inventory through a step, price x lots
    cost_slopes: np.ndarray  # (inventories,), price


def compile_adjoint(
    table: QuoteTable, parameters: GameParameters, objective: str, reference: np.ndarray
) -> AdjointTable:
    """Everything about the table that does not depend on the sampled paths.

    Args:
        table: The quotes.
        parameters: The game.
        objective: `penalty` or `cara`.
        reference: GLFT's distances, finite, (steps, inventories, 2); they tilt the sampling under `cara`.
    """
    gamma = risk_aversion(parameters, objective)
    probabilities = [fill_probabilities(side, parameters) for side in table]
    fills = np.stack(probabilities, axis=-1)
    side_edges = np.stack(edges(table), axis=-1)
    drawn, log_weights = fills, np.zeros((*fills.shape, 2))
    if gamma > 0.0:
        drawn, log_weights = _tilted_fills(fills, side_edges, reference, parameters)
    return AdjointTable(
        gamma=gamma,
        thresholds=fill_thresholds(drawn[..., 0], drawn[..., 1]),
        fills=fills,
        slopes=np.stack([fill_slopes(side, parameters) for side in table], axis=-1),
        edges=side_edges,
        responses=np.stack([_responses(side) for side in table], axis=-1),
        log_weights=log_weights,
        costs=inventory_costs(parameters, objective),
        cost_slopes=inventory_slopes(parameters, objective),
    )


def _tilted_fills(
    fills: np.ndarray, side_edges: np.ndarray, reference: np.ndarray, parameters: GameParameters
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities p u / (1 - p + p u) with u = exp(-gamma gain), and the logs of the weights that go with them.

    GLFT's distances are its margin less a lot's marginal value, so the gain is distance - GLFT's + margin.
    """
    gamma = parameters.gamma
    margin = np.log1p(gamma / parameters.k) / gamma
    tilt = np.clip(gamma * (side_edges - reference + margin), -_STEEPEST_TILT, _STEEPEST_TILT)
    tilted = fills * np.exp(-tilt)
    total = 1.0 - fills + tilted
    without = np.log(total)
    return tilted / total, np.stack([without, without + tilt - gamma * side_edges], axis=-1)


def _responses(distance: np.ndarray) -> np.ndarray:
    """Central differences over the inventory; one-sided beside a missing quote, 0 where no neighbour quotes."""
    known = np.isfinite(distance)
    filled = np.where(known, distance, 0.0)
    forward = np.where(known[:, 1:] & known[:, :-1], np.diff(filled, axis=1), np.nan)
    missing = np.full((len(distance), 1), np.nan)
    pair = np.stack([np.hstack([forward, missing]), np.hstack([missing, forward])])
    count = np.isfinite(pair).sum(axis=0)
    return np.nansum(pair, axis=0) / np.maximum(count, 1)


@njit(cache=True, nogil=True)
def weigh_block(table, spread, seed, first, last, log_weights, starts):
    """Log weights exp(-gamma score) x importance of paths first .. last - 1, and their starting inventories."""
    steps, columns = table.edges.shape[:2]
    bound = columns // 2
    generator = np.empty(2, np.uint64)
    for path in range(first, last):
        seed_generator(generator, seed, path, 0, _STREAM)
        column = start_inventory(generator, spread) + bound
        starts[path] = column - bound
        total = 0.0
        for step in range(steps):
            bid, ask = fills_of(next_word(generator), table.thresholds[step, column])
            total += table.log_weights[step, column, 0, bid] + table.log_weights[step, column, 1, ask]
            column += bid - ask
            total += table.gamma * table.costs[column]
        log_weights[path] = total


@njit(cache=True)
def _sample(table, spread, seed, first, columns, fills):
    """Sample paths first .. by step: `columns` int32 (steps + 1, paths), `fills` int8 (steps, paths, 2)."""
    steps, paths = fills.shape[:2]
    bound = table.edges.shape[1] // 2
    generator = np.empty(2, np.uint64)
    for path in range(paths):
        seed_generator(generator, seed, first + path, 0, _STREAM)
        column = start_inventory(generator, spread) + bound
        columns[0, path] = column
        for step in range(steps):
            bid, ask = fills_of(next_word(generator), table.thresholds[step, column])
            column += bid - ask
            fills[step, path, 0] = bid
            fills[step, path, 1] = ask
            columns[step + 1, path] = column


@njit(cache=True)
def _line(columns, values, weights):
    """Weighted least-squares line of `values` over `columns`: (value at column 0, slope)."""
    total = mean_column = mean_value = 0.0
    for i in range(len(columns)):
        total += weights[i]
        mean_column += weights[i] * columns[i]
        mean_value += weights[i] * values[i]
    if total == 0.0:
        return 0.0, 0.0
    mean_column /= total
    mean_value /= total
    variance = covariance = 0.0
    for i in range(len(columns)):
        deviation = columns[i] - mean_column
        variance += weights[i] * deviation * deviation
        covariance += weights[i] * deviation * (values[i] - mean_value)
    slope = covariance / variance if variance > 1e-9 * total else 0.0
    return mean_value - slope * mean_column, slope


@njit(cache=True, inline="always")
def _gain(expected, surprise, probability, gamma):
    """Gain of a fill in utility, per unit of the utility before: linear in what one path knows beyond the line.

    Args:
        expected: Gain by the fitted line, price.
        surprise: The path's departure from the line, price.
        probability: Of the fill.
        gamma: Risk aversion; 0 leaves expected + surprise.
    """
    if gamma == 0.0:
        return expected + surprise
    utility = np.exp(-gamma * expected)
    total = 1.0 - probability + probability * utility
    return (1.0 - utility) / (gamma * total) + surprise * utility / (total * total)


@njit(cache=True, nogil=True)
def adjoint_block(table, spread, seed, first, weights, gradient, visits):
    """Add the gradient of paths first .. first + len(weights) - 1 to `gradient`.

    Args:
        table: AdjointTable.
        spread: Starting inventories are uniform within +- this.
        seed: Key of the run.
        first: First path.
        weights: float64 (paths of the block,), summing to 1 over all blocks.
        gradient: float64 (steps, inventories, 2).
        visits: float64 (steps, inventories), weight of the paths in each cell.
    """
    steps = len(table.edges)
    paths = len(weights)
    columns = np.empty((steps + 1, paths), np.int32)
    fills = np.empty((steps, paths, 2), np.int8)
    _sample(table, spread, seed, first, columns, fills)
    costate = np.zeros(paths)
    for step in range(steps - 1, -1, -1):
        after = columns[step + 1]
        for i in range(paths):
            costate[i] -= table.cost_slopes[after[i]]
        intercept, slope = _line(after, costate, weights)
        for i in range(paths):
            column = columns[step, i]
            bid, ask = fills[step, i]
            surprise = costate[i] - (intercept + slope * after[i])
            bid_line = intercept + slope * (column + 0.5 - ask)
            ask_line = intercept + slope * (column - 0.5 + bid)
            cell = table.edges[step, column]
            slopes = table.slopes[step, column]
            chance = table.fills[step, column]
            by_bid = bid + slopes[0] * _gain(cell[0] + bid_line, surprise, chance[0], table.gamma)
            by_ask = ask + slopes[1] * _gain(cell[1] - ask_line, -surprise, chance[1], table.gamma)
            gradient[step, column, 0] += weights[i] * by_bid
            gradient[step, column, 1] += weights[i] * by_ask
            visits[step, column] += weights[i]
            responses = table.responses[step, column]
            costate[i] += by_bid * responses[0] + by_ask * responses[1]


def path_weights(log_weights: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Weights of the gradient of the mean, over starting inventories, of the certainty equivalents; they sum to 1.

    Within one starting inventory they are proportional to exp(log_weights): that is the gradient of the log of
    a mean of exponentials.

    Args:
        log_weights: (paths,).
        starts: Starting inventory of each path, int64 (paths,).
    """
    groups = starts - starts.min()
    largest = np.full(groups.max() + 1, -np.inf)
    np.maximum.at(largest, groups, log_weights)
    weights = np.exp(log_weights - largest[groups])
    return weights * (np.bincount(groups) / np.maximum(np.bincount(groups, weights), 1e-300))[groups] / len(groups)
