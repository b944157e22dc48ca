"""The compiled forward against a slow twin in plain Python integers, and its refusal of unsound observations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numba import cfunc, njit, typeof, types

from bitquote.ternary import Policy, quote_batch, quote_kernel, simd
from bitquote.ternary.kernels import CONSTANTS, accumulate, layer_bytes, requantize
from bitquote.ternary.packing import lay_out
from bitquote.ternary.paths import CODES

PATHS = ["portable", "avx2"] if simd.AVAILABLE else ["portable"]
needs_avx2 = pytest.mark.skipif(not simd.AVAILABLE, reason="this processor has no AVX2")


def naive_quote(policy, observation) -> tuple[float, float]:
    """The network by its definition, one number at a time."""
    tensors, description = policy.tensors(), policy.description
    x = []
    for value, bound in zip(observation, description.observation_ranges, strict=True):
        scale = np.float32(127) / np.float32(bound) if bound else np.float32(0)
        x.append(int(np.rint(np.float32(min(max(float(value), -bound), bound)) * scale)))
    for layer in range(len(description.hidden)):
        rows = tensors[f"hidden.{layer}.weight"].tolist()
        a = [max(sum(w * v for w, v in zip(row, x, strict=True)), 0) for row in rows]
        scale = np.float32(127) / np.float32(max(a)) if max(a) else np.float32(0)
        x = [int(np.rint(np.float32(v) * scale)) for v in a]
    root = math.sqrt(sum(v * v for v in x) / len(x) + 1e-6)
    out = [sum(float(w) * v for w, v in zip(row, x, strict=True)) / root for row in tensors["head.weight"]]
    out = [value + float(bias) for value, bias in zip(out, tensors["head.bias"], strict=True)]
    base = (description.base_half_spread, 0.0)
    if description.baseline == "residual":
        base = tuple(float(observation[i]) for i in description.baseline_features())
    return tuple(b + s * v for b, s, v in zip(base, description.action_scale, out, strict=True))


def on(policy, path) -> Policy:
    """The same policy on another path."""
    return Policy(policy.description, policy.metadata, policy.tensors(), path=path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("baseline", ["direct", "residual"])
@pytest.mark.parametrize("hidden", [(64, 64), (1, 3), (7,), (33, 300), (65, 255)])
def test_kernel_equals_its_slow_twin(build, adversarial, hidden, baseline, path):
    policy = on(build(6, hidden, baseline=baseline).policy(), path)
    for observation in adversarial(policy.observation_ranges, count=8).astype(np.float64):
        found = quote_kernel(observation, *policy.arguments)
        np.testing.assert_allclose(found, naive_quote(policy, observation), rtol=1e-12)


@needs_avx2
@pytest.mark.parametrize("inputs", [1, 6, 31, 300])
@pytest.mark.parametrize("hidden", [(1,), (64, 64), (3, 5, 2), (127, 130), (256, 256), (257, 513)])
def test_both_paths_agree_in_every_bit(build, adversarial, inputs, hidden):
    policy = build(inputs, hidden).policy()
    fast, plain = on(policy, "avx2"), on(policy, "portable")
    for observation in adversarial(policy.observation_ranges, count=16).astype(np.float64):
        assert fast.quote(observation) == plain.quote(observation)
        for layers in zip(fast.integers(observation), plain.integers(observation), strict=True):
            for one, other in zip(*layers, strict=True):
                np.testing.assert_array_equal(one, other)


@needs_avx2
def test_a_million_observations_give_the_same_quotes_on_both_paths(build, adversarial):
    policy = build(32, (64, 64)).policy()
    rows = adversarial(policy.observation_ranges, count=330_000).astype(np.float64)
    assert len(rows) > 1_000_000
    out = np.empty((2, len(rows), 2))
    quote_batch(rows, *on(policy, "avx2").arguments, out[0])
    quote_batch(rows, *on(policy, "portable").arguments, out[1])
    np.testing.assert_array_equal(*out)


@njit
def layer(activations, weights, inputs, outputs, path, accumulators):
    accumulate(activations, weights, inputs, outputs, path, accumulators)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("outputs", [1, 64, 65, 300])
@pytest.mark.parametrize("inputs", [1, 2, 3, 63, 255, 256, 257, 512, 4095, 4096])
def test_accumulators_are_exact_where_they_are_largest(inputs, outputs, path):
    generator = np.random.default_rng(inputs)
    for x in (generator.integers(-127, 128, inputs), np.full(inputs, 127), np.full(inputs, -127)):
        for weights in (generator.integers(-1, 2, (outputs, inputs)), np.ones((outputs, inputs), np.int64)):
            activations = np.zeros(inputs + 64, np.int8)
            activations[:inputs] = x
            found = np.full(outputs + 64, 99, np.int32)
            layer(activations, lay_out(weights.astype(np.int8), CODES[path]), inputs, outputs, CODES[path], found)
            np.testing.assert_array_equal(found[:outputs], weights @ x)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 65), (130, 64), (257, 129), (1000, 40)])
def test_a_layer_has_the_bytes_that_the_kernel_expects(inputs, outputs, path):
    laid_out = lay_out(np.zeros((outputs, inputs), np.int8), CODES[path])
    assert laid_out.size == layer_bytes(inputs, outputs, CODES[path])


def test_activations_of_a_row_without_positive_accumulators_are_zero():
    activations = np.full(3, 5, np.int8)
    requantize(np.array([-3, 0, -1], np.int32), activations)
    assert activations.tolist() == [0, 0, 0]


def test_new_weights_take_effect_without_compiling_anew(build):
    network, other = build(), build(seed=1)
    policy = network.policy()
    before = len(quote_kernel.signatures)
    arrays = [id(array) for array in policy.arguments]
    other.refresh(policy)
    observation = np.linspace(-1.0, 1.0, 6)
    assert policy.quote(observation) == other.policy().quote(observation) != network.policy().quote(observation)
    assert [id(array) for array in policy.arguments] == arrays and len(quote_kernel.signatures) == before


@pytest.mark.parametrize("architecture", ["ternary", "fp32"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_observation_that_is_not_finite_gets_no_quotes(build, architecture, value):
    policy = build(architecture=architecture, baseline="residual").policy()
    for feature in range(6):
        observation = np.zeros(6)
        observation[feature] = value
        assert quote_kernel(observation, *policy.arguments) == (policy.no_quote, 0.0)


def test_a_number_beyond_float32_is_clipped_like_any_other(build):
    policy = build().policy()
    ranges = np.array(policy.observation_ranges)
    signs = np.array([1.0, -1.0, 1.0, 1.0, -1.0, 1.0])
    assert quote_kernel(1e300 * signs, *policy.arguments) == quote_kernel(ranges * signs, *policy.arguments)


def test_an_observation_of_another_size_gets_no_quotes(build):
    policy = build().policy()
    for size in (0, 5, 7, 1000):
        assert quote_kernel(np.zeros(size), *policy.arguments) == (policy.no_quote, 0.0)


def test_diverged_weights_get_no_quotes(build):
    policy = build().policy()
    policy.arguments[1][2 * policy.observation_size + CONSTANTS] = np.nan
    assert quote_kernel(np.ones(6), *policy.arguments) == (policy.no_quote, 0.0)


def test_all_networks_share_one_compiled_function(build):
    types_of = {
        tuple(typeof(array) for array in build(inputs, hidden, architecture).policy().arguments)
        for inputs, hidden, architecture in [(6, (64, 64), "ternary"), (1, (1,), "fp32"), (9, (3, 3, 3), "ternary")]
    }
    assert types_of == {(types.int8[::1], types.float32[::1], types.int64[::1])}


def test_callable_from_compiled_code_and_as_a_c_function(build):
    policy = build().policy()
    observation = np.linspace(-1.0, 1.0, 6)

    @njit
    def direct(observation, arguments):
        return quote_kernel(observation, *arguments)

    @njit
    def through_pointer(quoter, observation, arguments):
        return quoter(observation, *arguments)

    arguments = tuple(policy.arguments)
    assert direct(observation, arguments) == policy.quote(observation)
    result = types.UniTuple(types.float64, 2)
    pointer = cfunc(result(types.float64[::1], *map(typeof, arguments)))(quote_kernel.py_func)
    assert through_pointer(pointer, observation, arguments) == policy.quote(observation)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("hidden", [(64, 64), (33, 300), (257, 130)])
@pytest.mark.parametrize("rows", [1, 4, 11])
def test_a_batch_is_its_rows(build, adversarial, rows, hidden, path):
    policy = on(build(7, hidden, baseline="residual").policy(), path)
    observations = adversarial(policy.observation_ranges, count=3).astype(np.float64)[:rows]
    observations[rows // 2, 3] = np.nan  # among sound ones
    out = np.empty((rows, 2))
    quote_batch(observations, *policy.arguments, out)
    expected = [quote_kernel(observation, *policy.arguments) for observation in observations]
    np.testing.assert_array_equal(out, expected)
    assert out[rows // 2].tolist() == [policy.no_quote, 0.0]


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_observations_of_another_type_are_read_as_what_they_are(build, dtype):
    policy = build(7).policy()  # an odd number of features
    observation = np.array([1, -1, 2, 0, 3, 1, -1])
    assert quote_kernel(observation.astype(dtype), *policy.arguments) == policy.quote(observation)
    if dtype == np.float32:
        for value in (np.nan, np.inf, -np.inf):
            broken = observation.astype(dtype)
            broken[-1] = value
            assert quote_kernel(broken, *policy.arguments) == (policy.no_quote, 0.0)
