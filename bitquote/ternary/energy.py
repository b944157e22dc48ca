"""Size and energy of a policy: models, never measurements. `llama` has the language models of the paper.

Two conventions stand side by side:

- The paper's (Ma et al. 2024, "The Era of 1-bit LLMs", arXiv 2402.17764): matrix products alone, an INT8 addition for
  each ternary weight, an FP16 addition and multiplication for each FP16 weight, at 7 nm.
- An honest one: wide accumulators, quantisers, norm and head in floating point, and the bytes that are moved, with the
  energies of one published table at 45 nm.

Energies are in picojoules. What both leave out: instructions, control, leakage, and whatever else a processor does;
on a CPU that is most of its energy, so these figures rank formats and foretell no electricity bill.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bitquote.errors import InputError, require, require_choice
from bitquote.ternary import kernels, paths
from bitquote.ternary.packing import packed_size

if TYPE_CHECKING:
    from bitquote.ternary.policy import Policy

WEIGHTS = ("ternary", "fp16", "fp32")
BYTES = {"fp16": 2, "fp32": 4}
NARROW = 2 * kernels.CHUNK  # inputs whose sum fits 16 bits


@dataclass(frozen=True)
class Arithmetic:
    """Energy of what the paper counts, in pJ, at one process node."""

    name: str
    int8_add: float
    fp16_add: float
    fp16_multiply: float

    @property
    def fp16_product(self) -> float:
        """A multiplication and an addition."""
        return self.fp16_add + self.fp16_multiply


@dataclass(frozen=True)
class Node(Arithmetic):
    """Energy of every operation of the honest convention, in pJ.

    Attributes:
        caches: bytes of a cache, and energy of a byte read from it or written to it; the smallest first.
        dram: energy of a byte.
    """

    int16_add: float
    int32_add: float
    fp32_add: float
    fp32_multiply: float
    caches: tuple[tuple[int, float], ...]
    dram: float

    def near(self, size: int) -> float:
        """pJ of a byte of the smallest memory that holds `size` bytes."""
        return next((energy for capacity, energy in self.caches if size <= capacity), self.dram)


PAPER = Arithmetic("7 nm", int8_add=0.007, fp16_add=0.16, fp16_multiply=0.34)
"""The paper's, after Horowitz 2014 and Zhang et al. 2022 (PokeBNN). It prints only what follows from them, 71.4; the
figures themselves are those that its readers quote."""

HOROWITZ = Node(
    "45 nm",
    int8_add=0.03,
    fp16_add=0.4,
    fp16_multiply=1.1,
    int16_add=0.05,
    int32_add=0.1,
    fp32_add=0.9,
    fp32_multiply=3.7,
    caches=((8 * 1024, 10.0 / 8), (32 * 1024, 20.0 / 8), (1024 * 1024, 100.0 / 8)),
    dram=1950.0 / 8,
)
"""Horowitz 2014, "Computing's energy problem", ISSCC, at 45 nm and 0.9 V; caches and DRAM per 64 bits there.

DRAM is the middle of its 1.3 to 2.6 nJ. It has no INT16 addition: 0.05 is the figure of Dally's talk (ScaledML 2019)
as public energy models quote it, near the mean of Horowitz's 8 and 32 bits by width.
"""


# A policy's weights


class WeightBytes(NamedTuple):
    """Bytes of the weights of a policy's hidden layers in several formats, and of all its other parameters."""

    weights: int
    """Their number."""
    stored: int
    """In the policy's file: five trits to a byte, or float32."""
    kernel: int
    """As the compiled kernel reads them on the policy's path, padding included."""
    two_bits: int
    int8: int
    fp16: int
    fp32: int
    limit: float
    """log2(3) bits a weight: no code for trits that are equally frequent takes less."""
    others: int
    """Scales and head, in float32: the same beside every format."""

    @property
    def bits_per_weight(self) -> float:
        """In the policy's file."""
        return 8.0 * self.stored / self.weights


