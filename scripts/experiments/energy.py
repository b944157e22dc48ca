"""Size and energy of a ternary policy, and the paper's table of language models: by arithmetic, nothing is measured.

    python scripts/experiments/energy.py
    python scripts/experiments/energy.py --policy runs/game/20260101-120000-1/policy.safetensors

Without a policy it takes one of the given widths with Gaussian weights, of which absmean leaves 31 % zeros.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bitquote.errors import InputError
from bitquote.ternary import Policy, PolicyDescription, load_policy
from bitquote.ternary.energy import operations, policy_energies, product_energies, weight_bytes
from bitquote.ternary.llama import language_model_table

PAGE = 120
NOTE = "Models, not measurements: no instruction, control or leakage is counted."
LEGEND = """\
Embedding and head are FP16. rest: what the paper's LLaMA holds beyond its weights, taken for b1.58 too; "with rest" is
the ratio of memory then, or of the weights where the paper prints no GB. Its 70B is as remembered; 3.9B has a nominal
count, and is set against 3B. products: energy of the projections by the paper's convention; 512 tokens: of all
products, with head and attention in FP16."""


def gaussian_policy(inputs: int, hidden: Sequence[int], seed: int = 0) -> Policy:
    """A policy whose trits are those of Gaussian weights by absmean."""
    generator = np.random.default_rng(seed)
    names = tuple(f"feature_{i}" for i in range(inputs))
    description = PolicyDescription(names, (1.0,) * inputs, hidden=tuple(hidden))
    tensors = {}
    for name, (dtype, shape) in description.layout().items():
        weights = generator.normal(size=shape)
        if dtype == np.int8:
            weights = np.clip(np.rint(weights / np.abs(weights).mean()), -1, 1)
        tensors[name] = np.asarray(np.abs(weights) if name.endswith("scale") else weights).astype(dtype)
    return Policy(description, {}, tensors)


class Page(NamedTuple):
    """A table with what stands above and below it."""

    title: str
    table: Table
    note: str

    def show(self, console: Console) -> None:
        """Print it."""
        for part in (Text(self.title, style="bold"), self.table, Text(self.note + "\n", style="dim")):
            console.print(part)


def empty_table(*columns: str) -> Table:
    """The first column is words, the others are numbers."""
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        result.add_column(column, justify="right" if index else "left", no_wrap=not index)
    return result


def sizes(policy: Policy) -> Page:
    """Bytes of the hidden weights."""
    size = weight_bytes(policy)
    result = empty_table("format", "bytes", "bits a weight", "fp32 / it")
    formats = {
        "fp32": size.fp32,
        "fp16": size.fp16,
        "int8": size.int8,
        f"as the kernel reads them ({policy.path})": size.kernel,
        "2 bits": size.two_bits,
        "in the file": size.stored,
        "log2(3)": size.limit,
    }
    for name, count in formats.items():
        bits = 8 * count / size.weights
        result.add_row(name, f"{count:,.0f}", f"{bits:.3f}", f"{size.fp32 / count:.2f}x")
    widths = "-".join(map(str, (policy.observation_size, *policy.description.hidden, 2)))
    note = f"Head and scales, the same beside each of these: {size.others:,} bytes."
    return Page(f"Weights of {policy.architecture} {widths}", result, note)


def energies(policy: Policy) -> Page:
    """pJ of a quote, convention by convention."""
    result = empty_table("convention", "products", "quantisers", "head", "memory", "total", "bytes")
    for row in policy_energies(policy):
        parts = (row.products, row.around, row.head, row.memory, row.total)
        moved = f"{row.bytes_moved:,}" if row.bytes_moved else "-"
        result.add_row(row.label, *(f"{part:,.1f}" if part else "-" for part in parts), moved)
    counts = operations(policy)
    zeros = f"{counts.zeros / counts.products:.1%} zeros"
    note = f"{counts.products:,} products, {zeros}, {counts.quantised:,} values quantised. {NOTE}"
    return Page("Energy of one quote, pJ (model)", result, note)


def products(policy: Policy) -> Page:
    """What is left of the paper's ratio, with this policy's share of zeros."""
    counts = operations(policy)
    result = empty_table("convention", "FP16", "ternary", "FP16 / ternary")
    for row in product_energies(counts.zeros / counts.products):
        result.add_row(row.label, f"{row.fp16:.3g}", f"{row.ternary:.3g}", f"{row.ratio:.1f}x")
    return Page("One weight of a matrix-vector product, pJ (model)", result, NOTE)


def language_models(tied: bool) -> Page:
    """The shapes of the paper."""
    result = empty_table(
        "model", "FP16", "b1.58", "ratio", "rest", "with rest", "paper", "off by", "products", "512 tokens"
    )
    for row in language_model_table(tied=tied):
        result.add_row(
            row.model.name,
            f"{row.fp16:.2f}",
            f"{row.ternary:.2f}",
            f"{row.weights_ratio:.2f}x",
            "-" if row.common is None else f"{row.common:.2f}",
            f"{row.ratio:.2f}x",
            "-" if row.paper_ratio is None else f"{row.paper_ratio:.2f}x",
            "-" if row.difference is None else f"{row.difference:+.1%}",
            f"{row.products_ratio:.1f}x",
            f"{row.arithmetic_ratio:.1f}x",
        )
    return Page("LLaMA in FP16 and BitNet b1.58 at 2 bits: GB of weights, and energy (model)", result, LEGEND)


def main(words: list[str] | None = None) -> int:
    """Print the four tables; 2 for words that make no sense."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", type=Path, help="a policy file; --inputs and --hidden are of no use with it")
    parser.add_argument("--inputs", type=int, default=32, help="features (32)")
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 64], help="widths of the hidden layers (64 64)")
    parser.add_argument("--tied", action="store_true", help="language models with one matrix for embedding and head")
    options = parser.parse_args(words)
    try:
        policy = load_policy(options.policy) if options.policy else gaussian_policy(options.inputs, options.hidden)
        pages = (sizes(policy), energies(policy), products(policy), language_models(options.tied))
    except InputError as error:
        print(f"energy: {error}", file=sys.stderr)
        return 2
    console = Console(width=None if sys.stdout.isatty() else PAGE, highlight=False)
    for page in pages:
        page.show(console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
