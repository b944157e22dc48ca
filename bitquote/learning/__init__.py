"""How a policy learns: `distill`, `pathwise` and `ppo` on the stock Lightning Trainer.

Importing this package does not import torch; `train`, `Trained`, `QuoteLearner` and the schedules do when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bitquote.learning.config import (
    LEARNERS,
    DistillConfig,
    LearnerConfig,
    NetworkConfig,
    PathwiseConfig,
    PPOConfig,
    TrainerConfig,
)

if TYPE_CHECKING:
    from bitquote.learning.module import QuoteLearner
    from bitquote.learning.schedule import QuantisationWarmUp, TwoStageSchedule
    from bitquote.learning.training import Trained, train

__all__ = [
    "LEARNERS",
    "DistillConfig",
    "LearnerConfig",
    "NetworkConfig",
    "PPOConfig",
    "PathwiseConfig",
    "QuantisationWarmUp",
    "QuoteLearner",
    "Trained",
    "TrainerConfig",
    "TwoStageSchedule",
    "train",
]

_LAZY = {
    "train": "training",
    "Trained": "training",
    "QuoteLearner": "module",
    "QuantisationWarmUp": "schedule",
    "TwoStageSchedule": "schedule",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
