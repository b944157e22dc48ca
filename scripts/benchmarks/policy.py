"""Nanoseconds per quote of the compiled network, beside torch's forward of the same weights, on one thread.

    python scripts/benchmarks/policy.py --inputs 32 --hidden 64 64

Compiled figures are per call inside @njit, over 1024 observations in turn; torch's are for one row, in
inference mode. Training is forward and backward of the mean square. The first call is that of the cached kernel in
a fresh process, after the import.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bitquote.ternary import Policy, QuoteNetwork, quote_batch

ROWS = 1024
FIRST_CALL = """
import sys, time
start = time.perf_counter()
from bitquote.ternary import load_policy
imported = time.perf_counter()
policy = load_policy(sys.argv[1])
policy.quote([0.0] * policy.observation_size)
print(f"import {imported - start:.2f} s, load and first quote {time.perf_counter() - imported:.2f} s")
"""


def seconds(call: Callable[[], object], runs: int) -> float:
    """Median seconds of `call`, after one call that is not timed."""
    call()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def first_call(policy: Policy) -> str:
    """What a fresh process reports about its first quote, with the kernel in numba's cache."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "policy.safetensors"
        policy.save(path)
        command = [sys.executable, "-c", FIRST_CALL, str(path)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def measure(architecture: str, options: argparse.Namespace) -> None:
    """Print the figures of one architecture."""
    names = tuple(f"feature_{i}" for i in range(options.inputs))
    ranges = (1.0,) * options.inputs
    network = QuoteNetwork(names, ranges, hidden=tuple(options.hidden), architecture=architecture)
    policy = network.policy()
    observations = np.random.default_rng(0).normal(size=(ROWS, options.inputs))
    out = np.empty((ROWS, 2))
    row = torch.tensor(observations[:1], dtype=torch.float32)
    batch = torch.randn(options.batch, options.inputs)

    def train() -> None:
        network(batch).square().mean().backward()

    compiled = seconds(lambda: quote_batch(observations, *policy.arguments, out), options.runs) / ROWS
    with torch.inference_mode():
        forward = seconds(lambda: network(row), options.runs)
    training = seconds(train, options.runs) / options.batch
    refresh = seconds(lambda: network.refresh(policy), options.runs)
    print(f"{architecture:8} {1e9 * compiled:7.0f} ns a quote inside njit   {1e9 * forward:7.0f} ns torch, batch 1")
    print(f"{'':8} {1e9 * training:7.0f} ns a row, training at batch {options.batch}   {1e6 * refresh:.0f} us refresh")
    print(f"{'':8} fresh process: {first_call(policy)}")


def main() -> None:
    """Print the figures of both architectures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=32)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 64])
    parser.add_argument("--batch", type=int, default=4096, help="rows of a training step")
    parser.add_argument("--runs", type=int, default=101, help="timed runs; the median counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    widths = "-".join(str(width) for width in (options.inputs, *options.hidden, 2))
    print(f"{platform.processor() or platform.machine()}, one thread, {widths}, median of {options.runs} runs")
    for architecture in ("ternary", "fp32"):
        measure(architecture, options)


if __name__ == "__main__":
    main()
