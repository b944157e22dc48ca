"""Pathwise gradient in the order book: the simulator runs forward, fitted models stand in for it backward.

What a bid at distance d is worth at a decision (the ask is its mirror image):

    E(d) = p(d) (d - fee + m(d))

p is the chance of a fill before the next decision, a logistic regression on the simulator's own log. m is what the
order is worth after a fill: the mid's move, less the marginal penalty, plus the costate, regressed on *fills*
alone, since fills are informative: it holds the adverse selection. The costate, the derivative of the objective
with respect to inventory, is linear in the signed features and fitted by temporal differences. The network receives
dE/dd; the forward pass stays the true simulator, and none of the models is part of the policy.

The `cara` objective is trained through the running penalty, which stands for it while gamma std(W) < 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bitquote.learning.config import PathwiseConfig
from bitquote.learning.features import BookFeatures
from bitquote.learning.learner import Learner, iteration_seed
from bitquote.learning.regression import MEMORY, LinearRegression, LogisticRegression
from bitquote.market.order_book import OrderBookMarket
from bitquote.market.simulation import Rollout
from bitquote.ternary.network import QuoteNetwork

TRACE = 0.9
"""Lambda of the temporal differences that fit the costate."""
COSTATE_PASSES = 2
FIRST_PASSES = 6
"""Passes over the first rollout, when the costate starts from nothing."""
ROUNDING = 0.5
"""Ticks that rounding away from the mid adds to a distance on average."""


class Side(NamedTuple):
    """One side of every decision of a rollout, seen as if it were the bid: float64 (paths, steps, ...)."""

    scaled: Tensor  # (paths, steps, features)
    asked: Tensor  # distance that the policy asked for, without exploration, in ticks
    distance: Tensor  # distance in force; infinite without a quote
    filled: Tensor  # share of the order, 0..1
    later: Tensor  # value of one more order until the next decision and beyond, in ticks


class BookPathwiseLearner(Learner):
    """Ascends the penalised objective of an order-book market through the fitted models."""

    def __init__(
        self, market: OrderBookMarket, network: QuoteNetwork, config: PathwiseConfig, threads: int, seed: int
    ) -> None:
        super().__init__()
        self.iterations = config.iterations
        self.steps_per_iteration = config.paths * market.venue.decisions
        self._market = market
        self._policy = network.policy()
        self._config = config
        self._threads = threads
        self._seed = seed
        self._noise = config.exploration / market.game.k / market.tick
        self._fee = market.venue.maker_fee * market.flow.poisson.price  # ticks an order
        self._penalty = market.game.penalty * market.venue.decision_interval / market.tick  # ticks an order^2
        self._features = BookFeatures(market.observation_names, market.observation_ranges)
        self.fills = LogisticRegression(self._features.fill_size)
        self.after_fill = LinearRegression(self._features.fill_size)
        self.costate = LinearRegression(self._features.costate_size)

    def loss(self, network: QuoteNetwork, update: int, version: int) -> tuple[Tensor, Mapping[str, float]]:
        """A loss whose gradient is minus the objective's, per decision; its value has no meaning of its own."""
        network.refresh(self._policy)
        rollout = self._market.rollout(
            self._policy,
            self._config.paths,
            iteration_seed(self._seed, update),
            exploration=(self._noise, self._noise),
            start_inventory=self._config.exploring_starts,
            dither=True,
            threads=self._threads,
        )
        with torch.no_grad():
            sides = self._sides(rollout, self._update_costate(rollout))
            self._update_fills(sides)
        bid, ask = (self._slope(side) for side in sides)
        gradient = torch.stack([bid + ask, bid - ask], dim=-1).flatten(0, 1).float()  # (rows, 2)
        quotes = network(torch.from_numpy(rollout.observation).flatten(0, 1))
        return -(gradient * quotes).sum(dim=1).mean(), {
            "rollout/reward": float(rollout.reward.sum(axis=1).mean()),
            "rollout/fills": float(rollout.filled.sum(axis=(1, 2)).mean()),
        }

    def _update_costate(self, rollout: Rollout) -> Tensor:
        """Refine the costate; returns what one more order earns from each decision on, (paths, steps), in ticks."""
        first = not self.costate.information.any()  # of this process: workers that share a run have a costate each
        earned = torch.from_numpy(np.diff(rollout.mid, axis=1) - 2.0 * self._penalty * rollout.inventory[:, 1:])
        features = self._features.costate(self._features.scaled(torch.from_numpy(rollout.observation)))
        for _ in range(FIRST_PASSES if first else COSTATE_PASSES):
            target = temporal_differences(earned, self.costate(features), TRACE)
            self.costate.update(features.flatten(0, 1), target.flatten(), memory=0.0 if first else MEMORY)
        value = self.costate(features)
        return earned + torch.nn.functional.pad(value[:, 1:], (0, 1))

    def _sides(self, rollout: Rollout, later: Tensor) -> tuple[Side, Side]:
        """The bid, and the ask mirrored."""
        scaled = self._features.scaled(torch.from_numpy(rollout.observation))
        half_spread, skew = torch.from_numpy(rollout.mean).double().unbind(-1)
        distance = torch.from_numpy(rollout.distance).double()
        filled = torch.from_numpy(rollout.filled).double().clamp(max=1.0)
        bid = Side(scaled, half_spread + skew + ROUNDING, distance[..., 0], filled[..., 0], later)
        ask = Side(
            self._features.mirrored(scaled), half_spread - skew + ROUNDING, distance[..., 1], filled[..., 1], -later
        )
        return bid, ask

    def _update_fills(self, sides: tuple[Side, Side]) -> None:
        """Refine the chance of a fill, and what an order is worth after one, on both sides' quotes."""
        quoted = [torch.isfinite(side.distance) for side in sides]
        features = torch.cat(
            [self._features.fill(side.scaled[on], side.distance[on]) for side, on in zip(sides, quoted, strict=True)]
        )
        filled = torch.cat([side.filled[on] for side, on in zip(sides, quoted, strict=True)])
        later = torch.cat([side.later[on] for side, on in zip(sides, quoted, strict=True)])
        self.fills.update(features, filled)
        self.after_fill.update(features, later, weight=filled)

    def _slope(self, side: Side) -> Tensor:
        """dE/dd at the distance that the policy asked for, (paths, steps); 0 where nothing was quoted."""
        distance = side.asked.detach().requires_grad_()
        features = self._features.fill(side.scaled, distance)
        worth = self.fills(features) * (distance - self._fee + self.after_fill(features))
        (slope,) = torch.autograd.grad(worth.sum(), distance)
        return torch.where(torch.isfinite(side.distance), slope, 0.0)


def temporal_differences(earned: Tensor, value: Tensor, trace: float) -> Tensor:
    """TD(lambda) targets, (paths, steps), for the undiscounted sum of `earned`, with `value` its present estimate.

    Both are (paths, steps); nothing is earned after the last step.
    """
    target = torch.empty_like(earned)
    following = later = torch.zeros(len(earned), dtype=earned.dtype)
    for step in range(earned.shape[1] - 1, -1, -1):
        following = earned[:, step] + (1.0 - trace) * later + trace * following
        target[:, step] = following
        later = value[:, step]
    return target
