"""The two-stage schedule of BitNet b1.58 (Ma et al. 2024, "Training Tips, Code and FAQ"; arXiv 2402.17764).

A high learning rate first, so that latent weights cross the ternary thresholds; an abrupt drop at the midpoint,
then a linear decay to zero, so that they settle. Weight decay acts in the first half only. Beside it a warm-up of the
quantisation, which begins with the unquantised network.

Both are Lightning callbacks, for any module:

    trainer = lightning.pytorch.Trainer(max_steps=1000, callbacks=[TwoStageSchedule(1000, 0.01, weight_decay=0.1)])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from bitquote.errors import require, require_integer, require_number
from bitquote.ternary.linear import BitLinear
from bitquote.ternary.network import QuoteNetwork

DROP = 0.5
"""Share of the learning rate that is left right after the midpoint."""
WARM_UP = 0.02
"""Share of the updates over which the learning rate rises from zero."""


def learning_rate_factor(update: int, updates: int) -> float:
    """Factor on the peak learning rate at `update` of `updates`, counted from zero."""
    warm_up = max(1.0, WARM_UP * updates)
    if update < warm_up:
        return (update + 1) / (warm_up + 1)
    if 2 * update < updates:
        return 1.0
    return max(0.0, DROP * 2.0 * (1.0 - update / updates))


def weight_decay_factor(update: int, updates: int) -> float:
    """Factor on the weight decay at `update` of `updates`: one in the first half, zero in the second."""
    return 1.0 if 2 * update < updates else 0.0


def quantisation_share(update: int, updates: int, warm_up: float) -> float:
    """Lambda at `update` of `updates`: it rises from zero to one over the first `warm_up` (a share) of them."""
    length = warm_up * updates
    return 1.0 if update >= length else update / length


class _ByUpdate(Callback):
    """Something that is set before every update of the optimiser, by its number."""

    def __init__(self, updates: int, number: Callable[[Any], int] | None) -> None:
        self._updates = require_integer("updates", updates, 1)
        self._number = number

    def _update(self, trainer: Trainer, batch: Any) -> int:
        return trainer.global_step if self._number is None else self._number(batch)


class TwoStageSchedule(_ByUpdate):
    """Sets the learning rate and the weight decay of every optimiser's groups of parameters, all alike.

    Args:
        updates: of the optimiser in the whole run; afterwards the learning rate stays zero.
        learning_rate: the peak.
        weight_decay: in the first half.
        number: the number in the whole run, from zero, of the update that a batch makes. None: the steps that this
            trainer has made, which are not all where workers share the updates.
    """

    def __init__(
        self,
        updates: int,
        learning_rate: float,
        weight_decay: float = 0.0,
        *,
        number: Callable[[Any], int] | None = None,
    ) -> None:
        super().__init__(updates, number)
        self._learning_rate = require_number("learning_rate", learning_rate, 0.0, above=True)
        self._weight_decay = require_number("weight_decay", weight_decay, 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        schedulers = [type(config.scheduler).__name__ for config in trainer.lr_scheduler_configs]
        require(not schedulers, "configure_optimizers' scheduler", schedulers, "absent beside TwoStageSchedule")
        for optimizer in trainer.optimizers:
            known = self._weight_decay == 0.0 or "weight_decay" in optimizer.defaults
            require(known, "weight_decay", self._weight_decay, f"0 with {type(optimizer).__name__}, which knows none")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        update = self._update(trainer, batch)
        rate = self._learning_rate * learning_rate_factor(update, self._updates)
        decay = self._weight_decay * weight_decay_factor(update, self._updates)
        for group in (group for optimizer in trainer.optimizers for group in optimizer.param_groups):
            group["lr"] = rate
            if "weight_decay" in group:
                group["weight_decay"] = decay


class QuantisationWarmUp(_ByUpdate):
    """Sets the share of quantisation of a module's `BitLinear` layers and `QuoteNetwork`s.

    Meanwhile what they compute is not what the compiled policy computes: see `QuoteNetwork.quantisation`.

    Args:
        updates: as in `TwoStageSchedule`; so is `number`.
        warm_up: share of the updates over which the quantisation rises from none to all of it.
    """

    def __init__(self, updates: int, warm_up: float, *, number: Callable[[Any], int] | None = None) -> None:
        super().__init__(updates, number)
        self._warm_up = require_number("warm_up", warm_up, 0.0, 1.0)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        _quantise(pl_module, quantisation_share(self._update(trainer, batch), self._updates, self._warm_up))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _quantise(pl_module, 1.0)


def _quantise(module: LightningModule, share: float) -> None:
    for part in module.modules():
        if isinstance(part, BitLinear | QuoteNetwork):
            part.quantisation = share
