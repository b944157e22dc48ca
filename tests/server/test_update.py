"""The rules that a shard applies, against slow definitions and against plain torch, bit for bit."""

from __future__ import annotations

import copy
import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from bitquote.server.config import ServerConfig
from bitquote.server.errors import Rejected
from bitquote.server.packing import Unpackable
from bitquote.server.proximal import L1, Box, Group, ProximalGradient
from bitquote.server.torch_description import describe_optimizers, from_torch, hyperparameters, to_torch
from bitquote.server.update import make_update, restrict, tensor_offsets

EACH, SUM = ServerConfig(), ServerConfig(aggregate="sum")


def floats(size, seed=0):
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def proximal(size, prox=None, step_size=0.1, config=EACH, weights=None, **more):
    rule = make_update({"kind": "proximal_gradient", "step_size": step_size, "prox": prox, **more}, config)
    rule.bind(floats(size, 9) if weights is None else weights)
    return rule


# Proximal operators: prox(v) = argmin_w h(w) + |w - v|^2 / (2 step).


def groups_of(size, rng):
    """Some disjoint groups, with gaps."""
    cuts = np.unique(rng.integers(0, size + 1, 8))
    return [[int(a), int(b)] for a, b in pairwise(cuts) if rng.random() < 0.7]


@given(st.integers(0, 2**32), st.floats(0.01, 3.0), st.floats(0.0, 2.0))
def test_operators_follow_their_definitions(seed, step, strength):
    """Entry by entry, in double precision."""
    rng = np.random.default_rng(seed)
    v = rng.standard_normal(30).astype(np.float32)
    got = v.copy()
    L1(strength).apply(got, step, 0)
    expected = [np.sign(x) * max(abs(x) - step * strength, 0.0) for x in v.astype(float)]
    np.testing.assert_allclose(got, expected, atol=1e-6)

    got = v.copy()
    Box(-0.5, strength).apply(got, step, 0)
    np.testing.assert_array_equal(got, [min(max(x, np.float32(-0.5)), np.float32(strength)) for x in v])

    groups = groups_of(30, rng)
    got, expected = v.copy(), v.astype(float)
    Group(strength, groups).apply(got, step, 0)
    for start, stop in groups:
        norm = np.linalg.norm(expected[start:stop])
        expected[start:stop] *= max(0.0, 1.0 - step * strength / norm) if norm > 0 else 1.0
    np.testing.assert_allclose(got, expected, atol=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.floats(0.1, 2.0), st.floats(0.1, 2.0))
def test_operators_minimise_what_they_are_to_minimise(seed, step, strength):
    """No point does better: neither random ones nearby nor what a general minimiser finds."""
    rng = np.random.default_rng(seed)
    v = rng.standard_normal(4).astype(np.float32)
    penalties = [
        (L1(strength), lambda w: strength * np.abs(w).sum()),
        (Group(strength, [[0, 3]]), lambda w: strength * np.linalg.norm(w[:3])),
        (Box(-strength, strength), lambda w: 0.0 if np.abs(w).max() <= strength + 1e-6 else 1e9),
    ]
    for operator, penalty in penalties:
        got = v.copy()
        operator.apply(got, step, 0)

        def objective(w, penalty=penalty):
            return penalty(w) + np.sum((w - v) ** 2) / (2 * step)

        best = objective(got.astype(float))
        for _ in range(50):
            assert objective(got + rng.standard_normal(4) * 10.0 ** rng.uniform(-4, 0)) >= best - 1e-5
        found = minimize(objective, got + 0.1, method="Nelder-Mead", options={"maxiter": 300})
        assert found.fun >= best - 1e-5


def test_soft_thresholding_makes_true_zeros():
    weights = np.float32([0.05, -0.1, 0.1, -0.0, 0.3])
    L1(1.0).apply(weights, 0.1, 0)
    assert weights[:4].tolist() == [0.0] * 4
    assert weights[4] == pytest.approx(0.2)


def test_an_enormous_threshold_is_no_overflow():
    weights = floats(5)
    L1(1e30).apply(weights, 1e30, 0)
    assert weights.tolist() == [0.0] * 5


@pytest.mark.parametrize("groups", [[], [[0, 20]], [[0, 1], [19, 20]], [[3, 7], [7, 12]]])
def test_a_part_of_the_weights_is_as_good_as_all(groups):
    """A range that cuts no group is treated as the same weights within all of them."""
    operator = Group(0.7, groups)
    operator.bind(20)
    for start in range(20):
        for stop in range(start + 1, 21):
            cut = any(a < start < b or a < stop < b for a, b in groups)
            assert operator.cuts(start, stop) == cut
            if not cut:
                whole, part = floats(20), floats(20)[start:stop]
                operator.apply(whole, 0.5, 0)
                operator.apply(part, 0.5, start)
                np.testing.assert_array_equal(part, whole[start:stop])


