"""The compiled forward of a quoting network: the same integers as the training forward, without torch.

One function and one argument type serve every network, so whatever calls a network compiles once, new weights
included. `PolicyArguments` packs a network into three flat arrays:

- `weights` int8: the hidden layers one after another, each as `packing.lay_out` has it; empty for fp32.
- `scales` float32: range of each feature, 127 / range of each feature, `CONSTANTS` (below), head (2, last width, padded
  with zeros to a multiple of `LANES`); for fp32 then the hidden layers' weights, (inputs, outputs) in C order.
- `shape` int64: `SHAPE` words (below), observation size, width of each hidden layer.

Two paths lead to the same integers, and a word of `shape` says which: AVX2 (`simd`) and portable. Accumulators cannot
overflow: an activation is at most 127, so that the sum over 256 inputs fits 16 bits (32 512) and that over `MAX_WIDTH`
inputs 32 (520 192); words are widened at the latest every 256 inputs, and what they wrap around in between cancels.

Each float operation here is the one of `network.QuoteNetwork`, in the same order: rounding ties fall the same way.
Fastmath stays off. Source of the recipe: Ma et al. 2024, arXiv 2402.17764.
"""

import math
from typing import NamedTuple

import numpy as np

from bitquote.compilation import inlined, kernel
from bitquote.ternary import simd
from bitquote.ternary.description import MAX_WIDTH

TERNARY, FP32 = 0, 1
PER_FEATURE, PER_ROW = 0, 1
PORTABLE, AVX2 = 0, 1
NORM_EPSILON = 1e-6  # inside RMSNorm's root; an all-zero row stays all zero
ROW_EPSILON = 1e-5  # smallest max |input| of a row that is quantised by itself

LANES = 16  # partial sums of the head
BLOCK = 64  # outputs that the AVX2 path computes together
CHUNK = 128  # pairs of inputs whose products fit 16 bits
LARGEST_BYTES = 1 << 14  # layers with more weights have four in a byte: they would not stay in the first-level cache

# shape[: SHAPE]: architecture, place in the observation of the baseline's half-spread and skew (-1: constant baseline),
# how inputs are quantised, path
SHAPE = 5
# scales[2 inputs : 2 inputs + 6]: constant baseline half-spread, action scales, no-quote half-spread, head biases
CONSTANTS = 6

_WIDEST = MAX_WIDTH + BLOCK
_FOUR = 4 * _WIDEST
_LARGEST = float(np.finfo(np.float64).max)


class PolicyArguments(NamedTuple):
    """What `quote_kernel` takes after the observation; the same three types for every network."""

    weights: np.ndarray  # int8
    scales: np.ndarray  # float32
    shape: np.ndarray  # int64


@inlined
def padded(width, multiple):
    """The next multiple."""
    return (width + multiple - 1) // multiple * multiple


@inlined
def scale_inputs(observation, scales, activations):
    """Write clip(o, ±range) · (127 / range) to `activations` float32; False if an observation is not finite."""
    inputs = observation.size
    unsound = 0
    for i in range(inputs):
        bound = np.float64(scales[i])
        clipped = np.float32(min(max(observation[i], -bound), bound))
        activations[i] = clipped * scales[inputs + i]
        unsound |= np.int64(not abs(observation[i]) <= _LARGEST)  # vectorises, as isfinite does not; NaN too
    return unsound == 0


@inlined
def round_inputs(scaled, per_row, activations):
    """Round to int8, ties to even, after stretching the row to ±127 if `per_row`; the rest of `activations` is 0."""
    inputs = scaled.size
    if per_row:
        largest = np.float32(0.0)
        for i in range(inputs):
            largest = max(largest, abs(scaled[i]))
        stretch = np.float32(127.0) / max(largest, np.float32(ROW_EPSILON))
        for i in range(inputs):
            scaled[i] *= stretch
    for i in range(inputs):
        activations[i] = np.int8(np.rint(scaled[i]))
    for i in range(inputs, activations.size):
        activations[i] = 0


@inlined
def accumulate_portable(activations, weights, accumulators):
    """accumulators int32 (N,) = activations int8 (K,) @ weights int8 (K, N) flat.

    Four inputs a pass: LLVM vectorises the inner loop and touches the accumulators a quarter as often.
    """
    inputs, outputs = activations.size, accumulators.size
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
            accumulators[i] += np.int32(x * row[i])


@inlined
def _total(activations, start, stop):
    total = np.int32(0)
    for j in range(start, stop):
        total += np.int32(activations[j])
    return np.int64(total)


