"""The policy's file: exact to the bit, and anything but a sound one is refused in one line."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from bitquote.errors import InputError
from bitquote.ternary import Policy, load_policy
from bitquote.ternary.storage import DESCRIPTION, VERSION, digest


@pytest.fixture
def path(build, tmp_path) -> Path:
    file = tmp_path / "policy.safetensors"
    build(6, (8, 8)).policy(market={"name": "game", "units": "price"}, seed=3).save(file)
    return file


def contents(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    with safe_open(str(path), framework="np") as file:
        return dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def refused(path: Path, message: str) -> Iterator[None]:
    with pytest.raises(InputError, match=message) as error:
        yield
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("architecture", ["ternary", "fp32"])
@pytest.mark.parametrize("baseline", ["direct", "residual"])
def test_round_trip_is_exact(build, adversarial, tmp_path, architecture, baseline):
    policy = build(8, (65, 3), architecture, baseline=baseline).policy(market={"name": "game"})
    policy.save(tmp_path / "a")
    loaded = load_policy(tmp_path / "a")
    assert (loaded.description, loaded.metadata) == (policy.description, policy.metadata)
    for one, other in zip(loaded.arguments, policy.arguments, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    for observation in adversarial(policy.observation_ranges, count=4):
        assert loaded.quote(observation) == policy.quote(observation)
    loaded.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_header_is_readable_json(path):
    header, _ = contents(path)
    entries = {name: json.loads(text) for name, text in header.items()}
    assert (entries["version"], entries["architecture"]) == (VERSION, "ternary")
    assert entries["observation_ranges"] == [20.0, 1.0, 20.0, 1.0, 2.0, 0.5]
    assert entries["market"] == {"name": "game", "units": "price"}


@pytest.mark.parametrize("metadata", [{"version": 2}, {"market": object()}, {"market": float("nan")}])
def test_metadata_that_a_file_cannot_hold(build, tmp_path, metadata):
    with pytest.raises(InputError, match="metadata"):
        build().policy(**metadata).save(tmp_path / "p")


def test_an_unwritable_place(build, tmp_path):
    with refused(tmp_path, "cannot be written"):
        build().policy().save(tmp_path)


def test_not_a_file(tmp_path):
    with refused(tmp_path, "is a directory"):
        load_policy(tmp_path)
    with refused(tmp_path / "missing", "no such file"):
        load_policy(tmp_path / "missing")


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"\xff" * 100, b"PK\x03\x04" + b"\0" * 64, b"\x02" + b"\0" * 7 + b"{}"]
)
def test_not_safetensors(tmp_path, content):
    (tmp_path / "p").write_bytes(content)
    with refused(tmp_path / "p", "must be"):
        load_policy(tmp_path / "p")


HEADERS: dict[str, tuple[Callable[[dict], object], str]] = {
    "format": (lambda h: h.update(format='"other"'), "format"),
    "no format": (lambda h: h.pop("format"), "format"),
    "version": (lambda h: h.update(version="1"), "version is 1"),
    "architecture": (lambda h: h.update(architecture='"binary"'), "architecture"),
    "no architecture": (lambda h: h.pop("architecture"), "with architecture"),
    "not json": (lambda h: h.update(hidden="[8,"), "hidden .* JSON"),
    "nan": (lambda h: h.update(no_quote="NaN"), "no_quote .* JSON"),
    "deep": (lambda h: h.update(market="[" * 100_000), "market .* JSON"),
    "long integer": (lambda h: h.update(no_quote="9" * 5000), "no_quote"),
    "huge width": (lambda h: h.update(hidden="[8, 1000000000]"), "hidden"),
    "other width": (lambda h: h.update(hidden="[8, 16]"), r"hidden\.1\.weight shape"),
    "fewer names": (lambda h: h.update(observation_names='["a", "b"]'), "observation_ranges"),
    "fewer features": (lambda h: h.update(observation_names='["a"]', observation_ranges="[1.0]"), r"hidden\.0\.weight"),
    "range": (lambda h: h.update(observation_ranges="[20, 1, 20, 1, 2, -1]"), "observation_ranges"),
    "object": (lambda h: h.update(observation_names="{}"), "observation_names"),
    "fp32": (lambda h: h.update(architecture='"fp32"'), "tensor"),
    "other range": (lambda h: h.update(observation_ranges="[30, 1, 20, 1, 2, 1]"), "sha256"),
    "market": (lambda h: h.update(market='{"name": "spot"}'), "sha256"),
    "no checksum": (lambda h: h.pop("sha256"), "with sha256"),
    "checksum": (lambda h: h.update(sha256='"0"'), "sha256"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_an_altered_header_is_refused(path, case):
    alter, message = HEADERS[case]
    header, tensors = contents(path)
    alter(header)
    save_file(tensors, path, header)
    with refused(path, message):
        load_policy(path)


TENSORS: dict[str, tuple[Callable[[dict], object], str]] = {
    "none": (lambda t: t.clear(), "with hidden"),
    "missing": (lambda t: t.pop("head.bias"), r"with head\.bias"),
    "extra": (lambda t: t.update(more=np.zeros(3)), "more"),
    "shape": (lambda t: t.update({"head.bias": np.zeros(3, np.float32)}), r"head\.bias shape"),
    "float64": (lambda t: t.update({"head.bias": np.zeros(2)}), r"head\.bias dtype is 'F64': must be float32"),
    "complex": (lambda t: t.update({"head.bias": np.zeros(2, np.complex64)}), r"head\.bias dtype"),
    "empty": (lambda t: t.update({"head.bias": np.zeros(0, np.float32)}), r"head\.bias shape"),
    "nan": (lambda t: t.update({"head.bias": np.full(2, np.nan, np.float32)}), r"head\.bias"),
    "scale": (lambda t: t.update({"hidden.0.scale": np.array(np.inf, np.float32)}), r"hidden\.0\.scale"),
    "negative scale": (lambda t: t.update({"hidden.0.scale": np.array(-1, np.float32)}), r"hidden\.0\.scale"),
    "trits": (lambda t: t["hidden.0.weight"].fill(243), r"hidden\.0\.weight: .*243.*five trits"),
    "trits behind": (lambda t: t["hidden.0.weight"].fill(242), r"hidden\.0\.weight: .*behind the last"),
    "unpacked": (lambda t: t.update({"hidden.0.weight": np.ones((8, 6), np.int8)}), r"hidden\.0\.weight dtype"),
    "other trits": (lambda t: t["hidden.0.weight"].__setitem__(0, 121 - t["hidden.0.weight"][0] % 2), "sha256"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_altered_tensors_are_refused(path, case):
    alter, message = TENSORS[case]
    header, tensors = contents(path)
    alter(tensors)
    save_file(tensors, path, header)
    with refused(path, message):
        load_policy(path)


ODD = [None, True, -1, 0, 1e300, 1e-320, "", "ternary", [], {}, [[]], [None] * 6, [True] * 6, [1e39] * 6, [8, 8, 8]]


@pytest.mark.parametrize("field", DESCRIPTION)
def test_odd_values_under_a_right_checksum(path, field):
    """A forged file is refused, or is a policy like any other."""
    header, tensors = contents(path)
    for value in ODD:
        forged = {name: text for name, text in header.items() if name != "sha256"} | {field: json.dumps(value)}
        save_file(tensors, path, forged | {"sha256": json.dumps(digest(forged, tensors))})
        outcome = policy_or_refusal(path)
        if isinstance(outcome, str):
            assert "\n" not in outcome
        else:
            assert np.isfinite(outcome.quote(np.ones(outcome.observation_size))).all()


def damaged(original: bytes, generator: np.random.Generator) -> bytes:
    """A copy with some bits flipped, bytes replaced, a piece cut out, doubled, or the end missing."""
    data = bytearray(original)
    # Half of the damage goes to the header, where a parser can trip.
    place = int(generator.integers(len(data) if generator.random() < 0.5 else 600))
    kind = generator.integers(5)
    if kind == 0:
        data[place] ^= 1 << int(generator.integers(8))
    elif kind == 1:
        for i in generator.integers(0, len(data), 4):
            data[i] = int(generator.integers(256))
    elif kind == 2:
        del data[place : place + int(generator.integers(1, 40))]
    elif kind == 3:
        data[place:place] = data[place : place + int(generator.integers(1, 40))]
    else:
        del data[place:]
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_fuzzed_bytes_are_refused_or_harmless(path, seed):
    original = path.read_bytes()
    reference = load_policy(path)
    generator = np.random.default_rng(seed)
    survivors = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(500):
            path.write_bytes(damaged(original, generator))
            outcome = policy_or_refusal(path)
            if isinstance(outcome, str):
                assert "\n" not in outcome
                continue
            survivors += 1  # damage that passes, such as to the header's padding, has changed nothing
            assert outcome.description == reference.description
            for one, other in zip(outcome.arguments, reference.arguments, strict=True):
                np.testing.assert_array_equal(one, other)
    assert survivors < 25


def policy_or_refusal(path: Path) -> Policy | str:
    try:
        return load_policy(path)
    except InputError as error:
        return str(error)
