"""Lightning over a parameter server: one worker as without it, several together, and what cannot be."""

from __future__ import annotations

import copy
import csv
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.accelerators import CUDAAccelerator
from lightning.pytorch.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import StrategyRegistry
from server.modules import Doomed, Failing, Pieces, Plain, Poisoned, Shared, TwoOptimizers

from bitquote.errors import InputError
from bitquote.server import Client, ParameterServerStrategy, Rejected, Server, ServerConfig, ServerError
from bitquote.server.lightning import checkpoints
from bitquote.server.lightning.collectives import Collectives, decode, encode
from bitquote.server.lightning.sharing import SharedSequence

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*",
    "ignore:.*smaller than the logging interval.*",
    "ignore:.*callbacks used to create the checkpoint need to be provided.*",
)


def trainer_for(strategy: Any = "auto", **options: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    if not any(isinstance(callback, ModelCheckpoint) for callback in options.get("callbacks", [])):
        quiet["enable_checkpointing"] = False
    return Trainer(accelerator="cpu", strategy=strategy, **{**quiet, "max_epochs": 3, **options})


def spawning(**options: Any) -> ParameterServerStrategy:
    """Patient: a busy machine is no reason to evict anybody."""
    return ParameterServerStrategy(heartbeat=100.0, deadline=200.0, **options)


def one_worker(**options: Any) -> ParameterServerStrategy:
    return ParameterServerStrategy(engine="inproc", tau=0, **options)


def fitted(module: LightningModule, strategy: Any = "auto", ckpt: Path | None = None, **options: Any) -> Trainer:
    seed_everything(5)
    trainer = trainer_for(strategy, **options)
    trainer.fit(module, ckpt_path=ckpt, weights_only=None if ckpt is None else False)
    return trainer


def assert_equal(one: Any, other: Any, where: str = "") -> None:
    """The same to the last bit, through dicts and lists."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_equal(a, b, f"{where}/{index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (Plain(), {"gradient_clip_val": 0.5}),
        (Plain("SGD", momentum=0.9, nesterov=True), {"accumulate_grad_batches": 4}),
        (Plain("RMSprop"), {"precision": "bf16-mixed", "val_check_interval": 0.5}),
        (Plain(), {"callbacks": [EMAWeightAveraging(decay=0.9), LearningRateMonitor()], "logger": True}),
        (TwoOptimizers(), {}),
    ],
)
def test_one_worker_is_as_without_a_server(module: Plain, options: dict[str, Any], tmp_path: Path) -> None:
    other, same = copy.deepcopy((module, options))
    expected = fitted(module, default_root_dir=tmp_path, **options)
    trainer = fitted(other, one_worker(), default_root_dir=tmp_path, **same)
    assert_equal(dict(module.state_dict()), dict(other.state_dict()))
    assert module.losses == other.losses
    assert_equal(expected.callback_metrics, trainer.callback_metrics)
    assert (trainer.global_step, trainer.current_epoch) == (expected.global_step, expected.current_epoch)
    assert trainer.strategy.statistics()["applied"] == trainer.global_step


def test_several_shards_change_nothing() -> None:
    module = Plain()
    other = copy.deepcopy(module)
    fitted(module)
    fitted(other, one_worker(shards=3))
    assert_equal(dict(module.state_dict()), dict(other.state_dict()))


def test_checkpoints_go_both_ways_and_training_goes_on_as_if_never_interrupted(tmp_path: Path) -> None:
    modules = {name: Plain(random=False) for name in ("plain", "server")}
    modules["server"].load_state_dict(modules["plain"].state_dict())
    first = copy.deepcopy(modules)
    saved: dict[str, dict[str, Any]] = {}
    for name, strategy in (("plain", "auto"), ("server", one_worker())):
        callback = ModelCheckpoint(tmp_path / name, save_top_k=-1, filename="{epoch}")
        trainer = fitted(modules[name], strategy, max_epochs=4, callbacks=[callback])
        trainer.save_checkpoint(tmp_path / name / "after.ckpt")
        for file in ("epoch=1.ckpt", "after.ckpt"):
            saved.setdefault(file, {})[name] = torch.load(tmp_path / name / file, weights_only=True)
    for file, pair in saved.items():
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "loops"):
            assert_equal(pair["plain"][key], pair["server"][key], f"{file}: {key}")
    for source in ("plain", "server"):
        for strategy in ("auto", one_worker()):
            module = copy.deepcopy(first["plain"])
            fitted(module, strategy, tmp_path / source / "epoch=1.ckpt", max_epochs=4)
            assert_equal(dict(module.state_dict()), dict(modules["plain"].state_dict()))
    assert not list(tmp_path.glob("*/.*"))  # no temporary files


def test_a_gradient_that_is_not_finite_is_refused_once_told_and_training_goes_on() -> None:
    module = Poisoned()
    with pytest.warns(UserWarning, match="refused a gradient \\(nonfinite\\)"):
        trainer = fitted(module, one_worker())
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
    assert trainer.strategy.statistics()["refused"] == {"nonfinite": 1}
    assert trainer.strategy.statistics()["applied"] == trainer.global_step - 1


def test_a_full_disk_does_not_end_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    write = checkpoints.write_atomically

    def full(path: Path, data: Any) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr(checkpoints, "write_atomically", full)
    callback = ModelCheckpoint(tmp_path, filename="{epoch}")
    with pytest.warns(UserWarning, match=r"epoch=1.ckpt could not be written: .*No space left"):
        fitted(Plain(), one_worker(), max_epochs=2, callbacks=[callback])
    assert [path.name for path in tmp_path.iterdir()] == ["epoch=0.ckpt"]
    assert Path(callback.best_model_path).name == "epoch=0.ckpt"
    fitted(Plain(), one_worker(), tmp_path / "epoch=0.ckpt", max_epochs=1)  # and it is whole


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "made" / "a.ckpt"
    checkpoints.write_atomically(path, b"first")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.write_atomically(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


def test_callbacks_learn_under_which_name_the_leader_has_saved() -> None:
    callback = ModelCheckpoint(monitor="loss", save_top_k=2)
    trainer = trainer_for(callbacks=[callback])
    callback.best_model_path = callback.last_model_path = "mine"
    callback.best_k_models = {"mine": torch.tensor(1.0), "other": torch.tensor(2.0)}
    checkpoints.rename(trainer, "mine", "leader's")
    assert (callback.best_model_path, callback.last_model_path) == ("leader's", "leader's")
    assert callback.best_k_models.keys() == {"leader's", "other"}
    checkpoints.rename(trainer, "leader's", "")
    assert callback.best_model_path == ""
    assert callback.best_k_models.keys() == {"other"}


def test_evaluation_needs_no_server() -> None:
    module = Plain()
    for strategy in (one_worker(), ParameterServerStrategy(workers=2)):
        trainer = trainer_for(strategy)
        (figures,) = trainer.validate(module, verbose=False)
        assert_equal(figures, trainer_for().validate(module, verbose=False)[0])


def refusal(module: LightningModule | None = None, strategy: Any = None, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        fitted(Plain() if module is None else module, one_worker() if strategy is None else strategy, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_cannot_be_is_refused_by_name() -> None:
    assert "LBFGS" in refusal(Plain("LBFGS"))
    assert "SparseAdam" in refusal(Plain("SparseAdam"))
    assert "network.0.weight is torch.float64" in refusal(Plain().double())
    assert "network.0.weight is torch.bfloat16" in refusal(precision="bf16-true")
    assert "SyncBatchNorm" in refusal(sync_batchnorm=True)
    normalised = Plain()
    normalised.network.append(torch.nn.SyncBatchNorm(1))
    assert "network.4 is a SyncBatchNorm" in refusal(normalised)
    wrapped = Plain()
    wrapped.network = torch.nn.DataParallel(wrapped.network)
    assert "network is a DataParallel" in refusal(wrapped)
    strategy = one_worker()
    strategy.accelerator = CUDAAccelerator()
    with pytest.raises(InputError, match="the accelerator is CUDAAccelerator"):
        strategy._configure_launcher()
    assert "must be 1 with the engine inproc" in refusal(devices=2)
    assert "num_nodes is 2" in refusal(num_nodes=2)
    assert "cores" in refusal(strategy=ParameterServerStrategy(workers=1000))
    with pytest.raises(InputError, match="no argument 'taus'"):
        ParameterServerStrategy(taus=3)
    with pytest.raises(InputError, match=r"server\.engine is 'none'"):
        ParameterServerStrategy(ServerConfig(engine="none"))


def test_the_name_is_known_to_lightning_whichever_is_imported_first() -> None:
    assert "parameter_server" in StrategyRegistry
    assert isinstance(trainer_for("parameter_server", devices=2).strategy, ParameterServerStrategy)
    program = """
import sys
import bitquote.server
assert not {"torch", "lightning", "ray"} & sys.modules.keys()
from lightning.pytorch import Trainer
assert "bitquote.server.lightning.strategy" not in sys.modules
trainer = Trainer(strategy="parameter_server", accelerator="cpu", logger=False, enable_checkpointing=False)
print(type(trainer.strategy).__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("ParameterServerStrategy"), done.stderr


def test_what_is_broadcast_arrives_as_it_was() -> None:
    values: list[Any] = [
        None,
        True,
        -3,
        0.1,
        float("inf"),
        "text",
        Path("a/b"),
        (1, [2, (3,)]),
        {"a": {1: None}, "tensor": 2},
        torch.arange(6).reshape(2, 3).T,
        torch.tensor(0.5, dtype=torch.bfloat16),
        torch.empty(0, 4),
        torch.tensor([True, False]),
    ]
    for value in values:
        assert_equal(decode(encode(value)), value, repr(value))
    with pytest.raises(Rejected, match="a set cannot be sent"):
        encode({"a": [set()]})


def collective_work(client: Client, rank: int, doomed: int | None) -> list[Any]:
    """Two rounds of everything; a doomed worker vanishes before the second."""
    leaders: list[int] = []
    together = Collectives(client, 60.0, leaders.append)
    first = [
        together.broadcast({"from": rank, "path": Path(f"of/{rank}")}),
        together.reduce(torch.tensor([1.0, rank]), "mean"),
        together.reduce(torch.tensor(rank), "ReduceOp.MAX"),
        together.gather(torch.full((2,), rank)),
        together.decide(rank == 1, False),
        together.decide(rank == 1, True),
        together.leads,
    ]
    if rank == doomed:
        raise KeyError("gone")
    together.apart = True
    alone = [together.decide(rank == 1, False), together.broadcast(rank)]
    together.apart = False
    return [first, alone, together.broadcast(rank), together.decide(rank != 0, True), together.leads, leaders]


def test_collectives_are_of_the_workers_that_live() -> None:
    config = ServerConfig(engine="inproc", workers=3, heartbeat=1.0)
    with Server(None, config=config) as server:
        outcomes = server.run(collective_work, 0)
    assert outcomes[0].error is not None
    for rank in (1, 2):
        first, alone, leader, agreed, leads, leaders = outcomes[rank].value
        assert first[0] == {"from": 0, "path": Path("of/0")}
        assert_equal(first[1:4], [torch.tensor([1.0, 1.0]), torch.tensor(2), torch.tensor([[0, 0], [1, 1], [2, 2]])])
        assert first[4:] == [True, False, False]
        assert alone == [rank == 1, rank]
        assert (leader, agreed, leads, leaders) == (1, True, rank == 1, [0])


def test_a_shared_sequence_gives_whole_pieces_and_begins_anew_when_asked_twice() -> None:
    asked: list[str] = []
    starts = iter([0, 6, 3, None, 9, None, 0, 3])

    def draw(key: str, total: int, block: int) -> int | None:
        assert (total, block) == (11, 3)
        asked.append(key)
        return next(starts)

    limits = iter([float("inf"), float("inf"), 4])
    work = SharedSequence(Pieces(11, 3), "work", draw, lambda: 7, lambda: next(limits))
    assert list(work) == [0, 1, 2, 6, 7, 8, 3, 4, 5]
    assert list(work) == [9, 10]
    assert list(work) == [0, 1, 2, 3]
    assert asked == ["work, epoch 7, pass 0"] * 4 + ["work, epoch 7, pass 1"] * 2 + ["work, epoch 7, pass 2"] * 2


def notes(folder: Path, rank: int, kind: str) -> list[list[str]]:
    lines = (folder / f"worker{rank}.txt").read_text().splitlines()
    return [line.split()[1:] for line in lines if line.split()[0] == kind]


@pytest.mark.study
def test_two_workers_share_out_an_epoch_and_stop_together(tmp_path: Path) -> None:
    module = Shared(tmp_path)
    logger = CSVLogger(tmp_path, "log")
    saving = ModelCheckpoint(filename="{epoch}-{step}")
    stopping = EarlyStopping("val_loss", patience=2)
    strategy = spawning(consistency="bounded", tau=2)
    seed_everything(5)
    trainer = trainer_for(
        strategy, devices=2, max_epochs=20, logger=logger, callbacks=[saving, stopping], log_every_n_steps=1
    )
    trainer.fit(module)

    epochs = trainer.current_epoch
    assert 0 < epochs < 20  # worker 1 has stopped both
    assert trainer.should_stop
    items = [notes(tmp_path, rank, "item") for rank in (0, 1)]
    for epoch in range(epochs):
        done = [[int(item) for number, item, _ in of_worker if int(number) == epoch] for of_worker in items]
        assert sorted(done[0] + done[1]) == list(range(24))
        assert done[0]
        assert done[1]
        assert all(worker[i] + 1 == worker[i + 1] for worker in done for i in range(0, len(worker), 2))
    assert not {draw for *_, draw in items[0]} & {draw for *_, draw in items[1]}  # random numbers of their own
    validations = [notes(tmp_path, rank, "validation") for rank in (0, 1)]
    assert validations[0][1:] == validations[1][1:]  # the same weights (the first is the check before training)
    assert [notes(tmp_path, rank, "end")[0] for rank in (0, 1)] == [
        [str(epochs), str(rank == 0), str(24 * epochs)] for rank in (0, 1)
    ]
    assert trainer.strategy.statistics()["applied"] == 24 * epochs

    # What the leader had is here: weights, callbacks, metrics, a whole checkpoint, one log.
    saved = torch.load(saving.best_model_path, weights_only=True)
    assert_equal(dict(saved["state_dict"]), dict(module.state_dict()))
    assert saved["optimizer_states"][0]["state"][0]["step"] == 24 * epochs
    assert trainer.global_step == len(items[0])
    assert float(trainer.callback_metrics["val_loss"]) == 1.0 - epochs
    assert stopping.best_score is not None
    with open(Path(logger.log_dir, "metrics.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert len([row for row in rows if row["train_loss"]]) == len(items[0])  # the leader's only
    assert len([row for row in rows if row["val_loss"]]) == epochs
    assert [path.name for path in Path(logger.save_dir, "log").iterdir()] == ["version_0"]


@pytest.mark.study
def test_the_end_of_worker_0_is_not_the_end(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path / "checkpoints", filename="{epoch}")
    logger = CSVLogger(tmp_path, "log")
    trainer = trainer_for(
        spawning(consistency="async"),
        devices=2,
        max_epochs=3,
        logger=logger,
        callbacks=[saving],
        log_every_n_steps=1,
    )
    module = Doomed()
    before = copy.deepcopy(module.state_dict())
    with pytest.warns(UserWarning, match="worker 0 did not come to the end of the training: killed"):
        trainer.fit(module)
    assert trainer.current_epoch == 3
    assert Path(saving.best_model_path).name == "epoch=2.ckpt"
    saved = torch.load(saving.best_model_path, weights_only=True)
    assert_equal(dict(saved["state_dict"]), dict(module.state_dict()))
    assert not torch.equal(before["network.0.weight"], module.state_dict()["network.0.weight"])
    statistics = trainer.strategy.statistics()
    assert statistics["evicted"] == 1
    assert statistics["pushed"] == statistics["applied"] + statistics["lost"] + sum(statistics["refused"].values())
    logs = {path.name for path in Path(logger.log_dir).iterdir() if path.suffix == ".csv"}
    assert logs == {"metrics.csv", "metrics_of_worker_0.csv"}


@pytest.mark.study
def test_when_all_have_failed_one_line_says_why_and_what_is_saved(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, filename="{epoch}")
    trainer = trainer_for(spawning(), devices=2, callbacks=[saving])
    with pytest.raises(ServerError) as caught:
        trainer.fit(Failing())
    message = str(caught.value)
    assert "ValueError: no such thing" in message
    assert f"the last checkpoint is {tmp_path / 'epoch=0.ckpt'}" in message
    assert "\n" not in message
    assert "on_train_batch_start" in str(caught.value.__cause__)  # where it happened, for whoever wants to know
