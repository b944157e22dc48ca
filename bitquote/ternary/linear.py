"""The ternary linear layer of BitNet b1.58 (Ma et al. 2024, arXiv 2402.17764)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bitquote.ternary.quantize import Accumulate, QuantizeRows, quantize_weight, root_mean_square


class BitLinear(nn.Module):
    """RMSNorm without gain, int8 activations, weights in {-1, 0, 1}, straight-through gradients, no bias.

    Attributes:
        weight: latent float32 weights (out_features, in_features); only their trits reach the output.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal of variance 1 / in_features: 31 % zeros. The forward is blind to the size of the weights, which
        only sets how fast a step flips trits."""
        nn.init.normal_(self.weight, std=self.in_features**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in_features) -> (..., out_features): integer accumulators times one scale a row."""
        integers, activation_scale = QuantizeRows.apply(x)
        accumulators, weight_scale = Accumulate.apply(integers, self.weight)
        return accumulators * (weight_scale / (activation_scale * root_mean_square(x)))

    def accumulate(self, integers: Tensor) -> Tensor:
        """Unscaled integer accumulators (..., out_features) of activations that are integers already."""
        return Accumulate.apply(integers, self.weight)[0]

    @torch.no_grad()
    def trits(self) -> Tensor:
        """The weights that the forward uses, int8 (out_features, in_features)."""
        return quantize_weight(self.weight)[0].to(torch.int8)

    @torch.no_grad()
    def weight_scale(self) -> Tensor:
        """The absmean scale, a float32 scalar."""
        return quantize_weight(self.weight)[1]

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"
