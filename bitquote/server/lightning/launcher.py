"""Runs a trainer's `fit` in the workers of a parameter server, and brings back what became of it."""

from __future__ import annotations

import logging
import os
import pickle
import platform
import random
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle
import numpy as np
import torch
from lightning.fabric.strategies.launchers.multiprocessing import _check_missing_main_guard
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies.launchers.launcher import _Launcher
from lightning.pytorch.strategies.launchers.multiprocessing import _GlobalStateSnapshot
from lightning.pytorch.trainer.states import TrainerFn

from bitquote.errors import InputError
from bitquote.server.client import Client
from bitquote.server.errors import Rejected, ServerError
from bitquote.server.lightning.checkpoints import newest
from bitquote.server.server import Outcome

if TYPE_CHECKING:
    from bitquote.server.lightning.strategy import ParameterServerStrategy

LOGGERS = ("lightning", "lightning.fabric", "lightning.pytorch", "lightning.pytorch.utilities.rank_zero")
"""Whose levels workers take over."""


class ServerLauncher(_Launcher):
    """Starts the server, then `fit` in every worker; other functions of the trainer run in this process.

    A worker that dies does not end the others. The result is the leader's: weights, callbacks, metrics, progress.
    """

    def __init__(self, strategy: ParameterServerStrategy) -> None:
        self._strategy = strategy

    @property
    def is_interactive_compatible(self) -> bool:
        """Classes that were typed into a notebook are sent to the workers."""
        return True

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Trainer | None = None, **kwargs: Any) -> Any:
        """The value of `function(*args, **kwargs)` in the leader.

        Raises `Rejected` for what a parameter server cannot do, and `ServerError` when every worker has failed.
        """
        strategy = self._strategy
        if trainer is None or trainer.state.fn != TrainerFn.FITTING:
            with strategy.alone():
                return function(*args, **kwargs)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger | CSVLogger):
                _ = logger.version  # chosen once, for all workers
        if strategy.config.engine == "shm":
            _check_missing_main_guard()
        try:
            server = strategy.open(trainer.lightning_module)
            payload = _packed(_Task(trainer, function, args, kwargs, _Settings.here(strategy.config.workers)), strategy)
            outcomes = server.run(work, list(sys.path), payload)
        finally:
            strategy.close()
        report = _leaders(outcomes, trainer)
        _recover(trainer, report)
        return report.value

    def kill(self, signum: Any) -> None:
        """Nothing: the server ends its workers."""


