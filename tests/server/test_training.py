"""`bitquote.learning.train` with a parameter server: the same bits with one worker, a sane policy with several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bitquote.errors import InputError
from bitquote.learning import DistillConfig, NetworkConfig, PathwiseConfig, PPOConfig, Trained, TrainerConfig, train
from bitquote.learning.config import LearnerConfig
from bitquote.market.game import Game
from bitquote.quoting import GameParameters
from bitquote.server.config import ServerConfig

GAME = Game(GameParameters(horizon=0.2, steps=40, max_inventory=20))
QUIET = TrainerConfig(progress=False, log_every_n_steps=1)
SHORT = {"epochs": 3, "iterations_per_epoch": 3, "weight_decay": 0.1}
LEARNERS = {
    "distill": DistillConfig(**SHORT, minibatch=64),
    "pathwise": PathwiseConfig(**SHORT, paths=16),
    "ppo": PPOConfig(**SHORT, paths=16, minibatches=2, passes=2),
}
ALONE = ServerConfig(engine="inproc", workers=1, consistency="bsp", tau=0)
# No worker is evicted however busy this machine may be.
TWO = ServerConfig(engine="shm", workers=2, heartbeat=200.0, deadline=250.0, allow_oversubscription=True)
OF_TIME = ("steps_per_second",)


class Interrupt(Callback):
    """Ctrl-C in the middle of the second epoch."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.current_epoch == 1 and batch == 1:
            raise KeyboardInterrupt


def run(learner: LearnerConfig, directory: Path, game: Game = GAME, hidden: int = 16, **settings: Any) -> Trained:
    network = NetworkConfig(hidden=[hidden])
    return train(game, network, learner, QUIET, seed=3, directory=directory, **settings)


def same_policy(one: Trained, other: Trained) -> bool:
    pairs = zip(one.policy.arguments, other.policy.arguments, strict=True)
    return all(np.array_equal(expected, found) for expected, found in pairs)


def curves(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """Everything that the training logged, save what depends on time and what tells of the server."""
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("server/") and tag not in OF_TIME]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def accounted(server: dict[str, Any]) -> int:
    """Pushes that are known to have been applied, refused or lost."""
    return server["applied"] + sum(server["refused"].values()) + server["lost"]


@pytest.mark.parametrize("kind", LEARNERS)
def test_one_worker_without_delay_is_the_plain_run_to_the_bit(kind: str, tmp_path: Path) -> None:
    plain = run(LEARNERS[kind], tmp_path / "plain")
    served = run(LEARNERS[kind], tmp_path / "served", server=ALONE)
    assert same_policy(plain, served)
    assert curves(tmp_path / "plain") == curves(tmp_path / "served")
    assert plain.metrics["server"] is None
    assert served.metrics["server"]["pushed"] == served.metrics["server"]["applied"] == served.metrics["updates"]
    assert served.metrics["server"]["version_delay_max"] == 0
    assert json.loads((tmp_path / "served" / "metrics.json").read_text()) == served.metrics


@pytest.mark.study
@pytest.mark.timeout(900)
def test_one_worker_of_another_process_is_the_plain_run_to_the_bit(tmp_path: Path) -> None:
    plain = run(LEARNERS["distill"], tmp_path / "plain")
    server = ServerConfig(engine="shm", workers=1, consistency="bsp", tau=0)
    served = run(LEARNERS["distill"], tmp_path / "served", server=server)
    assert same_policy(plain, served)
    assert curves(tmp_path / "plain") == curves(tmp_path / "served")


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_resumed_run_at_a_server_ends_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    plain = run(LEARNERS[kind], tmp_path / "plain")
    with pytest.raises(KeyboardInterrupt):
        run(LEARNERS[kind], tmp_path / "cut", callbacks=[Interrupt()], server=ALONE)
    assert not (tmp_path / "cut" / "metrics.json").exists()
    resumed = run(LEARNERS[kind], tmp_path / "cut", resume=True, server=ALONE)
    assert same_policy(plain, resumed)
    scores = [[(row["steps"], row["score"]) for row in one.metrics["history"]] for one in (plain, resumed)]
    assert scores[0] == scores[1]


def test_no_server_is_the_plain_run(tmp_path: Path) -> None:
    plain = run(LEARNERS["distill"], tmp_path / "plain")
    assert same_policy(plain, run(LEARNERS["distill"], tmp_path / "none", server=ServerConfig(engine="none")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": "inproc"}, "server.workers is 2: must be 1 with server.engine=inproc"),
        ({"aggregate": "sum"}, "server.aggregate is 'sum': must be each"),
        ({"workers": 1000}, "server.workers is 1000: this machine has"),
        ({"address": "/nowhere/socket"}, "server.address is '/nowhere/socket'"),
    ],
)
def test_a_server_that_cannot_be_is_refused_before_any_work(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run(LEARNERS["distill"], tmp_path / "run", server=ServerConfig(**changes))
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_share_a_run(tmp_path: Path) -> None:
    game = Game(GameParameters(max_inventory=30))
    learner = DistillConfig(epochs=3, iterations_per_epoch=100, gradient_clip=None, exploring_starts=4)
    trained = run(learner, tmp_path, game, 32, server=TWO)
    server = trained.metrics["server"]
    assert trained.metrics["score"] < 0.02
    assert server["pushed"] == accounted(server) == trained.metrics["updates"] == 300
    assert (server["workers"], server["joined"], server["evicted"], server["lost"]) == (2, 2, 0, 0)
    assert server["clock_gap_max"] <= server["tau"] == 4
    # The history has come back from the leader, and so has the policy that its last score is of.
    assert len(trained.metrics["history"]) == 3
    value = game.evaluate(game.tabulate(trained.policy)).objective
    events = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0}).Reload()
    assert events.Scalars("objective")[-1].value == pytest.approx(value, rel=1e-6)
    assert [event.step for event in events.Scalars("score")] == [99, 199, 299]
    # What the server did is beside the training curves.
    assert {"server/version_delay_max", "server/gate_wait_seconds", "server/lost"} <= set(events.Tags()["scalars"])
    assert events.Scalars("server/version")[-1].value == 300
    assert events.Histograms("server/version_delay")[-1].histogram_value.num > 0
    assert (tmp_path / "server").is_dir()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_take_whole_rollouts_and_know_how_old_they_are(tmp_path: Path) -> None:
    trained = run(LEARNERS["ppo"], tmp_path / "whole", server=TWO)
    server = trained.metrics["server"]
    assert server["pushed"] == accounted(server) == trained.metrics["updates"] == 36
    steps = 3 * 16 * (40 + 1) // 2  # an epoch's rollouts, paths, and what is left of a path that begins anywhere
    assert [row["steps"] for row in trained.metrics["history"]] == [steps, 2 * steps, 3 * steps]
    found = curves(tmp_path / "whole")
    # The leader's share: four updates in a row for each of its rollouts, which get older by its own pushes at least.
    lags = dict(found["ppo/behaviour_lag"])
    assert {step // 4 * 4 + part for step in lags for part in range(4)} == set(lags)
    assert all(lags[step] >= step % 4 for step in lags)
    assert all(lags[step] == 0 for step in lags if step % 4 == 0)
