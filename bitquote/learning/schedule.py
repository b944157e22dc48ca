"""The two-stage schedule of BitNet b1.58 (Ma et al. 2024, "Training Tips, Code and FAQ"; arXiv 2402.17764).

A high learning rate first, so that latent weights cross the ternary thresholds; an abrupt drop at the midpoint,
then a linear decay to zero, so that they settle. Weight decay acts in the first half only.
"""

from __future__ import annotations

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
    return DROP * 2.0 * (1.0 - update / updates)


def weight_decay_factor(update: int, updates: int) -> float:
    """Factor on the weight decay at `update` of `updates`: one in the first half, zero in the second."""
    return 1.0 if 2 * update < updates else 0.0
