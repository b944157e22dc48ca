"""A trained quoting network as plain arrays: no torch."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bitquote.errors import InputError, require, require_choice
from bitquote.ternary import kernels, paths, storage
from bitquote.ternary.description import PolicyDescription, Tensors, check_tensors
from bitquote.ternary.kernels import PolicyArguments
from bitquote.ternary.packing import lay_out_into


class Policy:
    """A quoting network: `quote` for Python, `kernel` and `arguments` for @njit code.

    `kernel(observation, *arguments) -> (half_spread, skew)` is one function, and `arguments` have one type, for
    every network: what calls it compiles once. `update` writes into the same arrays, so never during a rollout.

    Attributes:
        description: names and ranges of the observation, widths, how outputs become a quote.
        metadata: what was saved beside it, such as the market.
        path: which way the kernel takes, "avx2" or "portable"; the quotes are the same.
        arguments: the arrays of `PolicyArguments` that the kernel reads, as the plain tuple that numba can unpack.
    """

    kernel = staticmethod(kernels.quote_kernel)

    def __init__(
        self,
        description: PolicyDescription,
        metadata: Mapping[str, Any],
        tensors: Tensors,
        *,
        path: str | None = None,
    ) -> None:
        """`tensors` by `description.layout()`; `metadata` holds anything that JSON can.

        path: "avx2" or "portable"; None: the one that `paths.choose` takes on this machine.
        """
        self.description = description
        self.metadata = dict(metadata)
        self.path = paths.choose(path).name
        self._arrays = _allocate(description, self.path)
        self.arguments = tuple(self._arrays)
        self.update(tensors)

    def __reduce__(self) -> tuple[Any, ...]:
        """Whoever unpickles it takes the path of its own machine."""
        return Policy, (self.description, self.metadata, self._tensors)

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
        widths = (self.observation_size, *self.description.hidden)
        activations, accumulators = np.zeros((2, len(widths) - 1, max(widths)), np.int64)
        kernels.record_integers(self._checked(observation), *self._arrays, activations, accumulators)
        return [(activations[i, :a], accumulators[i, :b]) for i, (a, b) in enumerate(pairwise(widths))]

    def tensors(self) -> dict[str, np.ndarray]:
        """The weights by `description.layout()`."""
        return dict(self._tensors)

    def update(self, tensors: Tensors) -> None:
        """Check new weights of the same layout and copy them into `arguments`, in place."""
        check_tensors(self.description, tensors)
        self._tensors = {name: np.array(array) for name, array in tensors.items()}
        weights, scales, _ = self._arrays
        layers = [tensors[f"hidden.{layer}.weight"] for layer in range(len(self.description.hidden))]
        head, end = _head_place(self.description)
        scales[head - 2 : head] = tensors["head.bias"]
        scales[head:end].reshape(2, -1)[:, : self.description.hidden[-1]] = tensors["head.weight"]
        if self.architecture == "ternary":
            start, path = 0, paths.CODES[self.path]
            for layer in layers:
                outputs, inputs = layer.shape
                stop = start + kernels.layer_bytes(inputs, outputs, path)
                lay_out_into(np.ascontiguousarray(layer), path, weights[start:stop])
                start = stop
        else:
            scales[end:] = np.concatenate([layer.T.ravel() for layer in layers])

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


def _head_place(description: PolicyDescription) -> tuple[int, int]:
    """Where the head's weights begin and end in `scales`."""
    head = 2 * len(description.observation_names) + kernels.CONSTANTS
    return head, head + 2 * kernels.padded(description.hidden[-1], kernels.LANES)


def _allocate(description: PolicyDescription, path: str) -> PolicyArguments:
    """The kernel's arrays, by the layout in `kernels`, with everything but the weights filled in."""
    widths = (len(description.observation_names), *description.hidden)
    ternary, code = description.architecture == "ternary", paths.CODES[path]
    constants = [description.base_half_spread, *description.action_scale, description.no_quote, 0.0, 0.0]
    head, end = _head_place(description)
    layers = list(pairwise(widths))
    fixed = [description.observation_ranges, description.input_scales(), constants]
    scales = np.zeros(end + (0 if ternary else sum(a * b for a, b in layers)), np.float32)
    scales[:head] = np.concatenate(fixed).astype(np.float32)
    architecture = kernels.TERNARY if ternary else kernels.FP32
    inputs = kernels.PER_ROW if description.input_quantisation == "per_row" else kernels.PER_FEATURE
    words = [architecture, *description.baseline_features(), inputs, code]
    return PolicyArguments(
        weights=np.zeros(sum(kernels.layer_bytes(a, b, code) for a, b in layers) if ternary else 0, np.int8),
        scales=scales,
        shape=np.array([*words, *widths], np.int64),
    )
