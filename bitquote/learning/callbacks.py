"""What watches a training run: the score history, the state of the ternary weights, and how far it has come."""

from __future__ import annotations

import time
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import Tensor

from bitquote.learning.module import QuoteLearner
from bitquote.progress import Report
from bitquote.ternary.quantize import flip_rate, zero_share

WARM_UP = 10.0
"""Updates after which the average of the weights begins to remember more than a few."""


class Average:
    """The rule by which `weight_averaging` takes the current weights into the average.

    Each of `workers` sees about every `workers`-th version of the weights only: one step of its average stands for as
    many of an average that sees them all.
    """

    def __init__(self, decay: float, workers: int) -> None:
        self._share = 1.0 - decay
        self._workers = workers

    def __call__(self, averaged: Tensor, current: Tensor, count: Tensor) -> Tensor:
        """The new average; the old one has been made in `count` steps."""
        first, share = float(count) * self._workers, 0.0
        for version in range(self._workers):
            new = max(self._share, WARM_UP / (first + version + WARM_UP))
            share = new + (1.0 - new) * share
        return torch.lerp(averaged, current, share)


def weight_averaging(decay: float, workers: int = 1) -> WeightAveraging:
    """Lightning's moving average of the latent weights, with a memory that grows from nothing to `decay` an update.

    Ternary weights flip until the end, so the last iterate is noisy; validation, checkpoints and the final policy use
    the average. A constant decay would drag the random initial weights along for hundreds of updates.
    """
    return WeightAveraging(use_buffers=False, avg_fn=Average(decay, workers))


class ScoreHistory(Callback):
    """Scores over environment steps and seconds; both go on counting after a resume.

    Attributes:
        rows: one dict {"steps", "seconds", "score"} a validation.
        seconds: wall time of the fit so far, validations included.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.seconds = 0.0
        self._resumed_from = 0.0
        self._started = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._resumed_from = self.seconds
        self._started = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = self._resumed_from + time.perf_counter() - self._started
        module = cast(QuoteLearner, pl_module)
        steps = module.environment_steps
        score = float(trainer.callback_metrics["score"])
        self.rows.append({"steps": steps, "seconds": self.seconds, "score": score})
        for logger in trainer.loggers:
            logger.log_metrics({"steps_per_second": steps / self.seconds}, step=module.last_update)

    def reached(self, level: float, *, lower_is_better: bool) -> dict[str, float] | None:
        """The first validation whose score is at least as good as `level`; None if there is none."""
        for row in self.rows:
            if row["score"] <= level if lower_is_better else row["score"] >= level:
                return row
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        self.seconds = state_dict["seconds"]


class TernaryMonitor(Callback):
    """Logs for each ternary layer the shares of -1, 0 and 1, and of the weights that changed during the epoch."""

    def __init__(self) -> None:
        self._before: list[Tensor] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._before = cast(QuoteLearner, pl_module).network.trits()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = cast(QuoteLearner, pl_module)
        after = module.network.trits()
        for layer, (zeros, flips) in enumerate(zip(zero_share(after), flip_rate(self._before, after), strict=True)):
            negative = float((after[layer] < 0).float().mean())
            figures = {
                f"ternary/negative_{layer}": negative,
                f"ternary/zeros_{layer}": zeros,
                f"ternary/positive_{layer}": 1.0 - zeros - negative,
                f"ternary/flips_{layer}": flips,
            }
            module.log_figures(figures, module.last_update)


class Progress(Callback):
    """Reports every update, with the last score and environment steps per second."""

    def __init__(self, report: Report, history: ScoreHistory) -> None:
        self._report = report
        self._history = history

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._tell(trainer, pl_module)

    def _tell(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._report(self._words(), trainer.global_step, cast(QuoteLearner, pl_module).learner.updates)

    def _words(self) -> str:
        if not self._history.rows:
            return ""
        last = self._history.rows[-1]
        rate = f", {last['steps'] / last['seconds']:,.0f} steps/s" if last["steps"] else ""
        return f"score {last['score']:.4g}{rate}"