class _Settings(NamedTuple):
    """What a worker takes over from the process that launches it."""

    threads: int
    levels: Mapping[str, int]
    filters: list[Any]
    """Of warnings."""
    seed: str | None
    state: _GlobalStateSnapshot
    """Flags of torch and the states of all random generators."""

    @classmethod
    def here(cls, workers: int) -> _Settings:
        levels = {name: logging.getLogger(name).level for name in LOGGERS}
        threads = max(1, torch.get_num_threads() // workers)
        seed = os.environ.get("PL_GLOBAL_SEED")
        return cls(threads, levels, list(warnings.filters), seed, _GlobalStateSnapshot.capture())

    def apply(self, rank: int) -> None:
        torch.set_num_threads(self.threads)
        for name, level in self.levels.items():
            logging.getLogger(name).setLevel(level)
        warnings.filters[:] = self.filters  # pyright: ignore[reportIndexIssue]
        if self.seed is not None:
            os.environ["PL_GLOBAL_SEED"] = self.seed
        self.state.restore()
        if rank > 0:  # the first goes on where the launching process is; others must not draw the same
            seeds = np.random.SeedSequence([int(torch.randint(2**62, ())), rank]).generate_state(3)
            torch.manual_seed(int(seeds[0]))
            random.seed(int(seeds[1]))
            np.random.seed(int(seeds[2]))  # noqa: NPY002 (the global generator, which modules may use)


class _Task(NamedTuple):
    trainer: Trainer
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    settings: _Settings


class _Report(NamedTuple):
    """What a worker brings back."""

    leads: bool
    value: Any
    weights: dict[str, Any]
    attributes: dict[str, Any]
    """Of the trainer: its state, metrics and progress."""
    callbacks: dict[str, dict[str, Any]]
    finished: dict[str, list[Any]]


class _Failure(NamedTuple):
    line: str
    refused: bool
    """The user has asked for something that is not possible; otherwise something went wrong."""
    details: str


def work(client: Client, rank: int, path: list[str], payload: bytes) -> bytes:
    """What a worker does. Called by the engine, in a new process; the value is a pickled `_Report` or `_Failure`.

    path: where the launching process finds its modules.
    """
    sys.path.extend(folder for folder in path if folder not in sys.path)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launching process ends its workers
    try:
        return pickle.dumps(_train(client, rank, pickle.loads(payload)))
    except Exception as error:
        line = str(error) if isinstance(error, ServerError | InputError) else f"{type(error).__name__}: {error}"
        failure = _Failure(" ".join(line.split()), isinstance(error, InputError), traceback.format_exc())
        return pickle.dumps(failure)


def _train(client: Client, rank: int, task: _Task) -> _Report:
    trainer = task.trainer
    task.settings.apply(rank)
    strategy: Any = trainer.strategy
    strategy.attach(client, rank)
    strategy.place(platform.node())
    value = task.function(*task.args, **task.kwargs)
    strategy.barrier("end")
    return _Report(
        strategy.is_global_zero,
        value,
        {name: tensor.detach().cpu() for name, tensor in trainer.lightning_module.state_dict().items()},
        {name: attrgetter(name)(trainer) for name in ATTRIBUTES},
        {callback.state_key: _state(callback) for callback in trainer.callbacks},
        strategy.finished(),
    )


ATTRIBUTES = (
    "state",
    "should_stop",
    "callback_metrics",
    "logged_metrics",
    "fit_loop.epoch_progress",
    "fit_loop.epoch_loop.batch_progress",
    "fit_loop.epoch_loop.scheduler_progress",
    "fit_loop.epoch_loop._batches_that_stepped",
    "fit_loop.epoch_loop.automatic_optimization.optim_progress",
    "fit_loop.epoch_loop.manual_optimization.optim_step_progress",
)
"""Of a trainer, that come back."""


def _recover(trainer: Trainer, report: _Report) -> None:
    """Make the launching process's trainer as the leader's was at its end."""
    # Not strict: `configure_model` may have added to the module in the worker.
    trainer.lightning_module.load_state_dict(report.weights, strict=False)
    for name, value in report.attributes.items():
        if name.endswith("_metrics"):
            attrgetter(name)(trainer).update(value)
        else:
            _set(trainer, name, value)
    for callback in trainer.callbacks:
        state = report.callbacks.get(callback.state_key)
        if state and isinstance(callback, ModelCheckpoint):
            callback.dirpath = state["dirpath"]  # which `load_state_dict` compares
            callback._last_global_step_saved = trainer.global_step
        if state:
            callback.load_state_dict(state)
    strategy: Any = trainer.strategy
    strategy._optimizers = [_Finished(state) for state in report.finished["optimizers"]]
    strategy.lr_scheduler_configs = [_FinishedConfig(_Finished(state)) for state in report.finished["schedulers"]]


def _leaders(outcomes: list[Outcome], trainer: Trainer) -> _Report:
    """The report of the leader, or of the lowest worker that has one."""
    results = {outcome.rank: pickle.loads(outcome.value) for outcome in outcomes if outcome.error is None}
    reports = [result for result in results.values() if isinstance(result, _Report)]
    failures = [result for result in results.values() if isinstance(result, _Failure)]
    if reports:
        for rank, _, died in outcomes:
            why = died or getattr(results[rank], "line", None)
            if why is not None:
                warnings.warn(f"worker {rank} did not come to the end of the training: {why}", stacklevel=3)
        return next((report for report in reports if report.leads), reports[0])
    for failure in failures:
        if failure.refused:
            raise Rejected(failure.line) from _Remote(failure.details)
    saved = newest(trainer)
    last = f"the last checkpoint is {saved}" if saved else "there is no checkpoint"
    if failures:
        raise ServerError(f"every worker has failed: {failures[0].line}; {last}") from _Remote(failures[0].details)
    raise ServerError(f"every worker has died: {outcomes[0].error}; {last}")


class _Remote(Exception):
    """Shows where a worker failed."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


class _Finished:
    """An optimiser or scheduler of a training that is over: its state, for checkpoints that are saved later."""

    def __init__(self, saved: dict[str, Any]) -> None:
        self._saved = saved
        self.state: dict[Any, Any] = {}
        self.param_groups: list[dict[str, Any]] = saved.get("param_groups", [])

    def state_dict(self) -> dict[str, Any]:
        return self._saved


class _FinishedConfig(NamedTuple):
    scheduler: _Finished


def _packed(task: _Task, strategy: ParameterServerStrategy) -> bytes:
    """The task as bytes: workers get copies of tensors, whatever an engine does with its arguments."""
    try:
        if strategy.config.engine == "shm" and hasattr(sys.modules["__main__"], "__file__"):
            with suppress(AttributeError, TypeError, pickle.PicklingError):
                return pickle.dumps(task)
        # Sends along what a worker cannot import: classes of a notebook (on Ray, of the main script), functions that
        # were made in functions, as Lightning's EMAWeightAveraging has one.
        return cloudpickle.dumps(task)
    except Exception as error:
        raise Rejected(f"the trainer or its module cannot be sent to a worker: {error}") from error


def _state(callback: Any) -> dict[str, Any]:
    """A callback's state; empty where it cannot be sent."""
    state = callback.state_dict()
    try:
        pickle.dumps(state)
    except Exception:
        return {}
    return state


def _set(trainer: Trainer, path: str, value: Any) -> None:
    owner, _, name = path.rpartition(".")
    setattr(attrgetter(owner)(trainer) if owner else trainer, name, value)
