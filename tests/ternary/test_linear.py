"""BitLinear against the recipe, written as its authors do: value + (quantised - value).detach()."""

from __future__ import annotations

import pytest
import torch

from bitquote.ternary import BitLinear


def recipe(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Ma et al. 2024, "Training Tips, Code and FAQ": the layer in plain torch."""
    norm = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
    scale = 127.0 / norm.abs().amax(-1, keepdim=True).clamp(min=1e-5)
    quantised = (norm * scale).round().clamp(-128, 127) / scale
    activation = norm + (quantised - norm).detach()
    mean = weight.abs().mean().clamp(min=1e-5)
    ternary = (weight / mean).round().clamp(-1, 1) * mean
    return activation @ (weight + (ternary - weight).detach()).T


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 4, 3), (0, 3)])
def test_leading_dimensions(shape):
    assert BitLinear(3, 8)(torch.randn(shape)).shape == (*shape[:-1], 8)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 5), (64, 64), (256, 300), (700, 2)])
def test_value_and_gradients_equal_the_recipe(inputs, outputs):
    torch.manual_seed(inputs)
    layer = BitLinear(inputs, outputs).double()  # in float64 the order of operations cannot flip a tie
    x = (torch.randn(32, inputs, dtype=torch.float64) * torch.logspace(-8, 8, 32)[:, None]).requires_grad_()
    upstream = torch.randn(32, outputs, dtype=torch.float64)
    value, expected = layer(x), recipe(x, layer.weight)
    torch.testing.assert_close(value, expected)
    found = torch.autograd.grad(value, (x, layer.weight), upstream)
    wanted = torch.autograd.grad(expected, (x, layer.weight), upstream)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_value_is_integers_times_one_scale():
    torch.manual_seed(0)
    layer, x = BitLinear(16, 8), torch.randn(4, 16)
    integers = torch.round(x * (torch.tensor(127.0) / x.abs().amax(1, keepdim=True)))
    accumulators = layer.accumulate(integers)
    assert torch.equal(accumulators, accumulators.round())
    assert torch.equal(accumulators, integers @ layer.trits().float().T)
    ratio = layer(x) / accumulators
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), equal_nan=True)


def test_all_zero_row():
    layer = BitLinear(4, 3)
    x = torch.zeros(2, 4, requires_grad=True)
    layer(x).sum().backward()
    assert not layer(x).any()
    assert torch.isfinite(x.grad).all()
    assert not layer.weight.grad.any()


def test_no_bias_and_weights_of_three_values():
    layer = BitLinear(64, 64)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert layer.trits().unique().tolist() == [-1, 0, 1]
    assert 0.25 < (layer.trits() == 0).float().mean() < 0.37
