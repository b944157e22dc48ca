"""Slow and obvious twins of the game: every outcome enumerated, every path stepped through in Python."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from bitquote.flow.random import next_word, seed_generator
from bitquote.quoting import GameParameters, QuoteTable


def fill_probability(distance: float, parameters: GameParameters) -> float:
    """Probability that a quote at `distance` fills within a step."""
    if distance == math.inf:
        return 0.0
    rate = parameters.A * math.exp(-parameters.k * distance) * parameters.dt
    return min(1.0, rate) if parameters.fill_convention == "linear" else 1.0 - math.exp(-rate)


@dataclass
class Outcome:
    """One way in which the game may go."""

    probability: float
    wealth: float = 0.0
    penalty: float = 0.0
    inventory: int = 0


def enumerate_game(table: QuoteTable, parameters: GameParameters) -> list[Outcome]:
    """Every outcome of a game of a few steps, from inventory 0, with the two-point mid: 8^steps of them."""
    outcomes = [Outcome(1.0)]
    move = parameters.sigma * math.sqrt(parameters.dt)
    for step in range(parameters.steps):
        following = []
        for before in outcomes:
            column = before.inventory + parameters.max_inventory
            bid, ask = float(table.bid[step, column]), float(table.ask[step, column])
            p, r = fill_probability(bid, parameters), fill_probability(ask, parameters)
            for bid_fill, ask_fill, sign in itertools.product((0, 1), (0, 1), (-1, 1)):
                chance = (p if bid_fill else 1 - p) * (r if ask_fill else 1 - r) / 2
                if chance == 0.0:
                    continue
                inventory = before.inventory + bid_fill - ask_fill
                edge = (bid if bid_fill else 0.0) + (ask if ask_fill else 0.0)
                following.append(
                    Outcome(
                        before.probability * chance,
                        before.wealth + edge + inventory * sign * move,
                        before.penalty + parameters.penalty * parameters.dt * inventory**2,
                        inventory,
                    )
                )
        outcomes = following
    return outcomes


def simulate_path(table: QuoteTable, parameters: GameParameters, seed: int, path: int) -> dict[str, float]:
    """One path of the two-point game from the generator of (seed, path)."""
    generator = np.empty(2, np.uint64)
    seed_generator(generator, seed, path, 0, 0)
    move = parameters.sigma * math.sqrt(parameters.dt)
    cash = mid = 0.0
    inventory = fills = 0
    penalty = edge = 0.0
    wealths, spreads = [0.0], []
    for step in range(parameters.steps):
        if step % 64 == 0:
            signs = int(next_word(generator))
        word = int(next_word(generator))
        column = inventory + parameters.max_inventory
        bid, ask = float(table.bid[step, column]), float(table.ask[step, column])
        if math.isfinite(bid) and math.isfinite(ask):
            spreads.append(bid + ask)
        if (word % 2**32) / 2**32 < fill_probability(bid, parameters):
            cash, edge = cash - (mid - bid), edge + bid
            inventory, fills = inventory + 1, fills + 1
        if (word // 2**32) / 2**32 < fill_probability(ask, parameters):
            cash, edge = cash + (mid + ask), edge + ask
            inventory, fills = inventory - 1, fills + 1
        mid += move if signs >> (step % 64) & 1 else -move
        penalty += parameters.penalty * parameters.dt * inventory**2
        wealths.append(cash + inventory * mid)
    return {
        "profit": wealths[-1],
        "terminal_inventory": inventory,
        "fills": fills,
        "max_drawdown": max(max(wealths[: i + 1]) - wealth for i, wealth in enumerate(wealths)),
        "mean_spread": sum(spreads) / len(spreads) if spreads else math.nan,
        "penalty": penalty,
        "spread": edge,
    }
