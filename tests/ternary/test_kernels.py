"""The compiled forward against a slow twin in plain Python integers, and its refusal of unsound observations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numba import cfunc, njit, typeof, types

from bitquote.ternary import quote_kernel
from bitquote.ternary.kernels import accumulate, requantize


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


@pytest.mark.parametrize("baseline", ["direct", "residual"])
@pytest.mark.parametrize("hidden", [(64, 64), (1, 3), (7,), (33, 300)])
def test_kernel_equals_its_slow_twin(build, adversarial, hidden, baseline):
    policy = build(6, hidden, baseline=baseline).policy()
    for observation in adversarial(policy.observation_ranges, count=8).astype(np.float64):
        found = quote_kernel(observation, *policy.arguments)
        np.testing.assert_allclose(found, naive_quote(policy, observation), rtol=1e-12)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 2), (4, 5), (257, 9), (4096, 3)])
def test_accumulators_are_exact(inputs, outputs):
    generator = np.random.default_rng(inputs)
    for x in (generator.integers(-127, 128, inputs), np.full(inputs, 127), np.full(inputs, -127)):
        for weights in (generator.integers(-1, 2, (inputs, outputs)), np.ones((inputs, outputs), np.int64)):
            found = np.full(outputs, 99, np.int32)
            accumulate(x.astype(np.float32), weights.astype(np.int8).ravel(), found)
            np.testing.assert_array_equal(found, x @ weights)


def test_activations_of_a_row_without_positive_accumulators_are_zero():
    activations = np.full(3, 5, np.float32)
    requantize(np.array([-3, 0, -1], np.int32), activations)
    assert activations.tolist() == [0, 0, 0]


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
    policy.arguments[1][-1] = np.nan
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