@inlined
def _put(accumulators, place, first, words):
    if first == 0:
        simd.store_words(accumulators, place, words)
    else:
        simd.add_words(accumulators, place, words)


@inlined
def accumulate_avx2(activations, weights, in_bytes, accumulators):
    """The same for weights as `packing.lay_out` has them, K and N padded.

    A weight w is stored as w + 1, since one factor of `pmaddubsw` has no sign: hence the sums begin at -Σ x.
    """
    pairs, blocks = activations.size // 2, accumulators.size // BLOCK
    place = 0
    for first in range(0, pairs, CHUNK):
        last = min(first + CHUNK, pairs)
        total = simd.repeat(-_total(activations, 2 * first, 2 * last))
        for block in range(blocks):
            a = b = c = d = total
            if in_bytes:
                for pair in range(first, last):
                    x = simd.repeat_pair(activations, 2 * pair)
                    a = simd.add(a, simd.multiply_add(simd.load(weights, place), x))
                    b = simd.add(b, simd.multiply_add(simd.load(weights, place + 32), x))
                    c = simd.add(c, simd.multiply_add(simd.load(weights, place + 64), x))
                    d = simd.add(d, simd.multiply_add(simd.load(weights, place + 96), x))
                    place += 128
            else:
                for pair in range(first, last):
                    x = simd.repeat_pair(activations, 2 * pair)
                    w = simd.load(weights, place)
                    a = simd.add(a, simd.multiply_add(simd.two_bits(w, 0), x))
                    b = simd.add(b, simd.multiply_add(simd.two_bits(w, 1), x))
                    c = simd.add(c, simd.multiply_add(simd.two_bits(w, 2), x))
                    d = simd.add(d, simd.multiply_add(simd.two_bits(w, 3), x))
                    place += 32
            output = block * BLOCK
            _put(accumulators, output, first, a)
            _put(accumulators, output + 16, first, b)
            _put(accumulators, output + 32, first, c)
            _put(accumulators, output + 48, first, d)


@inlined
def accumulate_four(activations, weights, inputs, outputs, accumulators):
    """`accumulate_avx2` for four rows, `_WIDEST` apart: a weight is loaded, and its two bits found, once for all four.

    Half a block at a time, as eight sums, two weights and an activation are what 16 registers hold.
    """
    in_bytes = inputs * outputs <= LARGEST_BYTES
    pairs, blocks, step = inputs // 2, outputs // BLOCK, 128 if in_bytes else 32
    start = 0
    for first in range(0, pairs, CHUNK):
        last = min(first + CHUNK, pairs)
        w, x, y, z = 0, _WIDEST, 2 * _WIDEST, 3 * _WIDEST
        sum_w = simd.repeat(-_total(activations, w + 2 * first, w + 2 * last))
        sum_x = simd.repeat(-_total(activations, x + 2 * first, x + 2 * last))
        sum_y = simd.repeat(-_total(activations, y + 2 * first, y + 2 * last))
        sum_z = simd.repeat(-_total(activations, z + 2 * first, z + 2 * last))
        for block in range(blocks):
            for half in range(2):
                w0, x0, y0, z0 = sum_w, sum_x, sum_y, sum_z
                w1, x1, y1, z1 = sum_w, sum_x, sum_y, sum_z
                place = start
                for pair in range(first, last):
                    if in_bytes:
                        a, b = simd.load(weights, place + 64 * half), simd.load(weights, place + 64 * half + 32)
                    else:
                        both = simd.shift(simd.load(weights, place), 4 * half)
                        a, b = simd.two_bits(both, 0), simd.two_bits(both, 1)
                    place += step
                    p, q = simd.repeat_pair(activations, w + 2 * pair), simd.repeat_pair(activations, x + 2 * pair)
                    w0, w1 = simd.add(w0, simd.multiply_add(a, p)), simd.add(w1, simd.multiply_add(b, p))
                    x0, x1 = simd.add(x0, simd.multiply_add(a, q)), simd.add(x1, simd.multiply_add(b, q))
                    p, q = simd.repeat_pair(activations, y + 2 * pair), simd.repeat_pair(activations, z + 2 * pair)
                    y0, y1 = simd.add(y0, simd.multiply_add(a, p)), simd.add(y1, simd.multiply_add(b, p))
                    z0, z1 = simd.add(z0, simd.multiply_add(a, q)), simd.add(z1, simd.multiply_add(b, q))
                output = block * BLOCK + 32 * half
                _put(accumulators, w + output, first, w0)
                _put(accumulators, w + output + 16, first, w1)
                _put(accumulators, x + output, first, x0)
                _put(accumulators, x + output + 16, first, x1)
                _put(accumulators, y + output, first, y0)
                _put(accumulators, y + output + 16, first, y1)
                _put(accumulators, z + output, first, z0)
                _put(accumulators, z + output + 16, first, z1)
            start += step * (last - first)