# Proximal gradient descent.


@given(st.integers(1, 50), st.floats(1e-3, 2.0), st.sampled_from([1.0, 0.25, 1 / 3]), st.integers(0, 2**32))
def test_a_step_is_a_step(size, step_size, scale, seed):
    rule = proximal(size, {"kind": "l1", "strength": 0.3}, step_size)
    gradient, before = floats(size, seed), rule.weights.astype(float)
    rule.fold(0, 0, size, gradient, scale, {})
    rule.step()
    moved = before - scale * step_size * gradient
    np.testing.assert_allclose(
        rule.weights, np.sign(moved) * np.maximum(np.abs(moved) - scale * step_size * 0.3, 0), atol=2e-6
    )


def test_ranges_and_keys_move_only_what_they_name():
    rule = proximal(10)
    before = rule.weights.copy()
    gradient = floats(4)
    gradient.flags.writeable = False
    rule.fold(0, 3, 7, gradient, 1.0, {})
    np.testing.assert_array_equal(np.flatnonzero(rule.weights != before), [3, 4, 5, 6])
    np.testing.assert_allclose(rule.weights[3:7], before[3:7] - 0.1 * gradient, rtol=1e-6)
    before = rule.weights.copy()
    rule.fold(0, 2, 9, gradient[:2], 1.0, {}, np.array([0, 5]))
    np.testing.assert_array_equal(np.flatnonzero(rule.weights != before), [2, 7])


def test_a_schedule_travels_with_the_push():
    rule = proximal(3)
    before = rule.weights.copy()
    rule.fold(0, 0, 3, np.ones(3, np.float32), 1.0, {"step_size": 0.5})
    np.testing.assert_allclose(rule.weights, before - 0.5, rtol=1e-6)
    for bad in (
        {"step_size": -1.0},
        {"step_size": "0.1"},
        {"step_size": float("nan")},
        {"lr": 0.1},
        {"step_size": 1e31},
    ):
        after = rule.weights.copy()
        with pytest.raises(Unpackable) as refused:
            rule.fold(0, 0, 3, np.ones(3, np.float32), 1.0, bad)
        assert refused.value.reason == "hyper"
        np.testing.assert_array_equal(rule.weights, after)


def test_a_push_of_a_part_of_a_group_is_refused():
    rule = proximal(10, {"kind": "group", "strength": 0.1, "groups": [[2, 6]]})
    before = rule.weights.copy()
    for start, stop in ((0, 4), (3, 10), (3, 5)):
        with pytest.raises(Unpackable) as refused:
            rule.fold(0, start, stop, floats(stop - start), 1.0, {})
        assert refused.value.reason == "keys"
    np.testing.assert_array_equal(rule.weights, before)
    for start, stop in ((0, 10), (2, 6), (0, 2), (6, 10), (1, 7)):
        rule.fold(0, start, stop, floats(stop - start), 1.0, {})


# The sum of the workers' latest gradients.


@given(st.data(), st.integers(1, 20))
def test_sum_steps_along_the_latest_of_every_worker(data, size):
    """Against a slow twin, with releases of several pushes, ranges, keys, departures and a restart in between."""
    rule = proximal(size, {"kind": "l1", "strength": 0.01}, 0.05, SUM)
    weights, latest = rule.weights.astype(float), {}
    for release in range(data.draw(st.integers(1, 6))):
        rng = np.random.default_rng([release, data.draw(st.integers(0, 2**32))])
        scales = []
        for worker in data.draw(st.permutations(range(data.draw(st.integers(0, 3))))):
            start = int(rng.integers(0, size))
            stop = int(rng.integers(start + 1, size + 1))
            keys = np.flatnonzero(rng.random(stop - start) < 0.5) if rng.random() < 0.5 else None
            gradient = rng.standard_normal(stop - start if keys is None else len(keys)).astype(np.float32)
            scales.append(float(rng.choice([1.0, 0.5])))
            rule.fold(worker, start, stop, gradient, scales[-1], {}, keys)
            share = latest.setdefault(worker, np.zeros(size))
            share[start + (np.arange(stop - start) if keys is None else keys)] = gradient
        rule.step()
        if scales:
            step = 0.05 * min(scales)
            weights -= step * sum(latest.values())
            weights = np.sign(weights) * np.maximum(np.abs(weights) - step * 0.01, 0)
        np.testing.assert_allclose(rule.weights, weights, atol=1e-5)
        if latest and rng.random() < 0.3:
            gone = int(rng.choice(list(latest)))
            del latest[gone]
            rule.forget(gone)
        estimate = rule.estimate(list(latest))
        assert (estimate is None) == (not latest)
        if estimate is not None:
            np.testing.assert_allclose(estimate, sum(latest.values()), atol=1e-5)
        assert rule.estimate([*latest, 99]) is None
        if rng.random() < 0.3:
            successor = proximal(size, {"kind": "l1", "strength": 0.01}, 0.05, SUM, weights=rule.weights.copy())
            successor.load(rule.state())
            rule = successor


