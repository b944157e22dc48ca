"""What a quote costs: the compiled ternary policy beside torch, ONNX Runtime, numba in fp32 and C, on one thread.

    python scripts/benchmarks/policy.py [--runs 101] [--only quote batch matvec swap parts start]

All peers compute the same shapes with random weights in the same run. The C twin (twin.c, compiled here by gcc -O3
-mavx2) reads the arrays of the policy itself and must give the same quotes in every bit before it is timed. Figures
are medians; "p99" is over single calls, timed by the processor's counter inside compiled code (its own cost included).
ONNX Runtime is measured where it is installed.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from rich.console import Console
from rich.table import Table

from bitquote.ternary import Policy, QuoteNetwork, kernels, quote_batch, quote_kernel
from bitquote.ternary.packing import lay_out
from bitquote.ternary.paths import CODES, choose

ROWS = 1024
REPEATS = 50
SHAPES = ((64, 64), (256, 256))
INPUTS = 32
FIRST_CALL = """
import sys, time
start = time.perf_counter()
from bitquote.ternary import load_policy
imported = time.perf_counter()
policy = load_policy(sys.argv[1])
policy.quote([0.0] * policy.observation_size)
print(f"{imported - start:.2f} s to import, {time.perf_counter() - imported:.2f} s to load and quote")
"""
console = Console(width=130)


def seconds(call: Callable[[], object], runs: int) -> float:
    """Median seconds of `call`, after one call that is not timed."""
    call()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def each(calls: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Median seconds of each call; they take turns, so that what disturbs the machine disturbs all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for run in range(runs + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if run:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def repeated(call: Callable[[], object]) -> Callable[[], None]:
    """`REPEATS` calls in a row, with warm caches."""

    def calls() -> None:
        for _ in range(REPEATS):
            call()

    return calls


def network_of(hidden: tuple[int, ...], inputs: int = INPUTS) -> QuoteNetwork:
    """A ternary network with random weights, head included."""
    torch.manual_seed(0)
    names = tuple(f"feature_{i}" for i in range(inputs))
    return QuoteNetwork(names, (1.0,) * inputs, hidden=hidden, zero_head=False)


def observations_of(rows: int, inputs: int = INPUTS) -> np.ndarray:
    """Random float64 observations (rows, inputs)."""
    return np.random.default_rng(0).normal(size=(rows, inputs))


# Peers.


def plain(hidden: tuple[int, ...]) -> torch.nn.Sequential:
    """The same shape in torch, fp32."""
    widths = (INPUTS, *hidden, 2)
    layers: list[torch.nn.Module] = []
    for a, b in pairwise(widths):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def onnx_sessions(model: torch.nn.Sequential, folder: Path) -> dict[str, Any]:
    """The model in ONNX Runtime, fp32 and dynamically quantised to int8, one thread each; empty if not installed."""
    try:
        import onnx
        import onnxruntime
        from onnxruntime.quantization import quantize_dynamic
    except ImportError:
        return {}
    nodes, constants, name = [], [], "x"
    for i, layer in enumerate(model):
        if isinstance(layer, torch.nn.Linear):
            weight, bias = layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy()
            constants += [onnx.numpy_helper.from_array(weight, f"w{i}"), onnx.numpy_helper.from_array(bias, f"b{i}")]
            nodes += [onnx.helper.make_node("MatMul", [name, f"w{i}"], [f"m{i}"])]
            nodes += [onnx.helper.make_node("Add", [f"m{i}", f"b{i}"], [f"y{i}"])]
        else:
            nodes += [onnx.helper.make_node("Relu", [name], [f"y{i}"])]
        name = f"y{i}"
    real = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "mlp",
        [onnx.helper.make_tensor_value_info("x", real, ["n", INPUTS])],
        [onnx.helper.make_tensor_value_info(name, real, ["n", 2])],
        constants,
    )
    saved = folder / "fp32.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), saved)
    quantize_dynamic(saved, folder / "int8.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return {
        f"ONNX Runtime {kind}": onnxruntime.InferenceSession(folder / f"{kind}.onnx", options)
        for kind in ("fp32", "int8")
    }


@njit(fastmath=True)
def float_layer(x, weights, out):
    """out = relu(x @ weights), weights (inputs, outputs)."""
    out[:] = np.float32(0.0)
    for j in range(weights.shape[0]):
        value = x[j]
        for i in range(weights.shape[1]):
            out[i] += value * weights[j, i]
    for i in range(out.size):
        out[i] = max(out[i], np.float32(0.0))


@njit(fastmath=True)
def float_batch(observations, first, second, head, out):
    """The fp32 network in numba, without norms: as fast as it gets there."""
    a, b, c = np.empty(first.shape[1], np.float32), np.empty(second.shape[1], np.float32), np.empty(2, np.float32)
    x = np.empty(first.shape[0], np.float32)
    for row in range(observations.shape[0]):
        x[:] = observations[row]
        float_layer(x, first, a)
        float_layer(a, second, b)
        float_layer(b, head, c)
        out[row, 0], out[row, 1] = c[0], c[1]


class Twin:
    """twin.c, compiled."""

    def __init__(self, folder: Path) -> None:
        library = folder / "twin.so"
        source = Path(__file__).with_name("twin.c")
        flags = ["-O3", "-mavx2", "-ffp-contract=off", "-shared", "-fPIC"]
        subprocess.run(["gcc", *flags, str(source), "-o", str(library), "-lm"], check=True)
        self._library = ctypes.CDLL(str(library))

    def quote_batch(self, observations: np.ndarray, policy: Policy, out: np.ndarray) -> None:
        """As `quote_batch`."""
        weights, scales, shape = policy.arguments
        arrays = [ctypes.c_void_p(array.ctypes.data) for array in (weights, scales, shape)]
        rows, words = ctypes.c_long(len(observations)), ctypes.c_long(shape.size)
        start, end = ctypes.c_void_p(observations.ctypes.data), ctypes.c_void_p(out.ctypes.data)
        self._library.quote_batch(start, rows, *arrays, words, end)

    def layer(self, x: np.ndarray, weights: np.ndarray, accumulators: np.ndarray) -> None:
        """One layer of padded sizes."""
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (x, weights)]
        sizes = ctypes.c_long(x.size), ctypes.c_long(accumulators.size)
        self._library.accumulate(*pointers, *sizes, ctypes.c_void_p(accumulators.ctypes.data))


# Measurements.


@intrinsic
def counter(context):
    """The processor's time-stamp counter."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.IntType(64), [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.readcyclecounter"), [])

    return types.int64(), generate


