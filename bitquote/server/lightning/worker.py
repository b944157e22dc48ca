"""What a worker is to Lightning: its place among the others, and what it does at the ends of epochs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden

from bitquote.server.errors import Rejected

if TYPE_CHECKING:
    from bitquote.server.lightning.strategy import ParameterServerStrategy

LOG_EVERY = 5.0
"""Seconds between two logs of the server's statistics."""


class WorkerEnvironment(ClusterEnvironment):
    """Ranks as the launcher has given them."""

    def __init__(self) -> None:
        super().__init__()
        self.place(0, 1)

    def place(self, rank: int, workers: int, local_rank: int | None = None, node_rank: int = 0) -> None:
        """This process is worker `rank` of so many, and number `local_rank` on its host."""
        self._rank = rank
        self._workers = workers
        self._local_rank = rank if local_rank is None else local_rank
        self._node_rank = node_rank

    @property
    def creates_processes_externally(self) -> bool:
        return False

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        return 0  # nothing listens: workers know the server's address

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._workers

    def set_world_size(self, size: int) -> None:
        self._workers = size

    def global_rank(self) -> int:
        return self._rank

    def set_global_rank(self, rank: int) -> None:
        self._rank = rank

    def local_rank(self) -> int:
        return self._local_rank

    def node_rank(self) -> int:
        return self._node_rank


class EpochCallback(Callback):
    """The first callback of a worker's trainer: lets workers meet before the others are called."""

    def __init__(self, strategy: ParameterServerStrategy) -> None:
        self._strategy = strategy
        self._logged = 0.0
        self._statistics: dict[str, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._logged, self._statistics = time.monotonic(), {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if time.monotonic() - self._logged > LOG_EVERY:
            self._log()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._strategy.end_epoch()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._strategy.end_training()
        self._log()

    def _log(self) -> None:
        now = time.monotonic()
        self._statistics = self._strategy.log_statistics(self._statistics, now - self._logged)
        self._logged = now


def check_module(module: LightningModule) -> None:
    """Raise `Rejected`, by name, for modules that need other workers in their forward or backward pass."""
    for name, part in module.named_modules():
        kind, home = type(part).__name__, type(part).__module__
        if isinstance(part, torch.nn.SyncBatchNorm):
            raise Rejected(f"{name} is a SyncBatchNorm: not possible with a parameter server; take BatchNorm")
        if home.startswith(("torch.distributed", "torch.nn.parallel", "fairscale", "deepspeed")):
            raise Rejected(
                f"{name or 'the module'} is a {kind}: wrapped modules are not possible with a parameter server"
            )
    if is_overridden("configure_sharded_model", module):
        raise Rejected("configure_sharded_model: sharded modules (FSDP, model parallel) are not possible")
