"""What of a strategy concerns all workers: collectives, and the checkpoints and logs that the leader writes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io.wrapper import _WrappingCheckpointIO
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor
from torch.optim import Optimizer

from bitquote.server.errors import Rejected
from bitquote.server.lightning.checkpoints import AtomicCheckpointIO, rename
from bitquote.server.lightning.collectives import Collectives, decode, encode
from bitquote.server.lightning.optimizer import Exchange
from bitquote.server.lightning.worker import WorkerEnvironment


class LedStrategy(ParallelStrategy):
    """A strategy of workers that may die at any time: the lowest that lives leads the others."""

    def __init__(self, parallel_devices: list[torch.device] | None) -> None:
        self.environment = WorkerEnvironment()
        super().__init__(parallel_devices=parallel_devices, cluster_environment=self.environment)
        self._collectives: Collectives | None = None
        """Of a worker."""
        self._exchange: Exchange | None = None
        """Of a worker whose module has optimisers."""
        self._unsaved = False

    @property
    def is_global_zero(self) -> bool:
        """Whether this worker leads: writes checkpoints and logs. Rank 0 does, and when it dies the next one."""
        return self._collectives is None or self._collectives.leads

    @property
    def _together(self) -> Collectives | None:
        """Where the other workers are met; None where there are none."""
        return self._collectives if self.world_size > 1 else None

    @property
    def _trainer(self) -> Trainer:
        assert self.lightning_module is not None
        return self.lightning_module.trainer

    # Collectives.

    def barrier(self, name: str | None = None) -> None:
        # Of saving a checkpoint: `save_checkpoint` has met already.
        if self._together is not None and name != "Trainer.save_checkpoint":
            self._together.meet(f"barrier {name}")

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """The leader's `obj`, whatever `src`: rank 0 may be dead."""
        return obj if self._together is None else self._together.broadcast(obj)

    def reduce(self, tensor: Any, group: Any = None, reduce_op: Any = "mean") -> Any:
        if self._together is None or self._together.apart or not isinstance(tensor, Tensor):
            return tensor
        return self._together.reduce(tensor, reduce_op)

    def all_gather(self, tensor: Tensor, group: Any = None, sync_grads: bool = False) -> Tensor:
        """Shape (live workers, ...); as it is with one worker."""
        if sync_grads and tensor.requires_grad:
            raise Rejected("all_gather(sync_grads=True) is not possible: gradients of other workers do not come back")
        return tensor if self._together is None else self._together.gather(tensor)

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        return bool(decision) if self._together is None else self._together.decide(bool(decision), all)

    # Checkpoints.

    @property
    def checkpoint_io(self) -> Any:
        if self._checkpoint_io is None:
            self._checkpoint_io = AtomicCheckpointIO()
        elif isinstance(self._checkpoint_io, _WrappingCheckpointIO) and self._checkpoint_io.checkpoint_io is None:
            self._checkpoint_io.checkpoint_io = AtomicCheckpointIO()
        return self._checkpoint_io

    @checkpoint_io.setter
    def checkpoint_io(self, io: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._checkpoint_io = io

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The leader's is of the weights that the server has, as the state of the optimiser beside it is."""
        state = super().lightning_module_state_dict()
        exchange = self._exchange
        if self._together is not None and exchange is not None and exchange.defined and self.is_global_zero:
            fresh = exchange.weights()
            state.update((name, tensor) for name, tensor in fresh.items() if name in state)
        return state

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Fetched by the leader; the others' is empty, for they do not write it."""
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer._optimizer
        return optimizer.state_dict() if self.is_global_zero else {}

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: _PATH, storage_options: Any = None) -> None:
        """Written by the leader; when it dies over it, by the next one. All workers then know the file's name.

        A full disk does not end the training: a warning says so, and the last checkpoint stays.
        """
        if self._collectives is None:
            return super().save_checkpoint(checkpoint, filepath, storage_options)
        written: list[Any] = []
        while not written:
            report = [str(filepath), self._write(checkpoint, filepath, storage_options)] if self.is_global_zero else []
            reports = self._collectives.meet("checkpoint", report).values()
            written = next(filter(None, reports), [str(filepath), None] if self._collectives.apart else [])
        path, error = written
        self._unsaved = error is not None
        gone = self._unsaved and not Path(path).exists()
        rename(self._trainer, str(filepath), "" if gone else path)
        if self._unsaved and self.is_global_zero:
            warnings.warn(f"the checkpoint {path} could not be written: {error}; training goes on", stacklevel=2)

    def remove_checkpoint(self, filepath: _PATH) -> None:
        if self._unsaved:  # it was to make room for one that could not be written
            for callback in self._saving():
                callback.best_model_path = callback.best_model_path or str(filepath)
            return
        super().remove_checkpoint(filepath)

    def _write(self, checkpoint: dict[str, Any], filepath: _PATH, storage_options: Any) -> str | None:
        """Write a checkpoint; what went wrong, in a line."""
        states = checkpoint.get("optimizer_states")
        if states is not None and not all(states):  # the leader has died since it was made
            checkpoint["optimizer_states"] = [self.optimizer_state(optimizer) for optimizer in self.optimizers]
        try:
            self.checkpoint_io.save_checkpoint(checkpoint, filepath, storage_options=storage_options)
        except OSError as error:
            return str(error)
        return None

    def _saved(self) -> list[Any] | None:
        """What the leader's callbacks know of checkpoints, for the others; None from those."""
        return [encode(callback.state_dict()) for callback in self._saving()] if self.is_global_zero else None

    def _heed(self, saved: Sequence[list[Any] | None]) -> None:
        """Take over what the leader's callbacks know: its steps and metrics, and so its files, have other names."""
        leaders = next((states for states in saved if states is not None), None)
        if leaders is not None and not self.is_global_zero:
            for callback, state in zip(self._saving(), leaders, strict=True):
                callback.load_state_dict(decode(state))

    def _saving(self) -> list[ModelCheckpoint]:
        return [each for each in self._trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]

    # Leadership.

    def _led(self, before: int) -> None:
        """Another worker leads from now on. If it is this one, its logs must not take the place of the old ones."""
        self._announce()
        if not self.is_global_zero:
            return
        for logger in self._trainer.loggers:
            if isinstance(logger, CSVLogger):
                metrics = Path(logger.log_dir, "metrics.csv")
                with suppress(OSError):
                    metrics.rename(metrics.with_name(f"metrics_of_worker_{before}.csv"))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # it would say that the folder is not empty
                    logger.log_hyperparams(dict(self._trainer.lightning_module.hparams))

    def _announce(self) -> None:
        """Tell Lightning's loggers and messages whether they are the leader's."""
        setattr(rank_zero_only, "rank", 0 if self.is_global_zero else max(1, self.global_rank))  # noqa: B010 (a function's)
