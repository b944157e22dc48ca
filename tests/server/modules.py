"""Plain LightningModules that know nothing of parameter servers; importable, so that spawned workers find them."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

FEATURES = 6


def regression(count: int = 48) -> TensorDataset:
    """A noisy linear relation, the same at every call."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(count, FEATURES, generator=generator)
    y = x @ torch.arange(1.0, FEATURES + 1.0) + 0.1 * torch.randn(count, generator=generator)
    return TensorDataset(x, y[:, None])


class Plain(LightningModule):
    """A small network with dropout and a schedule by steps, on shuffled data, with validation."""

    def __init__(self, optimizer: str = "AdamW", lr: float = 0.02, random: bool = True, **options: Any) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.lr = lr
        self.random = random
        self.options = options
        self.network = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Dropout(0.1 * random), nn.Linear(8, 1))
        self.losses: list[float] = []

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.network(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train_loss", loss)
        self.losses.append(float(loss.detach()))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch), sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = getattr(torch.optim, self.optimizer)(self.parameters(), lr=self.lr, **self.options)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def train_dataloader(self) -> Any:
        return DataLoader(regression(), batch_size=8, shuffle=self.random)

    def val_dataloader(self) -> Any:
        return DataLoader(regression(16), batch_size=8)


class TwoOptimizers(Plain):
    """Manual optimisation of two halves in turn; the first half's bias gets no gradient in even steps."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.other = nn.Linear(FEATURES, 1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()
        x, y = batch
        first.zero_grad()
        self.manual_backward(self.loss(batch))
        if batch_idx % 2 == 0:
            self.network[0].bias.grad = None
        first.step()
        second.zero_grad()
        self.manual_backward(nn.functional.mse_loss(self.other(x), y) + nn.functional.mse_loss(self.network(x), y))
        second.step()

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.Adam(self.network.parameters(), lr=0.02),
            torch.optim.SGD(self.other.parameters(), lr=0.05, momentum=0.9),
        ]


class Poisoned(Plain):
    """One gradient of the run is not finite."""

    def on_after_backward(self) -> None:
        if self.global_step == 3:
            self.network[0].weight.grad[0, 0] = float("nan")


class Pieces(Sequence[int]):
    """0, 1, ..., total - 1 in pieces of `block`."""

    def __init__(self, total: int, block: int) -> None:
        self.total = total
        self.block = block

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, index: Any) -> Any:
        return range(self.total)[index]


class Shared(Plain):
    """Work is a sequence of numbers; each worker notes what it was given, and whether it was the leader."""

    def __init__(self, folder: Path, total: int = 24, block: int = 2) -> None:
        super().__init__(random=False)
        self.folder = folder
        self.total = total
        self.block = block

    def note(self, what: str) -> None:
        with (self.folder / f"worker{self.global_rank}.txt").open("a") as file:
            file.write(f"{what}\n")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.note(f"item {self.current_epoch} {batch} {torch.rand(()).item()}")
        rows = torch.arange(batch % 6, 48, 6)
        return super().training_step(regression()[rows], batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        weights = torch.cat([p.detach().flatten() for p in self.parameters()])
        self.note(f"validation {self.current_epoch} {weights.double().sum().item()!r}")
        # Worker 0 believes that things go well, the other one does not: they must stop together.
        self.log("val_loss", self.current_epoch * (1.0 if self.global_rank else -1.0), batch_size=1)

    def on_train_end(self) -> None:
        self.note(f"end {self.current_epoch} {self.trainer.is_global_zero} {self.trainer.strategy.parameter_version}")

    def train_dataloader(self) -> Any:
        return Pieces(self.total, self.block)

    def val_dataloader(self) -> Any:
        return range(1)


class Doomed(Plain):
    """Worker 0 is killed in the second epoch."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.global_rank == 0 and self.current_epoch == 1 and batch_idx == 1:
            os.kill(os.getpid(), signal.SIGKILL)


class Failing(Plain):
    """Every worker fails in the second epoch."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.current_epoch == 1:
            raise ValueError("no such thing")