@njit
def one_by_one(observations, weights, scales, shape, out):
    """A call of the kernel a row, from compiled code."""
    for i in range(observations.shape[0]):
        out[i, 0], out[i, 1] = quote_kernel(observations[i], weights, scales, shape)


@njit
def ticks(observations, weights, scales, shape, out):
    """The counter's ticks of every single quote."""
    total = 0.0
    for i in range(out.size):
        before = counter()
        half_spread, _ = quote_kernel(observations[i % observations.shape[0]], weights, scales, shape)
        out[i] = counter() - before
        total += half_spread
    return total


def p99(policy: Policy, observations: np.ndarray) -> float:
    """Seconds within which 99 of 100 single quotes are done."""
    out = np.empty(200_000, np.int64)
    ticks(observations, *policy.arguments, out)
    start, before = time.perf_counter(), out.sum()
    ticks(observations, *policy.arguments, out)
    elapsed, before = time.perf_counter() - start, out.sum()
    return float(np.quantile(out, 0.99)) * elapsed / before


def measure_quotes(options: argparse.Namespace, folder: Path) -> None:
    """Batch 1: a call a quote, from compiled code where there is any."""
    table = Table("one quote", *(title(hidden) for hidden in SHAPES), title="nanoseconds a quote (ratio to bitquote)")
    columns: list[dict[str, float]] = []
    for hidden in SHAPES:
        policy, observations, out = network_of(hidden).policy(), observations_of(ROWS), np.empty((ROWS, 2))
        portable = Policy(policy.description, {}, policy.tensors(), path="portable")
        model, row = plain(hidden), torch.tensor(observations[:1], dtype=torch.float32)
        frozen = torch.jit.freeze(torch.jit.trace(model.eval(), row))
        weights = [layer.weight.detach().numpy().T.copy() for layer in model if isinstance(layer, torch.nn.Linear)]
        calls: dict[str, tuple[Callable[[], object], int]] = {
            "bitquote": (lambda p=policy, o=observations, r=out: one_by_one(o, *p.arguments, r), ROWS),
            "bitquote, portable": (lambda p=portable, o=observations, r=out: one_by_one(o, *p.arguments, r), ROWS),
            "numba fp32, fastmath": (lambda o=observations, w=weights, r=out: float_batch(o, *w, r), ROWS),
            "torch inference_mode": (repeated(lambda m=model, x=row: m(x)), REPEATS),
            "torch jit freeze": (repeated(lambda m=frozen, x=row: m(x)), REPEATS),
        }
        if policy.path == "avx2":
            twin, check = Twin(folder), np.empty((ROWS, 2))
            twin.quote_batch(observations, policy, check)
            one_by_one(observations, *policy.arguments, out)
            np.testing.assert_array_equal(check, out)
            calls["C twin"] = (lambda t=twin, p=policy, o=observations, r=out: t.quote_batch(o, p, r), ROWS)
        for name, session in onnx_sessions(model, folder).items():
            calls[name] = (repeated(lambda s=session, x=row.numpy(): s.run(None, {"x": x})), REPEATS)  # noqa: B008
        with torch.inference_mode():
            times = each({name: call for name, (call, _) in calls.items()}, options.runs)
        found = {name: 1e9 * times[name] / rows for name, (_, rows) in calls.items()}
        found["bitquote, p99 of single calls"] = 1e9 * p99(policy, observations)
        columns.append(found)
    for name in columns[0]:
        table.add_row(name, *(f"{found[name]:,.0f} ({found[name] / found['bitquote']:.2f})" for found in columns))
    console.print(table)


