"""The exact recursions against enumeration of every outcome, finite differences and limits."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitquote.quoting import QUOTERS, GameParameters, QuoteTable, dynamic_program, glft
from bitquote.quoting.objective import certainty_equivalent, inventory_costs, inventory_slopes
from bitquote.quoting.recursion import exact_gradient, fill_probabilities, fill_slopes, start_distribution, values
from bitquote.quoting.table import inventories

games = st.builds(
    GameParameters,
    A=st.floats(1.0, 1000.0),
    k=st.floats(0.3, 20.0),
    sigma=st.floats(0.1, 10.0),
    gamma=st.floats(1e-3, 3.0),
    horizon=st.floats(0.05, 2.0),
    steps=st.integers(1, 12),
    max_inventory=st.integers(1, 6),
    fill_convention=st.sampled_from(["linear", "exponential"]),
    mid_convention=st.sampled_from(["two_point", "gaussian"]),
)


def start_value(table, game, objective):
    return values(table, game, objective)[0, game.max_inventory]


@settings(max_examples=40)
@given(games, st.sampled_from(["penalty", "cara"]))
def test_no_quoter_beats_the_dynamic_program(game, objective):
    best = values(dynamic_program(game, objective), game, objective)[0]
    for quoter in QUOTERS.values():
        found = values(quoter(game), game, objective)[0]
        assert np.all(found <= best + 1e-9 * (1.0 + np.abs(best)))


@given(games, st.sampled_from(["penalty", "cara"]), st.integers(0, 2**32 - 1))
def test_no_change_of_one_quote_improves_the_dynamic_program(game, objective, seed):
    """Every cell is optimal given what follows, over both sides at once."""
    table = dynamic_program(game, objective)
    best = values(table, game, objective)
    random = np.random.default_rng(seed)
    for size in (1e-3, 0.1, 3.0):
        step = int(random.integers(game.steps))
        changed = QuoteTable(table.bid.copy(), table.ask.copy())
        for side in changed:
            side[step] += size * random.standard_normal(side.shape[1]) / game.k
        assert np.all(values(changed, game, objective)[step] <= best[step] + 1e-9 * (1.0 + np.abs(best[step])))


@pytest.mark.parametrize("fill_convention", ["linear", "exponential"])
@pytest.mark.parametrize("objective", ["penalty", "cara"])
def test_the_sides_are_chosen_together_when_both_fills_are_likely(fill_convention, objective):
    """A huge penalty and near-certain fills: a grid over both distances finds nothing better."""
    game = GameParameters(sigma=3.0, gamma=2.0, horizon=0.05, steps=1, max_inventory=2, fill_convention=fill_convention)
    best = values(dynamic_program(game, objective), game, objective)[0]
    grid = np.linspace(-1.0, 6.0, 281)
    for column in range(1, 4):
        found = max(
            values(QuoteTable(np.full((1, 5), bid), np.full((1, 5), ask)), game, objective)[0, column]
            for bid in grid[::7]
            for ask in grid[::7]
        )
        assert found <= best[column] + 1e-12


@pytest.mark.parametrize("fill_convention", ["linear", "exponential"])
@pytest.mark.parametrize("objective", ["penalty", "cara"])
@pytest.mark.parametrize("mid_convention", ["two_point", "gaussian"])
def test_exact_gradient_is_the_derivative_of_the_value(fill_convention, objective, mid_convention):
    small = GameParameters(gamma=0.4, horizon=0.04, steps=8, max_inventory=3)
    game = replace(small, fill_convention=fill_convention, mid_convention=mid_convention)
    table = glft(game)
    start = start_distribution(game, 1)
    gradients = exact_gradient(table, game, objective, start)
    assert gradients[2].sum(axis=1) == pytest.approx(np.ones(8))
    change = 1e-5
    for side, step, column in ((0, 0, 3), (1, 2, 4), (0, 5, 0), (1, 7, 2)):
        scores = []
        for sign in (-1, 1):
            moved = [table.bid.copy(), table.ask.copy()]
            moved[side][step, column] += sign * change
            scores.append(start @ values(QuoteTable(*moved), game, objective)[0])
        slope = (scores[1] - scores[0]) / (2 * change)
        assert gradients[side][step, column] == pytest.approx(slope, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("objective", ["penalty", "cara"])
@pytest.mark.parametrize("fill_convention", ["linear", "exponential"])
def test_gradient_vanishes_at_the_dynamic_program(objective, fill_convention):
    game = GameParameters(fill_convention=fill_convention)
    bid, ask, _ = exact_gradient(dynamic_program(game, objective), game, objective)
    assert max(np.abs(bid).max(), np.abs(ask).max()) < 1e-10


@given(st.floats(-3.0, 60.0), st.sampled_from(["linear", "exponential"]))
def test_fill_slope_is_the_derivative(distance, fill_convention):
    game = GameParameters(fill_convention=fill_convention)
    change = 1e-6
    around = fill_probabilities(np.array([distance - change, distance + change]), game)
    slope = fill_slopes(np.array([distance]), game)[0]
    if abs(distance - math.log(game.A * game.dt) / game.k) > 2 * change:  # the kink of a linear fill
        assert slope == pytest.approx((around[1] - around[0]) / (2 * change), rel=1e-4, abs=1e-8)


def test_fill_probabilities_at_the_extremes():
    for convention in ("linear", "exponential"):
        game = GameParameters(fill_convention=convention)
        extremes = np.array([np.inf, 1e300, -1e300])
        assert fill_probabilities(extremes, game).tolist() == [0.0, 0.0, 1.0]
        assert np.abs(fill_slopes(extremes, game)).max() == 0.0


@given(st.lists(st.tuples(st.floats(0.01, 1.0), st.floats(-1e4, 1e4)), min_size=1, max_size=5), st.floats(1e-12, 10.0))
def test_certainty_equivalent_is_a_mean_that_risk_pulls_down(lottery, gamma):
    chances, outcomes = np.array(lottery).T[:, :, None]
    chances = chances / chances.sum()
    found = certainty_equivalent(chances, outcomes, gamma)[0]
    mean = float((chances * outcomes).sum())
    assert outcomes.min() - 1e-6 <= found <= mean + 1e-6 * (1 + abs(mean))
    assert certainty_equivalent(chances, outcomes, 0.0)[0] == pytest.approx(mean)


def test_certainty_equivalent_keeps_its_digits():
    tiny = certainty_equivalent(np.array([0.5, 0.5]), np.array([-1.0, 1.0]), 1e-9)
    assert tiny == pytest.approx(-0.5e-9, rel=1e-6, abs=0)
    rare = certainty_equivalent(np.array([1e-30, 1.0]), np.array([-500.0, 0.0]), 1.0)
    assert rare == pytest.approx(-(500.0 - 30.0 * math.log(10.0)), rel=1e-12)
    impossible = certainty_equivalent(np.array([0.0, 1.0]), np.array([-1e300, 2.0]), 5.0)
    assert impossible == 2.0


@pytest.mark.parametrize("objective", ["penalty", "cara"])
@pytest.mark.parametrize("mid_convention", ["two_point", "gaussian"])
def test_inventory_costs_and_their_slopes(objective, mid_convention):
    game = GameParameters(gamma=0.7, mid_convention=mid_convention)
    costs, quantity = inventory_costs(game, objective), inventories(game)
    if objective == "cara" and mid_convention == "two_point":
        exact = np.log(np.cosh(game.gamma * quantity * game.sigma * math.sqrt(game.dt))) / game.gamma
    else:
        exact = game.penalty * game.dt * quantity**2
    assert np.allclose(costs, exact, rtol=1e-12)
    assert np.allclose(np.gradient(costs)[1:-1], inventory_slopes(game, objective)[1:-1], atol=1e-3)
