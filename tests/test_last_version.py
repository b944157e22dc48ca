"""What version 0.1.0 wrote is read: its runs can be judged and exported, and its policies quote the same numbers.

tests/files/<version> holds two small runs, and in quotes.json what their policies answered when they were written. A
version that changes a format adds a folder of its own, and leaves these.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bitquote.run import Run
from bitquote.ternary import load_policy
from train.command import main

VERSIONS = sorted(path for path in (Path(__file__).parent / "files").iterdir() if path.is_dir())
MARKETS = ("game", "order_book")
FRACTIONS = (-1.0, -0.37, 0.0, 0.11, 0.5, 1.0)


def quotes(policy) -> list[list[float]]:
    """Half-spread and skew at `FRACTIONS` of the observations' ranges."""
    ranges = np.asarray(policy.observation_ranges)
    return [[float(value) for value in policy.quote(fraction * ranges)] for fraction in FRACTIONS]


@pytest.fixture(
    params=[(version, market) for version in VERSIONS for market in MARKETS], ids=lambda p: f"{p[0].name}-{p[1]}"
)
def recorded(request, tmp_path, monkeypatch) -> Path:
    """A copy of a run of that version."""
    version, market = request.param
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(version / market, tmp_path / "recorded"))


def test_policies_quote_what_they_quoted(recorded):
    expected = json.loads((recorded / "quotes.json").read_text())
    assert quotes(load_policy(recorded / "policy.safetensors")) == expected


def test_runs_are_read_and_judged(recorded):
    before = Run.load(recorded)
    assert before.metrics["updates"] > 0
    assert main(["benchmark", "run=recorded", "output=again.json"]) == 0
    after = json.loads(Path("again.json").read_text())
    assert [row["quoter"] for row in after["rows"]] == [row["quoter"] for row in before.benchmark["rows"]]
    assert after["tuning"] == before.benchmark["tuning"]  # read, not made again
    if before.benchmark["market"] == "game":  # exact there; simulations may come to differ
        for row, own in zip(after["rows"], before.benchmark["rows"], strict=True):
            assert row["objective"] == pytest.approx(own["objective"], rel=1e-9)


def test_runs_are_exported(recorded):
    assert main(["export", f"run={recorded}", "output=policy.safetensors"]) == 0
    assert Path("policy.safetensors").read_bytes() == (recorded / "policy.safetensors").read_bytes()