def test_sum_does_not_depend_on_who_came_first():
    gradients = {worker: floats(1000, worker) for worker in range(5)}
    results = []
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 1, 3]):
        rule = proximal(1000, config=SUM)
        for worker in order:
            rule.fold(worker, 0, 1000, gradients[worker], 1.0, {})
        rule.step()
        results.append(rule.weights.tobytes())
    assert results[0] == results[1]


def test_each_has_no_aggregated_gradient_and_no_state():
    rule = proximal(3)
    rule.fold(0, 0, 3, floats(3), 1.0, {})
    before = rule.weights.copy()
    rule.step()
    rule.forget(0)
    np.testing.assert_array_equal(rule.weights, before)
    assert rule.estimate([]) is None and rule.state() == {}
    with pytest.raises(Rejected):
        rule.load({"latest/0": floats(3)})


@pytest.mark.parametrize(
    "state",
    [
        {"latest/0": floats(4)},
        {"latest/0": floats(3).astype(float)},
        {"latest/x": floats(3)},
        {"other": floats(3)},
        {"latest/1": np.float32([0, np.nan, 0])},
        {"latest/1": floats(3), "latest/": floats(3)},
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(state):
    rule = proximal(3, config=SUM)
    rule.fold(7, 0, 3, floats(3), 1.0, {})
    with pytest.raises(Rejected):
        rule.load(state)
    np.testing.assert_array_equal(rule.state()["latest/7"], floats(3))


def test_the_state_is_a_copy():
    rule = proximal(3, config=SUM)
    rule.fold(0, 0, 3, np.ones(3, np.float32), 1.0, {})
    rule.state()["latest/0"][:] = 5
    assert rule.state()["latest/0"].tolist() == [1, 1, 1]


def test_the_step_size_bound_is_watched():
    rule = proximal(3, step_size=0.05, lipschitz=4.0)
    assert rule.warning(0) is None
    assert rule.warning(4) is None  # 1 / (5 * 4), exactly
    assert "0.05 exceeds 0.0417" in rule.warning(5)
    assert rule.warning(5, scale=0.5) is None
    assert rule.warning(float("inf")) is not None
    assert proximal(3).warning(100) is None


def test_l1_is_known_to_the_filter():
    assert proximal(3, {"kind": "l1", "strength": 0.25}).l1 == 0.25
    assert proximal(3, {"kind": "box", "low": 0}).l1 is None
    with pytest.raises(Rejected, match="kkt_slack"):
        make_update({"kind": "proximal_gradient", "step_size": 1.0}, ServerConfig(aggregate="sum", kkt_slack=0.1))


def test_l1_regression_by_stale_sums_ends_where_coordinate_descent_does():
    """Three workers with a third of the data each, gradients up to three steps old, the step at the bound."""
    rng = np.random.default_rng(1)
    inputs = rng.standard_normal((60, 12))
    targets = inputs @ np.where(np.arange(12) < 3, 2.0, 0.0) + 0.1 * rng.standard_normal(60)
    strength, parts = 20.0, np.split(np.arange(60), 3)
    lipschitz = float(np.linalg.eigvalsh(inputs.T @ inputs).max())
    description = {"kind": "proximal_gradient", "step_size": 1 / (4 * lipschitz), "lipschitz": lipschitz}
    rule = make_update({**description, "prox": {"kind": "l1", "strength": strength}}, SUM)
    rule.bind(np.zeros(12, np.float32))
    assert rule.warning(3) is None
    for turn in range(3000):
        part = parts[turn % 3]  # its gradient stays for three steps
        slope = inputs[part].T @ (inputs[part] @ rule.weights - targets[part])
        rule.fold(turn % 3, 0, 12, slope.astype(np.float32), 1.0, {})
        rule.step()
    expected = np.zeros(12)
    for _ in range(200):
        for i in range(12):
            rest = targets - inputs @ expected + inputs[:, i] * expected[i]
            slope = inputs[:, i] @ rest
            expected[i] = np.sign(slope) * max(abs(slope) - strength, 0) / (inputs[:, i] @ inputs[:, i])
    np.testing.assert_allclose(rule.weights, expected, atol=1e-4)
    assert np.count_nonzero(rule.weights) == np.count_nonzero(expected) < 12


# Torch's optimisers against plain torch.


def make_module(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv1d(2, 3, 2), torch.nn.Flatten(), torch.nn.Linear(9, 7), torch.nn.Tanh(), torch.nn.Linear(7, 1)
    )


def flat(tensors):
    return np.concatenate([tensor.detach().numpy().ravel() for tensor in tensors]).astype(np.float32)


def send(rule, module, order=None, scale=1.0, start=0, stop=None):
    """What a worker does: the module's gradients, those that are there, and the optimiser's hyperparameters."""
    parameters = list(module.parameters())
    gradient = np.concatenate(
        [np.zeros(p.numel(), np.float32) if p.grad is None else p.grad.numpy().ravel() for p in parameters]
    )
    stop = len(gradient) if stop is None else stop
    rule.fold(0, start, stop, gradient[start:stop], scale, json.loads(json.dumps(order or {})))
    rule.step()


def backward(module, turn):
    module.zero_grad(set_to_none=True)
    inputs = torch.from_numpy(floats(8 * 8, turn).reshape(4, 2, 8)[:, :, :4])
    module(inputs).square().mean().backward()


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "SGD momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.01),
    "SGD nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, maximize=True),
    "SGD foreach": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.95)),
    "Adam fused": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, lr_decay=0.1, initial_accumulator_value=0.1),
    "Adadelta": lambda p: torch.optim.Adadelta(p),
    "Adamax": lambda p: torch.optim.Adamax(p),
    "NAdam": lambda p: torch.optim.NAdam(p, decoupled_weight_decay=True, weight_decay=0.1),
    "RAdam": lambda p: torch.optim.RAdam(p),
    "ASGD": lambda p: torch.optim.ASGD(p, t0=2.0),
    "Rprop": lambda p: torch.optim.Rprop(p),
    "Adafactor": lambda p: torch.optim.Adafactor(p),
    "two groups": lambda p: torch.optim.AdamW([{"params": (p := list(p))[:2]}, {"params": p[2:], "lr": 0.5}], lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_bit_for_bit_as_plain_torch(name):
    """With a schedule, tensors without a gradient, and a restart half-way through packed states."""
    module = make_module()
    optimizer = OPTIMIZERS[name](module.parameters())
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
    description = json.loads(json.dumps(describe_optimizers([optimizer], list(module.parameters()))))
    rule = make_update(description, EACH)
    rule.bind(flat(module.parameters()))
    for turn in range(12):
        backward(module, turn)
        absent = [1, 4] if turn % 4 == 3 else []
        for index in absent:
            list(module.parameters())[index].grad = None
        send(rule, module, {"groups": hyperparameters(optimizer), "absent": absent})
        optimizer.step()
        schedule.step()
        assert rule.weights.tobytes() == flat(module.parameters()).tobytes(), f"turn {turn}"
        if turn == 5:
            state = rule.state()
            rule = make_update(rule.describe(), EACH)
            rule.bind(flat(module.parameters()))
            rule.load(state)
    same_state(to_torch(description, [rule.state()])[0], optimizer.state_dict())


def same_state(one, two):
    assert one["state"].keys() == two["state"].keys()
    for index, values in two["state"].items():
        values = {name: value for name, value in values.items() if value is not None}
        assert one["state"][index].keys() == values.keys()
        for name, value in values.items():
            assert torch.equal(one["state"][index][name], value), (index, name)
    for mine, theirs in zip(one["param_groups"], two["param_groups"], strict=True):
        assert mine["params"] == theirs["params"]
        assert mine.keys() <= theirs.keys()


@pytest.mark.parametrize("name", ["SGD momentum", "AdamW", "RMSprop", "two groups"])
def test_states_go_to_torch_and_back(name):
    """Training goes on bit for bit in plain torch from the server's state, and on the server from torch's."""
    module = make_module()
    optimizer = OPTIMIZERS[name](module.parameters())
    description = describe_optimizers([optimizer], list(module.parameters()))
    rule = make_update(description, EACH)
    rule.bind(flat(module.parameters()))
    for turn in range(4):
        backward(module, turn)
        send(rule, module)
        optimizer.step()
    resumed = copy.deepcopy(module)
    fresh = OPTIMIZERS[name](resumed.parameters())
    fresh.load_state_dict(to_torch(description, [rule.state()])[0])
    again = make_update(description, EACH)
    again.bind(flat(module.parameters()))
    again.load(from_torch([description], [optimizer.state_dict()])[0])
    for turn in range(4, 8):
        for each in (module, resumed):
            backward(each, turn)
        send(again, module)
        optimizer.step()
        fresh.step()
        assert again.weights.tobytes() == flat(module.parameters()).tobytes() == flat(resumed.parameters()).tobytes()


def test_a_scaled_push_is_a_smaller_learning_rate_for_that_push_alone():
    module = make_module()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.25)
    rule = make_update(describe_optimizers([optimizer], list(module.parameters())), EACH)
    rule.bind(flat(module.parameters()))
    for turn, scale in enumerate([1.0, 0.5, 1.0]):
        backward(module, turn)
        send(rule, module, scale=scale)
        optimizer.param_groups[0]["lr"] = 0.25 * scale
        optimizer.step()
        assert rule.weights.tobytes() == flat(module.parameters()).tobytes()
    assert json.loads(rule.state()["hyperparameters"].tobytes())[0][0]["lr"] == 0.25


