"""The quoting network in torch: what `kernels.quote_kernel` computes, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitquote.errors import require, require_choice
from bitquote.ternary.description import PolicyDescription
from bitquote.ternary.kernels import NORM_EPSILON
from bitquote.ternary.linear import BitLinear, LearnedScaleHead
from bitquote.ternary.policy import Policy
from bitquote.ternary.quantize import (
    WEIGHT_SCALES,
    QuantizeRows,
    RoundStraightThrough,
    root_mean_square,
    stretch_rows,
)

HEADS = ("fp", "learned_scale")


class QuoteNetwork(nn.Module):
    """A multilayer perceptron from a raw observation (physical units) to (half_spread, skew) (market's units).

    The forward value is the compiled kernel's integer pipeline; the gradient is the straight-through one of
    `BitLinear`, RMSNorm included. Architecture "fp32" is the same network without quantisers. The head is in
    full precision with a bias, or ternary with a learned scale and bias for each output.

    Attributes:
        quantisation: share λ of quantisation in `forward` (weights and activations are v + λ (quantised - v)); 1 but
            for a warm-up, and of no meaning for "fp32". At 0 the forward is the unquantised network's. Whatever it
            is, `policy`, `refresh`, `trits` and `integers` are those of λ = 1: so rollouts during a warm-up are
            still made by the integers of the compiled policy, and not by what `forward` computes.
    """

    ranges: Tensor
    input_scales: Tensor
    action_scale: Tensor
    constant_baseline: Tensor

    def __init__(
        self,
        observation_names: tuple[str, ...],
        observation_ranges: tuple[float, ...],
        *,
        hidden: tuple[int, ...] = (64, 64),
        architecture: str = "ternary",
        baseline: str = "direct",
        base_half_spread: float = 0.0,
        action_scale: tuple[float, float] = (1.0, 1.0),
        no_quote: float = 1e6,
        input_quantisation: str = "per_feature",
        weight_scale: str = "absmean",
        head: str = "fp",
        zero_head: bool = True,
    ) -> None:
        """Arguments as in `PolicyDescription`, and what only training knows.

        weight_scale: of a ternary network, what trits are measured by: "absmean" or "absmedian".
        head: "fp", or of a ternary network "learned_scale".
        zero_head: the first quotes are exactly the baseline.
        """
        super().__init__()
        require_choice("weight_scale", weight_scale, WEIGHT_SCALES)
        require_choice("head", head, HEADS)
        self.description = PolicyDescription(
            observation_names=observation_names,
            observation_ranges=observation_ranges,
            hidden=hidden,
            architecture=architecture,
            baseline=baseline,
            base_half_spread=base_half_spread,
            action_scale=action_scale,
            no_quote=no_quote,
            input_quantisation=input_quantisation,
        )
        description = self.description
        widths = (len(description.observation_names), *description.hidden)
        self.ternary = architecture == "ternary"
        require(self.ternary or head == "fp", "head", head, "fp with architecture fp32")
        self.quantisation = 1.0
        layers = [
            BitLinear(inputs, outputs, weight_scale) if self.ternary else _linear(inputs, outputs)
            for inputs, outputs in pairwise(widths)
        ]
        self.hidden = nn.ModuleList(layers)
        if head == "fp":
            self.head = nn.Linear(widths[-1], 2)
            nn.init.zeros_(self.head.bias)
        else:
            self.head = LearnedScaleHead(widths[-1], 2, weight_scale)
        if zero_head:
            nn.init.zeros_(self.head.weight if isinstance(self.head, nn.Linear) else self.head.scale)
        self._constant("ranges", description.observation_ranges)
        self._constant("input_scales", description.input_scales())
        self._constant("action_scale", description.action_scale)
        self._constant("constant_baseline", (description.base_half_spread, 0.0))

    def forward(self, observation: Tensor) -> Tensor:
        """observation float32 (batch, features) -> half-spread and skew float32 (batch, 2)."""
        # Mixed precision would round the accumulators.
        with torch.autocast(observation.device.type, enabled=False):
            observation = observation.to(self.ranges.dtype)
            share = self.quantisation
            x = self._inputs(observation, share)
            for layer in self.hidden:
                x = self._activate(self._accumulate(layer, x, share), share)
            return self._baseline(observation) + self.action_scale * self._head(x, share)

    def policy(self, **metadata: Any) -> Policy:
        """A copy without torch; `metadata`, such as market={...}, is saved beside the weights."""
        return Policy(self.description, metadata, self._tensors())

    def refresh(self, policy: Policy) -> None:
        """Copy the weights as they are now into a policy made by `policy()`, in place."""
        policy.update(self._tensors())

    def trits(self) -> list[Tensor]:
        """The ternary weights of each hidden layer, int8 (outputs, inputs); none for fp32."""
        return [layer.trits() for layer in self.hidden if isinstance(layer, BitLinear)]

    @torch.no_grad()
    def integers(self, observation: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Integer activations into, and accumulators out of, each hidden layer (int64), for (batch, features)."""
        layers, x = [], self._inputs(observation, 1.0)
        for layer in self.hidden:
            accumulators = self._accumulate(layer, x, 1.0)
            layers.append((x.long(), accumulators.long()))
            x = self._activate(accumulators, 1.0)
        return layers

    @torch.no_grad()
    def activations(self, observation: Tensor) -> list[Tensor]:
        """What goes into each hidden layer and into the head, float32 (batch, width): of a ternary network integers."""
        layers = [self._inputs(observation, 1.0)]
        for layer in self.hidden:
            layers.append(self._activate(self._accumulate(layer, layers[-1], 1.0), 1.0))
        return layers

    # `share` is that of quantisation, see `quantize`; fp32 has no use for it.

    def _inputs(self, observation: Tensor, share: float) -> Tensor:
        """Each feature clipped to its own fixed range and mapped to ±127, so that magnitudes survive; then, with
        inputs quantised per row, the row stretched to ±127."""
        scaled = observation.clamp(-self.ranges, self.ranges) * self.input_scales
        if not self.ternary:
            return scaled
        if self.description.input_quantisation == "per_row":
            scaled = stretch_rows(scaled)
        return RoundStraightThrough.apply(scaled, share)

    def _accumulate(self, layer: nn.Module, x: Tensor, share: float) -> Tensor:
        """(batch, inputs) -> (batch, outputs). Ternary accumulators go on unscaled: the layer's and the row's
        scale are positive factors of a row, to which the next layer's RMSNorm and absmax are blind."""
        return layer.accumulate(x, share) if isinstance(layer, BitLinear) else layer(x)

    def _activate(self, accumulators: Tensor, share: float) -> Tensor:
        """ReLU and RMSNorm, then 8 bits when ternary; the gradient is orthogonal to the row, as RMSNorm's is."""
        rows = accumulators.relu_()
        if self.ternary:
            return QuantizeRows.apply(rows, share)[0]
        return nn.functional.rms_norm(rows, rows.shape[-1:], eps=NORM_EPSILON)

    def _head(self, x: Tensor, share: float) -> Tensor:
        """Two outputs of the normalised last layer. Its root is a scale, hence detached: the gradient of RMSNorm
        is already in `_activate`."""
        return (x @ self._head_weight(share).T) / root_mean_square(x) + self.head.bias

    def _head_weight(self, share: float) -> Tensor:
        """(2, last width)"""
        return self.head.folded(share) if isinstance(self.head, LearnedScaleHead) else self.head.weight

    def _baseline(self, observation: Tensor) -> Tensor:
        half_spread, skew = self.description.baseline_features()
        return self.constant_baseline if half_spread < 0 else observation[:, [half_spread, skew]]

    @torch.no_grad()
    def _tensors(self) -> dict[str, np.ndarray]:
        """The weights by `description.layout()`."""
        tensors = {"head.weight": self._head_weight(1.0), "head.bias": self.head.bias}
        for index, layer in enumerate(self.hidden):
            if isinstance(layer, BitLinear):
                tensors[f"hidden.{index}.weight"] = layer.trits()
                tensors[f"hidden.{index}.scale"] = layer.weight_scale()
            else:
                tensors[f"hidden.{index}.weight"] = layer.weight
        return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}

    def _constant(self, name: str, values: Sequence[float] | np.ndarray) -> None:
        """A tensor that follows the module's device but is no part of its state."""
        self.register_buffer(name, torch.tensor(np.asarray(values, np.float32)), persistent=False)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """The fp32 twin's layer, initialised as `BitLinear` is."""
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    return layer
