"""A million observations, four ways: the training forward, both compiled paths, and C give the same integers."""

from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise

import numpy as np
import pytest
import torch
from numba import njit

from bitquote.ternary import Policy, quote_batch, simd
from bitquote.ternary.export_c import export_c
from bitquote.ternary.kernels import record_integers

ROWS, AT_ONCE = 1_000_000, 50_000
LAYERS, WIDEST = 2, 64


@njit
def record(observations, weights, scales, shape, activations, accumulators):
    """The integers of every row, (rows, LAYERS, WIDEST) each."""
    for row in range(observations.shape[0]):
        record_integers(observations[row], weights, scales, shape, activations[row], accumulators[row])


@pytest.mark.study
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not simd.AVAILABLE or shutil.which("gcc") is None, reason="needs AVX2 and gcc")
@pytest.mark.parametrize("inputs", [6, 32])
def test_no_integer_differs(build, adversarial, tmp_path, inputs):
    network = build(inputs, (WIDEST, WIDEST))
    fast = network.policy()
    plain = Policy(fast.description, {}, fast.tensors(), path="portable")
    export_c(fast, tmp_path / "quoter.c")
    program = tmp_path / "quoter"
    command = ["gcc", "-O3", "-mavx2", "-DBITQUOTE_MAIN", str(tmp_path / "quoter.c"), "-o", str(program), "-lm"]
    subprocess.run(command, check=True)
    widths = (inputs, WIDEST, WIDEST)
    rows = 0
    for seed in range(2 * ROWS // AT_ONCE):
        if rows >= ROWS:
            break
        observations = adversarial(fast.observation_ranges, count=AT_ONCE // 4, seed=seed)  # float32: torch's too
        rows += len(observations)
        exact = observations.astype(np.float64)
        space = np.zeros((2, 2, len(exact), LAYERS, WIDEST), np.int64)
        quotes = np.empty((2, len(exact), 2))
        for path, policy in enumerate((fast, plain)):
            record(exact, *policy.arguments, space[path, 0], space[path, 1])
            quote_batch(exact, *policy.arguments, quotes[path])
        np.testing.assert_array_equal(space[0], space[1])
        np.testing.assert_array_equal(quotes[0], quotes[1])
        with torch.no_grad():
            trained = network.integers(torch.from_numpy(observations))
        count = sum(a + b for a, b in pairwise(widths))
        output = subprocess.run([program, "integers"], input=exact.tobytes(), capture_output=True, check=True).stdout
        found = np.frombuffer(output, [("quotes", "f8", 2), ("integers", "i4", count)])
        np.testing.assert_array_equal(found["quotes"], quotes[0])
        start = 0
        for layer, (a, b) in enumerate(pairwise(widths)):
            activations, accumulators = (tensor.numpy() for tensor in trained[layer])
            np.testing.assert_array_equal(space[0, 0, :, layer, :a], activations)
            np.testing.assert_array_equal(space[0, 1, :, layer, :b], accumulators)
            np.testing.assert_array_equal(found["integers"][:, start : start + a], activations)
            np.testing.assert_array_equal(found["integers"][:, start + a : start + a + b], accumulators)
            start += a + b
    assert rows >= ROWS
