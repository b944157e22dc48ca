"""The training forward: the same integers as the compiled kernel, on anything an observation can be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitquote.errors import InputError
from bitquote.ternary import Policy, quote_batch, simd

SHAPES = [(6, (64, 64)), (1, (1,)), (3, (3, 5, 3)), (256, (64,)), (7, (300, 257)), (300, (600, 2))]
PATHS = ["portable", *(["avx2"] if simd.AVAILABLE else [])]
OPTIONS = [
    {"weight_scale": "absmedian"},
    {"input_quantisation": "per_row"},
    {"head": "learned_scale"},
    {"weight_scale": "absmedian", "input_quantisation": "per_row", "head": "learned_scale", "baseline": "residual"},
]


def assert_same_integers(network, observations: np.ndarray) -> None:
    """Of the training forward and of the compiled policy on every path."""
    trained = network.integers(torch.from_numpy(observations))
    tensors = network.policy().tensors()
    for path in PATHS:
        policy = Policy(network.description, {}, tensors, path=path)
        for row, observation in enumerate(observations):
            for (x, a), (activations, accumulators) in zip(trained, policy.integers(observation), strict=True):
                np.testing.assert_array_equal(x[row].numpy(), activations)
                np.testing.assert_array_equal(a[row].numpy(), accumulators)


def quotes(policy, observations: np.ndarray) -> np.ndarray:
    out = np.empty((len(observations), 2))
    quote_batch(observations.astype(np.float64), *policy.arguments, out)
    return out


@pytest.mark.parametrize(("inputs", "hidden"), SHAPES)
def test_integers_equal_the_kernels(build, adversarial, inputs, hidden):
    network = build(inputs, hidden)
    assert_same_integers(network, adversarial(network.description.observation_ranges))


def rows_by_themselves(ranges: tuple[float, ...]) -> np.ndarray:
    """float32 rows that per-row quantisation finds hard: ties, and largest inputs about its epsilon."""
    generator = np.random.default_rng(1)
    largest = generator.integers(1, 128, (64, 1))
    ties = np.concatenate(
        [largest, (generator.integers(-127, 127, (64, len(ranges) - 1)) + 0.5) * largest / 127], axis=1
    )
    small = generator.uniform(-1.0, 1.0, (64, len(ranges))) * 10.0 ** generator.uniform(-8, -3, (64, 1))
    return (np.concatenate([ties, small]) / 127 * np.array(ranges)).astype(np.float32)


@pytest.mark.parametrize(("inputs", "hidden"), SHAPES)
def test_integers_of_rows_by_themselves_equal_the_kernels(build, adversarial, inputs, hidden):
    network = build(inputs, hidden, input_quantisation="per_row")
    ranges = network.description.observation_ranges
    assert_same_integers(network, np.concatenate([adversarial(ranges, count=32), rows_by_themselves(ranges)]))


def test_rows_by_themselves_are_blind_to_their_size(build):
    network = build(3, ranges=(127.0, 127.0, 127.0), input_quantisation="per_row")
    (x, _), *_ = network.integers(
        torch.tensor([[2.0, 1.0, -1.0], [4.0, 2.0, -2.0], [0.0, 0.0, 0.0], [0.0, 3e-6, 1e-6]])
    )
    assert x.tolist() == [[127, 64, -64], [127, 64, -64], [0, 0, 0], [0, 38, 13]]  # ties to even; the epsilon


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_trains_and_stays_the_compiled_policy(build, adversarial, options):
    network = build(6, (33, 20), zero_head=True, **options)
    observations = adversarial(network.description.observation_ranges, count=16)
    x = torch.from_numpy(observations)
    first = network(x).detach()
    np.testing.assert_array_equal(first.numpy(), quotes(network.policy(), observations))  # the baseline
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(3):
        optimiser.zero_grad()
        (network(x[:48]) - 2.0 * x[:48, :2]).square().mean().backward()
        assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())
        optimiser.step()
    assert all(weight.grad.any() for weight in network.parameters())
    assert_same_integers(network, observations)
    after = network(x).detach()
    assert not torch.equal(first, after)
    for path in PATHS:
        policy = Policy(network.description, {}, network.policy().tensors(), path=path)
        np.testing.assert_allclose(quotes(policy, observations), after.numpy(), rtol=2e-6, atol=2e-6)


def test_a_head_with_learned_scales_is_a_plain_head_of_folded_weights(build, adversarial):
    network, plain = build(head="learned_scale"), build()
    with torch.no_grad():
        network.head.scale.copy_(torch.tensor([0.3, -0.7]))
        network.head.bias.copy_(torch.tensor([0.1, 0.2]))
    tensors = network.policy().tensors()
    with torch.no_grad():
        for layer, other in zip(plain.hidden, network.hidden, strict=True):
            layer.weight.copy_(other.weight)
        plain.head.weight.copy_(torch.from_numpy(tensors["head.weight"]))
        plain.head.bias.copy_(torch.from_numpy(tensors["head.bias"]))
    assert [np.unique(np.abs(row)).tolist() for row in tensors["head.weight"]] == [
        [0.0, np.float32(0.3)],
        [0.0, np.float32(0.7)],
    ]
    x = torch.from_numpy(adversarial(network.description.observation_ranges))
    assert torch.equal(network(x), plain(x))
    assert set(network.state_dict()) == set(plain.state_dict()) | {"head.scale"}


@pytest.mark.parametrize("options", [{}, *OPTIONS], ids=str)
def test_without_quantisation_the_forward_is_the_unquantised_twins(build, options):
    network = build(**options)
    baseline = {"baseline": options.get("baseline", "direct")}
    twin = build(architecture="fp32", **baseline)
    with torch.no_grad():
        for layer, other in zip(twin.hidden, network.hidden, strict=True):
            layer.weight.copy_(other.weight)
        twin.head.bias.copy_(network.head.bias)
        twin.head.weight.copy_(network.head.folded(0.0) if "head" in options else network.head.weight)
    x = torch.randn(64, 6) * torch.tensor(network.description.observation_ranges)
    whole = network(x)
    network.quantisation = 0.0
    torch.testing.assert_close(network(x), twin(x), rtol=1e-4, atol=1e-4)
    network.quantisation = 0.5
    assert not torch.allclose(network(x), whole)
    # Whatever the share, the policy and its integers are the same; with all of it, so is the forward, to the bit.
    assert_same_integers(network, x.numpy())
    network.quantisation = 1.0
    assert torch.equal(network(x), whole)
    integers = network.integers(x)
    last = torch.relu(integers[-1][1].float())
    last = (last * (torch.tensor(127.0) / last.amax(1, keepdim=True).clamp(min=1))).round()
    expected = network._baseline(x) + network.action_scale * network._head(last, 1.0)
    assert torch.equal(whole, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_scale": "median"}, "weight_scale is 'median': must be one of absmean, absmedian"),
        ({"head": "fp32"}, "head is 'fp32': must be one of fp, learned_scale"),
        ({"input_quantisation": "row"}, "input_quantisation is 'row': must be one of per_feature, per_row"),
        ({"head": "learned_scale", "architecture": "fp32"}, "must be fp with architecture fp32"),
    ],
)
def test_an_unknown_option_is_one_clear_line(build, options, message):
    with pytest.raises(InputError, match=message) as error:
        build(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("architecture", ["ternary", "fp32"])
@pytest.mark.parametrize(("inputs", "hidden"), SHAPES)
def test_outputs_equal_the_kernels(build, adversarial, inputs, hidden, architecture):
    network = build(inputs, hidden, architecture)
    observations = adversarial(network.description.observation_ranges)
    with torch.no_grad():
        expected = network(torch.from_numpy(observations)).numpy()
    tolerance = 2e-6 if architecture == "ternary" else 1e-4  # float sums differ in order
    np.testing.assert_allclose(quotes(network.policy(), observations), expected, rtol=tolerance, atol=tolerance)


def test_ties_of_the_input_quantiser_round_to_even(build):
    network = build(2, ranges=(127.0, 127.0))
    (x, _), *_ = network.integers(torch.tensor([[0.5, 1.5], [2.5, -0.5], [-1.5, 126.5]]))
    assert x.tolist() == [[0, 2], [2, 0], [-2, 126]]


def test_a_zero_range_masks_its_feature(build):
    network = build(3, ranges=(20.0, 0.0, 1.0))
    x = torch.tensor([[1.0, 5.0, 0.5], [1.0, -3.0, 0.5]])
    assert torch.equal(network(x)[0], network(x)[1])
    assert network.policy().integers(x[0])[0][0][1] == 0


@pytest.mark.parametrize("architecture", ["ternary", "fp32"])
@pytest.mark.parametrize("baseline", ["direct", "residual"])
def test_a_zero_head_starts_at_the_baseline(build, adversarial, architecture, baseline):
    network = build(architecture=architecture, baseline=baseline, zero_head=True)
    observations = adversarial(network.description.observation_ranges)[:200]
    expected = observations[:, 4:] if baseline == "residual" else np.tile([1.5, 0.0], (200, 1))
    np.testing.assert_array_equal(network(torch.from_numpy(observations)).detach().numpy(), expected)
    np.testing.assert_array_equal(quotes(network.policy(), observations), expected)


def test_a_dead_layer_leaves_the_bias(build):
    """No accumulator above zero: all-zero activations, and the head's bias alone remains."""
    network = build(1, (4,))
    with torch.no_grad():
        network.hidden[0].weight.fill_(1.0)
        network.head.bias.copy_(torch.tensor([1.0, -1.0]))
    x = torch.tensor([[-20.0]], requires_grad=True)
    out = network(x)
    assert out.tolist() == [[2.0, -0.25]]
    assert network.policy().quote([-20.0]) == (2.0, -0.25)
    out.sum().backward()
    assert x.grad.tolist() == [[0.0]]


