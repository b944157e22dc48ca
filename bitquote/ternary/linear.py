"""The ternary linear layer of BitNet b1.58 (Ma et al. 2024, arXiv 2402.17764), and a ternary head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bitquote.errors import require_choice
from bitquote.ternary.quantize import (
    WEIGHT_SCALES,
    Accumulate,
    QuantizeRows,
    Trits,
    quantize_weight,
    root_mean_square,
)


class BitLinear(nn.Module):
    """RMSNorm without gain, int8 activations, weights in {-1, 0, 1}, straight-through gradients, no bias.

    Attributes:
        weight: latent float32 weights (out_features, in_features); only their trits reach the output.
        quantisation: share λ of quantisation in `forward`, see `quantize`; 1 but for a warm-up.
    """

    def __init__(self, in_features: int, out_features: int, weight_scale: str = "absmean") -> None:
        """weight_scale: what the trits are measured by, the mean or the median of |weight|: a word of
        `WEIGHT_SCALES`."""
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.measure = require_choice("weight_scale", weight_scale, WEIGHT_SCALES)
        self.quantisation = 1.0
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal of variance 1 / in_features: 31 % zeros. The forward is blind to the size of the weights, which
        only sets how fast a step flips trits."""
        nn.init.normal_(self.weight, std=self.in_features**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in_features) -> (..., out_features): integer accumulators times one scale a row."""
        integers, activation_scale = QuantizeRows.apply(x, self.quantisation)
        accumulators, weight_scale = Accumulate.apply(integers, self.weight, self.measure, self.quantisation)
        return accumulators * (weight_scale / (activation_scale * root_mean_square(x)))

    def accumulate(self, integers: Tensor, share: float = 1.0) -> Tensor:
        """Unscaled integer accumulators (..., out_features) of activations that are integers already; with a `share`
        of quantisation below 1, neither is an integer."""
        return Accumulate.apply(integers, self.weight, self.measure, share)[0]

    @torch.no_grad()
    def trits(self) -> Tensor:
        """The weights that the forward uses, int8 (out_features, in_features)."""
        return quantize_weight(self.weight, self.measure)[0].to(torch.int8)

    @torch.no_grad()
    def weight_scale(self) -> Tensor:
        """The mean or median of |weight|, a float32 scalar."""
        return quantize_weight(self.weight, self.measure)[1]

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, weight_scale={self.measure}"


class LearnedScaleHead(nn.Module):
    """A linear head of ternary weights, with a learned scale and a bias for each output.

    The scales give it the gain that a ternary layer without one cannot have; folded into the weights they make it a
    plain linear head, which is what a policy file holds.

    Attributes:
        weight: latent float32 weights (out_features, in_features); only their trits reach the output.
        scale: (out_features,), at first that of the latent weights.
        bias: (out_features,), at first 0.
    """

    def __init__(self, in_features: int, out_features: int, weight_scale: str = "absmean") -> None:
        """weight_scale: as in `BitLinear`."""
        super().__init__()
        self.measure = require_choice("weight_scale", weight_scale, WEIGHT_SCALES)
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        nn.init.normal_(self.weight, std=in_features**-0.5)
        scale = quantize_weight(self.weight.detach(), self.measure)[1]
        self.scale = nn.Parameter(scale.repeat(out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def folded(self, share: float = 1.0) -> Tensor:
        """trits · scale (out_features, in_features), each product exact; `share` of quantisation as in `quantize`."""
        return self.scale.unsqueeze(-1) * Trits.apply(self.weight, self.measure, share)
