"""The closed forms: first values, symmetry, limits, and the linear systems behind them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.linalg import expm

from bitquote.errors import InputError
from bitquote.quoting import (
    QUOTERS,
    GameParameters,
    avellaneda_stoikov,
    cartea_jaimungal,
    check,
    glft,
    glft_asymptotic,
    glft_shifted,
    symmetric,
)
from bitquote.quoting.glft import continuous_certainty_equivalent
from bitquote.quoting.symmetric import best_half_spread
from bitquote.quoting.tridiagonal import log_solution

GAME = GameParameters()
CENTRE = GAME.max_inventory


def test_glft_first_values():
    bid, ask = glft(GAME)
    held = [CENTRE, CENTRE + 1, CENTRE + 5]
    assert np.round(bid[0, held], 4).tolist() == [0.6716, 0.7241, 0.9318]
    assert np.round(ask[0, held], 4).tolist() == [0.6716, 0.6191, 0.4105]


def test_glft_asymptotic_first_values():
    bid, _ = glft_asymptotic(GAME)
    assert round(bid[0, CENTRE], 4) == 0.6712
    assert round(bid[0, CENTRE + 1] - bid[0, CENTRE], 4) == 0.0517


@pytest.mark.parametrize(("gamma", "worth"), [(0.01, 67.8457), (0.1, 64.1335), (0.5, 53.9246)])
def test_glft_continuous_certainty_equivalent(gamma, worth):
    assert round(continuous_certainty_equivalent(GameParameters(gamma=gamma)), 4) == worth


def test_glft_approaches_its_asymptote_far_from_the_horizon():
    game = GameParameters(horizon=20.0, steps=50)
    near = slice(game.max_inventory - 3, game.max_inventory + 4)
    assert np.allclose(glft(game).bid[0, near], glft_asymptotic(game).bid[0, near], atol=4e-3)


def test_avellaneda_stoikov_by_its_formula():
    bid, ask = avellaneda_stoikov(GAME)
    for step, inventory in ((0, 0), (0, 3), (150, -2), (199, 1)):
        left = 1.0 - step * 0.005
        reservation = -inventory * 0.1 * 4.0 * left
        spread = 0.1 * 4.0 * left + 20.0 * math.log(1.0 + 0.1 / 1.5)
        assert bid[step, CENTRE + inventory] == pytest.approx(spread / 2 - reservation)
        assert ask[step, CENTRE + inventory] == pytest.approx(spread / 2 + reservation)


def test_short_inventory_puts_the_reservation_price_above_the_mid():
    for quoter in (avellaneda_stoikov, glft, glft_asymptotic, cartea_jaimungal):
        bid, ask = quoter(GAME)
        assert ask[0, CENTRE - 4] > bid[0, CENTRE - 4]


@pytest.mark.parametrize("name", QUOTERS)
def test_every_quoter_is_a_mirror_image_and_keeps_the_bound(name):
    table = QUOTERS[name](GameParameters(steps=20, max_inventory=6))
    assert check(table, GameParameters(steps=20, max_inventory=6)).bid.shape == (20, 13)
    assert np.isinf(table.bid[:, -1]).all() and np.isinf(table.ask[:, 0]).all()
    assert np.allclose(table.bid, table.ask[:, ::-1], rtol=0, atol=1e-9)


def test_symmetric_has_half_the_avellaneda_stoikov_spread():
    quotes, reference = symmetric(GAME), avellaneda_stoikov(GAME)
    inner = slice(1, -1)
    assert np.allclose(quotes.bid[:, inner] + quotes.ask[:, inner], reference.bid[:, inner] + reference.ask[:, inner])
    assert np.ptp(quotes.bid[:, :-1], axis=1).max() == 0.0


def test_best_constant_half_spread():
    assert round(best_half_spread(GAME), 3) == 0.719


def test_best_constant_half_spread_is_stationary_under_any_parameters():
    for game in (GameParameters(gamma=5.0, sigma=6.0), GameParameters(A=1e4, steps=50), GameParameters(k=100.0)):
        assert 0.0 < best_half_spread(game) <= game.no_quote


def test_cartea_jaimungal_is_glft_with_its_own_margin_and_rate():
    """With little risk aversion the two problems, and their quotes, are the same."""
    game = GameParameters(gamma=1e-6)
    assert np.allclose(cartea_jaimungal(game).bid[:, :-1], glft(game).bid[:, :-1], atol=1e-6)


def test_cartea_jaimungal_terminal_penalty_steepens_the_last_quotes():
    without, heavy = cartea_jaimungal(GAME), cartea_jaimungal(GAME, terminal_penalty=0.1)
    slope = np.diff(heavy.bid[-1, CENTRE : CENTRE + 2]) - np.diff(without.bid[-1, CENTRE : CENTRE + 2])
    assert slope[0] > 0.05
    with pytest.raises(InputError, match="terminal_penalty"):
        cartea_jaimungal(GAME, terminal_penalty=-1.0)


def test_glft_shifted_moves_half_spread_and_skew_apart():
    table, base = glft_shifted(GAME, shift=0.02, scale=1.5), glft(GAME)
    inner = slice(1, -1)
    half_spread, skew = (base.bid + base.ask)[:, inner] / 2, (base.bid[:, inner] - base.ask[:, inner]) / 2
    assert np.allclose(table.bid[:, inner], half_spread + 0.02 + 1.5 * skew)
    assert np.allclose(table.ask[:, inner], half_spread + 0.02 - 1.5 * skew)
    assert np.allclose(glft_shifted(GAME, 0.0, 1.0).bid[:, :-1], base.bid[:, :-1])


def test_log_solution_against_the_matrix_exponential():
    squares = np.arange(-5, 6.0) ** 2
    matrix = np.diag(0.7 * squares) - 30.0 * (np.eye(11, k=1) + np.eye(11, k=-1))
    level, shape = log_solution(0.7 * squares, 30.0, -0.2 * squares, dt=0.01, steps=40)
    for row in (0, 17, 39):
        exact = expm(-matrix * 0.01 * (40 - row)) @ np.exp(-0.2 * squares)
        assert np.allclose(level[row] + shape[row], np.log(exact), rtol=0, atol=1e-11)


def test_log_solution_becomes_the_slowest_mode():
    squares = np.arange(-3, 4.0) ** 2
    matrix = np.diag(squares) - 5.0 * (np.eye(7, k=1) + np.eye(7, k=-1))
    rates, modes = np.linalg.eigh(matrix)
    level, shape = log_solution(squares, 5.0, np.zeros(7), dt=100.0, steps=3)
    slowest = modes[:, 0] * modes[:, 0].sum()
    for row in range(3):
        assert np.allclose(level[row] + shape[row], np.log(slowest) - rates[0] * 100.0 * (3 - row), rtol=1e-10)


def test_log_solution_keeps_components_that_no_double_could_hold():
    game = GameParameters(max_inventory=300, steps=100)
    bid, ask = glft(game)
    assert np.isfinite(bid[:, :-1]).all() and np.isfinite(ask[:, 1:]).all()
    assert bid[0, game.max_inventory] == pytest.approx(glft(GAME).bid[0, CENTRE], abs=1e-9)


def test_hopelessly_stiff_parameters_are_an_input_error():
    with pytest.raises(InputError, match="less stiff"):
        glft(GameParameters(max_inventory=500, sigma=100.0, steps=4))
