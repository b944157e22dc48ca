"""The quantisers of BitNet b1.58 and their straight-through gradients.

Source: Ma et al. 2024, "The Era of 1-bit LLMs", arXiv 2402.17764, with its "Training Tips, Code and FAQ".
Quantised values are integers held in float32: products with them are exact up to 2**24, which
127 · inputs stays below for any layer of up to 132 104 inputs. Rounding is half to even everywhere.

Each quantiser takes a `share` λ of quantisation: its value is v + λ (quantised - v), its gradient the straight-through
one whatever λ is. λ = 1, the default, is the quantised value itself, to the bit; below 1 values are no integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bitquote.ternary.kernels import NORM_EPSILON, ROW_EPSILON

WEIGHT_SCALES = ("absmean", "absmedian")
LEVELS = torch.tensor(127.0)  # largest activation; a tensor, for Python's 127 / tensor would round twice
SCALE_EPSILON = 1e-5  # smallest mean or median |weight|, and smallest max |activation| after RMSNorm
LARGEST_EPSILON = SCALE_EPSILON * NORM_EPSILON**0.5  # the latter before RMSNorm, whose root is near its epsilon then


def quantize_weight(weight: Tensor, measure: str = "absmean") -> tuple[Tensor, Tensor]:
    """Trits in {-1, 0, 1} of the shape of `weight`, and one scale; weight ≈ trits · scale.

    The scale is the mean of |weight|, or with `measure` "absmedian" its median (of an even number the lower of the two
    in the middle), which Nielsen et al. 2024, "BitNet b1.58 Reloaded", arXiv 2407.09527, take for small networks.
    """
    size = weight.abs()
    scale = (size.mean() if measure == "absmean" else size.median()).clamp_(min=SCALE_EPSILON)
    return (weight / scale).round_().clamp_(-1.0, 1.0), scale


def stretch_rows(x: Tensor) -> Tensor:
    """Each row of x (..., features) times 127 / max|x|, a constant to autograd: `kernels.round_inputs` for one row."""
    largest = x.detach().abs().amax(-1, keepdim=True).clamp_(min=ROW_EPSILON)
    return x * (LEVELS / largest)


def _rounded(x: Tensor, share: float) -> Tensor:
    """x on its way to the nearest integers, which it reaches at a `share` of 1."""
    return x.round() if share >= 1.0 else x + share * (x.round() - x)


def _ternary(weight: Tensor, measure: str, share: float) -> tuple[Tensor, Tensor]:
    """weight / scale on its way to trits, which it reaches at a `share` of 1, and the scale."""
    trits, scale = quantize_weight(weight, measure)
    if share >= 1.0:
        return trits, scale
    value = weight / scale
    return value + share * (trits - value), scale


def root_mean_square(x: Tensor) -> Tensor:
    """RMSNorm's root sqrt(mean x² + epsilon) of each row of x (..., features): (..., 1), a constant to autograd."""
    x = x.detach()
    return torch.linalg.vecdot(x, x).unsqueeze(-1).div_(x.shape[-1]).add_(NORM_EPSILON).sqrt_()


class RoundStraightThrough(Function):
    """Rounding whose gradient is the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float = 1.0) -> Tensor:
        return _rounded(x, share)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return grad_outputs[0], None


# `once_differentiable` makes ctx positional in the eyes of pyright, hence the two exceptions below.


class QuantizeRows(Function):
    """RMSNorm without gain, then absmax to integers in [-127, 127], for each row of x (..., features).

    Absmax quantisation is blind to a positive factor of its row, so the value is rint(x · (127 / max|x|)) and
    the norm's root cancels: integers in, the same integers out as the compiled kernel. The gradient is that of
    the recipe, y = 127 / max|n| · n with n = RMSNorm(x) and the scale held constant.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """The integers (..., features) and the scale 127 / max|x| (..., 1)."""
        largest = x.abs().amax(-1, keepdim=True).clamp_(min=LARGEST_EPSILON)  # vector_norm takes 20 times as long
        scale = LEVELS / largest
        ctx.save_for_backward(x, scale)
        ctx.mark_non_differentiable(scale)
        rows = x * scale
        return rows.round_() if share >= 1.0 else _rounded(rows, share), scale

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, None]:
        gradient, _ = grad_outputs
        x, scale = ctx.saved_tensors
        energy = torch.linalg.vecdot(x, x).add_(x.shape[-1] * NORM_EPSILON)
        along = torch.linalg.vecdot(gradient, x).div_(energy).unsqueeze(-1)
        return torch.addcmul(gradient, x, along, value=-1.0).mul_(scale), None


class Accumulate(Function):
    """Integer accumulators x @ trits(weight)ᵀ with the straight-through gradient of x @ (weight / scale)ᵀ."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, measure: str = "absmean", share: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Accumulators (..., out_features) of integer x (..., in_features), and the weight scale."""
        trits, scale = _ternary(weight, measure, share)
        ctx.save_for_backward(x, trits, scale)
        ctx.mark_non_differentiable(scale)
        return x @ trits.T, scale

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        gradient, _ = grad_outputs
        x, trits, scale = ctx.saved_tensors
        to_x = gradient @ trits if ctx.needs_input_grad[0] else None
        to_weight = None
        if ctx.needs_input_grad[1]:
            rows = gradient.reshape(-1, trits.shape[0])
            to_weight = (rows.T @ x.reshape(-1, trits.shape[1])).div_(scale)
        return to_x, to_weight, None, None


class Trits(Function):
    """trits(weight) with the straight-through gradient of weight / scale."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, measure: str = "absmean", share: float = 1.0) -> Tensor:
        trits, scale = _ternary(weight, measure, share)
        ctx.save_for_backward(scale)
        return trits

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, None, None]:
        (scale,) = ctx.saved_tensors
        return grad_outputs[0] / scale, None, None


def zero_share(trits: Sequence[Tensor]) -> list[float]:
    """Share of zeros in each layer's weights: about 0.31 for Gaussian weights, 0.25-0.5 after training."""
    return [float((layer == 0).float().mean()) for layer in trits]


def flip_rate(before: Sequence[Tensor], after: Sequence[Tensor]) -> list[float]:
    """Share of weights in each layer that differ between two snapshots of the trits."""
    return [float((old != new).float().mean()) for old, new in zip(before, after, strict=True)]
