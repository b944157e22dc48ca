"""BitLinear against the recipe, written as its authors do: value + (quantised - value).detach()."""

from __future__ import annotations

import pytest
import torch

from bitquote.errors import InputError
from bitquote.ternary import BitLinear
from bitquote.ternary.linear import LearnedScaleHead


def recipe(x: torch.Tensor, weight: torch.Tensor, measure: str = "absmean", share: float = 1.0) -> torch.Tensor:
    """Ma et al. 2024, "Training Tips, Code and FAQ": the layer in plain torch, with a `share` of quantisation."""
    norm = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
    scale = 127.0 / norm.abs().amax(-1, keepdim=True).clamp(min=1e-5)
    quantised = (norm * scale).round().clamp(-128, 127) / scale
    activation = norm + share * (quantised - norm).detach()
    mean = (weight.abs().mean() if measure == "absmean" else weight.abs().median()).clamp(min=1e-5)
    ternary = (weight / mean).round().clamp(-1, 1) * mean
    return activation @ (weight + share * (ternary - weight).detach()).T


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 4, 3), (0, 3)])
def test_leading_dimensions(shape):
    assert BitLinear(3, 8)(torch.randn(shape)).shape == (*shape[:-1], 8)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("measure", ["absmean", "absmedian"])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 5), (64, 64), (256, 300), (700, 2)])
def test_value_and_gradients_equal_the_recipe(inputs, outputs, measure, share):
    torch.manual_seed(inputs)
    layer = BitLinear(inputs, outputs, measure).double()  # in float64 the order of operations cannot flip a tie
    layer.quantisation = share
    x = (torch.randn(32, inputs, dtype=torch.float64) * torch.logspace(-8, 8, 32)[:, None]).requires_grad_()
    upstream = torch.randn(32, outputs, dtype=torch.float64)
    value, expected = layer(x), recipe(x, layer.weight, measure, share)
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


def test_absmedian_has_fewer_zeros():
    """The median of |x| of a Gaussian is 0.674 of its deviation: P(|x| < 0.337) = 26 %."""
    layer = BitLinear(256, 256, "absmedian")
    assert 0.25 < (layer.trits() == 0).float().mean() < 0.28
    assert layer.weight_scale() == layer.weight.abs().median()


def test_an_unknown_scale_is_one_clear_line():
    for layer in (BitLinear, LearnedScaleHead):
        with pytest.raises(InputError, match="weight_scale is 'mean': must be one of absmean, absmedian"):
            layer(3, 2, "mean")


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("measure", ["absmean", "absmedian"])
def test_a_head_with_learned_scales_equals_the_recipe(measure, share):
    torch.manual_seed(0)
    head = LearnedScaleHead(16, 2, measure).double()
    with torch.no_grad():
        head.scale.copy_(torch.tensor([0.7, -1.3]))
    mean = (head.weight.abs().mean() if measure == "absmean" else head.weight.abs().median()).detach()
    value = head.weight / mean
    expected = head.scale[:, None] * (value + share * (value.round().clamp(-1, 1) - value).detach())
    torch.testing.assert_close(head.folded(share), expected)
    upstream = torch.randn(2, 16, dtype=torch.float64)
    found = torch.autograd.grad(head.folded(share), (head.weight, head.scale), upstream)
    wanted = torch.autograd.grad(expected, (head.weight, head.scale), upstream)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_a_head_with_learned_scales_begins_as_its_weights():
    head = LearnedScaleHead(64, 2)
    assert torch.equal(head.scale, head.weight.abs().mean().repeat(2))
    assert not head.bias.any()
    assert {name for name, _ in head.named_parameters()} == {"weight", "scale", "bias"}
    assert torch.equal(head.folded().abs().unique(), torch.stack([torch.zeros(()), head.scale[0]]))
