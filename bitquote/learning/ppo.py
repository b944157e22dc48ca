"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347): learns from rewards alone.

It knows no model of the market, neither how fills fade with distance nor what moves the mid. Gaussian exploration of
a given, shrinking width; generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438). The critic is
quadratic in the observation and fitted by least squares, which takes milliseconds and has nothing to tune.

When several workers share the training, the weights move on while a rollout is learnt from, by the other workers'
updates too. Each rollout therefore keeps the log-probability of its actions under the policy that chose them and the
version of that policy's parameters. The ratio of the two probabilities is the correction, its clipping bounds what an
old rollout can do, and the lag in versions is logged as `ppo/behaviour_lag`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bitquote.learning.config import PPOConfig
from bitquote.learning.learner import Learner, iteration_seed
from bitquote.learning.regression import LinearRegression
from bitquote.market.game import Game
from bitquote.market.order_book import OrderBookMarket
from bitquote.market.simulation import Rollout
from bitquote.ternary.network import QuoteNetwork


class Experience(NamedTuple):
    """The valid decisions of a rollout, float32: what an iteration's minibatches are cut from."""

    observation: Tensor  # (rows, features)
    action: Tensor  # (rows, 2)
    log_probability: Tensor  # (rows,), of the actions under the policy that chose them
    advantage: Tensor  # (rows,), of zero mean and unit variance


