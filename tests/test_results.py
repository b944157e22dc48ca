"""docs/results.md shows the numbers of docs/results.json and no others."""

from __future__ import annotations

import json

from scripts_as_modules import load_script

results = load_script("experiments/results.py")


def test_the_page_is_what_the_committed_numbers_make():
    kept = json.loads((results.DOCS / "results.json").read_text())
    assert (results.DOCS / "results.md").read_text() == results.page(kept)
    for suite in kept["suites"]:
        assert (results.DOCS / f"results_{suite}.png").stat().st_size > 10_000


def test_a_loss_and_an_untuned_baseline_are_said():
    row = {"objective": 1.0, "regret": 0.5, "ci_high": 0.6, "p_holm": 0.01, "probability_of_improvement": {"mean": 0.2}}
    untuned = {"untuned": "the edge"}
    cell = {
        "rows": [{"quoter": "no_quote", "objective": 1.5}, row | {"quoter": "policy"}],
        "tuning": untuned, "training_seeds": [1, 2], "paths": 10,
    }  # fmt: skip
    made = dict.fromkeys(("bitquote", "python", "numba", "torch", "processor", "cores"), "x")
    text = results.page({"hardware": made, "suites": {"scenarios": {"markets": {"bad": cell}}}})
    assert "| `bad` | −0.500 ± 0.100 | 0.01 | 20 % of paths | 2 | 10 |" in text
    assert "after correction, in: `bad` (scenarios, −0.5)" in text and "best in: `bad`" in text
    assert "GLFT itself" in text


def test_a_pair_and_what_is_exact_have_their_lines():
    exact = {"quoter": "policy", "objective": 1.0, "regret": 0.5, "ci_high": 0.6, "p_value": None}
    cell = {"rows": [exact], "tuning": {"untuned": "the edge"}, "training_seeds": [1, 2], "paths": 10}
    pair = {"cells": ["a", "b"], "training_seeds": [1, 2], "exact": True, "mean": -0.5, "high": -0.4, "p_holm": 0.03}
    made = dict.fromkeys(("bitquote", "python", "numba", "torch", "processor", "cores"), "x")
    suite = {"markets": {"a": cell, "b": cell}, "pairs": {"weights": pair}}
    text = results.page({"hardware": made, "suites": {"ternary": suite}})
    assert "| `a` | −0.500 ± 0.100 | - | - | 2 | 10 |" in text
    assert "weights: a less b -0.500 ± 0.100 (95 %, paired over 2 training seeds; p, Holm 0.03)." in text
