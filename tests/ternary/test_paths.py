"""Which kernel a machine takes, and that a wish which cannot be fulfilled is refused."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from bitquote.errors import InputError
from bitquote.ternary import load_policy, simd
from bitquote.ternary.paths import VARIABLE, choose


def test_the_processor_decides(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    for available, name in ((True, "avx2"), (False, "portable")):
        monkeypatch.setattr(simd, "AVAILABLE", available)
        assert choose().name == name and "AVX2" in choose().reason


def test_the_environment_forces_the_portable_path(build, tmp_path, monkeypatch):
    policy = build().policy()
    policy.save(tmp_path / "p")
    monkeypatch.setenv(VARIABLE, "portable")
    assert VARIABLE in choose().reason
    forced = load_policy(tmp_path / "p")
    assert forced.path == "portable"
    observation = np.linspace(-1.0, 1.0, 6)
    assert forced.quote(observation) == policy.quote(observation)


def test_a_wish_that_cannot_be_fulfilled(monkeypatch):
    with pytest.raises(InputError, match="path is 'sse': must be one of portable, avx2"):
        choose("sse")
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(InputError, match=f"{VARIABLE} is 'fast'"):
        choose()
    monkeypatch.setenv(VARIABLE, "avx2")
    monkeypatch.setattr(simd, "AVAILABLE", False)
    with pytest.raises(InputError, match="must be 'portable'"):
        choose()


def test_a_policy_travels_to_the_path_of_the_machine_that_it_comes_to(build, monkeypatch):
    policy = build().policy(market={"name": "game"})
    data = pickle.dumps(policy)
    monkeypatch.setenv(VARIABLE, "portable")
    arrived = pickle.loads(data)
    observation = np.linspace(-1.0, 1.0, 6)
    assert arrived.path == "portable" and arrived.metadata == policy.metadata
    assert arrived.quote(observation) == policy.quote(observation)


def test_what_numba_leaves_out_is_not_used():
    code = "from bitquote.ternary import paths; print(*paths.choose())"
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment["NUMBA_CPU_NAME"] = "generic"
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("portable")
