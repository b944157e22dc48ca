"""Distillation: regression of the network on quotes that are known.

In the game these are the exact dynamic program's, and the result says whether a network of this shape can
represent the optimum. In the order book they are the closed form's that the market was given: a warm start.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from bitquote.learning.config import DistillConfig
from bitquote.learning.learner import Learner, iteration_seed
from bitquote.market.game import Game
from bitquote.market.order_book import OrderBookMarket
from bitquote.quoting import QuoteTable, dynamic_program
from bitquote.quoting.recursion import occupancy, outcome_probabilities, start_distribution
from bitquote.ternary.network import QuoteNetwork


class DistillLearner(Learner):
    """Least squares on minibatches drawn from fixed arrays of (observation, quotes, weight).

    Args:
        observations: float32 (rows, features).
        quotes: float32 (rows, 2), half-spread and skew.
        weights: probabilities of drawing each row, (rows,).
        config: minibatch and budget.
        unit: error that counts as one, in the market's units.
        seed: of the draws.
    """

    def __init__(
        self,
        observations: np.ndarray,
        quotes: np.ndarray,
        weights: np.ndarray,
        config: DistillConfig,
        unit: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.iterations = config.iterations
        self._observations = torch.from_numpy(observations)
        self._quotes = torch.from_numpy(quotes)
        self._cumulative = np.cumsum(weights)
        self._minibatch = config.minibatch
        self._unit = unit
        self._seed = seed

    def loss(self, network: QuoteNetwork, update: int, version: int) -> tuple[Tensor, Mapping[str, float]]:
        generator = np.random.default_rng(iteration_seed(self._seed, update))
        draws = generator.random(self._minibatch) * self._cumulative[-1]
        rows = torch.from_numpy(np.searchsorted(self._cumulative, draws, side="right"))
        error = (network(self._observations[rows]) - self._quotes[rows]) / self._unit
        return error.square().sum(dim=1).mean(), {}


def distill_game(game: Game, config: DistillConfig, objective: str, seed: int) -> DistillLearner:
    """Regression on the dynamic program of `objective`, weighted by the optimum's own occupancy."""
    table = dynamic_program(game.parameters, objective=objective)
    visits = visit_distribution(game, table, config.exploring_starts)
    quoted = np.isfinite(table.bid) & np.isfinite(table.ask)
    weights = np.where(quoted, visits, 0.0)
    bid, ask = table.bid[quoted], table.ask[quoted]
    quotes = np.stack([0.5 * (bid + ask), 0.5 * (bid - ask)], axis=1).astype(np.float32)
    return DistillLearner(game.observations()[quoted], quotes, weights[quoted], config, 1.0 / game.parameters.k, seed)


def visit_distribution(game: Game, table: QuoteTable, spread: int) -> np.ndarray:
    """Chance of each (step, inventory) under `table` when the first inventory is uniform on -spread..spread."""
    chances = outcome_probabilities(table, game.parameters)
    visits = occupancy(chances, start_distribution(game.parameters, spread))[:-1]
    return visits / visits.sum()


def distill_order_book(
    market: OrderBookMarket, network: QuoteNetwork, config: DistillConfig, threads: int, seed: int
) -> DistillLearner:
    """Regression on the market's GLFT baseline over the observations that the baseline itself meets."""
    description = network.description
    baseline = QuoteNetwork(
        description.observation_names,
        description.observation_ranges,
        baseline="residual",
        no_quote=description.no_quote,
    )
    rollout = market.rollout(
        baseline.policy(), config.paths, seed, start_inventory=config.exploring_starts, threads=threads
    )
    observations = rollout.observation.reshape(-1, rollout.observation.shape[-1])
    quotes = rollout.mean.reshape(-1, 2)
    weights = np.ones(len(quotes))
    return DistillLearner(observations, quotes, weights, config, 1.0 / market.game.k / market.tick, seed)
