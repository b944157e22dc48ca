"""The study of what ternary weights lose: one tiny run, its arithmetic, and that a finished run is not run again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from rich.console import Console

SCRIPTS = Path(__file__).parents[2] / "scripts" / "experiments"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield import_module("ternary_study")
        sys.modules.pop("ternary_study", None)


def test_a_regression_is_learnt_the_same_way_twice(script):
    one, other = (script.one_run("regression", "ternary, 32", 0, True) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert 0.0 < one[0] < 0.5  # of the variance is left; a network that learnt nothing leaves all


def test_int8_is_the_fp32_network_up_to_its_rounding(script):
    exact, rounded = (script.one_run("regression", name, 0, True)[0] for name in ("fp32, 64", "int8, 64"))
    assert exact != rounded and abs(exact - rounded) < 0.01


def test_differences_are_paired_and_better_is_positive(script):
    found = {script.BASE: np.array([[1.0], [2.0], [3.0]]), "ternary, 64": np.array([[0.5], [1.5], [2.5]])}
    rows = {name: difference for name, _, difference in script.compare(found, -1)}
    assert rows[script.BASE] is None
    assert tuple(rows["ternary, 64"]) == pytest.approx((0.5, 0.5, 0.5))
    figure = script.picture({"game": found})
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["ternary, 64"]


def test_what_is_finished_is_read(script, tmp_path):
    options = argparse.Namespace(tasks=["game"], variants=[script.BASE], seeds=2, processes=1, quick=True)
    (tmp_path / "runs").mkdir()
    for seed in range(2):
        np.save(tmp_path / "runs" / f"game-fp32-64-{seed}.npy", np.array([float(seed)]))
    found = script.study(options, tmp_path, Console())
    assert found["game"][script.BASE].tolist() == [[0.0], [1.0]]
