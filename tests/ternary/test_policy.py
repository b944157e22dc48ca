"""The policy's face: what it tells, what it refuses, and that nothing here waits for torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from bitquote.errors import InputError
from bitquote.ternary import Policy, PolicyDescription, load_policy


def test_face(build):
    policy = build(baseline="residual").policy(market={"name": "game"})
    assert (policy.architecture, policy.observation_size, policy.no_quote) == ("ternary", 6, 50.0)
    assert policy.observation_names[0] == "inventory"
    assert policy.observation_ranges[0] == 20.0
    assert policy.metadata == {"market": {"name": "game"}}
    half_spread, skew = policy.quote([1, 1, 1, 1, 1, 0.1])
    assert type(half_spread) is type(skew) is float
    assert policy.kernel(np.array([1, 1, 1, 1, 1, 0.1]), *policy.arguments) == (half_spread, skew)


@pytest.mark.parametrize(
    "observation",
    [
        [],
        [1.0] * 5,
        [1.0] * 7,
        [[1.0] * 6],
        1.0,
        None,
        "inventory",
        ["a"] * 6,
        [np.nan] * 6,
        [1, 2, 3, 4, 5, np.inf],
        [1j] * 6,
    ],
)
def test_a_wrong_observation_is_one_clear_line(build, observation):
    with pytest.raises(InputError, match="6 finite numbers: inventory, time_left") as error:
        build().policy().quote(observation)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("observation_names", ()),
        ("observation_names", ("a", "a")),
        ("observation_names", ("a", 3)),
        ("observation_names", "ab"),
        ("observation_ranges", (1.0,)),
        ("observation_ranges", (1.0, -1.0)),
        ("observation_ranges", (1.0, float("nan"))),
        ("observation_ranges", (1.0, float("inf"))),
        ("observation_ranges", (1.0, 1e-40)),
        ("observation_ranges", (1.0, True)),
        ("hidden", ()),
        ("hidden", (0,)),
        ("hidden", (64.5,)),
        ("hidden", (10**6,)),
        ("hidden", (4,) * 100),
        ("hidden", 64),
        ("architecture", "binary"),
        ("architecture", None),
        ("baseline", "glft"),
        ("baseline", "residual"),
        ("base_half_spread", float("nan")),
        ("base_half_spread", "wide"),
        ("action_scale", (1.0,)),
        ("action_scale", (1.0, -1.0)),
        ("action_scale", 1.0),
        ("no_quote", 0.0),
        ("no_quote", float("inf")),
    ],
)
def test_a_wrong_description_names_its_field(field, value):
    good = {"observation_names": ("a", "b"), "observation_ranges": (1.0, 2.0)}
    with pytest.raises(InputError, match="observation_names" if value == "residual" else field) as error:
        PolicyDescription(**(good | {field: value}))
    assert "\n" not in str(error.value)


def test_a_residual_finds_its_features_wherever_they_stand():
    names = ("glft_skew", "inventory", "glft_half_spread")
    assert PolicyDescription(names, (1.0, 1.0, 1.0), baseline="residual").baseline_features() == (2, 0)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("hidden.0.weight", np.full((64, 6), 2, np.int8), "-1, 0 and 1"),
        ("hidden.0.weight", np.full((64, 6), -128, np.int8), "-1, 0 and 1"),
        ("hidden.0.weight", np.zeros((64, 6), np.float32), "int8"),
        ("hidden.0.weight", np.zeros((6, 64), np.int8), "shape"),
        ("hidden.0.scale", np.array(np.nan, np.float32), "finite"),
        ("hidden.0.scale", np.array(0.0, np.float32), "above 0"),
        ("head.bias", np.array([0.0, np.inf], np.float32), "finite"),
        ("head.extra", np.zeros(2, np.float32), "one of"),
    ],
)
def test_unsound_weights_name_their_tensor(build, name, array, message):
    policy = build().policy()
    with pytest.raises(InputError, match=message) as error:
        policy.update(policy.tensors() | {name: array})
    assert name in str(error.value)


def test_a_missing_tensor_is_named(build):
    policy = build().policy()
    tensors = policy.tensors()
    del tensors["head.bias"]
    with pytest.raises(InputError, match=r"with head\.bias"):
        Policy(policy.description, {}, tensors)


def test_deployment_never_imports_torch(build, tmp_path):
    build().policy().save(tmp_path / "policy.safetensors")
    code = (
        "import sys; from bitquote.ternary import load_policy; "
        f"load_policy({str(tmp_path / 'policy.safetensors')!r}).quote([0] * 6); "
        "assert 'torch' not in sys.modules; "
        "from bitquote.ternary import BitLinear; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors():
    import bitquote.ternary

    with pytest.raises(AttributeError, match="no attribute 'Bitlinear'"):
        bitquote.ternary.Bitlinear  # noqa: B018


def test_load_policy_takes_text_and_paths(build, tmp_path):
    build().policy().save(str(tmp_path / "p"))
    assert load_policy(str(tmp_path / "p")).quote([0] * 6) == load_policy(tmp_path / "p").quote([0] * 6)
