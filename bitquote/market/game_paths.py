"""Compiled paths of the Avellaneda-Stoikov game: simulation under a table, and rollouts with exploration.

A path's generator is keyed by (seed, path), and every step consumes the same words whatever is quoted: two
quoters on one seed are paired, and results do not depend on threads.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from bitquote.flow.random import next_word, normal, seed_generator, uniform
from bitquote.market.simulation import Rollout
from bitquote.quoting.parameters import GameParameters
from bitquote.quoting.recursion import edges, fill_probabilities
from bitquote.quoting.table import QuoteTable

SIMULATION_FIELDS = ("profit", "terminal_inventory", "fills", "max_drawdown", "mean_spread", "penalty", "spread")
_MARKET_STREAM, _POLICY_STREAM = 0, 1
_TWO_32 = 4294967296.0
_LOW_32 = np.uint64(0xFFFFFFFF)


class Rules(NamedTuple):
    """The game's constants in compiled form."""

    log_rate: float  # ln(A dt)
    k: float  # 1/price
    exponential: bool  # fill convention
    move: float  # sigma sqrt(dt), price
    gaussian: bool  # mid convention
    step_penalty: float  # phi dt, price per lot


class CompiledTable(NamedTuple):
    """A table as the simulation reads it, (steps, inventories, 2): [bid, ask]."""

    thresholds: np.ndarray  # uint32: a side fills when 32 random bits are below
    edges: np.ndarray  # float64, price; 0 without a quote
    spread: np.ndarray  # float64 (steps, inventories): bid + ask; 0 unless both are quoted
    both: np.ndarray  # uint8 (steps, inventories): 1 where both are quoted


class Starts(NamedTuple):
    """Exploring starts and exploration noise of a rollout; all zero follows the policy from inventory 0."""

    inventory: int = 0  # the first inventory is uniform within +- this, and the first step uniform
    half_spread: float = 0.0  # standard deviation of the noise, price
    skew: float = 0.0


def compile_rules(parameters: GameParameters) -> Rules:
    """The constants of `parameters`."""
    return Rules(
        log_rate=float(np.log(parameters.A * parameters.dt)),
        k=parameters.k,
        exponential=parameters.fill_convention == "exponential",
        move=parameters.sigma * float(np.sqrt(parameters.dt)),
        gaussian=parameters.mid_convention == "gaussian",
        step_penalty=parameters.penalty * parameters.dt,
    )


def compile_table(table: QuoteTable, parameters: GameParameters) -> CompiledTable:
    """Fill thresholds and edges of every cell."""
    both = np.isfinite(table.bid) & np.isfinite(table.ask)
    side_edges = edges(table)
    return CompiledTable(
        thresholds=fill_thresholds(*(fill_probabilities(side, parameters) for side in table)),
        edges=np.stack(side_edges, axis=-1),
        spread=np.where(both, side_edges.bid + side_edges.ask, 0.0),
        both=both.astype(np.uint8),
    )


def fill_thresholds(bid: np.ndarray, ask: np.ndarray) -> np.ndarray:
    """Probabilities, float64 of any shape, as uint32 thresholds of shape (..., 2).

    Probabilities are thereby rounded to multiples of 2^-32, and a certain fill fails once in 2^32 steps; an
    impossible one never happens.
    """
    scaled = np.rint(np.stack([bid, ask], axis=-1) * _TWO_32)
    return np.minimum(scaled, _TWO_32 - 1.0).astype(np.uint32)


@njit(cache=True, inline="always")
def fills_of(word, thresholds):
    """Whether bid and ask fill (0 or 1 each): one 64-bit word holds the uniforms of both sides."""
    bid = np.int64((word & _LOW_32) < thresholds[0])
    ask = np.int64((word >> np.uint64(32)) < thresholds[1])
    return bid, ask


@njit(cache=True, nogil=True)
def simulate_block(table, rules, seed, first, last, results):
    """Simulate paths first .. last - 1 from inventory 0.

    Args:
        table: CompiledTable.
        rules: Rules.
        seed: Key of the run.
        first: First path.
        last: One past the last path.
        results: float64 (len(SIMULATION_FIELDS), paths), written at columns first .. last - 1.
    """
    steps, columns = table.spread.shape
    bound = columns // 2
    generator = np.empty(2, np.uint64)
    for path in range(first, last):
        seed_generator(generator, seed, path, 0, _MARKET_STREAM)
        inventory = fills = squares = quoted = 0
        edge = inventory_profit = spread = peak = drawdown = 0.0
        signs = np.uint64(0)
        for step in range(steps):
            if step & 63 == 0:  # the mid's signs come 64 to a word
                signs = next_word(generator)
            column = inventory + bound
            bid, ask = fills_of(next_word(generator), table.thresholds[step, column])
            edge += bid * table.edges[step, column, 0] + ask * table.edges[step, column, 1]
            spread += table.spread[step, column]
            quoted += table.both[step, column]
            inventory += bid - ask
            fills += bid + ask
            squares += inventory * inventory
            if rules.gaussian:
                move = rules.move * normal(generator)
            else:
                move = rules.move if signs & np.uint64(1) else -rules.move
                signs >>= np.uint64(1)
            inventory_profit += inventory * move
            wealth = edge + inventory_profit
            peak = max(peak, wealth)
            drawdown = max(drawdown, peak - wealth)
        results[0, path] = edge + inventory_profit
        results[1, path] = inventory
        results[2, path] = fills
        results[3, path] = drawdown
        results[4, path] = spread / quoted if quoted > 0 else np.nan
        results[5, path] = rules.step_penalty * squares
        results[6, path] = edge