def measure_batches(options: argparse.Namespace, folder: Path) -> None:
    """Batch 4096."""
    table = Table("batch 4096", *(title(hidden) for hidden in SHAPES), title="nanoseconds a row (ratio to bitquote)")
    columns = []
    for hidden in SHAPES:
        policy, observations, out = network_of(hidden).policy(), observations_of(4096), np.empty((4096, 2))
        model, rows = plain(hidden), torch.tensor(observations, dtype=torch.float32)
        calls = {
            "bitquote": lambda p=policy, o=observations, r=out: quote_batch(o, *p.arguments, r),
            "torch fp32": lambda m=model, x=rows: m(x),
        }
        for name, session in onnx_sessions(model, folder).items():
            calls[name] = lambda s=session, x=rows: s.run(None, {"x": x.numpy()})
        with torch.inference_mode():
            times = each(calls, options.runs)
        columns.append({name: 1e9 * found / 4096 for name, found in times.items()})
    for name in columns[0]:
        table.add_row(name, *(f"{found[name]:,.0f} ({found[name] / found['bitquote']:.2f})" for found in columns))
    console.print(table)


@njit
def layer(activations, weights, inputs, outputs, path, accumulators):
    """One layer as the policy computes it."""
    kernels.accumulate(activations, weights, inputs, outputs, path, accumulators)


