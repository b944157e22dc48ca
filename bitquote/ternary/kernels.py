"""The compiled forward of a quoting network: the same integers as the training forward, without torch.

One function and one argument type serve the ternary network and its fp32 twin, so whatever calls a network
compiles once. `PolicyArguments` packs a network into three flat arrays:

- `weights` int8: the hidden layers' trits one after another, each (inputs, outputs) in C order; empty for fp32.
- `scales` float32: range of each feature, 127 / range of each feature, `CONSTANTS` (below), head (2, last width);
  for fp32 then the hidden layers' weights, laid out like `weights`.
- `shape` int64: `SHAPE` (below), observation size, width of each hidden layer.

Each float32 operation here is the one of `network.QuoteNetwork`, in the same order: rounding ties fall the same
way. Fastmath stays off. Source of the recipe: Ma et al. 2024, arXiv 2402.17764.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

TERNARY, FP32 = 0, 1
NORM_EPSILON = 1e-6  # inside RMSNorm's root; an all-zero row stays all zero

# shape[: 3]: architecture, place in the observation of the baseline's half-spread and skew (-1: constant baseline)
SHAPE = 3
# scales[2 inputs : 2 inputs + 6]: constant baseline half-spread, action scales, no-quote half-spread, head biases
CONSTANTS = 6


class PolicyArguments(NamedTuple):
    """What `quote_kernel` takes after the observation; the same three types for every network."""

    weights: np.ndarray  # int8
    scales: np.ndarray  # float32
    shape: np.ndarray  # int64


@njit(cache=True, nogil=True)
def scale_inputs(observation, scales, activations):
    """Write clip(o, ±range) · (127 / range) to `activations` float32; False if an observation is not finite."""
    inputs = observation.size
    finite = True
    for i in range(inputs):
        finite &= math.isfinite(observation[i])
        bound = scales[i]
        clipped = np.float32(min(max(observation[i], -bound), bound))
        activations[i] = clipped * scales[inputs + i]
    return finite


@njit(cache=True, nogil=True)
def round_all(activations):
    """Round to the nearest integer in place, ties to even."""
    for i in range(activations.size):
        activations[i] = np.rint(activations[i])


@njit(cache=True, nogil=True)
def accumulate(activations, weights, accumulators):
    """accumulators int32 (N,) = activations (K,) @ weights int8 (K, N) flat; activations are integers in float32.

    Four inputs a pass: LLVM vectorises the inner loop and touches the accumulators a quarter as often.
    """
    inputs = activations.size
    outputs = accumulators.size
    accumulators[:] = 0
    blocked = inputs - inputs % 4
    for j in range(0, blocked, 4):
        x0 = np.int32(activations[j])
        x1 = np.int32(activations[j + 1])
        x2 = np.int32(activations[j + 2])
        x3 = np.int32(activations[j + 3])
        row0 = weights[j * outputs : (j + 1) * outputs]
        row1 = weights[(j + 1) * outputs : (j + 2) * outputs]
        row2 = weights[(j + 2) * outputs : (j + 3) * outputs]
        row3 = weights[(j + 3) * outputs : (j + 4) * outputs]
        for i in range(outputs):
            accumulators[i] += np.int32(x0 * row0[i] + x1 * row1[i] + x2 * row2[i] + x3 * row3[i])
    for j in range(blocked, inputs):
        x = np.int32(activations[j])
        row = weights[j * outputs : (j + 1) * outputs]
        for i in range(outputs):
            accumulators[i] += x * row[i]


@njit(cache=True, nogil=True)
def requantize(accumulators, activations):
    """activations float32 = rint(relu(a) · (127 / max relu(a))), integers in [0, 127]; all zero if no a > 0.

    RMSNorm, weight scale and the previous activations' scale cancel: absmax quantisation is blind to a factor.
    """
    largest = np.int32(0)
    for i in range(accumulators.size):
        largest = max(largest, accumulators[i])
    scale = np.float32(127.0) / np.float32(max(largest, 1))
    for i in range(accumulators.size):
        activations[i] = np.rint(np.float32(max(accumulators[i], 0)) * scale)


@njit(cache=True, nogil=True)
def _ternary_trunk(activations, weights, shape):
    """Run the ternary hidden layers in place; `activations` holds the scaled inputs, then the last layer."""
    accumulators = np.empty(activations.size, np.int32)
    round_all(activations[: shape[SHAPE]])
    start = 0
    for layer in range(SHAPE + 1, shape.size):
        inputs, outputs = shape[layer - 1], shape[layer]
        stop = start + inputs * outputs
        accumulate(activations[:inputs], weights[start:stop], accumulators[:outputs])
        requantize(accumulators[:outputs], activations[:outputs])
        start = stop


@njit(cache=True, nogil=True)
def _float_trunk(activations, weights, shape):
    """Run the fp32 twin's hidden layers (linear, ReLU, RMSNorm) in place, laid out as in `_ternary_trunk`."""
    accumulators = np.empty(activations.size, np.float32)
    start = 0
    for layer in range(SHAPE + 1, shape.size):
        inputs, outputs = shape[layer - 1], shape[layer]
        accumulators[:outputs] = np.float32(0.0)
        for j in range(inputs):
            x = activations[j]
            row = weights[start : start + outputs]
            for i in range(outputs):
                accumulators[i] += x * row[i]
            start += outputs
        squares = 0.0
        for i in range(outputs):
            activations[i] = max(accumulators[i], np.float32(0.0))
            squares += np.float64(activations[i]) * activations[i]
        norm = np.float32(1.0 / math.sqrt(squares / outputs + NORM_EPSILON))
        for i in range(outputs):
            activations[i] *= norm


