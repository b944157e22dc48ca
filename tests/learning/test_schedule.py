"""The two-stage schedule and the warm-up of the quantisation, in a plain Trainer and in `QuoteLearner`'s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import nn

from bitquote.errors import InputError
from bitquote.learning import (
    DistillConfig,
    NetworkConfig,
    PathwiseConfig,
    PPOConfig,
    QuantisationWarmUp,
    TrainerConfig,
    TwoStageSchedule,
    train,
)
from bitquote.learning.schedule import learning_rate_factor, quantisation_share, weight_decay_factor
from bitquote.market.game import Game
from bitquote.quoting import GameParameters
from bitquote.server.config import ServerConfig
from bitquote.ternary import BitLinear, QuoteNetwork

GAME = Game(GameParameters(horizon=0.2, steps=40, max_inventory=20))
QUIET = TrainerConfig(progress=False, log_every_n_steps=1)
SHORT: dict[str, Any] = {"epochs": 3, "iterations_per_epoch": 4, "weight_decay": 0.1}
LEARNERS = {
    "distill": DistillConfig(**SHORT, minibatch=64),
    "pathwise": PathwiseConfig(**SHORT, paths=16),
    "ppo": PPOConfig(**SHORT, paths=16, minibatches=2),
}
EVERYTHING = {
    "weight_scale": "absmedian",
    "input_quantisation": "per_row",
    "head": "learned_scale",
    "baseline": "residual",
}


class Plain(LightningModule):
    """Knows nothing of schedules; its parameters are in two groups."""

    def __init__(self, optimizer: type[torch.optim.Optimizer] = torch.optim.AdamW, scheduler: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(BitLinear(4, 8), nn.ReLU(), BitLinear(8, 1))
        self.optimizer = optimizer
        self.scheduler = scheduler

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.layers(torch.linspace(-1.0, 1.0, 12).view(3, 4)).square().sum()

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer([{"params": layer.parameters()} for layer in (self.layers[0], self.layers[2])])
        if not self.scheduler:
            return optimizer
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]


class Seen(Callback):
    """What every update of the optimiser was made with."""

    def __init__(self) -> None:
        self.groups: list[list[tuple[float, float]]] = []
        self.shares: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.groups.append([(group["lr"], group["weight_decay"]) for group in optimizer.param_groups])
        parts = [part for part in pl_module.modules() if isinstance(part, QuoteNetwork | BitLinear)]
        assert len({part.quantisation for part in parts}) == 1
        self.shares.append(parts[0].quantisation)


def fit(module: Plain, *callbacks: Callback, **options: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(
        accelerator="cpu", logger=False, callbacks=list(callbacks), **quiet, **{"max_epochs": 1} | options
    )
    trainer.fit(module, range(8))
    return trainer


def expected(updates: int, rate: float, decay: float) -> list[list[tuple[float, float]]]:
    pairs = [
        (rate * learning_rate_factor(update, updates), decay * weight_decay_factor(update, updates))
        for update in range(updates)
    ]
    return [[pair, pair] for pair in pairs]


def test_the_share_of_quantisation_rises_from_none_to_all() -> None:
    assert [quantisation_share(update, 10, 0.0) for update in (0, 9)] == [1.0, 1.0]
    assert [quantisation_share(update, 10, 0.4) for update in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert [quantisation_share(update, 10, 0.01) for update in (0, 1)] == [0.0, 1.0]
    assert quantisation_share(9, 10, 1.0) == 0.9


def test_the_schedule_in_a_plain_trainer() -> None:
    seen = Seen()
    fit(Plain(), TwoStageSchedule(16, 0.1, 0.01), seen, max_epochs=2)
    assert seen.groups == expected(16, 0.1, 0.01)


def test_accumulated_gradients_are_one_update() -> None:
    seen = Seen()
    fit(Plain(), TwoStageSchedule(8, 0.1, 0.01), seen, max_epochs=2, accumulate_grad_batches=2)
    assert seen.groups == expected(8, 0.1, 0.01)


def test_after_the_last_update_nothing_changes_any_more() -> None:
    seen, module = Seen(), Plain(torch.optim.SGD)
    fit(module, TwoStageSchedule(6, 0.1), seen, max_steps=6)
    before = [layer.clone() for layer in module.parameters()]
    fit(module, TwoStageSchedule(6, 0.1, number=lambda batch: batch + 6), seen, max_steps=6)
    assert seen.groups[6:] == [[(0.0, 0.0)] * 2] * 6
    assert all(torch.equal(one, other) for one, other in zip(before, module.parameters(), strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TwoStageSchedule(0, 0.1), "updates is 0: must be an integer of at least 1"),
        (lambda: TwoStageSchedule(10, 0.0), "learning_rate is 0.0: must be a finite number above 0"),
        (lambda: TwoStageSchedule(10, 0.1, -1.0), "weight_decay is -1.0"),
        (lambda: QuantisationWarmUp(10, 1.5), "warm_up is 1.5"),
        (
            lambda: fit(Plain(scheduler=True), TwoStageSchedule(10, 0.1)),
            "ExponentialLR.*absent beside TwoStageSchedule",
        ),
        (lambda: fit(Plain(torch.optim.Rprop), TwoStageSchedule(10, 0.1, 0.1)), "weight_decay is 0.1: .* Rprop"),
    ],
)
def test_what_cannot_be_scheduled_is_one_clear_line(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_an_optimiser_without_weight_decay_takes_the_learning_rate_alone() -> None:
    trainer = fit(Plain(torch.optim.Rprop), TwoStageSchedule(10, 0.1), max_steps=1)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.1 * learning_rate_factor(0, 10)
    assert "weight_decay" not in trainer.optimizers[0].param_groups[0]


def test_the_warm_up_in_a_plain_trainer() -> None:
    seen, module = Seen(), Plain()
    fit(module, TwoStageSchedule(8, 0.1), QuantisationWarmUp(8, 1.0), seen)
    assert seen.shares == [update / 8 for update in range(8)]
    assert [part.quantisation for part in module.modules() if isinstance(part, BitLinear)] == [1.0, 1.0]


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_learner_is_scheduled_by_the_same_callbacks(kind: str, tmp_path: Path) -> None:
    seen = Seen()
    network = NetworkConfig(hidden=[16], head="learned_scale")
    learner = type(LEARNERS[kind])(**vars(LEARNERS[kind]) | {"quantisation_warm_up": 0.5})
    trained = train(GAME, network, learner, QUIET, seed=3, directory=tmp_path, callbacks=[seen])
    updates = trained.metrics["updates"]
    assert [groups[0] for groups in seen.groups] == [
        pairs[0] for pairs in expected(updates, learner.learning_rate, 0.1)
    ]
    assert seen.shares == [quantisation_share(update, updates, 0.5) for update in range(updates)]
    assert 0.0 in seen.shares
    assert 1.0 in seen.shares


class Interrupt(Callback):
    """Ctrl-C in the middle of the second epoch."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch == 1:
            raise KeyboardInterrupt