@njit(cache=True, inline="always")
def start_inventory(generator, spread):
    """Uniform over -spread .. spread."""
    return int(uniform(generator) * (2 * spread + 1)) - spread


@njit(cache=True)
def _fill_threshold(distance, rules):
    """`fill_thresholds` of one distance, the same arithmetic."""
    rate = np.exp(min(rules.log_rate - rules.k * distance, 700.0))
    probability = -np.expm1(-rate) if rules.exponential else min(1.0, rate)
    return np.uint32(min(np.rint(probability * _TWO_32), _TWO_32 - 1.0))


@njit(cache=True, nogil=True)
def rollout_block(observations, means, quoted, no_quote, rules, starts, seed, first, last, rollout):
    """Roll paths first .. last - 1 out with Gaussian noise around `means`.

    Args:
        observations: float32 (steps, inventories, features).
        means: float64 (steps, inventories, 2), the policy's (half_spread, skew).
        quoted: bool (steps, inventories, 2), False where a side never quotes, such as at the bound.
        no_quote: A half-spread at or above this quotes nothing.
        rules: Rules.
        starts: Starts.
        seed: Key of the run.
        first: First path.
        last: One past the last path.
        rollout: Rollout, written at rows first .. last - 1; zero where not valid.
    """
    steps, columns = means.shape[:2]
    bound = columns // 2
    market, explorer = np.empty(2, np.uint64), np.empty(2, np.uint64)
    thresholds = np.empty(2, np.uint32)
    for path in range(first, last):
        seed_generator(market, seed, path, 0, _MARKET_STREAM)
        seed_generator(explorer, seed, path, 0, _POLICY_STREAM)
        start = int(uniform(explorer) * steps) if starts.inventory > 0 else 0
        inventory = start_inventory(explorer, starts.inventory)
        rollout.start[path] = start
        rollout.inventory[path, start] = inventory
        mid = 0.0
        signs = np.uint64(0)
        for step in range(start, steps):
            if (step - start) & 63 == 0:
                signs = next_word(market)
            column = inventory + bound
            half_spread = means[step, column, 0] + starts.half_spread * normal(explorer)
            skew = means[step, column, 1] + starts.skew * normal(explorer)
            rollout.observation[path, step] = observations[step, column]
            rollout.mean[path, step] = means[step, column]
            rollout.action[path, step, 0] = half_spread
            rollout.action[path, step, 1] = skew
            for side in range(2):
                distance = half_spread - skew if side else half_spread + skew
                if half_spread >= no_quote or not quoted[step, column, side]:
                    distance = np.inf
                rollout.distance[path, step, side] = distance
                thresholds[side] = _fill_threshold(distance, rules)
            bid, ask = fills_of(next_word(market), thresholds)
            rollout.filled[path, step, 0] = bid
            rollout.filled[path, step, 1] = ask
            reward = bid * (half_spread + skew) + ask * (half_spread - skew)
            inventory += bid - ask
            if rules.gaussian:
                move = rules.move * normal(market)
            else:
                move = rules.move if signs & np.uint64(1) else -rules.move
                signs >>= np.uint64(1)
            mid += move
            rollout.mid[path, step + 1] = mid
            rollout.inventory[path, step + 1] = inventory
            rollout.reward[path, step] = reward + inventory * move - rules.step_penalty * inventory * inventory


def allocate_rollout(paths: int, steps: int, features: int) -> Rollout:
    """Zero arrays for `paths` paths."""
    return Rollout(
        observation=np.zeros((paths, steps, features), np.float32),
        mean=np.zeros((paths, steps, 2), np.float32),
        action=np.zeros((paths, steps, 2), np.float32),
        reward=np.zeros((paths, steps), np.float32),
        inventory=np.zeros((paths, steps + 1), np.float32),
        filled=np.zeros((paths, steps, 2), np.float32),
        distance=np.zeros((paths, steps, 2), np.float32),
        mid=np.zeros((paths, steps + 1)),
        start=np.zeros(paths, np.int64),
    )