def measure_matrices(options: argparse.Namespace, folder: Path) -> None:
    """Matrix-vector products, warm and with caches that hold something else."""
    table = Table("matrix · vector", "bitquote", "C twin", "torch fp32", "torch / bitquote", title="microseconds")
    other = np.ones(1 << 24)
    path = CODES[choose().name]
    twin = Twin(folder) if path == kernels.AVX2 else None
    for size in (1024, 4096):
        generator = np.random.default_rng(0)
        trits = generator.integers(-1, 2, (size, size)).astype(np.int8)
        x = generator.integers(-127, 128, size).astype(np.int8)
        weights, found = lay_out(trits, path), np.zeros(size + kernels.BLOCK, np.int32)
        matrix, vector = torch.tensor(trits, dtype=torch.float32), torch.tensor(x, dtype=torch.float32)
        calls = {
            "bitquote": lambda x=x, w=weights, n=size, f=found: layer(x, w, n, n, path, f),
            "C twin": lambda x=x, w=weights, n=size, f=found: twin and twin.layer(x, w, f[:n]),
            "torch": lambda m=matrix, v=vector: torch.mv(m, v),
        }
        layer(x, weights, size, size, path, found)
        np.testing.assert_array_equal(found[:size], trits.astype(np.int64) @ x)
        in_a_row = {name: repeated(call) for name, call in calls.items()}
        warm = {name: 1e6 * found / REPEATS for name, found in each(in_a_row, options.runs // 5 + 1).items()}
        cold = {name: 1e6 * cold_seconds(call, other) for name, call in calls.items()}
        for kind, times in (("warm", warm), ("cold", cold)):
            ratio = times["torch"] / times["bitquote"]
            table.add_row(f"{size} × {size}, {kind}", *(f"{value:,.1f}" for value in times.values()), f"{ratio:.1f}")
    console.print(table)


def cold_seconds(call: Callable[[], object], other: np.ndarray) -> float:
    """Median seconds of a call after 128 MB of something else went through the caches."""
    times = []
    for _ in range(11):
        other += 1.0
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure_swaps(options: argparse.Namespace, folder: Path) -> None:
    """New weights in a running loop."""
    for hidden in SHAPES:
        network = network_of(hidden)
        policy = network.policy()
        tensors = policy.tensors()
        update = 1e6 * seconds(lambda p=policy, t=tensors: p.update(t), options.runs)
        refresh = 1e6 * seconds(lambda p=policy, n=network: n.refresh(p), options.runs)
        console.print(f"{title(hidden)}: new weights {update:.0f} µs, from the torch module {refresh:.0f} µs")


@njit
def time_inputs(observations, scales, scaled, x):
    total = 0
    for i in range(observations.shape[0]):
        kernels.scale_inputs(observations[i], scales, scaled)
        kernels.round_inputs(scaled[: observations.shape[1]], False, x)
        total += x[3]
    return total


@njit
def time_layer(x, weights, inputs, outputs, path, accumulators, runs):
    total = 0
    for _ in range(runs):
        kernels.accumulate(x, weights, inputs, outputs, path, accumulators)
        total += accumulators[3]
        x[0] = total & 63
    return total


@njit
def time_requantise(accumulators, x, runs):
    total = 0
    for _ in range(runs):
        kernels.requantize(accumulators, x)
        total += x[5]
        accumulators[1] = total & 255
    return total


@njit
def time_head(x, width, weights, runs):
    total = 0.0
    for i in range(runs):
        x[0] = i & 63
        first, second = kernels._head(x, width, weights)
        total += first + second
    return total


def measure_parts(options: argparse.Namespace, folder: Path) -> None:
    """Where the time of a quote goes. Each part runs by itself, so that they do not add up exactly."""
    names = ("inputs", "first layer", "second layer", "requantise", "head", "whole")
    table = Table("32 inputs", *names, "arithmetic floor", title="nanoseconds")
    clock = 1.0 / cycle_seconds()
    for hidden in SHAPES:
        policy, observations, width = network_of(hidden).policy(), observations_of(ROWS), hidden[0]
        weights, scales, shape = policy.arguments
        path = int(shape[4])
        x = np.random.default_rng(0).integers(0, 127, kernels.MAX_WIDTH).astype(np.int8)
        sums = np.random.default_rng(0).integers(-900, 900, kernels.MAX_WIDTH).astype(np.int32)
        scaled, out = np.empty(INPUTS, np.float32), np.empty((ROWS, 2))
        first = kernels.layer_bytes(INPUTS, width, path)
        head = 2 * INPUTS + kernels.CONSTANTS
        sizes, last = (INPUTS, width, width), scales[head:]
        calls = [
            lambda o=observations, s=scales, f=scaled, x=x: time_inputs(o, s, f, x[:INPUTS]),
            lambda x=x, w=weights[:first], n=sizes, a=sums, p=path: time_layer(x, w, n[0], n[1], p, a, ROWS),
            lambda x=x, w=weights[first:], n=sizes, a=sums, p=path: time_layer(x, w, n[1], n[2], p, a, ROWS),
            lambda x=x, n=width, a=sums: time_requantise(a[:n], x[:n], ROWS),
            lambda x=x, n=width, w=last: time_head(x, n, w, ROWS),
            lambda o=observations, p=policy, r=out: one_by_one(o, *p.arguments, r),
        ]
        found = each({str(place): call for place, call in enumerate(calls)}, options.runs)
        times = [1e9 * value / ROWS for value in found.values()]
        # 32 products and their pairwise sums an instruction, two a cycle: multiply-add and add.
        products = INPUTS * width + width * width
        floor = 1e9 * (products / 32) * 2 / 2 / clock
        table.add_row(title(hidden), *(f"{value:.0f}" for value in times), f"{floor:.0f}")
    console.print(table)
    console.print(f"The floor: one multiply-add and one add for 32 weights, two a cycle, at {clock / 1e9:.2f} GHz.")


@njit
def chain(count):
    x = np.uint64(88172645463325252)
    for _ in range(count):  # six instructions, each of which needs the one before
        x ^= x << np.uint64(13)
        x ^= x >> np.uint64(7)
        x ^= x << np.uint64(17)
    return x


def cycle_seconds() -> float:
    """Seconds of a clock cycle, by a chain of instructions that take one each."""
    return seconds(lambda: chain(1_000_000), 21) / 6e6


def measure_start(options: argparse.Namespace, folder: Path) -> None:
    """A fresh process's first quote, with the kernel in numba's cache."""
    path = folder / "policy.safetensors"
    network_of((64, 64)).policy().save(path)
    command = [sys.executable, "-c", FIRST_CALL, str(path)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    console.print(f"fresh process: {found}; file of 32-64-64-2: {path.stat().st_size:,} bytes")


def title(hidden: tuple[int, ...]) -> str:
    """A network's widths."""
    return "-".join(str(width) for width in (INPUTS, *hidden, 2))


PARTS = {
    "quote": measure_quotes,
    "batch": measure_batches,
    "matvec": measure_matrices,
    "swap": measure_swaps,
    "parts": measure_parts,
    "start": measure_start,
}


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread inside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=101, help="timed runs; the median counts")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    path, reason = choose()
    console.print(f"path {path}: {reason}; one thread; medians of {options.runs} runs")
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        for part in options.only:
            PARTS[part](options, Path(folder))


if __name__ == "__main__":
    main()
