"""Sizes and energies: what the paper prints, and what a small network gives by hand."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import numpy as np
import pytest

from bitquote.errors import InputError
from bitquote.ternary import Policy
from bitquote.ternary.energy import (
    HOROWITZ,
    PAPER,
    honest_energy,
    layer_zeros,
    operations,
    paper_energy,
    policy_energies,
    product_energies,
    weight_bytes,
)
from bitquote.ternary.llama import LANGUAGE_MODELS, language_model_table

SCRIPT = Path(__file__).parents[2] / "scripts" / "experiments" / "energy.py"


@pytest.fixture(scope="module")
def policies(build) -> dict[str, Policy]:
    """32-64-64-2, ternary and fp32."""
    return {name: build(32, (64, 64), name).policy() for name in ("ternary", "fp32")}


@pytest.fixture(scope="module")
def policy(policies) -> Policy:
    return policies["ternary"]


@pytest.fixture(scope="module")
def rows() -> dict:
    return {row.model.name: row for row in language_model_table()}


def test_matrix_products_save_what_the_paper_prints(rows):
    assert f"{(0.16 + 0.34) / 0.007:.1f}" == "71.4"
    assert f"{PAPER.fp16_product / PAPER.int8_add:.1f}" == "71.4"
    assert {f"{row.products_ratio:.1f}" for row in rows.values()} == {"71.4"}
    assert f"{product_energies()[0].ratio:.1f}" == "71.4"


def test_a_policy_saves_as_much_without_its_head(policy):
    ratio = paper_energy(policy, "fp16").products / paper_energy(policy).products
    assert f"{ratio:.1f}" == "71.4"
    assert paper_energy(policy).products == pytest.approx(6144 * 0.007)
    assert paper_energy(policy).head == paper_energy(policy, "fp16").head == pytest.approx(2 * 64 * 0.5)


@pytest.mark.parametrize(
    ("name", "printed", "tolerance"),
    [
        ("700M", "2.60", 0.11),
        ("1.3B", "2.93", 0.08),
        ("3B", "3.55", 0.02),
        ("3.9B", "3.32", 0.01),
        ("70B", "7.16", 0.07),
    ],
)
def test_memory_is_the_papers_within(rows, name, printed, tolerance):
    assert rows[name].paper_ratio is not None
    assert f"{rows[name].paper_ratio:.2f}" == printed, "as its table 1 divides"
    assert rows[name].ratio == pytest.approx(float(printed), rel=tolerance)
    assert abs(rows[name].difference) < tolerance


def test_the_model_and_the_paper_differ_by_what_the_table_says(rows):
    """Weights alone save far more than the paper measured at small sizes: this is no tuned agreement."""
    for name in ("700M", "1.3B", "3B", "3.9B"):
        assert 1.5 < rows[name].weights_ratio / rows[name].paper_ratio < 1.7
        assert 0.4 < rows[name].common < 1.1
    for name in ("7B", "13B"):
        assert rows[name].paper_ratio is None and rows[name].difference is None
        assert rows[name].ratio == rows[name].weights_ratio


def test_common_memory_makes_tying_irrelevant(rows):
    for row in language_model_table(tied=True):
        if row.common is not None:
            assert row.ratio == pytest.approx(rows[row.model.name].ratio, rel=1e-12)
            assert row.fp16 < rows[row.model.name].fp16


@pytest.mark.parametrize(("name", "billions"), [("7B", 6.738), ("13B", 13.016), ("70B", 68.977)])
def test_shapes_have_the_published_number_of_weights(name, billions):
    model = next(model for model in LANGUAGE_MODELS if model.name == name)
    assert (model.projections + 2 * model.embedding) / 1e9 == pytest.approx(billions, abs=2e-3), "but for the norms"


def test_a_small_language_model_by_hand():
    model = LANGUAGE_MODELS[0]
    projections = 24 * (4 * 1536**2 + 3 * 1536 * 4096)
    assert model.projections == projections
    assert model.bytes(16) == 2 * projections + 4 * 32_000 * 1536
    assert model.bytes(2, tied=True) == projections / 4 + 2 * 32_000 * 1536
    row = language_model_table(tokens=1)[0]
    others = 0.5 * (32_000 * 1536 + 2 * 24 * 1536)
    assert row.arithmetic_ratio == pytest.approx((0.5 * projections + others) / (0.007 * projections + others))
    assert row.arithmetic_ratio < row.products_ratio


@pytest.mark.parametrize("wrong", [{"bits": 0.0}, {"bits": 17.0}, {"tokens": 0}])
def test_a_language_model_table_refuses(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        language_model_table(**wrong)


def test_wide_sums_and_bytes_leave_less():
    ratios = [row.ratio for row in product_energies(0.31)]
    by_hand = [
        1.5 / 0.03,
        1.5 / (0.05 + 0.1 / 256),
        1.5 / (0.05 + 0.1 / 256) / 0.69,
        15.0,
        (1.5 + 2 * 2.5) / (0.05 + 0.1 / 256 + 2.5 / 4),
        (1.5 + 2 * 243.75) / (0.05 + 0.1 / 256 + 243.75 / 4),
    ]
    assert ratios[1:] == pytest.approx(by_hand)
    assert ratios[-1] == pytest.approx(8.0, abs=0.05), "what is left is the ratio of bits"
    with pytest.raises(InputError, match="zero_share"):
        product_energies(1.0)


def test_sizes_by_hand(policy):
    size = weight_bytes(policy)
    assert size.weights == 32 * 64 + 64 * 64 == 6144
    assert size.stored == 410 + 820
    assert size.kernel == 6144, "both layers have a byte a weight"
    assert (size.two_bits, size.int8, size.fp16, size.fp32) == (1536, 6144, 12288, 24576)
    assert size.limit == pytest.approx(1217.3, abs=0.1)
    assert size.others == 4 * (2 * 64 + 2 + 2)
    assert size.bits_per_weight == pytest.approx(1.6016, abs=1e-4)


def test_the_kernels_bytes_are_those_that_it_reads(build):
    for hidden in ((64, 64), (256, 256), (70, 9)):
        for path in ("portable", None):
            trained = build(33, hidden).policy()
            policy = Policy(trained.description, {}, trained.tensors(), path=path)
            assert weight_bytes(policy).kernel == policy.arguments[0].nbytes


def test_the_stored_bytes_are_those_of_the_file(policy, policies, tmp_path):
    from safetensors import safe_open

    for each in policies.values():
        each.save(tmp_path / "policy.safetensors")
        with safe_open(str(tmp_path / "policy.safetensors"), framework="np") as file:
            tensors = {name: file.get_tensor(name).nbytes for name in file.keys()}  # noqa: SIM118
        size = weight_bytes(each)
        assert size.stored == tensors["hidden.0.weight"] + tensors["hidden.1.weight"]
        assert size.stored + size.others == sum(tensors.values())


def test_operations_are_counted(policy):
    tensors = policy.tensors()
    zeros = [int((tensors[f"hidden.{layer}.weight"] == 0).sum()) for layer in range(2)]
    counts = operations(policy)
    assert layer_zeros(policy) == zeros
    assert (counts.products, counts.zeros, counts.quantised) == (6144, sum(zeros), 32 + 64 + 64)
    assert counts.widenings == 64 + 64
    assert counts.head_products == 3 * 64


def test_widenings_of_wide_layers(build):
    assert operations(build(6, (257, 8)).policy()).widenings == 257 + 2 * 8


def test_honest_energy_by_hand(policy):
    energy = honest_energy(policy)
    assert energy.products == pytest.approx(6144 * 0.05 + 128 * 0.1)
    assert energy.around == pytest.approx(32 * (3.7 + 2.7) + 128 * (0.2 + 3.7 + 0.9) + 2 * 3.7)
    assert energy.head == pytest.approx((3 * 64 + 4) * 4.6)
    parameters = 6144 + 4 * (64 + 6 + 128)
    activations = 8 * 32 + 2 * (32 + 128) + 8 * 128
    assert energy.bytes_moved == parameters + activations
    assert 8192 < energy.bytes_moved <= 32768
    assert energy.memory == pytest.approx(energy.bytes_moved * 20 / 8)
    assert energy.total == energy.products + energy.around + energy.head + energy.memory

    assert honest_energy(policy, accumulator=32).products == pytest.approx(6144 * 0.1)
    zeros = operations(policy).zeros
    assert honest_energy(policy, skip_zeros=True).products == pytest.approx((6144 - zeros) * 0.05 + 12.8)
    assert honest_energy(policy, cold=True).memory == pytest.approx(parameters * 243.75 + activations * 2.5)
    assert honest_energy(policy, "fp16").products == pytest.approx(6144 * 1.5)
    assert honest_energy(policy, "fp32").products == pytest.approx(6144 * 4.6)


def test_rows_of_their_own_scale_cost_more(policy):
    from dataclasses import replace

    description = replace(policy.description, input_quantisation="per_row")
    other = Policy(description, {}, policy.tensors())
    assert honest_energy(other).around == pytest.approx(honest_energy(policy).around + 32 * 4.6 + 3.7)


def test_memory_of_a_size(policy):
    assert [HOROWITZ.near(size) for size in (8192, 8193, 32768, 2**20, 2**20 + 1)] == [1.25, 2.5, 2.5, 12.5, 243.75]


def test_every_convention_is_labelled_and_dearer_when_honest(policies):
    for policy in policies.values():
        energies = policy_energies(policy)
        assert len({energy.label for energy in energies}) == len(energies)
        for energy in energies:
            assert energy.label.startswith(("paper's, 7 nm", "honest, 45 nm"))
            assert all(math.isfinite(part) for part in (energy.products, energy.around, energy.head, energy.memory))
    ternary = policies["ternary"]
    paper = paper_energy(ternary, "fp16").total / paper_energy(ternary).total
    honest = honest_energy(ternary, "fp16").total / honest_energy(ternary).total
    assert 1.0 < honest < paper < 71.5


def test_what_makes_no_sense_is_refused(policies):
    with pytest.raises(InputError, match="must be fp16 or fp32"):
        honest_energy(policies["fp32"], "ternary")
    with pytest.raises(InputError, match="must be fp16 or fp32"):
        paper_energy(policies["fp32"], "ternary")
    with pytest.raises(InputError, match="weights"):
        honest_energy(policies["ternary"], "int4")
    with pytest.raises(InputError, match="accumulator"):
        honest_energy(policies["ternary"], accumulator=8)


def test_an_fp32_policy_has_no_trits(policies):
    size = weight_bytes(policies["fp32"])
    assert size.stored == size.kernel == size.fp32 == 24576
    assert size.bits_per_weight == 32.0
    assert paper_energy(policies["fp32"]).label.endswith("fp16")


def test_the_command_prints_every_table(policy, tmp_path, capsys):
    script = runpy.run_path(str(SCRIPT))
    assert script["main"]([]) == 0
    text = capsys.readouterr().out
    for word in ("1,230", "71.4x", "7.60x", "model", "not measurements"):
        assert word in text
    policy.save(tmp_path / "policy.safetensors")
    assert script["main"](["--policy", str(tmp_path / "policy.safetensors")]) == 0
    assert f"{operations(policy).zeros / 6144:.1%} zeros" in capsys.readouterr().out
    assert script["main"](["--inputs", "0"]) == 2
    assert "observation_names" in capsys.readouterr().err


def test_gaussian_weights_leave_31_percent_zeros():
    policy = runpy.run_path(str(SCRIPT))["gaussian_policy"](32, (256, 256))
    assert sum(layer_zeros(policy)) / operations(policy).products == pytest.approx(0.31, abs=0.01)
    assert np.isfinite(policy.quote([0.1] * 32)).all()