class PPOLearner(Learner):
    """The clipped ratio on minibatches of the latest rollout, several passes over each."""

    def __init__(
        self,
        market: Game | OrderBookMarket,
        network: QuoteNetwork,
        config: PPOConfig,
        threads: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.iterations = config.iterations
        self.updates_per_iteration = config.passes * config.minibatches
        self.steps_per_iteration = config.paths * market.game.steps
        if isinstance(market, Game) and config.exploring_starts > 0:  # paths then begin halfway on average
            self.steps_per_iteration = config.paths * (market.game.steps + 1) // 2
        self.critic = Critic(market.observation_ranges)
        self._market = market
        self._policy = network.policy()
        self._scale = network.action_scale.clone()
        self._config = config
        self._threads = threads
        self._seed = seed
        self._experience: Experience
        self._version = 0
        self._minibatches: list[np.ndarray] = []

    def loss(self, network: QuoteNetwork, update: int, version: int) -> tuple[Tensor, Mapping[str, float]]:
        iteration, minibatch = divmod(update, self.updates_per_iteration)
        width = self._exploration(iteration)
        if minibatch == 0:
            self._collect(network, iteration, width)
            self._version = version
        rows = self._minibatches[minibatch]
        batch = Experience(*(column[rows] for column in self._experience))
        loss, clipped = clipped_loss(network(batch.observation), batch, width * self._scale, self._config.clip)
        return loss, {"ppo/clipped": clipped, "ppo/behaviour_lag": float(version - self._version)}

    def _exploration(self, iteration: int) -> float:
        """Standard deviation of the noise in units of the action scale: geometric from start to end."""
        progress = iteration / max(1, self.iterations - 1)
        start, end = self._config.exploration, self._config.exploration_end
        return start * (end / start) ** progress

    def _collect(self, network: QuoteNetwork, iteration: int, width: float) -> None:
        """Roll the current policy out, estimate advantages, and shuffle the rows into minibatches."""
        network.refresh(self._policy)
        seed = iteration_seed(self._seed, iteration)
        noise = tuple((width * self._scale).tolist())
        self._experience = self._estimate(self._rollout(seed, noise), width * self._scale)
        generator = np.random.default_rng(seed)
        self._minibatches = [
            part
            for _ in range(self._config.passes)
            for part in np.array_split(generator.permutation(len(self._experience.advantage)), self._config.minibatches)
        ]

    def _rollout(self, seed: int, noise: tuple[float, float]) -> Rollout:
        paths, spread = self._config.paths, self._config.exploring_starts
        if isinstance(self._market, Game):
            return self._market.rollout(
                self._policy, paths, seed, exploration=noise, exploring_starts=spread, threads=self._threads
            )
        return self._market.rollout(
            self._policy, paths, seed, exploration=noise, start_inventory=spread, dither=True, threads=self._threads
        )

    @torch.no_grad()
    def _estimate(self, rollout: Rollout, width: Tensor) -> Experience:
        """Advantages by the critic of earlier iterations, which then learns from this one.

        `width` (2,) are the standard deviations that the actions were drawn with.
        """
        paths, steps, _ = rollout.observation.shape
        valid = torch.from_numpy(np.arange(steps) >= rollout.start[:, None]).flatten()
        features = self.critic.features(torch.from_numpy(rollout.observation).flatten(0, 1))
        value = self.critic(features).view(paths, steps).numpy()
        reward = hedged_reward(rollout) if isinstance(self._market, Game) else rollout.reward
        advantage = generalised_advantages(reward, value, self._config.discount, self._config.trace)
        self.critic.update(features[valid], torch.from_numpy(advantage + value).flatten()[valid])

        def rows(column: np.ndarray) -> Tensor:
            return torch.from_numpy(column).flatten(0, 1)[valid]

        chosen, action = rows(advantage).float(), rows(rollout.action)
        return Experience(
            observation=rows(rollout.observation),
            action=action,
            log_probability=log_probability(action, rows(rollout.mean), width),
            advantage=(chosen - chosen.mean()) / (chosen.std() + 1e-8),
        )


class Critic(LinearRegression):
    """The value of an observation as a quadratic form of its features, each scaled by its fixed range."""

    gain: Tensor
    pairs: Tensor

    def __init__(self, ranges: tuple[float, ...]) -> None:
        size = len(ranges)
        super().__init__(1 + size + size * (size + 1) // 2)
        limits = torch.tensor(ranges, dtype=torch.float64)
        self.register_buffer("gain", torch.where(limits > 0, 1.0 / limits, 0.0), persistent=False)
        self.register_buffer("pairs", torch.triu_indices(size, size), persistent=False)

    def features(self, observation: Tensor) -> Tensor:
        """observation (rows, n) -> one, the features and their products: float64 (rows, 1 + n + n (n + 1) / 2)."""
        scaled = observation.double() * self.gain
        products = scaled[:, self.pairs[0]] * scaled[:, self.pairs[1]]
        return torch.cat([torch.ones_like(scaled[:, :1]), scaled, products], dim=1)


def log_probability(action: Tensor, mean: Tensor, width: Tensor) -> Tensor:
    """Logarithm of the Gaussian density, (rows,), up to a constant; action and mean are (rows, 2), width (2,)."""
    return -0.5 * ((action - mean) / width).square().sum(dim=1)


def clipped_loss(mean: Tensor, batch: Experience, width: Tensor, clip: float) -> tuple[Tensor, float]:
    """Minus PPO's surrogate, and the share of rows whose ratio is outside 1 +- clip.

    mean (rows, 2) of the policy being trained, width (2,) the standard deviations that the actions were drawn with.
    """
    ratio = torch.exp(log_probability(batch.action, mean, width) - batch.log_probability)
    limited = ratio.clamp(1.0 - clip, 1.0 + clip)
    surrogate = torch.minimum(ratio * batch.advantage, limited * batch.advantage)
    return -surrogate.mean(), float((ratio != limited).float().mean())


def generalised_advantages(reward: np.ndarray, value: np.ndarray, discount: float, trace: float) -> np.ndarray:
    """Generalised advantage estimates, float64 (paths, steps), of episodes that end after the last step.

    The horizon is a true end of the episode, after which nothing is earned: its value is zero.
    """
    advantage = np.empty(reward.shape)
    following = later = np.zeros(len(reward))
    for step in range(reward.shape[1] - 1, -1, -1):
        surprise = reward[:, step] + discount * later - value[:, step]
        following = surprise + discount * trace * following
        advantage[:, step] = following
        later = value[:, step]
    return advantage


def hedged_reward(rollout: Rollout) -> np.ndarray:
    """Rewards without what the mid's own move made, float64 (paths, steps).

    A control variate: where the mid moves without drift and independently of the fills, as in the game,
    inventory times its move has mean zero whatever the policy does.
    """
    return rollout.reward - rollout.inventory[:, 1:] * np.diff(rollout.mid, axis=1)