@pytest.mark.parametrize("hidden", [(32,), (32, 16, 8)])
def test_gradient_equals_the_recipe(build, hidden):
    """Layers that carry all their scales, differentiated by autograd through x + (quantised - x).detach()."""
    network = build(6, hidden).double()
    observation = torch.randn(64, 6, dtype=torch.float64) * torch.tensor(network.description.observation_ranges)
    x = observation.clamp(-network.ranges, network.ranges) * network.input_scales
    x = (x + (x.round() - x).detach()) / 127
    for layer in network.hidden:
        scale = layer.weight.abs().mean().detach()
        ternary = (layer.weight / scale).round().clamp(-1, 1) * scale
        rows = x @ (layer.weight + (ternary - layer.weight).detach()).T
        rows = torch.nn.functional.threshold(rows, 1e-9, 0.0)  # ReLU, where 0 may come out as 1e-17
        norm = torch.nn.functional.rms_norm(rows, rows.shape[-1:], eps=1e-9)
        step = norm.detach().abs().amax(1, keepdim=True).clamp(min=1e-5) / 127
        x = norm + ((norm / step).float().round() * step - norm).detach()  # float: exact ties
    root = (x / step).square().mean(1, keepdim=True).detach().sqrt() * step
    expected = (x / root.clamp(min=1e-30)) @ network.head.weight.T + network.head.bias
    weights = [layer.weight for layer in network.hidden] + [network.head.weight]
    wanted = torch.autograd.grad((expected * network.action_scale).square().sum(), weights)
    found = torch.autograd.grad((network(observation) - network.constant_baseline).square().sum(), weights)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6 * float(other.abs().max()))


