"""A trained quoting network as plain arrays: no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bitquote.errors import InputError, require, require_choice
from bitquote.ternary import kernels, storage
from bitquote.ternary.description import PolicyDescription, Tensors, check_tensors
from bitquote.ternary.kernels import PolicyArguments


class Policy:
    """A quoting network: `quote` for Python, `kernel` and `arguments` for @njit code.

    `kernel(observation, *arguments) -> (half_spread, skew)` is one function, and `arguments` have one type, for
    every network: what calls it compiles once. `update` writes into the same arrays, so never during a rollout.

    Attributes:
        description: names and ranges of the observation, widths, how outputs become a quote.
        metadata: what was saved beside it, such as the market.
        arguments: the arrays of `PolicyArguments` that the kernel reads, as the plain tuple that numba can unpack.
    """

    kernel = staticmethod(kernels.quote_kernel)

    def __init__(self, description: PolicyDescription, metadata: Mapping[str, Any], tensors: Tensors) -> None:
        """`tensors` by `description.layout()`; `metadata` holds anything that JSON can."""
        self.description = description
        self.metadata = dict(metadata)
        self._arrays = _allocate(description)
        self.arguments = tuple(self._arrays)
        self.update(tensors)

    @property
    def architecture(self) -> str:
        """The word for it: "ternary" or "fp32"."""
        return self.description.architecture

    @property
    def observation_names(self) -> tuple[str, ...]:
        """The features, in order."""
        return self.description.observation_names

    @property
    def observation_ranges(self) -> tuple[float, ...]:
        """Where each feature is clipped, in its own unit."""
        return self.description.observation_ranges

    @property
    def observation_size(self) -> int:
        """Number of features."""
        return len(self.description.observation_names)

    @property
    def no_quote(self) -> float:
        """A half-spread at or above this means no quotes."""
        return self.description.no_quote

    def quote(self, observation: Any) -> tuple[float, float]:
        """Half-spread and skew, baseline included, for `observation_size` finite numbers in physical units."""
        half_spread, skew = self.kernel(self._checked(observation), *self.arguments)
        return float(half_spread), float(skew)

    def integers(self, observation: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        """Integer activations into, and accumulators out of, each hidden layer of a ternary policy (int64)."""
        require_choice("architecture", self.architecture, ("ternary",))
        values = self._checked(observation)
        activations = np.empty(values.size, np.float32)
        kernels.scale_inputs(values, self._arrays.scales, activations)
        kernels.round_all(activations)
        layers, start = [], 0
        for width in self.description.hidden:
            stop = start + activations.size * width
            accumulators = np.empty(width, np.int32)
            kernels.accumulate(activations, self._arrays.weights[start:stop], accumulators)
            layers.append((activations.astype(np.int64), accumulators.astype(np.int64)))
            activations, start = np.empty(width, np.float32), stop
            kernels.requantize(accumulators, activations)
        return layers

    def tensors(self) -> dict[str, np.ndarray]:
        """The weights by `description.layout()`."""
        return dict(self._tensors)

    def update(self, tensors: Tensors) -> None:
        """Check new weights of the same layout and copy them into `arguments`, in place."""
        check_tensors(self.description, tensors)
        self._tensors = {name: np.array(array) for name, array in tensors.items()}
        weights, scales, _ = self._arrays
        layers = [tensors[f"hidden.{layer}.weight"].T.ravel() for layer in range(len(self.description.hidden))]
        head = 2 * self.observation_size + kernels.CONSTANTS
        end = head + tensors["head.weight"].size
        scales[head - 2 : head] = tensors["head.bias"]
        scales[head:end] = tensors["head.weight"].ravel()
        (weights if self.architecture == "ternary" else scales[end:])[:] = np.concatenate(layers)

    def save(self, path: str | Path) -> None:
        """Write the file that `load_policy` reads."""
        storage.write(Path(path), self.description, self.metadata, self._tensors)

    def _checked(self, observation: Any) -> np.ndarray:
        expected = f"{self.observation_size} finite numbers: {', '.join(self.observation_names)}"
        try:
            values = np.ascontiguousarray(observation, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(f"observation must be {expected}") from None
        sound = values.shape == (self.observation_size,) and bool(np.isfinite(values).all())
        require(sound, "observation", observation, expected)
        return values


def load_policy(path: str | Path) -> Policy:
    """Read a policy file; anything but a sound one is an `InputError` that names the file and what is wrong."""
    return Policy(*storage.read(Path(path)))


def _allocate(description: PolicyDescription) -> PolicyArguments:
    """The kernel's arrays, by the layout in `kernels`, with everything but the weights filled in."""
    layout = description.layout()
    count = sum(int(np.prod(shape)) for name, (_, shape) in layout.items() if name.endswith("weight"))
    inputs, hidden = len(description.observation_names), description.hidden
    ternary = description.architecture == "ternary"
    constants = [description.base_half_spread, *description.action_scale, description.no_quote, 0.0, 0.0]
    head = 2 * hidden[-1]
    trunk = count - head
    scales = [
        np.array(description.observation_ranges, np.float32),
        description.input_scales(),
        np.array(constants, np.float32),
        np.zeros(head if ternary else head + trunk, np.float32),
    ]
    architecture = kernels.TERNARY if ternary else kernels.FP32
    return PolicyArguments(
        weights=np.zeros(trunk if ternary else 0, np.int8),
        scales=np.concatenate(scales),
        shape=np.array([architecture, *description.baseline_features(), inputs, *hidden], np.int64),
    )
