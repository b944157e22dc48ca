"""The learners in a small order-book market."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback

from bitquote.learning import DistillConfig, NetworkConfig, PathwiseConfig, PPOConfig, TrainerConfig, train
from bitquote.learning.training import build_network
from bitquote.market import OrderBookMarket, build, shipped_configuration

QUIET = TrainerConfig(progress=False, log_every_n_steps=1)
SHORT = {"epochs": 2, "iterations_per_epoch": 2, "paths": 8}
LEARNERS = {
    "distill": DistillConfig(**SHORT, minibatch=64),
    "pathwise": PathwiseConfig(**SHORT),
    "ppo": PPOConfig(**SHORT),
}


class Interrupt(Callback):
    """Ctrl-C in the middle of the second epoch."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == 3:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def market() -> OrderBookMarket:
    path = Path(__file__).parents[2] / "conf" / "market" / "order_book.yaml"
    config = yaml.safe_load(path.read_text())
    config["venue"]["decisions"] = 30
    return build(config)


@pytest.mark.parametrize("kind", LEARNERS)
@pytest.mark.parametrize("baseline", ["direct", "residual"])
def test_every_learner_runs_and_repeats_itself(
    market: OrderBookMarket, kind: str, baseline: str, tmp_path: Path
) -> None:
    network = NetworkConfig(hidden=[16], baseline=baseline)
    first, second = (
        train(market, network, LEARNERS[kind], QUIET, seed=2, directory=tmp_path / name) for name in ("a", "b")
    )
    for expected, found in zip(first.policy.arguments, second.policy.arguments, strict=True):
        np.testing.assert_array_equal(expected, found)
    assert np.isfinite(first.metrics["score"])
    assert set(first.metrics["references"]) == {"glft_tuned", "no_quote"}


@pytest.mark.parametrize("name", ["competition", "self_play"])
def test_a_policy_learns_among_rivals(market: OrderBookMarket, name: str, tmp_path: Path) -> None:
    """Against fixed rivals, and against itself: what it earns is what it earns in that company."""
    config = shipped_configuration(name)
    config["venue"]["decisions"] = 30
    company = build(config)
    trained = train(company, NetworkConfig(hidden=[16]), LEARNERS["pathwise"], QUIET, seed=2, directory=tmp_path / "a")
    alone = train(market, NetworkConfig(hidden=[16]), LEARNERS["pathwise"], QUIET, seed=2, directory=tmp_path / "b")
    assert any(
        not np.array_equal(a, b) for a, b in zip(trained.policy.arguments, alone.policy.arguments, strict=True)
    )
    fills = [each.simulate(trained.policy, 64, seed=1).fills.mean() for each in (company, market)]
    assert 0.0 < fills[0] < 0.95 * fills[1]


def test_a_residual_policy_starts_at_the_baseline(market: OrderBookMarket) -> None:
    torch.manual_seed(0)
    network = build_network(market, NetworkConfig(baseline="residual"))
    policy = market.simulate(network.policy(), 16, seed=1)
    table = market.simulate(market.baseline, 16, seed=1)
    np.testing.assert_array_equal(policy.profit, table.profit)


def test_a_resumed_run_ends_with_the_same_bits(market: OrderBookMarket, tmp_path: Path) -> None:
    def run(name: str, **settings):
        network = NetworkConfig(hidden=[16], baseline="residual")
        return train(market, network, LEARNERS["pathwise"], QUIET, seed=2, directory=tmp_path / name, **settings)

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("cut", callbacks=[Interrupt()])
    resumed = run("cut", resume=True)
    for expected, found in zip(whole.policy.arguments, resumed.policy.arguments, strict=True):
        np.testing.assert_array_equal(expected, found)