def test_gradient_reaches_the_observation(build):
    network = build(baseline="residual")
    x = (torch.rand(16, 6) * 0.9).requires_grad_()
    network(x)[:, 0].sum().backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad != 0).any(1).all()


def test_no_gradient_outside_the_range(build):
    x = torch.tensor([[25.0, 0.5, 3.0, 1.0, 1.0, 0.1]], requires_grad=True)
    build()(x).sum().backward()
    assert x.grad[0, 0] == 0.0
    assert x.grad[0, 1] != 0.0


def test_autocast_does_not_touch_the_integers(build, adversarial):
    network = build()
    observations = torch.from_numpy(adversarial(network.description.observation_ranges))
    expected = network(observations)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(network(observations), expected)


def test_refresh_writes_into_the_same_arrays(build, adversarial):
    network, other = build(seed=0), build(seed=1)
    policy = network.policy(market={"name": "game"})
    arrays = policy.arguments
    observations = adversarial(policy.observation_ranges)
    other.refresh(policy)
    assert policy.arguments is arrays
    np.testing.assert_array_equal(quotes(policy, observations), quotes(other.policy(), observations))
    with pytest.raises(InputError, match=r"hidden\.0\.weight shape"):
        build(hidden=(8, 64)).refresh(policy)


def test_a_policy_is_a_copy(build):
    network = build()
    policy = network.policy()
    before = policy.quote(np.ones(6))
    with torch.no_grad():
        network.head.bias.add_(1.0)
    assert policy.quote(np.ones(6)) == before


def test_diverged_weights_are_refused(build):
    network = build()
    with torch.no_grad():
        network.head.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"head\.weight"):
        network.policy()


@pytest.mark.parametrize("architecture", ["ternary", "fp32"])
def test_state_is_the_weights_alone(build, architecture):
    names = set(build(architecture=architecture).state_dict())
    assert names == {"hidden.0.weight", "hidden.1.weight", "head.weight", "head.bias"}


def test_trits_of_the_layers(build):
    assert [tuple(layer.shape) for layer in build().trits()] == [(64, 6), (64, 64)]
    assert build(architecture="fp32").trits() == []


def test_a_small_network_learns(build):
    """A few hundred steps fit a smooth surface of inventory and time to a few per cent of its variance."""
    network = build(4, (64, 64), base_half_spread=0.0, action_scale=(1.0, 1.0), zero_head=True)
    generator = torch.Generator().manual_seed(0)
    inventory = torch.randint(-20, 21, (2048,), generator=generator).float()
    time = torch.rand(2048, generator=generator)
    x = torch.stack([inventory, time, inventory * time, torch.ones(2048)], 1)
    y = torch.stack([0.5 + 0.3 * time, 0.1 * inventory * time], 1)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(200):
        loss = (network(x) - y).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.05 * y.var(0).mean()
