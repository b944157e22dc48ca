"""The LightningModule around a quoting network and the learner that trains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from bitquote.learning.learner import Learner
from bitquote.learning.schedule import QuantisationWarmUp, TwoStageSchedule
from bitquote.learning.scoring import Scorer
from bitquote.ternary.network import QuoteNetwork

BETAS = (0.9, 0.95)
"""Adam's decay rates, as in BitNet b1.58."""


class Updates(Sequence[int]):
    """The updates of an epoch by their numbers 0, 1, ...: a data loader that only counts.

    Attributes:
        block: updates of one iteration, which one worker must make in a row when several share an epoch.
    """

    def __init__(self, count: int, block: int) -> None:
        self._numbers = range(count)
        self.block = block

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        return self._numbers[index]


class QuoteLearner(LightningModule):
    """Trains `network` with `learner`; a Lightning epoch is a block of iterations that a validation ends.

    Batches are not loaded but simulated: a batch is the number of an update, and the learner rolls the current policy
    out when a new iteration begins. So nothing is ever prefetched with a stale policy, and an epoch's end is always an
    iteration's end. Everything depends on the update's number alone, never on how many this process has made: the
    updates may be shared among workers.

    While a warm-up of the quantisation lasts, losses are those of a network that is partly quantised, on rollouts of
    the compiled policy, whose integers are fully so.
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
        quantisation_warm_up: float = 0.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.learner = learner
        self.scorer = scorer
        self._learning_rate = learning_rate
        self._weight_decay = weight_decay
        self._quantisation_warm_up = quantisation_warm_up
        self._updates_per_epoch = iterations_per_epoch * learner.updates_per_iteration

    @property
    def environment_steps(self) -> int:
        """Environment steps that all workers together have simulated at the end of the present epoch."""
        updates = (self.current_epoch + 1) * self._updates_per_epoch
        return updates // self.learner.updates_per_iteration * self.learner.steps_per_iteration

    @property
    def last_update(self) -> int:
        """Number of the present epoch's last update: where its figures stand on the x axis."""
        return (self.current_epoch + 1) * self._updates_per_epoch - 1

    def configure_callbacks(self) -> list[Callback]:
        """The schedules, by the number of the update in the whole run; Lightning adds them to the trainer's."""
        updates = self.learner.updates
        schedule = TwoStageSchedule(updates, self._learning_rate, self._weight_decay, number=self._update)
        if self._quantisation_warm_up == 0.0:
            return [schedule]
        return [schedule, QuantisationWarmUp(updates, self._quantisation_warm_up, number=self._update)]

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        """One update; `batch` is its number within the epoch."""
        update = self._update(batch)
        version = getattr(self.trainer.strategy, "parameter_version", update)
        loss, figures = self.learner.loss(self.network, update, version)
        self.log_figures({"loss": loss.detach(), **figures}, update)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Score the policy (of the averaged weights, where a callback has swapped them in)."""
        references = {f"reference/{name}": score for name, score in self.scorer.references.items()}
        self.log_figures(self.scorer.score(self.network.policy()) | references, self.last_update)

    def log_figures(self, figures: Mapping[str, Any], update: int) -> None:
        """Log with the number of an update as the x axis; Lightning's own would count this process's updates."""
        axis = {"step": float(update), "epoch": float(self.current_epoch)}
        self.log_dict({**figures, **axis}, batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self._learning_rate, betas=BETAS, weight_decay=0.0)

    def train_dataloader(self) -> Updates:
        return Updates(self._updates_per_epoch, self.learner.updates_per_iteration)

    def val_dataloader(self) -> range:
        return range(1)

    def _update(self, batch: int) -> int:
        """The number of an update in the whole run."""
        return self.current_epoch * self._updates_per_epoch + batch
