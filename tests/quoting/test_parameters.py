"""Parameters and tables refuse what cannot be a game, in one line."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bitquote.errors import InputError
from bitquote.quoting import GameParameters, QuoteTable, check, no_quote


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("A", 0.0), ("A", -1.0), ("k", 0.0), ("k", math.nan), ("sigma", -2.0), ("sigma", 0.0), ("sigma", math.inf),
        ("gamma", 0.0), ("gamma", "0.1"), ("gamma", True), ("horizon", 0.0), ("horizon", 1e300), ("steps", 0),
        ("steps", 2.5), ("steps", 10**9), ("max_inventory", 0), ("max_inventory", None), ("max_inventory", 10**6),
        ("fill_convention", "quadratic"), ("mid_convention", 3),
    ],
)  # fmt: skip
def test_impossible_parameters(field, value):
    with pytest.raises(InputError, match=field) as caught:
        GameParameters(**{field: value})
    assert "\n" not in str(caught.value)


def test_derived_quantities():
    game = GameParameters(gamma=0.5, sigma=2.0, horizon=3.0, steps=600)
    assert game.dt == pytest.approx(0.005)
    assert game.penalty == pytest.approx(1.0)
    assert game.shape == (600, 121)
    assert game.A * game.horizon * math.exp(-game.k * game.no_quote) == pytest.approx(math.exp(-20.0))


def test_check_names_the_malformed_side_and_cell():
    game = GameParameters(steps=4, max_inventory=2)
    good = no_quote(game)
    assert np.isinf(check(good, game).bid).all()
    with pytest.raises(InputError, match="shape of the table's ask"):
        check(QuoteTable(good.bid, good.ask[:-1]), game)
    for bad in (math.nan, -math.inf):
        bid = good.bid.copy()
        bid[1, 3] = bad
        with pytest.raises(InputError, match=r"bid is .* at step 1, inventory 1"):
            check(QuoteTable(bid, good.ask), game)
    with pytest.raises(InputError, match="bid"):
        check(QuoteTable("no", good.ask), game)
