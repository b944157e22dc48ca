"""Pathwise gradient in the game: sampled fills forward, the derivative of the fill intensity backward.

The policy is a function of (step, inventory) alone, so an iteration tabulates it once with the compiled kernel
(the very integers that are deployed), lets the game differentiate its objective with respect to the table's
cells along sampled paths, and sends that gradient through the network in one backward pass over visited cells.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from bitquote.learning.config import PathwiseConfig
from bitquote.learning.learner import Learner, iteration_seed
from bitquote.market.game import Game
from bitquote.ternary.network import QuoteNetwork


class PathwiseLearner(Learner):
    """Ascends the objective of `game` through its adjoint; the gradient knows how fills fade with distance."""

    def __init__(
        self, game: Game, network: QuoteNetwork, config: PathwiseConfig, objective: str, threads: int, seed: int
    ) -> None:
        super().__init__()
        self.iterations = config.iterations
        self.steps_per_iteration = config.paths * game.parameters.steps
        self._game = game
        self._policy = network.policy()
        self._observations = torch.tensor(game.observations()).flatten(0, 1)
        self._config = config
        self._objective = objective
        self._threads = threads
        self._seed = seed

    def loss(self, network: QuoteNetwork, update: int, version: int) -> tuple[Tensor, Mapping[str, float]]:
        """A loss whose gradient is minus the objective's; its value has no meaning of its own."""
        network.refresh(self._policy)
        bid, ask, visits = self._game.adjoint(
            self._game.tabulate(self._policy),
            self._config.paths,
            iteration_seed(self._seed, update),
            objective=self._objective,
            exploring_starts=self._config.exploring_starts,
            threads=self._threads,
        )
        cells = np.flatnonzero(visits)
        # bid = half-spread + skew, ask = half-spread - skew
        gradient = np.stack([bid.flat[cells] + ask.flat[cells], bid.flat[cells] - ask.flat[cells]], axis=1)
        quotes = network(self._observations[torch.from_numpy(cells)])
        return -(torch.from_numpy(gradient).float() * quotes).sum(), {"visited": float(len(cells))}
