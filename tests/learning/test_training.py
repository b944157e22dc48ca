"""`train` on a small game: files, resume, Ctrl-C, and what the learners reach."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bitquote.errors import InputError
from bitquote.learning import DistillConfig, NetworkConfig, PathwiseConfig, PPOConfig, Trained, TrainerConfig, train
from bitquote.learning.config import LearnerConfig
from bitquote.learning.scoring import make_scorer
from bitquote.learning.training import build_learner, build_network
from bitquote.market import OrderBookMarket, build, shipped_configuration
from bitquote.market.game import Game
from bitquote.quoting import GameParameters
from bitquote.ternary import load_policy

GAME = Game(GameParameters(horizon=0.2, steps=40, max_inventory=20))
PUBLISHED = Game(GameParameters(max_inventory=30))
QUIET = TrainerConfig(progress=False, log_every_n_steps=1)
SHORT = {"epochs": 4, "iterations_per_epoch": 3, "gradient_clip": None}
LEARNERS = {
    "distill": DistillConfig(**SHORT, minibatch=64),
    "pathwise": PathwiseConfig(**SHORT, paths=16),
    "ppo": PPOConfig(**SHORT, paths=16, minibatches=2),
}


class Interrupt(Callback):
    """Ctrl-C at an update."""

    def __init__(self, update: int) -> None:
        self.update = update

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.update:
            raise KeyboardInterrupt


def run(
    learner: LearnerConfig, directory: Path, network: NetworkConfig | None = None, game: Game = GAME, **settings
) -> Trained:
    return train(game, network or NetworkConfig(hidden=[16]), learner, QUIET, seed=3, directory=directory, **settings)


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_resumed_run_ends_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    whole = run(LEARNERS[kind], tmp_path / "whole")
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(LEARNERS[kind], tmp_path / "cut", callbacks=[Interrupt(LEARNERS[kind].iterations // 2 + 1)])
    assert signal.getsignal(signal.SIGINT) is handler
    assert not (tmp_path / "cut" / "metrics.json").exists()
    resumed = run(LEARNERS[kind], tmp_path / "cut", resume=True)
    for expected, found in zip(whole.policy.arguments, resumed.policy.arguments, strict=True):
        np.testing.assert_array_equal(expected, found)
    scores = [[(row["steps"], row["score"]) for row in trained.metrics["history"]] for trained in (whole, resumed)]
    assert scores[0] == scores[1]


def test_resume_without_a_checkpoint_starts_from_scratch(tmp_path: Path) -> None:
    first = run(LEARNERS["distill"], tmp_path / "a")
    second = run(LEARNERS["distill"], tmp_path / "b", resume=True)
    assert first.metrics["score"] == second.metrics["score"]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_nothing(threads: int, tmp_path: Path) -> None:
    trainer = TrainerConfig(threads=threads, progress=False)
    learner = LEARNERS["pathwise"]
    found = train(GAME, NetworkConfig(hidden=[16]), learner, trainer, seed=3, directory=tmp_path)
    assert found.metrics["score"] == run(learner, tmp_path / "reference").metrics["score"]


def test_the_run_directory(tmp_path: Path) -> None:
    trained = run(LEARNERS["pathwise"], tmp_path, market_config={"kind": "game"})
    policy = load_policy(tmp_path / "policy.safetensors")
    assert policy.metadata == {"market": {"kind": "game"}, "objective": "penalty"}
    for expected, found in zip(trained.policy.arguments, policy.arguments, strict=True):
        np.testing.assert_array_equal(expected, found)
    assert json.loads((tmp_path / "metrics.json").read_text()) == trained.metrics
    assert trained.metrics["updates"] == 12
    assert trained.metrics["steps"] == 12 * 16 * 40
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 12

    events = EventAccumulator(str(tmp_path)).Reload()
    tags = set(events.Tags()["scalars"])
    assert tags >= {"loss", "score", "reference/glft", "steps_per_second", "ternary/zeros_0", "ternary/flips_0"}
    assert tags >= {"inventory/terminal_std", "spread/mean"}
    assert events.Scalars("score")[-1].value == pytest.approx(trained.metrics["score"])


def test_the_score_is_the_exact_gap_of_the_saved_policy(tmp_path: Path) -> None:
    trained = run(LEARNERS["distill"], tmp_path)
    found = GAME.evaluate(GAME.tabulate(trained.policy)).objective
    references = trained.metrics["references"]
    assert set(references) == {"avellaneda_stoikov", "glft"}
    last = EventAccumulator(str(tmp_path)).Reload().Scalars("objective")[-1].value
    assert last == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize("architecture", ["ternary", "fp32"])
@pytest.mark.parametrize("baseline", ["direct", "residual"])
def test_distillation_finds_the_optimum(architecture: str, baseline: str, tmp_path: Path) -> None:
    learner = DistillConfig(epochs=2, iterations_per_epoch=150, gradient_clip=None, exploring_starts=4)
    network = NetworkConfig(hidden=[32, 32], architecture=architecture, baseline=baseline)
    assert run(learner, tmp_path, network, PUBLISHED).metrics["score"] < 0.005


@pytest.mark.parametrize("objective", ["penalty", "cara"])
def test_pathwise_learns_from_scratch(objective: str, tmp_path: Path) -> None:
    learner = PathwiseConfig(
        epochs=2, iterations_per_epoch=60, learning_rate=0.005, gradient_clip=None, exploring_starts=10, paths=128
    )
    trained = run(learner, tmp_path, NetworkConfig(hidden=[32, 32]), PUBLISHED, objective=objective)
    assert trained.metrics["score"] < 0.03


def test_ppo_learns_from_scratch(tmp_path: Path) -> None:
    learner = PPOConfig(
        epochs=2, iterations_per_epoch=20, gradient_clip=None, exploring_starts=6, paths=512, minibatches=4
    )
    assert run(learner, tmp_path, NetworkConfig(hidden=[32, 32]), PUBLISHED).metrics["score"] < 0.5


def test_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        run(LEARNERS["distill"], tmp_path / "file")
    with pytest.raises(InputError, match="objective is 'profit'"):
        run(LEARNERS["distill"], tmp_path, objective="profit")
    with pytest.raises(InputError, match="seed is -1"):
        train(GAME, NetworkConfig(), LEARNERS["distill"], QUIET, seed=-1, directory=tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NetworkConfig(architecture="int4"), "policy.architecture"),
        (lambda: NetworkConfig(hidden=[]), "policy.hidden"),
        (lambda: NetworkConfig(action_scale=[1.0]), "policy.action_scale"),
        (
            lambda: NetworkConfig(weight_scale="mean"),
            "policy.weight_scale is 'mean': must be one of absmean, absmedian",
        ),
        (lambda: NetworkConfig(input_quantisation="row"), "must be one of per_feature, per_row"),
        (lambda: NetworkConfig(head="ternary"), "policy.head is 'ternary': must be one of fp, learned_scale"),
        (
            lambda: NetworkConfig(architecture="fp32", head="learned_scale"),
            "policy.head is 'learned_scale': must be fp with architecture fp32",
        ),
        (lambda: PathwiseConfig(quantisation_warm_up=1.5), "learner.quantisation_warm_up"),
        (lambda: PathwiseConfig(paths=0), "learner.paths"),
        (lambda: PathwiseConfig(kind="ppo"), "learner.kind"),
        (lambda: PPOConfig(trace=float("nan")), "learner.trace"),
        (lambda: DistillConfig(learning_rate=0.0), "learner.learning_rate"),
        (lambda: TrainerConfig(threads=0), "trainer.threads"),
    ],
)
def test_impossible_settings_name_themselves(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, bitquote.learning; bitquote.learning.PathwiseConfig(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ppo_logs_how_far_the_policy_has_moved_on_since_its_rollout(tmp_path: Path) -> None:
    learner = PPOConfig(epochs=1, iterations_per_epoch=2, paths=16, minibatches=3)
    run(learner, tmp_path)
    lags = EventAccumulator(str(tmp_path)).Reload().Scalars("ppo/behaviour_lag")
    assert [(event.step, event.value) for event in lags] == [(0, 0), (1, 1), (2, 2), (3, 0), (4, 1), (5, 2)]


def test_figures_stand_at_the_number_of_their_update(tmp_path: Path) -> None:
    run(LEARNERS["ppo"], tmp_path)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(24))
    for tag in ("score", "ternary/zeros_0", "steps_per_second"):
        assert [event.step for event in events.Scalars(tag)] == [5, 11, 17, 23]
    assert {event.step: event.value for event in events.Scalars("epoch")}[23] == 3


def small_order_book() -> OrderBookMarket:
    """The default market with short episodes."""
    configuration = shipped_configuration("order_book")
    return build(configuration | {"venue": configuration["venue"] | {"decisions": 20}})


IN_A_NEW_PROCESS = """
import pickle, sys, torch
network, learner, scorer, update = pickle.load(sys.stdin.buffer)
loss, figures = learner.loss(network, update, update)
sys.stdout.buffer.write(pickle.dumps((loss.item(), figures, scorer.score(network.policy()))))
"""


@pytest.mark.parametrize("kind", LEARNERS)
@pytest.mark.parametrize("market", ["game", "order_book"])
def test_learners_and_scorers_travel_to_other_processes(kind: str, market: str) -> None:
    chosen = GAME if market == "game" else small_order_book()
    network = build_network(chosen, NetworkConfig(hidden=[8]))
    torch.nn.init.normal_(network.head.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    learner = build_learner(chosen, network, LEARNERS[kind], QUIET, 1, "penalty")
    scorer = make_scorer(chosen, "penalty", 1)
    learner.loss(network, 0, 0)  # with everything compiled and cached that is made on first use
    update = learner.updates_per_iteration
    parts = pickle.dumps((network, learner, scorer, update))
    result = subprocess.run([sys.executable, "-c", IN_A_NEW_PROCESS], input=parts, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    loss, figures = learner.loss(network, update, update)
    assert pickle.loads(result.stdout) == (loss.item(), figures, scorer.score(network.policy()))
