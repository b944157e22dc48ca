"""A LightningModule that knows nothing of bitquote, trained by two workers on a parameter server.

    python examples/plain_lightning.py

The module, its data and its optimiser are what they would be without a server. Two lines are not: the import, which
makes the strategy's name known to Lightning, and the name. A worker that dies does not end the training.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import bitquote.server  # noqa: F401 (registers "parameter_server")


class Spirals(LightningModule):
    """Tells two interleaved spirals apart."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.binary_cross_entropy_with_logits(self.network(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        hits = ((self.network(x) > 0) == y.bool()).float().mean()
        self.log("accuracy", hits, sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def spirals(count: int, seed: int) -> DataLoader:
    """Points (count, 2) on two spirals of 1.5 turns, with noise, and which of them each is on (count, 1)."""
    generator = torch.Generator().manual_seed(seed)
    angle = 9.4 * torch.rand(count, generator=generator).sqrt()
    side = torch.randint(2, (count,), generator=generator).float()
    turned = angle + torch.pi * side
    points = torch.stack([angle * turned.cos(), angle * turned.sin()], 1) / 9.4
    points += 0.01 * torch.randn(count, 2, generator=generator)
    return DataLoader(TensorDataset(points, side[:, None]), batch_size=64, shuffle=seed == 0)


def main() -> None:
    seed_everything(0, verbose=False)
    trainer = Trainer(
        strategy="parameter_server",
        accelerator="cpu",
        devices=2,
        max_epochs=20,
        logger=False,
        enable_checkpointing=False,
    )
    trainer.fit(Spirals(), spirals(8192, seed=0), spirals(1024, seed=1))
    statistics: dict[str, Any] = trainer.strategy.statistics()  # pyright: ignore[reportAttributeAccessIssue]
    print(f"accuracy {float(trainer.callback_metrics['accuracy']):.3f} after {statistics['applied']} pushes")


if __name__ == "__main__":
    main()
