"""The quoting network in torch: what `kernels.quote_kernel` computes, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitquote.ternary.description import PolicyDescription
from bitquote.ternary.kernels import NORM_EPSILON
from bitquote.ternary.linear import BitLinear
from bitquote.ternary.policy import Policy
from bitquote.ternary.quantize import QuantizeRows, RoundStraightThrough, root_mean_square


class QuoteNetwork(nn.Module):
    """A multilayer perceptron from a raw observation (physical units) to (half_spread, skew) (market's units).

    The forward value is the compiled kernel's integer pipeline; the gradient is the straight-through one of
    `BitLinear`, RMSNorm included. Architecture "fp32" is the same network without quantisers. The head is in
    full precision with a bias.
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
        zero_head: bool = True,
    ) -> None:
        """Arguments as in `PolicyDescription`; with `zero_head` the first quotes are exactly the baseline."""
        super().__init__()
        self.description = PolicyDescription(
            observation_names=observation_names,
            observation_ranges=observation_ranges,
            hidden=hidden,
            architecture=architecture,
            baseline=baseline,
            base_half_spread=base_half_spread,
            action_scale=action_scale,
            no_quote=no_quote,
        )
        description = self.description
        widths = (len(description.observation_names), *description.hidden)
        self.ternary = architecture == "ternary"
        layers = [
            BitLinear(inputs, outputs) if self.ternary else _linear(inputs, outputs)
            for inputs, outputs in pairwise(widths)
        ]
        self.hidden = nn.ModuleList(layers)
        self.head = nn.Linear(widths[-1], 2)
        nn.init.zeros_(self.head.bias)
        if zero_head:
            nn.init.zeros_(self.head.weight)
        self._constant("ranges", description.observation_ranges)
        self._constant("input_scales", description.input_scales())
        self._constant("action_scale", description.action_scale)
        self._constant("constant_baseline", (description.base_half_spread, 0.0))

    def forward(self, observation: Tensor) -> Tensor:
        """observation float32 (batch, features) -> half-spread and skew float32 (batch, 2)."""
        # Mixed precision would round the accumulators.
        with torch.autocast(observation.device.type, enabled=False):
            observation = observation.to(self.ranges.dtype)
            x = self._inputs(observation)
            for layer in self.hidden:
                x = self._activate(self._accumulate(layer, x))
            return self._baseline(observation) + self.action_scale * self._head(x)

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
        layers, x = [], self._inputs(observation)
        for layer in self.hidden:
            accumulators = self._accumulate(layer, x)
            layers.append((x.long(), accumulators.long()))
            x = self._activate(accumulators)
        return layers

    def _inputs(self, observation: Tensor) -> Tensor:
        """Each feature clipped to its own fixed range and mapped to ±127, so that magnitudes survive."""
        scaled = observation.clamp(-self.ranges, self.ranges) * self.input_scales
        return RoundStraightThrough.apply(scaled) if self.ternary else scaled

    def _accumulate(self, layer: nn.Module, x: Tensor) -> Tensor:
        """(batch, inputs) -> (batch, outputs). Ternary accumulators go on unscaled: the layer's and the row's
        scale are positive factors of a row, to which the next layer's RMSNorm and absmax are blind."""
        return layer.accumulate(x) if isinstance(layer, BitLinear) else layer(x)

    def _activate(self, accumulators: Tensor) -> Tensor:
        """ReLU and RMSNorm, then 8 bits when ternary; the gradient is orthogonal to the row, as RMSNorm's is."""
        rows = accumulators.relu_()
        if self.ternary:
            return QuantizeRows.apply(rows)[0]
        return nn.functional.rms_norm(rows, rows.shape[-1:], eps=NORM_EPSILON)

    def _head(self, x: Tensor) -> Tensor:
        """Two outputs of the normalised last layer. Its root is a scale, hence detached: the gradient of RMSNorm
        is already in `_activate`."""
        return (x @ self.head.weight.T) / root_mean_square(x) + self.head.bias

    def _baseline(self, observation: Tensor) -> Tensor:
        half_spread, skew = self.description.baseline_features()
        return self.constant_baseline if half_spread < 0 else observation[:, [half_spread, skew]]

    @torch.no_grad()
    def _tensors(self) -> dict[str, np.ndarray]:
        """The weights by `description.layout()`."""
        tensors = {"head.weight": self.head.weight, "head.bias": self.head.bias}
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
