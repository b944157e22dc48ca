"""The table and the picture of several markets."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from bitquote.evaluation.attribution import PARTS
from bitquote.report.figures import pixels
from bitquote.report.suite import SHOWN, columns, print_suite, suite_figure


def summary(policies=("policy:1", "policy:2", "policy")):
    """Two markets: in one the policy is best, in the other nobody earns anything."""
    markets = {}
    for name, sign in (("up", 1.0), ("down", -1.0)):
        rows = [
            {
                "quoter": quoter, "objective": sign * place, "attribution": dict.fromkeys(PARTS, sign * 0.5)
            }
            for place, quoter in enumerate((*SHOWN, *policies))
        ]  # fmt: skip
        rows[1]["objective"] = None
        markets[name] = {"description": "x", "reference": "glft_tuned", "paths": 2, "rows": rows,
                         "objective": "penalty", "untuned": name == "down"}  # fmt: skip
    return {"version": 1, "markets": markets}


def test_pooled_policies_have_one_column():
    assert columns(summary()) == [*SHOWN, "policy"]
    assert columns(summary(("policy:b", "policy:a"))) == [*SHOWN, "policy:a", "policy:b"]


def test_the_table_marks_the_best_and_shows_what_is_missing():
    text = io.StringIO()
    print_suite(summary(), Console(file=text, width=140, force_terminal=False))
    lines = [line.split() for line in text.getvalue().splitlines()]
    up, down = (next(line for line in lines if line[:1] == [name]) for name in ("up", "down"))
    assert lines[-1][-1] == "down"  # the one that was not tuned
    assert up[-1] == "9.00" and up[2] == "-" and down[1] == "0.00" and down[-1] == "-9.00"


def test_the_picture_has_a_line_for_each_market():
    figure = suite_figure(summary())
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["up", "down"]
    assert len(np.unique(pixels(figure).reshape(-1, 3), axis=0)) > 50
