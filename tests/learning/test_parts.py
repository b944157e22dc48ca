"""The pieces of the learners against slow or exact twins."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitquote.learning import NetworkConfig, PathwiseConfig
from bitquote.learning.callbacks import Average
from bitquote.learning.features import BookFeatures
from bitquote.learning.learner import iteration_seed
from bitquote.learning.module import Updates
from bitquote.learning.pathwise import PathwiseLearner
from bitquote.learning.pathwise_book import temporal_differences
from bitquote.learning.ppo import (
    Critic,
    Experience,
    clipped_loss,
    generalised_advantages,
    hedged_reward,
    log_probability,
)
from bitquote.learning.regression import LinearRegression, LogisticRegression
from bitquote.learning.schedule import learning_rate_factor, weight_decay_factor
from bitquote.learning.scoring import objective_by_path
from bitquote.learning.training import build_network
from bitquote.market import observation
from bitquote.market.game import Game
from bitquote.quoting import GameParameters, glft
from bitquote.quoting.recursion import exact_gradient, start_distribution


def test_the_schedule_warms_up_drops_at_the_midpoint_and_ends_near_zero() -> None:
    factors = [learning_rate_factor(update, 1000) for update in range(1000)]
    assert 0.0 < factors[0] < 0.1
    assert factors[499] == 1.0
    assert factors[500] == pytest.approx(0.5)
    assert factors[999] == pytest.approx(0.001)
    assert [weight_decay_factor(update, 10) for update in (0, 4, 5, 9)] == [1.0, 1.0, 0.0, 0.0]


def test_seeds_of_iterations_are_distinct() -> None:
    seeds = {iteration_seed(seed, iteration) for seed in range(20) for iteration in range(500)}
    assert len(seeds) == 20 * 500
    assert min(seeds) >= 0
    assert max(seeds) < 2**53


def test_the_pathwise_loss_has_the_exact_gradient() -> None:
    game = Game(GameParameters(steps=20, max_inventory=10))
    torch.manual_seed(0)
    network = build_network(game, NetworkConfig(hidden=[16], architecture="fp32"))
    torch.nn.init.normal_(network.head.weight, std=0.1)
    config = PathwiseConfig(paths=200_000, exploring_starts=3)
    loss, _ = PathwiseLearner(game, network, config, "penalty", 2, seed=1).loss(network, 0, 0)
    sampled = torch.autograd.grad(loss, network.head.weight)[0].flatten()

    table = game.tabulate(network.policy())
    bid, ask, _ = exact_gradient(table, game.parameters, "penalty", start_distribution(game.parameters, 3))
    quotes = network(torch.tensor(game.observations()).flatten(0, 1))
    gradient = torch.tensor(np.stack([bid + ask, bid - ask], axis=-1).reshape(-1, 2)).float()
    exact = torch.autograd.grad(-(gradient * quotes).sum(), network.head.weight)[0].flatten()
    assert float((sampled - exact).norm() / exact.norm()) < 0.05


def test_generalised_advantages_by_the_definition() -> None:
    generator = np.random.default_rng(0)
    reward, value = generator.normal(size=(2, 3, 7))
    discount, trace = 0.9, 0.7
    following = np.concatenate([value[:, 1:], np.zeros((3, 1))], axis=1)
    surprise = reward + discount * following - value
    for step in range(7):
        weights = (discount * trace) ** np.arange(7 - step)
        expected = surprise[:, step:] @ weights
        found = generalised_advantages(reward, value, discount, trace)[:, step]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_temporal_differences_with_full_trace_are_the_sums() -> None:
    earned = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    value = torch.ones_like(earned)
    expected = earned.flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(temporal_differences(earned, value, 1.0), expected)
    one_step = earned + torch.nn.functional.pad(value[:, 1:], (0, 1))
    torch.testing.assert_close(temporal_differences(earned, value, 0.0), one_step)


def test_hedging_keeps_the_mean_and_lowers_the_variance() -> None:
    game = Game(GameParameters())
    rollout = game.rollout(glft(game.parameters), 4000, seed=5)
    hedged = hedged_reward(rollout).sum(axis=1)
    plain = rollout.reward.sum(axis=1)
    assert abs(hedged.mean() - plain.mean()) < 4.0 * (hedged - plain).std() / np.sqrt(len(plain))
    assert hedged.var() < 0.8 * plain.var()


def test_the_clipped_loss_at_the_old_policy_is_the_policy_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, noise = torch.randn(2, 50, 2, generator=generator)
    advantage = torch.randn(50, generator=generator)
    width = torch.tensor([0.5, 0.2])
    action = mean + width * noise
    batch = Experience(torch.empty(50, 0), action, log_probability(action, mean, width), advantage)
    present = mean.clone().requires_grad_()
    loss, clipped = clipped_loss(present, batch, width, 0.2)
    loss.backward()
    assert clipped == 0.0
    torch.testing.assert_close(present.grad, -advantage[:, None] * noise / width / 50)


def test_the_critic_fits_a_quadratic() -> None:
    critic = Critic((2.0, 5.0, 0.0))
    observation = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    value = (3.0 - observation[:, 0] * observation[:, 1] + observation[:, 1].square()).double()
    features = critic.features(observation)
    critic.update(features, value)
    assert float((critic(features) - value).var() / value.var()) < 0.01  # the ridge's share


def test_regressions_recover_their_coefficients() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 3, dtype=torch.float64, generator=generator)
    truth = torch.tensor([0.5, -1.0, 0.25], dtype=torch.float64)
    linear, logistic = LinearRegression(3), LogisticRegression(3)
    linear.update(x, x @ truth)
    chance = torch.sigmoid(x @ truth)
    logistic.update(x, (torch.rand(20_000, dtype=torch.float64, generator=generator) < chance).double())
    torch.testing.assert_close(linear.coefficients, truth, atol=2e-3, rtol=0.0)
    torch.testing.assert_close(logistic.coefficients, truth, atol=0.06, rtol=0.0)


def test_mirroring_twice_is_nothing_and_exchanges_the_sides() -> None:
    features = BookFeatures(observation.NAMES, [abs(limit) or 1.0 for limit in observation.RANGES])
    scaled = features.scaled(torch.randn(4, observation.SIZE, generator=torch.Generator().manual_seed(0)))
    mirrored = features.mirrored(scaled)
    torch.testing.assert_close(features.mirrored(mirrored), scaled)
    bid, ask = (observation.NAMES.index(f"queue_ahead_{side}") for side in ("bid", "ask"))
    torch.testing.assert_close(mirrored[:, bid], scaled[:, ask])
    torch.testing.assert_close(features.costate(mirrored), -features.costate(scaled))
    assert features.fill(scaled, scaled[:, 0]).shape == (4, features.fill_size)
    assert features.costate(scaled).shape == (4, features.costate_size)


def test_the_linearised_certainty_equivalent_has_the_right_mean() -> None:
    simulation = Game(GameParameters(steps=20)).simulate(glft(GameParameters(steps=20)), 500, seed=1)
    expected = -np.log(np.mean(np.exp(-0.1 * simulation.profit))) / 0.1
    assert objective_by_path(simulation, "cara", 0.1).mean() == pytest.approx(expected)


def test_the_updates_of_an_epoch_are_counted_and_come_in_blocks() -> None:
    updates = Updates(6, block=3)
    assert (list(updates), len(updates), updates.block) == ([0, 1, 2, 3, 4, 5], 6, 3)
    assert list(updates[3:6]) == [3, 4, 5]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_an_average_of_every_nth_version_remembers_as_long_as_one_of_all(workers: int) -> None:
    """Weights that rise by one an update: what a worker's average trails them by does not depend on the workers."""
    average, mean = Average(0.9, workers), torch.zeros(1)
    lags = []
    for count, version in enumerate(range(0, 400, workers)):
        current = torch.full((1,), float(version))
        mean = current if count == 0 else average(mean, current, torch.tensor(count))
        lags.append(version - float(mean))
    assert lags[-1] == pytest.approx(9.0, abs=0.6 * workers)  # decay / (1 - decay) updates
    early = 40 // workers
    assert lags[early] == pytest.approx(40 / 11, abs=0.6 * workers)  # while the average still warms up


def test_the_average_of_one_worker_is_the_plain_one() -> None:
    for count in (0, 1, 7, 1000):
        expected = torch.lerp(torch.ones(2), torch.zeros(2), max(1.0 - 0.98, 10.0 / (float(count) + 10.0)))
        assert torch.equal(Average(0.98, 1)(torch.ones(2), torch.zeros(2), torch.tensor(count)), expected)