@inlined
def requantize(accumulators, activations):
    """activations int8 = rint(relu(a) · (127 / max relu(a))), integers in [0, 127]; all zero if no a > 0.

    RMSNorm, weight scale and the previous activations' scale cancel: absmax quantisation is blind to a factor. What
    `activations` has beyond the accumulators becomes 0.
    """
    largest = np.int32(1)
    for i in range(accumulators.size):
        largest = max(largest, accumulators[i])
    scale = np.float32(127.0) / np.float32(largest)
    for i in range(accumulators.size):
        activations[i] = np.int8(np.rint(np.float32(max(accumulators[i], np.int32(0))) * scale))
    for i in range(accumulators.size, activations.size):
        activations[i] = 0


@inlined
def layer_bytes(inputs, outputs, path):
    """Bytes of a layer's weights, as the path has them."""
    if path == PORTABLE:
        return inputs * outputs
    count = padded(inputs, 2) * padded(outputs, BLOCK)
    return count if count <= LARGEST_BYTES else count // 4


@inlined
def accumulate(activations, weights, inputs, outputs, path, accumulators):
    """One layer, of activations int8 with zeros behind the inputs; accumulators behind the outputs mean nothing."""
    if path == PORTABLE:
        accumulate_portable(activations[:inputs], weights, accumulators[:outputs])
    else:
        inputs, outputs = padded(inputs, 2), padded(outputs, BLOCK)
        in_bytes = inputs * outputs <= LARGEST_BYTES
        accumulate_avx2(activations[:inputs], weights, in_bytes, accumulators[:outputs])


@inlined
def _ternary_trunk(activations, accumulators, weights, shape):
    """Run the ternary hidden layers in place; `activations` int8 holds the inputs, then the last layer."""
    start = 0
    for layer in range(SHAPE + 1, shape.size):
        inputs, outputs, path = shape[layer - 1], shape[layer], shape[4]
        stop = start + layer_bytes(inputs, outputs, path)
        accumulate(activations, weights[start:stop], inputs, outputs, path, accumulators)
        requantize(accumulators[:outputs], activations[: padded(outputs, BLOCK)])
        start = stop


@inlined
def _float_trunk(activations, accumulators, weights, shape):
    """Run the fp32 twin's hidden layers (linear, ReLU, RMSNorm) in place, laid out as in `_ternary_trunk`."""
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
        for i in range(outputs, padded(outputs, BLOCK)):
            activations[i] = 0.0


@inlined
def _head(activations, width, weights):
    """RMSNorm and the full-precision head, in float64: two outputs, biases not yet added.

    activations int8 or float32, with zeros behind the `width` that count; weights float32 (2 · width padded to LANES).
    Every product is exact in float64. Element i goes to partial sum i modulo LANES; these are added in halves.
    """
    wide = padded(width, LANES)
    squares = first = second = simd.zeros()
    for start in range(0, wide, LANES):
        x = simd.widen(activations, start)
        squares = simd.multiply_into(squares, x, x)
        first = simd.multiply_into(first, x, simd.widen(weights, start))
        second = simd.multiply_into(second, x, simd.widen(weights, wide + start))
    norm = 1.0 / math.sqrt(simd.sum_halves(squares) / width + NORM_EPSILON)
    return simd.sum_halves(first) * norm, simd.sum_halves(second) * norm


@kernel
def quote_kernel(observation, weights, scales, shape):
    """Half-spread and skew (float64, the market's units) for an observation float64[::1] in physical units.

    An observation of another size or with a NaN or infinity, or weights that have diverged, get (no_quote, 0):
    never a wrong quote. Allocates nothing.
    """
    inputs = shape[SHAPE]
    constants = scales[2 * inputs : 2 * inputs + CONSTANTS]
    no_quote = np.float64(constants[3])
    if observation.size != inputs:
        return no_quote, 0.0
    scaled = simd.stack_floats(_WIDEST)
    if not scale_inputs(observation, scales, scaled):
        return no_quote, 0.0

    last = shape[-1]
    head = 2 * inputs + CONSTANTS
    trunk = head + 2 * padded(last, LANES)
    if shape[0] == TERNARY:
        activations = simd.stack_bytes(_WIDEST)
        round_inputs(scaled[:inputs], shape[3] == PER_ROW, activations[: padded(inputs, 2)])
        _ternary_trunk(activations, simd.stack_ints(_WIDEST), weights, shape)
        first, second = _head(activations, last, scales[head:trunk])
    else:
        _float_trunk(scaled, simd.stack_floats(_WIDEST), scales[trunk:], shape)
        first, second = _head(scaled, last, scales[head:trunk])

    return _quote(observation, first, second, constants, shape)


