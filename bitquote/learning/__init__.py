"""How a policy learns: `distill`, `pathwise` and `ppo` on the stock Lightning Trainer.

Importing this package does not import torch; `train`, `Trained` and `QuoteLearner` do when first used.
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
    from bitquote.learning.training import Trained, train

__all__ = [
    "LEARNERS",
    "DistillConfig",
    "LearnerConfig",
    "NetworkConfig",
    "PPOConfig",
    "PathwiseConfig",
    "QuoteLearner",
    "Trained",
    "TrainerConfig",
    "train",
]

_LAZY = {"train": "training", "Trained": "training", "QuoteLearner": "module"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