def test_several_optimisers_take_turns():
    """As a GAN's two do; one tensor belongs to both."""
    module = make_module()
    first, second = list(module.parameters())[:3], list(module.parameters())[2:]
    optimizers = [torch.optim.Adam(first, lr=0.1), torch.optim.SGD(second, lr=0.1, momentum=0.5)]
    rule = make_update(describe_optimizers(optimizers, list(module.parameters())), EACH)
    rule.bind(flat(module.parameters()))
    for turn in range(8):
        backward(module, turn)
        send(rule, module, {"optimizer": turn // 2 % 2})
        optimizers[turn // 2 % 2].step()
        assert rule.weights.tobytes() == flat(module.parameters()).tobytes()


def test_sparse_and_partial_pushes_reach_whole_tensors():
    module = make_module()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    rule = make_update(describe_optimizers([optimizer], list(module.parameters())), EACH)
    rule.bind(flat(module.parameters()))
    backward(module, 0)
    first, second = (p.numel() for p in list(module.parameters())[:2])
    send(rule, module, stop=first + second)
    for parameter in list(module.parameters())[2:]:
        parameter.grad = None
    optimizer.step()
    assert rule.weights.tobytes() == flat(module.parameters()).tobytes()
    before = rule.weights.copy()
    for start, stop in ((0, first - 1), (1, first), (first + 1, len(rule.weights))):
        with pytest.raises(Unpackable) as refused:
            rule.fold(0, start, stop, floats(stop - start), 1.0, {})
        assert refused.value.reason == "keys"
    np.testing.assert_array_equal(rule.weights, before)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    next(module.parameters()).grad.view(-1)[3] = 2.0
    rule.fold(0, 0, len(before), np.float32([2.0]), 1.0, {}, np.array([3]))
    optimizer.step()
    assert rule.weights.tobytes() == flat(module.parameters()).tobytes()


def test_gradients_may_be_read_only_and_are_left_alone():
    module = make_module()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, maximize=True, weight_decay=0.1)
    rule = make_update(describe_optimizers([optimizer], list(module.parameters())), EACH)
    rule.bind(flat(module.parameters()))
    gradient = floats(len(rule.weights))
    gradient.flags.writeable = False
    rule.fold(0, 0, len(gradient), gradient, 1.0, {})
    np.testing.assert_array_equal(gradient, floats(len(gradient)))


# Shards.


@pytest.mark.parametrize("name", ["AdamW", "two groups", "Adafactor"])
def test_shards_together_are_as_one(name):
    module = make_module()
    optimizer = OPTIMIZERS[name](module.parameters())
    description = describe_optimizers([optimizer], list(module.parameters()))
    weights = flat(module.parameters())
    offsets = tensor_offsets(description, len(weights))
    cuts = [0, int(offsets[2]), int(offsets[5]), len(weights)]
    ranges = list(pairwise(cuts))
    parts = [restrict(description, a, b) for a, b in ranges]
    shards = [make_update(part, EACH) for part in parts]
    for shard, (a, b) in zip(shards, ranges, strict=True):
        shard.bind(weights[a:b].copy())
    for turn in range(6):
        backward(module, turn)
        absent = [turn]
        list(module.parameters())[turn].grad = None
        parameters = module.parameters()
        gradient = flat([torch.zeros_like(p) if p.grad is None else p.grad for p in parameters])
        for shard, (a, b) in zip(shards, ranges, strict=True):
            shard.fold(0, 0, b - a, gradient[a:b], 1.0, {"absent": absent})
        optimizer.step()
        assert b"".join(shard.weights.tobytes() for shard in shards) == flat(module.parameters()).tobytes()
        states = [shard.state() for shard in shards]
        saved = to_torch(description, states)
        same_state(saved[0], optimizer.state_dict())
        for shard, state in zip(shards, from_torch(parts, saved), strict=True):
            assert state.keys() == shard.state().keys()
            shard.load(state)


def test_shards_are_not_cut_through_tensors_or_groups():
    description = describe([[0, [2, 3]], [6, [4]]])
    assert tensor_offsets(description, 12).tolist() == [0, 6, 10, 12]
    assert restrict(description, 6, 12)["optimizers"][0]["groups"][0]["tensors"] == [None, [0, [4]]]
    with pytest.raises(Rejected, match="straddles"):
        restrict(description, 0, 8)
    grouped = {
        "kind": "proximal_gradient",
        "step_size": 1.0,
        "prox": {"kind": "group", "strength": 1, "groups": [[1, 4], [6, 8]]},
    }
    assert tensor_offsets(grouped, 9).tolist() == [0, 1, 4, 6, 8, 9]
    assert restrict(grouped, 4, 9)["prox"]["groups"] == [[2, 4]]
    with pytest.raises(Rejected, match=r"group \[1, 4\) straddles"):
        restrict(grouped, 0, 3)
    plain = proximal_description()
    assert restrict(plain, 3, 7) == plain
    assert tensor_offsets(plain, 5).tolist() == [0, 5]


# Bad descriptions, hyperparameters and states.


def describe(tensors=(), name="torch.optim.Adam", **hyper):
    return {"kind": "torch", "optimizers": [{"class": name, "groups": [{**hyper, "tensors": list(tensors)}]}]}


def proximal_description(**more):
    return {"kind": "proximal_gradient", "step_size": 0.1, **more}


BAD = [
    None,
    [],
    {},
    {"kind": "adam"},
    {"kind": "proximal_gradient"},
    {"kind": "proximal_gradient", "step_size": 0.0},
    {"kind": "proximal_gradient", "step_size": float("nan")},
    {"kind": "proximal_gradient", "step_size": 0.1, "momentum": 0.9},
    {"kind": "proximal_gradient", "step_size": 0.1, "lipschitz": -1},
    proximal_description(prox="l1"),
    proximal_description(prox={"kind": "l2"}),
    proximal_description(prox={"kind": "l1"}),
    proximal_description(prox={"kind": "l1", "strength": -1}),
    proximal_description(prox={"kind": "box", "low": 1, "high": 0}),
    proximal_description(prox={"kind": "group", "strength": 1, "groups": None}),
    {
        "kind": "proximal_gradient",
        "step_size": 0.1,
        "prox": {"kind": "group", "strength": 1, "groups": [[0, 3], [2, 4]]},
    },
    proximal_description(prox={"kind": "group", "strength": 1, "groups": [[3, 3]]}),
    proximal_description(prox={"kind": "group", "strength": 1, "groups": [3]}),
    {"kind": "torch"},
    {"kind": "torch", "optimizers": []},
    {"kind": "torch", "optimizers": [{"class": "torch.optim.SGD"}]},
    {"kind": "torch", "optimizers": [{"class": "torch.optim.SGD", "groups": []}]},
    describe(name="torch.optim.Adam", closure=1),
    describe(name="torch.optim.Adam", lr=-1.0),
    describe(name="torch.optim.Adam", lr=1e300),
    describe(name="torch.optim.Adam", lr=float("inf")),
    describe(name="torch.optim.Adam", betas=[0.9]),
    describe(name="torch.optim.Adam", betas=[0.9, 1.5]),
    describe(name="torch.optim.Adam", lr="fast"),
    describe(name="torch.optim.Adam", capturable=True),
    describe(name="torch.optim.SGD", nesterov=True),
    describe(name="Adam"),
    describe(name="torch.optim.Optimizer"),
    describe(name="torch.optim.lr_scheduler"),
    describe(name="torch.optim.adam.Adam"),
    describe(name="os.system"),
    describe(name=3),
    describe([[0]]),
    describe([[-1, [2]]]),
    describe([[0, [2.5]]]),
    describe([[0, "ab"]]),
    describe([[0, [1] * 100]]),
    describe([[0, [4]]], name="torch.optim.Muon"),
]


@pytest.mark.parametrize("description", BAD, ids=lambda d: json.dumps(d)[:80])
def test_a_bad_description_is_rejected_in_a_line(description):
    with pytest.raises(Rejected) as rejected:
        make_update(description, EACH)
    assert "\n" not in str(rejected.value)
    assert len(str(rejected.value)) < 400


@pytest.mark.parametrize("name", ["LBFGS", "SparseAdam"])
def test_what_cannot_work_on_a_server_is_refused_by_name(name):
    with pytest.raises(Rejected, match=name):
        make_update(describe(name="torch.optim." + name), EACH)
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = getattr(torch.optim, name)([parameter])
    with pytest.raises(Rejected, match=name):
        describe_optimizers([optimizer], [parameter])


def test_optimisers_that_are_not_torchs_are_refused():
    class Mine(torch.optim.SGD):
        pass

    class Adam(torch.optim.SGD):
        pass

    parameter = torch.nn.Parameter(torch.zeros(2))
    for kind in (Mine, Adam):
        with pytest.raises(Rejected, match=r"none of torch\.optim"):
            describe_optimizers([kind([parameter], lr=0.1)], [parameter])
    with pytest.raises(Rejected, match="not the module's"):
        describe_optimizers([torch.optim.SGD([parameter], lr=0.1)], [torch.nn.Parameter(torch.zeros(2))])
    double = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    with pytest.raises(Rejected, match="float64"):
        describe_optimizers([torch.optim.SGD([double], lr=0.1)], [double])


def test_torch_is_for_each_push_alone():
    with pytest.raises(Rejected, match="aggregate"):
        make_update(describe([[0, [2]]], lr=0.1), SUM)


@pytest.mark.parametrize("tensors", [[[0, [6]]], [[0, [3]], [2, [3]]], [[0, [3]], [0, [2]]], [[10**12, [1]]]])
def test_tensors_must_lie_apart_within_the_weights(tensors):
    rule = make_update(describe(tensors), EACH)
    with pytest.raises(Rejected, match="overlaps"):
        rule.bind(np.zeros(5, np.float32))


def test_weights_must_be_float32_that_can_be_written_to():
    frozen = np.zeros(6, np.float32)
    frozen.flags.writeable = False
    for weights in (np.zeros(6), np.zeros((2, 3), np.float32), np.zeros(12, np.float32)[::2], frozen):
        for rule in (
            make_update(describe([[0, [6]]]), EACH),
            make_update({"kind": "proximal_gradient", "step_size": 1}, EACH),
        ):
            with pytest.raises(Rejected):
                rule.bind(weights)
    group = make_update(proximal_description(prox={"kind": "group", "strength": 1, "groups": [[5, 7]]}), EACH)
    with pytest.raises(Rejected, match="beyond"):
        group.bind(np.zeros(6, np.float32))


@pytest.mark.parametrize(
    "hyper",
    [
        {"learning_rate": 1},
        {"optimizer": 1},
        {"optimizer": "0"},
        {"absent": 3},
        {"absent": [2]},
        {"absent": [-1]},
        {"groups": []},
        {"groups": [{}, {}]},
        {"groups": [3]},
        {"groups": [{"params": [1]}]},
        {"groups": [{"lr": -0.1}]},
        {"groups": [{"lr": float("nan")}]},
        {"groups": [{"lr": True}]},
        {"groups": [{"lr": 1e300}]},
        {"groups": [{"lr": 10**400}]},
        {"groups": [{"lr": "1"}]},
        {"groups": [{"lr": None}]},
        {"groups": [{"betas": [1.0, 0.9]}]},
        {"groups": [{"betas": [0.5, 0.9, 0.9]}]},
        {"groups": [{"betas": 0.5}]},
        {"groups": [{"amsgrad": True}]},
        {"groups": [{"fused": True}]},
        {"groups": [{"eps": -1.0}]},
    ],
)
def test_bad_hyperparameters_refuse_the_push_and_change_nothing(hyper):
    rule = make_update(describe([[0, [2]], [2, [1, 2]]]), EACH)
    rule.bind(floats(4))
    before, state = rule.weights.copy(), rule.state()["hyperparameters"].tobytes()
    for _ in range(2):
        with pytest.raises(Unpackable) as refused:
            rule.fold(0, 0, 4, floats(4), 1.0, hyper)
        assert refused.value.reason == "hyper"
    np.testing.assert_array_equal(rule.weights, before)
    assert rule.state()["hyperparameters"].tobytes() == state
    rule.fold(0, 0, 4, floats(4), 1.0, {"groups": [{"betas": [0.5, 0.9], "lr": 1}]})
    assert (rule.weights != before).all()


def test_rmsprop_cannot_begin_to_have_momentum():
    rule = make_update(describe([[0, [2]]], "torch.optim.RMSprop"), EACH)
    rule.bind(floats(2))
    rule.fold(0, 0, 2, floats(2), 1.0, {})
    with pytest.raises(Unpackable, match="momentum"):
        rule.fold(0, 0, 2, floats(2), 1.0, {"groups": [{"momentum": 0.5}]})


def test_hyperparameters_hold_until_others_come_even_in_one_dictionary():
    """A worker may change and send the same dictionary again."""
    rule = make_update(describe([[0, [1]]], "torch.optim.SGD", lr=1.0), EACH)
    rule.bind(np.zeros(1, np.float32))
    hyper = {"groups": [{"lr": 1.0}]}
    for rate in (1.0, 2.0, 4.0):
        hyper["groups"][0]["lr"] = rate
        rule.fold(0, 0, 1, np.ones(1, np.float32), 1.0, hyper)
    assert rule.weights[0] == -7.0
    rule.fold(0, 0, 1, np.ones(1, np.float32), 1.0, {})
    assert rule.weights[0] == -11.0


def test_the_hyperparameters_of_a_push_come_after_those_of_a_state():
    rule = make_update(describe([[0, [1]]], "torch.optim.SGD", lr=1.0), EACH)
    rule.bind(np.zeros(1, np.float32))
    state = rule.state()
    rule.fold(0, 0, 1, np.ones(1, np.float32), 1.0, {"groups": [{"lr": 2.0}]})
    rule.load(state)
    rule.fold(0, 0, 1, np.ones(1, np.float32), 1.0, {})
    rule.fold(0, 0, 1, np.ones(1, np.float32), 1.0, {"groups": [{"lr": 2.0}]})
    rule.load(state)
    rule.fold(0, 0, 1, np.ones(1, np.float32), 1.0, {"groups": [{"lr": 2.0}]})
    assert rule.weights[0] == -(2.0 + 1.0 + 2.0 + 2.0)


def good_state():
    rule = make_update(describe([[0, [2]], [2, [1, 2]]]), EACH)
    rule.bind(floats(4))
    rule.fold(0, 0, 4, floats(4, 1), 1.0, {})
    return rule, rule.state()


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("hyperparameters"),
        lambda s: s.pop("0/0/exp_avg"),
        lambda s: s.update({"0/0/exp_avg": np.zeros(3, np.float32)}),
        lambda s: s.update({"0/1/exp_avg": np.zeros(2, np.float32)}),
        lambda s: s.update({"0/0/step": np.zeros((), np.float64)}),
        lambda s: s.update({"0/2/step": np.zeros((), np.float32)}),
        lambda s: s.update({"1/0/step": np.zeros((), np.float32)}),
        lambda s: s.update({"0/0": np.zeros((), np.float32)}),
        lambda s: s.update({"step": np.zeros((), np.float32)}),
        lambda s: s.update({"0/0/other": np.zeros((5, 5), np.float32)}),
        lambda s: s.update({"hyperparameters": np.zeros(5, np.uint8)}),
        lambda s: s.update({"hyperparameters": np.frombuffer(b"[" * 100_000, np.uint8)}),
        lambda s: s.update({"hyperparameters": np.frombuffer(b"[[{}, {}]]", np.uint8)}),
        lambda s: s.update({"hyperparameters": np.frombuffer(b'[[{"lr": -1}]]', np.uint8)}),
    ],
)
def test_the_state_of_another_optimiser_is_rejected_and_changes_nothing(change):
    rule, state = good_state()
    other = {name: array.copy() for name, array in state.items()}
    change(other)
    with pytest.raises(Rejected) as rejected:
        rule.load(other)
    assert "\n" not in str(rejected.value)
    now = rule.state()
    assert now.keys() == state.keys()
    assert all(now[name].tobytes() == state[name].tobytes() for name in state)