@njit(cache=True, nogil=True)
def _head(activations, weights):
    """RMSNorm and the full-precision head, in float64: two outputs, biases not yet added.

    activations float32 (N,), weights float32 (2 N,).
    """
    width = activations.size
    squares = first = second = 0.0
    for i in range(width):
        x = np.float64(activations[i])  # numba's float() would stay float32
        squares += x * x
        first += x * weights[i]
        second += x * weights[width + i]
    norm = 1.0 / math.sqrt(squares / width + NORM_EPSILON)
    return first * norm, second * norm


@njit(cache=True, nogil=True)
def quote_kernel(observation, weights, scales, shape):
    """Half-spread and skew (float64, the market's units) for an observation float64[::1] in physical units.

    An observation of another size or with a NaN or infinity, or weights that have diverged, get (no_quote, 0):
    never a wrong quote.
    """
    inputs = shape[SHAPE]
    constants = scales[2 * inputs : 2 * inputs + CONSTANTS]
    no_quote = np.float64(constants[3])
    if observation.size != inputs:
        return no_quote, 0.0
    widest = inputs
    for layer in range(SHAPE + 1, shape.size):
        widest = max(widest, shape[layer])
    activations = np.empty(widest, np.float32)
    if not scale_inputs(observation, scales, activations):
        return no_quote, 0.0

    last = shape[-1]
    head = 2 * inputs + CONSTANTS
    if shape[0] == TERNARY:
        _ternary_trunk(activations, weights, shape)
    else:
        _float_trunk(activations, scales[head + 2 * last :], shape)
    first, second = _head(activations[:last], scales[head : head + 2 * last])

    half_spread, skew = np.float64(constants[0]), 0.0
    if shape[1] >= 0:
        half_spread, skew = observation[shape[1]], observation[shape[2]]
    half_spread += constants[1] * (first + constants[4])
    skew += constants[2] * (second + constants[5])
    if not (math.isfinite(half_spread) and math.isfinite(skew)):
        return no_quote, 0.0
    return half_spread, skew


@njit(cache=True, nogil=True)
def quote_batch(observations, weights, scales, shape, out):
    """`quote_kernel` for each row of `observations` float64 (n, inputs), into `out` float64 (n, 2)."""
    for i in range(observations.shape[0]):
        out[i, 0], out[i, 1] = quote_kernel(observations[i], weights, scales, shape)
