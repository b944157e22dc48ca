"""The LightningModule around a quoting network and the learner that trains it."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from bitquote.learning.learner import Learner
from bitquote.learning.schedule import learning_rate_factor, weight_decay_factor
from bitquote.learning.scoring import Scorer
from bitquote.ternary.network import QuoteNetwork

BETAS = (0.9, 0.95)
"""Adam's decay rates, as in BitNet b1.58."""


class QuoteLearner(LightningModule):
    """Trains `network` with `learner`; a Lightning epoch is a block of iterations that a validation ends.

    Batches are not loaded but simulated: the data loader only counts, and the learner rolls the current policy out
    when a new iteration begins. So nothing is ever prefetched with a stale policy, and an epoch's end is always an
    iteration's end.
    """

    def __init__(
        self,
        network: QuoteNetwork,
        learner: Learner,
        scorer: Scorer,
        *,
        learning_rate: float,
        weight_decay: float,
        iterations_per_epoch: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.learner = learner
        self.scorer = scorer
        self._learning_rate = learning_rate
        self._weight_decay = weight_decay
        self._updates_per_epoch = iterations_per_epoch * learner.updates_per_iteration

    @property
    def environment_steps(self) -> int:
        """Environment steps simulated so far."""
        return self.global_step // self.learner.updates_per_iteration * self.learner.steps_per_iteration

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One update; `batch` is only a counter."""
        loss, figures = self.learner.loss(self.network, self.global_step)
        self.log_dict({"loss": loss.detach(), **figures})
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Score the policy (of the averaged weights, where a callback has swapped them in)."""
        self.log_dict(self.scorer.score(self.network.policy()), batch_size=1)
        self.log_dict({f"reference/{name}": score for name, score in self.scorer.references.items()}, batch_size=1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimiser = torch.optim.AdamW(self.parameters(), lr=self._learning_rate, betas=BETAS, weight_decay=0.0)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda update: learning_rate_factor(update, self.learner.updates)
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        decay = self._weight_decay * weight_decay_factor(self.global_step, self.learner.updates)
        for group in self.trainer.optimizers[0].param_groups:
            group["weight_decay"] = decay

    def train_dataloader(self) -> range:
        return range(self._updates_per_epoch)

    def val_dataloader(self) -> range:
        return range(1)