def test_torch_states_of_other_shapes_are_rejected():
    module = make_module()
    optimizer = torch.optim.Adam(module.parameters())
    description = describe_optimizers([optimizer], list(module.parameters()))
    with pytest.raises(Rejected, match="optimisers"):
        from_torch([description], [])
    with pytest.raises(Rejected, match="groups"):
        from_torch([description], [torch.optim.Adam(list(module.parameters())[:2]).state_dict()])


def test_a_shard_without_tensors_of_an_optimiser_takes_its_pushes():
    description = restrict(describe([[0, [2]]]), 2, 5)
    rule = make_update(description, EACH)
    rule.bind(floats(3))
    rule.fold(0, 0, 3, floats(3, 1), 1.0, {"groups": [{"lr": 0.5}], "absent": [0]})
    np.testing.assert_array_equal(rule.weights, floats(3))


def test_the_rules_know_their_descriptions():
    for prox in (None, L1(0.1), Box(None, 2.0), Box(0.0, None), Group(0.5, [(0, 2)])):
        rule = ProximalGradient(0.25, prox, 2.0)
        description = json.loads(json.dumps(rule.describe(), allow_nan=False))
        assert make_update(description, EACH).describe() == description
    rule = make_update(describe([[0, [2]]]), EACH)
    description = json.loads(json.dumps(rule.describe(), allow_nan=False))
    assert make_update(description, EACH).describe() == description
