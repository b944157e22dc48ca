"""The quantisers against the published formulas, and their gradients against the recipe written with detach."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitquote.ternary import flip_rate, zero_share
from bitquote.ternary.quantize import (
    Accumulate,
    QuantizeRows,
    RoundStraightThrough,
    Trits,
    quantize_weight,
    stretch_rows,
)


def test_absmean_weights():
    weight = torch.tensor([[0.1, -0.4, 0.9], [-1.0, 0.0, 0.6]])
    trits, scale = quantize_weight(weight)
    assert scale.item() == pytest.approx(0.5)
    assert trits.tolist() == [[0, -1, 1], [-1, 0, 1]]


def test_absmean_rounds_half_to_even_and_survives_zero_weights():
    trits, scale = quantize_weight(torch.tensor([[0.5, -0.5, 2.0, 1.0]]))
    assert (scale.item(), trits.tolist()) == (1.0, [[0, 0, 1, 1]])
    trits, scale = quantize_weight(torch.zeros(2, 3))
    assert scale.item() == pytest.approx(1e-5)
    assert not trits.any()


def test_absmedian_weights():
    """Sizes 0, 0.1, 0.3, 0.5, 2: the median is 0.3. Of six sizes it is the lower of the two in the middle."""
    trits, scale = quantize_weight(torch.tensor([[0.1, -0.3, 0.5, 0.0, -2.0]]), "absmedian")
    assert scale.item() == pytest.approx(0.3)
    assert trits.tolist() == [[0, -1, 1, 0, -1]]  # 0.5 / 0.3 and -2 / 0.3 go beyond one and are clipped
    trits, scale = quantize_weight(torch.tensor([[0.1, -0.4, 0.9], [-1.0, 0.0, 0.6]]), "absmedian")
    assert scale.item() == pytest.approx(0.4)
    assert trits.tolist() == [[0, -1, 1], [-1, 0, 1]]


def test_absmedian_rounds_half_to_even_and_survives_mostly_zero_weights():
    trits, scale = quantize_weight(torch.tensor([[1.0, -1.0, 0.5, -0.5, 1.5]]), "absmedian")
    assert (scale.item(), trits.tolist()) == (1.0, [[1, -1, 0, 0, 1]])
    trits, scale = quantize_weight(torch.tensor([[0.0, 0.0, 0.0, 0.1, -0.1]]), "absmedian")
    assert scale.item() == pytest.approx(1e-5)
    assert trits.tolist() == [[0, 0, 0, 1, -1]]


def test_a_share_of_quantisation_lies_between_the_value_and_its_integer():
    x = torch.tensor([[1.0, -3.0, 1.2]])
    assert RoundStraightThrough.apply(torch.tensor([1.2, -0.4]), 0.5).tolist() == pytest.approx([1.1, -0.2])
    rows, _ = QuantizeRows.apply(x, 0.25)  # 127 / 3 · x = 42.33, -127, 50.8
    assert rows[0].tolist() == pytest.approx([42.25, -127.0, 50.85])
    weight = torch.tensor([[0.2, -0.6, 1.0]])  # 1/3, -1, 5/3 of the scale 0.6; trits 0, -1, 1
    assert Trits.apply(weight, "absmean", 0.5)[0].tolist() == pytest.approx([1 / 6, -1.0, 4 / 3])
    accumulators, _ = Accumulate.apply(x, weight, "absmean", 0.5)
    assert accumulators.item() == pytest.approx(1 / 6 + 3.0 + 1.6)
    for share in (0.0, 0.5, 1.0):
        leaf = x.clone().requires_grad_()
        RoundStraightThrough.apply(leaf, share).backward(torch.ones_like(x))
        assert leaf.grad.tolist() == [[1.0, 1.0, 1.0]]


def test_stretched_rows():
    x = torch.tensor([[2.0, 1.0, -1.0], [127.0, 0.5, 0.0], [0.0, 0.0, 0.0], [1e-6, 0.0, -5e-6]], requires_grad=True)
    rows = stretch_rows(x)
    assert rows.tolist() == [[127.0, 63.5, -63.5], [127.0, 0.5, 0.0], [0.0] * 3, pytest.approx([12.7, 0.0, -63.5])]
    rows.sum().backward()  # the factor is a constant
    assert x.grad[0].tolist() == [63.5] * 3


def test_rows_are_absmax_integers():
    integers, _ = QuantizeRows.apply(torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0], [1e15, 0.0, -1e13]]))
    assert integers.tolist() == [[64, -127, 32], [0, 0, 0], [127, 0, -1]]


def test_every_row_of_two_integers_matches_float32_division():
    """rint(a · (127 / m)) for all 0 <= a <= m <= 600, by numpy's float32 operations."""
    m = np.repeat(np.arange(1, 601), np.arange(2, 602))
    a = np.concatenate([np.arange(k + 1) for k in range(1, 601)])
    expected = np.rint(a.astype(np.float32) * (np.float32(127) / m.astype(np.float32)))
    integers, _ = QuantizeRows.apply(torch.tensor(np.stack([a, m], axis=1), dtype=torch.float32))
    np.testing.assert_array_equal(integers[:, 0].numpy(), expected)
    np.testing.assert_array_equal(integers[:, 1].numpy(), 127)


def test_row_gradient_is_that_of_rms_norm():
    x = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(5, 7, dtype=torch.float64)
    integers, _ = QuantizeRows.apply(x)
    (gradient,) = torch.autograd.grad(integers, x, upstream)
    norm = torch.nn.functional.rms_norm(x, (7,), eps=1e-6)
    scale = 127 / norm.abs().amax(1, keepdim=True)
    (expected,) = torch.autograd.grad(norm * scale.detach(), x, upstream)
    torch.testing.assert_close(gradient, expected)


def test_rounding_passes_the_gradient():
    x = torch.tensor([0.5, 1.5, -2.4], requires_grad=True)
    rounded = RoundStraightThrough.apply(x)
    rounded.backward(torch.tensor([1.0, 2.0, 3.0]))
    assert rounded.tolist() == [0, 2, -2]
    assert x.grad.tolist() == [1, 2, 3]


def test_accumulators_are_exact_beyond_16_bits():
    """All weights +1 and large activations overflow int16 at 4096 inputs: a published kernel failed here."""
    integers = torch.full((1, 4096), 127.0)
    accumulators, _ = Accumulate.apply(integers, torch.ones(2, 4096))
    assert accumulators.tolist() == [[127 * 4096] * 2]


def test_zero_share_and_flip_rate():
    before = [torch.tensor([[0, 1], [-1, 0]]), torch.tensor([[1, 1]])]
    after = [torch.tensor([[0, 1], [1, 1]]), torch.tensor([[1, 1]])]
    assert zero_share(before) == [0.5, 0.0]
    assert flip_rate(before, after) == [0.5, 0.0]
    assert flip_rate([], []) == []