@inlined
def _quote(observation, first, second, constants, shape):
    """The quote that the head's two outputs mean."""
    half_spread, skew = np.float64(constants[0]), 0.0
    if shape[1] >= 0:
        half_spread, skew = observation[shape[1]], observation[shape[2]]
    half_spread += constants[1] * (first + constants[4])
    skew += constants[2] * (second + constants[5])
    if not (math.isfinite(half_spread) and math.isfinite(skew)):
        return np.float64(constants[3]), 0.0
    return half_spread, skew


@inlined
def _quote_four(observations, start, weights, scales, shape, out):
    """The quotes of four rows of observations from `start` on, all in step through the layers."""
    inputs, last = shape[SHAPE], shape[-1]
    constants = scales[2 * inputs : 2 * inputs + CONSTANTS]
    head = 2 * inputs + CONSTANTS
    activations, accumulators = simd.stack_bytes(_FOUR), simd.stack_ints(_FOUR)
    scaled, sound = simd.stack_floats(_WIDEST), simd.stack_bytes(4)
    for row in range(4):
        sound[row] = scale_inputs(observations[start + row], scales, scaled)
        if not sound[row]:
            scaled[:inputs] = np.float32(0.0)
        place = row * _WIDEST
        round_inputs(scaled[:inputs], shape[3] == PER_ROW, activations[place : place + padded(inputs, 2)])
    begin = 0
    for layer in range(SHAPE + 1, shape.size):
        inputs, outputs = padded(shape[layer - 1], 2), padded(shape[layer], BLOCK)
        end = begin + layer_bytes(inputs, outputs, AVX2)
        accumulate_four(activations, weights[begin:end], inputs, outputs, accumulators)
        for row in range(4):
            place = row * _WIDEST
            requantize(accumulators[place : place + shape[layer]], activations[place : place + outputs])
        begin = end
    for row in range(4):
        place = row * _WIDEST
        half_spread, skew = np.float64(constants[3]), 0.0
        if sound[row]:
            first, second = _head(activations[place : place + _WIDEST], last, scales[head:])
            half_spread, skew = _quote(observations[start + row], first, second, constants, shape)
        out[start + row, 0], out[start + row, 1] = half_spread, skew


@kernel
def quote_batch(observations, weights, scales, shape, out):
    """`quote_kernel` for each row of `observations` float64 (n, inputs), into `out` float64 (n, 2)."""
    rows, blocked = observations.shape[0], 0
    if shape[0] == TERNARY and shape[4] == AVX2 and observations.shape[1] == shape[SHAPE]:
        blocked = rows - rows % 4
    for i in range(0, blocked, 4):
        _quote_four(observations, i, weights, scales, shape, out)
    for i in range(blocked, rows):
        out[i, 0], out[i, 1] = quote_kernel(observations[i], weights, scales, shape)


@kernel
def record_integers(observation, weights, scales, shape, activations, accumulators):
    """The integers of a ternary network: into rows of int64 `activations` what goes into each hidden layer, into rows
    of int64 `accumulators` what comes out. `observation` as for `quote_kernel`, sound."""
    inputs, path = shape[SHAPE], shape[4]
    scaled = simd.stack_floats(_WIDEST)
    x = simd.stack_bytes(_WIDEST)
    sums = simd.stack_ints(_WIDEST)
    scale_inputs(observation, scales, scaled)
    round_inputs(scaled[:inputs], shape[3] == PER_ROW, x[: padded(inputs, 2)])
    start = 0
    for layer in range(SHAPE + 1, shape.size):
        inputs, outputs = shape[layer - 1], shape[layer]
        stop = start + layer_bytes(inputs, outputs, path)
        accumulate(x, weights[start:stop], inputs, outputs, path, sums)
        for i in range(inputs):
            activations[layer - SHAPE - 1, i] = x[i]
        for i in range(outputs):
            accumulators[layer - SHAPE - 1, i] = sums[i]
        requantize(sums[:outputs], x[: padded(outputs, BLOCK)])
        start = stop