def weight_bytes(policy: Policy) -> WeightBytes:
    """What the weights take; for an fp32 policy what they take now, and would take as trits."""
    shapes = layer_shapes(policy)
    sizes = [inputs * outputs for inputs, outputs in shapes]
    count, ternary = sum(sizes), policy.architecture == "ternary"
    code = paths.CODES[policy.path]
    everything = sum(array.size for array in policy.tensors().values())
    return WeightBytes(
        weights=count,
        stored=sum(packed_size(shape) for shape in shapes) if ternary else 4 * count,
        kernel=sum(kernels.layer_bytes(*shape, code) for shape in shapes) if ternary else 4 * count,
        two_bits=sum(-(-size // 4) for size in sizes),
        int8=count,
        fp16=2 * count,
        fp32=4 * count,
        limit=count * math.log2(3) / 8,
        others=4 * (everything - count),
    )


def layer_shapes(policy: Policy) -> list[tuple[int, int]]:
    """(inputs, outputs) of each hidden layer."""
    return list(pairwise((policy.observation_size, *policy.description.hidden)))


def layer_zeros(policy: Policy) -> list[int]:
    """Number of weights that are 0 in each hidden layer."""
    tensors = policy.tensors()
    weights = [tensors[f"hidden.{layer}.weight"] for layer in range(len(policy.description.hidden))]
    return [int(array.size - np.count_nonzero(array)) for array in weights]


# A policy's quote


@dataclass(frozen=True)
class Operations:
    """What one quote takes, counted.

    Attributes:
        products: weights of the hidden layers; each is an addition or subtraction, or a multiply-add when not ternary.
        zeros: how many of these weights are 0, so that whoever can skip them saves an addition.
        widenings: additions of a 16-bit partial sum to a 32-bit accumulator, one an output and 256 inputs.
        quantised: values that are rounded to 8 bits, of observation and hidden layers; with floats these are
            normalised instead.
        head_products: multiply-adds of head and last norm.
    """

    products: int
    zeros: int
    widenings: int
    quantised: int
    head_products: int


def operations(policy: Policy) -> Operations:
    """The counts for one quote."""
    shapes = layer_shapes(policy)
    return Operations(
        products=sum(inputs * outputs for inputs, outputs in shapes),
        zeros=sum(layer_zeros(policy)),
        widenings=sum(-(-inputs // NARROW) * outputs for inputs, outputs in shapes),
        quantised=policy.observation_size + sum(policy.description.hidden),
        head_products=3 * policy.description.hidden[-1],
    )


@dataclass(frozen=True)
class Energy:
    """A model of the energy of one quote, in pJ.

    Attributes:
        label: convention and format, in words; "DRAM" where weights and scales come from there.
        products: of the hidden layers.
        around: quantisers, ReLU and norms between layers.
        head: last norm, head, and what makes a quote of it.
        memory: what is moved.
        bytes_moved: from and to the memories, each once a quote.
    """

    label: str
    products: float
    around: float = 0.0
    head: float = 0.0
    memory: float = 0.0
    bytes_moved: int = 0

    @property
    def total(self) -> float:
        """The sum, in pJ."""
        return self.products + self.around + self.head + self.memory


def paper_energy(policy: Policy, weights: str | None = None, node: Arithmetic = PAPER) -> Energy:
    """The paper's convention: matrix products alone, the head's in FP16.

    weights: "ternary" or "fp16", what the hidden weights are or would be; None: the policy's own, FP16 for fp32.
    """
    weights = weights or ("ternary" if policy.architecture == "ternary" else "fp16")
    require_choice("weights", weights, ("ternary", "fp16"))
    _check_weights(policy, weights)
    product = node.int8_add if weights == "ternary" else node.fp16_product
    head = 2 * policy.description.hidden[-1] * node.fp16_product
    return Energy(f"paper's, {node.name}, {weights}", operations(policy).products * product, head=head)


def honest_energy(
    policy: Policy,
    weights: str | None = None,
    *,
    accumulator: int = 16,
    skip_zeros: bool = False,
    cold: bool = False,
    node: Node = HOROWITZ,
) -> Energy:
    """The honest convention, for one quote.

    Comparison and rounding count as an addition, division and root as a multiplication, float64 as float32, for which
    alone there are figures.

    Args:
        weights: "ternary", "fp16" or "fp32", what the hidden weights are or would be; None: what they are.
        accumulator: bits of a ternary layer's sums: 16, widened to 32 every 256 inputs as the kernel does, or 32.
        skip_zeros: whether weights that are 0 cost nothing, and finding them neither. The kernel here skips none.
        cold: whether weights and scales come from DRAM; else from the smallest cache that holds all that is moved.
    """
    weights = weights or policy.architecture
    require_choice("weights", weights, WEIGHTS)
    require(accumulator in (16, 32), "accumulator", accumulator, "16 or 32")
    _check_weights(policy, weights)
    inputs, hidden, counts = policy.observation_size, policy.description.hidden, operations(policy)
    values = inputs + sum(hidden)
    activations = 8 * inputs  # the observation, float64
    if weights == "ternary":
        additions = counts.products - (counts.zeros if skip_zeros else 0)
        products = additions * (node.int16_add if accumulator == 16 else node.int32_add)
        products += counts.widenings * node.int32_add if accumulator == 16 else 0.0
        around = _quantisers(policy, node)
        parameters = weight_bytes(policy).kernel
        activations += 2 * values + 8 * sum(hidden)  # int8 and int32 accumulators, written and read
    else:
        product = node.fp16_product if weights == "fp16" else node.fp32_add + node.fp32_multiply
        products = counts.products * product
        around = _norms(policy, node)
        parameters = BYTES[weights] * counts.products
        activations += 2 * BYTES[weights] * values
    parameters += 4 * (2 * inputs + kernels.CONSTANTS + 2 * hidden[-1])
    near = node.near(parameters + activations)
    return Energy(
        label=_honest_label(node, weights, accumulator, skip_zeros, cold),
        products=products,
        around=around,
        head=(counts.head_products + 4) * (node.fp32_multiply + node.fp32_add),  # norm, scale, bias and baseline of two
        memory=parameters * (node.dram if cold else near) + activations * near,
        bytes_moved=parameters + activations,
    )


def _quantisers(policy: Policy, node: Node) -> float:
    """Of a ternary policy. A feature: two clips, a multiplication, rounding, and where rows have a scale of their own
    a maximum and a multiplication. A hidden value: ReLU and maximum of integers, a multiplication, rounding. A row: a
    division."""
    inputs, hidden = policy.observation_size, policy.description.hidden
    add, multiply = node.fp32_add, node.fp32_multiply
    energy = inputs * (multiply + 3 * add) + sum(hidden) * (2 * node.int32_add + multiply + add)
    energy += len(hidden) * multiply
    if policy.description.input_quantisation == "per_row":
        energy += inputs * (multiply + add) + multiply
    return energy


def _norms(policy: Policy, node: Node) -> float:
    """Of a policy with floats. A feature: two clips, a multiplication. A hidden value: ReLU, a square and its sum, a
    multiplication. A row: a root."""
    inputs, hidden = policy.observation_size, policy.description.hidden
    add, multiply = node.fp32_add, node.fp32_multiply
    return inputs * (multiply + 2 * add) + sum(hidden) * (2 * multiply + 2 * add) + len(hidden) * multiply


def policy_energies(policy: Policy) -> list[Energy]:
    """Every convention that makes sense for this policy, the formats that it is compared with first."""
    if policy.architecture != "ternary":
        return [paper_energy(policy), *(honest_energy(policy, weights) for weights in ("fp32", "fp16"))]
    return [
        paper_energy(policy, "fp16"),
        paper_energy(policy),
        honest_energy(policy, "fp32"),
        honest_energy(policy, "fp16"),
        honest_energy(policy, accumulator=32),
        honest_energy(policy),
        honest_energy(policy, skip_zeros=True),
        honest_energy(policy, "fp16", cold=True),
        honest_energy(policy, cold=True),
    ]


def _check_weights(policy: Policy, weights: str) -> None:
    if weights == "ternary" and policy.architecture != "ternary":
        raise InputError(f"weights is 'ternary': must be fp16 or fp32 for a policy that is {policy.architecture}")


def _honest_label(node: Node, weights: str, accumulator: int, skip_zeros: bool, cold: bool) -> str:
    words = [f"honest, {node.name}, {weights}"]
    if weights == "ternary":
        words += [f"int{accumulator} sums", *(["zeros skipped"] if skip_zeros else [])]
    return ", ".join([*words, *(["DRAM"] if cold else [])])


# One weight of a matrix product


class ProductEnergy(NamedTuple):
    """A model of the energy of one weight's part in a matrix-vector product, in pJ."""

    label: str
    fp16: float
    ternary: float

    @property
    def ratio(self) -> float:
        """How many times the ternary weight is cheaper."""
        return self.fp16 / self.ternary


def product_energies(zero_share: float = 0.31, node: Node = HOROWITZ) -> list[ProductEnergy]:
    """From the paper's 71.4 down to what is left when wide sums and the weight's own bytes are paid for.

    zero_share: of the ternary weights, for the row in which these are skipped; 0.31 is that of Gaussian weights.
    """
    require(0.0 <= zero_share < 1.0, "zero_share", zero_share, "at least 0 and below 1")
    paper, here = PAPER.fp16_product, node.fp16_product
    wide = node.int16_add + node.int32_add / NARROW
    capacity, near = node.caches[1]
    two_bits = 0.25  # bytes
    return [
        ProductEnergy(f"paper's convention, {PAPER.name}: an INT8 addition", paper, PAPER.int8_add),
        ProductEnergy(f"the same at {node.name}", here, node.int8_add),
        ProductEnergy(f"{node.name}, int16 sums widened every {NARROW} inputs", here, wide),
        ProductEnergy(f"the same, {zero_share:.0%} zeros skipped", here, wide * (1.0 - zero_share)),
        ProductEnergy(f"{node.name}, int32 sums", here, node.int32_add),
        ProductEnergy(
            f"int16 sums, weights (2 bits) from a cache of {capacity // 1024} KB",
            here + 2 * near,
            wide + two_bits * near,
        ),
        ProductEnergy("int16 sums, weights (2 bits) from DRAM", here + 2 * node.dram, wide + two_bits * node.dram),
    ]
