"""What a quoting network is, apart from its weights: inputs, widths, how its outputs become a quote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from bitquote.errors import require, require_choice, require_integer, require_number

ARCHITECTURES = ("ternary", "fp32")
BASELINES = ("direct", "residual")
INPUT_QUANTISATIONS = ("per_feature", "per_row")
RESIDUAL_FEATURES = ("glft_half_spread", "glft_skew")
MAX_WIDTH = 4096  # accumulators stay below 127 · 4096: exact in float32 and far inside int32
MAX_LAYERS = 16

Tensors = Mapping[str, np.ndarray]
Layout = dict[str, tuple[np.dtype, tuple[int, ...]]]
"""Name -> dtype and shape."""


@dataclass(frozen=True)
class PolicyDescription:
    """Everything about a quoting network but its weights; numbers are rounded to the float32 that it computes in.

    Attributes:
        observation_names: the features, in order.
        observation_ranges: each feature, in its own unit, is clipped to ±range and mapped to ±127; 0 masks it.
        hidden: widths of the hidden layers.
        architecture: "ternary", or its full-precision twin "fp32".
        baseline: "direct": the network adds to (base_half_spread, 0). "residual": it adds to the features
            glft_half_spread and glft_skew of the observation.
        base_half_spread: half-spread of a direct policy where the network's output is 0, in the market's units.
        action_scale: half-spread and skew for an output of 1, in the market's units.
        no_quote: a half-spread at or above this means no quotes, in the market's units.
        input_quantisation: of a ternary network, "per_feature" or "per_row": the latter stretches every row to ±127
            after the features' ranges, so that small inputs keep 8 bits and the size of the row is lost.
    """

    observation_names: tuple[str, ...]
    observation_ranges: tuple[float, ...]
    hidden: tuple[int, ...] = (64, 64)
    architecture: str = "ternary"
    baseline: str = "direct"
    base_half_spread: float = 0.0
    action_scale: tuple[float, float] = (1.0, 1.0)
    no_quote: float = 1e6
    input_quantisation: str = "per_feature"

    def __post_init__(self) -> None:
        names = _sequence("observation_names", self.observation_names, 1, MAX_WIDTH)
        for name in names:
            require(isinstance(name, str) and name != "", "observation_names", name, "names of features")
        require(len(set(names)) == len(names), "observation_names", list(names), "different from each other")
        ranges = _sequence("observation_ranges", self.observation_ranges, 1, MAX_WIDTH)
        require(len(ranges) == len(names), "observation_ranges", list(ranges), f"{len(names)} numbers, one a name")
        require_choice("architecture", self.architecture, ARCHITECTURES)
        require_choice("baseline", self.baseline, BASELINES)
        require_choice("input_quantisation", self.input_quantisation, INPUT_QUANTISATIONS)
        if self.baseline == "residual":
            missing = [name for name in RESIDUAL_FEATURES if name not in names]
            require(not missing, "observation_names", list(names), f"with {missing} for a residual policy")
        hidden = _sequence("hidden", self.hidden, 1, MAX_LAYERS)
        scales = _sequence("action_scale", self.action_scale, 2, 2)
        normal = {
            "observation_names": names,
            "observation_ranges": tuple(_range(value) for value in ranges),
            "hidden": tuple(require_integer("hidden", width, 1, MAX_WIDTH) for width in hidden),
            "base_half_spread": _single("base_half_spread", self.base_half_spread, -1e30),
            "action_scale": tuple(_single("action_scale", value, 0.0) for value in scales),
            "no_quote": _single("no_quote", self.no_quote, 1e-30),
        }
        for field, value in normal.items():
            object.__setattr__(self, field, value)

    def input_scales(self) -> np.ndarray:
        """127 / range of each feature, float32 (features,); 0 where the range is 0."""
        ranges = np.array(self.observation_ranges, np.float32)
        return np.divide(np.float32(127.0), ranges, out=np.zeros_like(ranges), where=ranges > 0)

    def baseline_features(self) -> tuple[int, int]:
        """Where the observation holds the baseline's half-spread and skew; (-1, -1) for a constant baseline."""
        if self.baseline == "direct":
            return -1, -1
        half_spread, skew = (self.observation_names.index(name) for name in RESIDUAL_FEATURES)
        return half_spread, skew

    def layout(self) -> Layout:
        """Name -> dtype and shape of each tensor of the network; weights are (outputs, inputs).

        A ternary layer's scale (mean |latent weight|) makes it a complete BitLinear for other readers; the forward
        here does without, since the next layer's RMSNorm cancels it.
        """
        ternary = self.architecture == "ternary"
        layout: Layout = {}
        widths = (len(self.observation_names), *self.hidden)
        for layer, (inputs, outputs) in enumerate(pairwise(widths)):
            layout[f"hidden.{layer}.weight"] = np.dtype(np.int8 if ternary else np.float32), (outputs, inputs)
            if ternary:
                layout[f"hidden.{layer}.scale"] = np.dtype(np.float32), ()
        layout["head.weight"] = np.dtype(np.float32), (2, widths[-1])
        layout["head.bias"] = np.dtype(np.float32), (2,)
        return layout


def check_tensors(description: PolicyDescription, tensors: Tensors) -> None:
    """Raise `InputError` unless every value is what the description allows: trits in {-1, 0, 1}, finite numbers,
    positive scales, in the dtypes and shapes of `layout`."""
    check_layout(description.layout(), {name: (array.dtype, array.shape) for name, array in tensors.items()})
    for name, array in tensors.items():
        if array.dtype == np.int8:
            sound = array.size == 0 or bool(array.min() >= -1 and array.max() <= 1)
            wrong = [] if sound else array[(array < -1) | (array > 1)][:3].tolist()
            require(sound, name, wrong, "-1, 0 and 1 everywhere")
        else:
            finite = np.isfinite(array)
            require(bool(finite.all()), name, array[~finite][:3].tolist(), "finite everywhere")
        if name.endswith(".scale"):
            require(float(array) > 0.0, name, float(array), "above 0")


def check_layout(layout: Layout, found: Mapping[str, tuple[Any, tuple[int, ...]]]) -> None:
    """Raise `InputError` unless `found` (name -> dtype, shape) is `layout`."""
    for name in found:
        require(name in layout, "tensor", name, f"one of {', '.join(layout)}")
    for name, (dtype, shape) in layout.items():
        if name in found and (found[name][0], tuple(found[name][1])) == (dtype, shape):
            continue  # texts for an error take longer than everything else
        require(name in found, "tensors", sorted(found), f"with {name}")
        require(found[name][0] == dtype, f"{name} dtype", str(found[name][0]), str(dtype))
        require(tuple(found[name][1]) == shape, f"{name} shape", found[name][1], str(shape))


def _sequence(field: str, value: Any, low: int, high: int) -> tuple[Any, ...]:
    count = str(low) if low == high else f"{low} to {high}"
    listed = isinstance(value, list | tuple) and low <= len(value) <= high
    require(listed, field, value, f"a list of {count} values")
    return tuple(value)


def _single(field: str, value: Any, low: float) -> float:
    """A number rounded to float32: what the network computes with."""
    return float(np.float32(require_number(field, value, low, 1e30)))


def _range(value: Any) -> float:
    """0, or a range of which neither float32's value nor 127 over it is 0 or infinite."""
    number = _single("observation_ranges", value, 0.0)
    require(number == 0.0 or number >= 1e-30, "observation_ranges", value, "0 or at least 1e-30")
    return number