def test_a_run_with_every_option_is_resumed_and_served_to_the_bit(tmp_path: Path) -> None:
    network = NetworkConfig(hidden=[16], **EVERYTHING)
    learner = DistillConfig(**SHORT, minibatch=64, quantisation_warm_up=0.7)

    def run(name: str, **settings: Any) -> dict[str, Any]:
        return train(GAME, network, learner, QUIET, seed=3, directory=tmp_path / name, **settings).policy.tensors()

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("cut", callbacks=[Interrupt()])
    served = ServerConfig(engine="inproc", workers=1, consistency="bsp", tau=0)
    for other in (run("cut", resume=True), run("served", server=served)):
        assert whole.keys() == other.keys()
        assert all((whole[name] == other[name]).all() for name in whole)


@pytest.mark.parametrize(
    ("options", "warm_up"),
    [
        ({"weight_scale": "absmedian"}, 0.0),
        ({"head": "learned_scale"}, 0.0),
        ({}, 0.1),
        (EVERYTHING, 0.1),
    ],
    ids=str,
)
def test_every_option_learns(options: dict[str, str], warm_up: float, tmp_path: Path) -> None:
    game = Game(GameParameters(max_inventory=30))
    learner = DistillConfig(
        epochs=2, iterations_per_epoch=150, gradient_clip=None, exploring_starts=4, quantisation_warm_up=warm_up
    )
    network = NetworkConfig(hidden=[32, 32], **options)
    assert train(game, network, learner, QUIET, seed=3, directory=tmp_path).metrics["score"] < 0.01
