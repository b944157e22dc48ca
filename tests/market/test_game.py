"""The game: reference values, enumeration, the naive twin, threads, rollouts and the adjoint."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from naive_game import enumerate_game, simulate_path
from numba import njit
from reference_game import NAMES, ROWS, agrees

from bitquote.errors import InputError
from bitquote.market import Game, GameParameters
from bitquote.quoting import (
    QUOTERS,
    QuoteTable,
    avellaneda_stoikov,
    dynamic_program,
    glft,
    glft_shifted,
    no_quote,
    symmetric_constant,
)
from bitquote.quoting.recursion import exact_gradient, start_distribution
from bitquote.quoting.table import inventories

GAME = Game(GameParameters())


@pytest.mark.parametrize(("gamma", "name", *"abcdefg"), ROWS, ids=[" ".join(row[:2]) for row in ROWS])
def test_reference_values(gamma, name, a, b, c, d, e, f, g):
    parameters = GameParameters(gamma=float(gamma))
    two_point = Game(parameters).evaluate(QUOTERS[NAMES[name]](parameters))
    gaussian_parameters = replace(parameters, mid_convention="gaussian")
    gaussian = Game(gaussian_parameters).evaluate(QUOTERS[NAMES[name]](gaussian_parameters))
    assert agrees(two_point.mean_profit, a)
    assert agrees(two_point.std_profit, b)
    assert agrees(two_point.std_terminal_inventory, c)
    assert agrees(two_point.mean_spread, d)
    assert agrees(two_point.certainty_equivalent, e)
    assert agrees(gaussian.certainty_equivalent, f)
    assert agrees(two_point.objective, g)
    assert abs(two_point.mean_terminal_inventory) < 1e-9


def test_best_constant_quote():
    assert agrees(GAME.evaluate(symmetric_constant(GAME.parameters)).objective, "61.178")


def test_exponential_fills_lower_the_mean_profit_by_8_to_12_percent():
    for gamma in (0.01, 0.1):
        parameters = GameParameters(gamma=gamma)
        table = avellaneda_stoikov(parameters)
        linear = Game(parameters).evaluate(table).mean_profit
        exponential = Game(replace(parameters, fill_convention="exponential")).evaluate(table).mean_profit
        assert 0.08 < 1.0 - exponential / linear < 0.12


@pytest.mark.parametrize("fill_convention", ["linear", "exponential"])
def test_evaluation_against_every_outcome(fill_convention):
    parameters = GameParameters(gamma=0.6, horizon=0.02, steps=4, max_inventory=2, fill_convention=fill_convention)
    table = glft(parameters)
    found = Game(parameters).evaluate(table)
    outcomes = enumerate_game(table, parameters)
    chance = np.array([outcome.probability for outcome in outcomes])
    wealth = np.array([outcome.wealth for outcome in outcomes])
    inventory = np.array([outcome.inventory for outcome in outcomes])
    penalty = np.array([outcome.penalty for outcome in outcomes])
    assert chance.sum() == pytest.approx(1.0)
    assert found.mean_profit == pytest.approx(chance @ wealth)
    assert found.std_profit == pytest.approx(math.sqrt(chance @ (wealth - chance @ wealth) ** 2))
    assert found.std_terminal_inventory == pytest.approx(math.sqrt(chance @ inventory**2))
    assert found.objective == pytest.approx(chance @ (wealth - penalty))
    assert found.certainty_equivalent == pytest.approx(-math.log(chance @ np.exp(-0.6 * wealth)) / 0.6)


def test_evaluation_of_abstaining_and_of_impossible_tables():
    found = GAME.evaluate(no_quote(GAME.parameters))
    assert (found.mean_profit, found.std_profit, found.certainty_equivalent, found.fills) == (0.0, 0.0, 0.0, 0.0)
    assert found.mean_spread is None
    huge = QuoteTable(*(np.full(GAME.parameters.shape, -1e308) for _ in range(2)))
    with pytest.raises(InputError, match="too large"):
        GAME.evaluate(huge)
    with pytest.raises(InputError, match="shape"):
        GAME.evaluate(QuoteTable(huge.bid[:1], huge.ask))


def test_simulation_is_the_naive_twin_path_by_path():
    for fill_convention in ("linear", "exponential"):
        parameters = GameParameters(fill_convention=fill_convention, max_inventory=5)
        table = avellaneda_stoikov(parameters)
        found = Game(parameters).simulate(table, 40, seed=0)
        for path in range(40):
            for name, value in simulate_path(table, parameters, 0, path).items():
                assert getattr(found, name)[path] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize(
    ("fill_convention", "mid_convention", "paths"),
    [
        ("linear", "gaussian", 100_000),
        ("exponential", "two_point", 100_000),
        pytest.param("linear", "two_point", 1_000_000, marks=pytest.mark.slow),
    ],
)
def test_simulation_within_four_standard_errors(fill_convention, mid_convention, paths):
    parameters = GameParameters(mid_convention=mid_convention, fill_convention=fill_convention)
    game = Game(parameters)
    for quoter in (avellaneda_stoikov, glft):
        table = quoter(parameters)
        exact, found = game.evaluate(table), game.simulate(table, paths, seed=1)
        error = exact.std_profit / math.sqrt(paths)
        assert abs(found.profit.mean() - exact.mean_profit) < 4 * error
        assert abs(found.profit.std() - exact.std_profit) < 4 * error
        assert abs((found.profit - found.penalty).mean() - exact.objective) < 4 * error
        assert abs(found.fills.mean() - exact.fills) < 4 * found.fills.std() / math.sqrt(paths)
        assert abs(found.terminal_inventory.mean()) < 4 * exact.std_terminal_inventory / math.sqrt(paths)
        assert abs(found.terminal_inventory.std() - exact.std_terminal_inventory) < 4 * error
        spread_error = max(found.mean_spread.std(), 1e-9) / math.sqrt(paths)
        assert abs(found.mean_spread.mean() - exact.mean_spread) < 4 * spread_error


def test_results_do_not_depend_on_threads():
    table = glft(GAME.parameters)
    one, two = (GAME.simulate(table, 3000, seed=5, threads=threads) for threads in (1, 2))
    for field in fields(one):
        assert np.array_equal(getattr(one, field.name), getattr(two, field.name), equal_nan=True)
    rolls = [GAME.rollout(table, 200, 5, (0.1, 0.1), 10, threads=threads) for threads in (1, 2)]
    assert all(np.array_equal(a, b) for a, b in zip(*rolls, strict=True))
    for objective in ("penalty", "cara"):
        sides = [GAME.adjoint(table, 3000, 5, objective, 10, threads=threads) for threads in (1, 2)]
        assert all(np.array_equal(a, b) for a, b in zip(*sides, strict=True))


def test_seeds_differ_and_zero_is_a_seed():
    table = glft(GAME.parameters)
    profits = [GAME.simulate(table, 50, seed).profit for seed in (0, 1, 0)]
    assert not np.array_equal(profits[0], profits[1])
    assert np.array_equal(profits[0], profits[2])


def test_paths_are_paired_whatever_is_quoted():
    """Paths that trade alike until late still meet the same mid: the difference of close quoters has little noise."""
    table = glft(GAME.parameters)
    near = glft_shifted(GAME.parameters, 0.01, 1.0)
    difference = GAME.simulate(table, 20_000, 2).profit - GAME.simulate(near, 20_000, 2).profit
    assert difference.std() < 0.6 * GAME.evaluate(table).std_profit


def test_attribution_adds_up_and_progress_is_reported():
    seen = []
    found = GAME.simulate(glft(GAME.parameters), 3000, 3, progress=seen.append)
    assert seen[-1] == 3000
    total = found.spread + found.adverse_selection + found.inventory + found.fees + found.liquidation
    assert np.allclose(total, found.profit)
    assert np.array_equal(found.turnover, found.fills)
    assert np.all(found.max_drawdown >= 0.0)


@pytest.mark.parametrize(("paths", "seed"), [(0, 0), (-1, 0), (2.5, 0), (1, -1), (1, "a")])
def test_impossible_simulations(paths, seed):
    with pytest.raises(InputError):
        GAME.simulate(glft(GAME.parameters), paths, seed)


@njit
def linear_quoter(observation):
    """A user's own quoter: constant half-spread, skew by inventory; quiet when very long."""
    return 0.7 if observation[0] < 30.0 else 1e9, 0.05 * observation[0]


@njit
def scaled_quoter(observation, scale):
    return 0.7, scale[0] * observation[0]


def test_a_users_njit_quoter_is_tabulated():
    bid, ask = GAME.tabulate(linear_quoter)
    inventory = inventories(GAME.parameters)
    assert np.allclose(bid[:, :90], 0.7 + 0.05 * inventory[:90])
    assert np.allclose(ask[:, 1:90], 0.7 - 0.05 * inventory[1:90])
    assert np.isinf(ask[:, 0]).all() and np.isinf(bid[:, 90:]).all() and np.isinf(ask[:, 90:]).all()
    same = GAME.tabulate((scaled_quoter, (np.array([0.05]),)))
    assert np.array_equal(same.bid[:, :90], bid[:, :90])
    profits = [GAME.simulate(quoter, 100, 0).profit for quoter in (linear_quoter, GAME.tabulate(linear_quoter))]
    assert np.array_equal(*profits)


@pytest.mark.parametrize("quoter", ["glft", None, lambda observation: (1.0, 0.0)])
def test_other_things_are_no_quoters(quoter):
    with pytest.raises(InputError, match="quoter is"):
        GAME.simulate(quoter, 1, 0)


def test_observations():
    observations = GAME.observations()
    assert observations.shape == (200, 121, len(GAME.observation_names)) and observations.dtype == np.float32
    assert observations[0, 63].tolist()[:4] == [3.0, 1.0, 3.0, 1.0]
    assert observations[100, 50, :4] == pytest.approx([-10.0, 0.5, -5.0, 1.0])
    bid, ask = glft(GAME.parameters)
    half_spread, skew = observations[..., 4], observations[..., 5]
    assert np.allclose((half_spread + skew)[:, :-1], bid[:, :-1], atol=1e-6)
    assert np.allclose((half_spread - skew)[:, 1:], ask[:, 1:], atol=1e-6)
    near = np.abs(inventories(GAME.parameters)) <= 20
    assert np.allclose(np.abs(observations[:, near]).max(axis=(0, 1)), GAME.observation_ranges, rtol=1e-6)
    assert np.isfinite(Game(GameParameters(max_inventory=1)).observations()).all()


def test_rollout_without_exploration_is_the_simulation():
    for parameters in (GAME.parameters, GameParameters(mid_convention="gaussian", fill_convention="exponential")):
        game = Game(parameters)
        table = avellaneda_stoikov(parameters)
        found, paths = game.simulate(table, 100, 4), game.rollout(table, 100, 4)
        assert np.allclose(paths.reward.sum(axis=1), found.profit - found.penalty, atol=1e-3)
        assert np.array_equal(paths.inventory[:, -1], found.terminal_inventory)
        assert np.array_equal(paths.filled.sum(axis=(1, 2)), found.fills)


def test_rollout_adds_up():
    game = Game(GameParameters(steps=30, max_inventory=4))
    paths = game.rollout(linear_quoter, 300, 6, exploration=(0.05, 0.1), exploring_starts=3)
    assert set(paths.start) <= set(range(30)) and len(set(paths.start)) > 10
    first = np.take_along_axis(paths.inventory, paths.start[:, None], axis=1)[:, 0]
    assert set(first) == {-3, -2, -1, 0, 1, 2, 3}
    valid = np.arange(30) >= paths.start[:, None]
    assert np.all(paths.observation[~valid] == 0.0) and np.all(paths.reward[~valid] == 0.0)
    assert np.array_equal(paths.observation[valid][:, 0], paths.inventory[:, :-1][valid])
    change = np.diff(paths.inventory, axis=1) - (paths.filled[..., 0] - paths.filled[..., 1])
    assert np.all(change[valid] == 0.0) and np.abs(paths.inventory).max() <= 4
    half_spread, skew = paths.action[..., 0], paths.action[..., 1]
    open_sides = np.isfinite(paths.distance) & valid[..., None]
    both = np.stack([half_spread + skew, half_spread - skew], axis=-1)
    assert np.allclose(paths.distance[open_sides], both[open_sides], atol=1e-6)
    assert np.isinf(paths.distance[..., 0][valid & (paths.inventory[:, :-1] == 4)]).all()
    edge = np.where(paths.filled > 0, paths.distance, 0.0).sum(axis=2)
    after = paths.inventory[:, 1:]
    reward = edge + after * np.diff(paths.mid, axis=1) - game.parameters.penalty * game.parameters.dt * after**2
    assert np.allclose(paths.reward[valid], reward[valid], atol=1e-5)
    noise = (paths.action - paths.mean)[valid]
    assert noise.std(axis=0) == pytest.approx([0.05, 0.1], rel=0.1)
    assert all(array.flags.c_contiguous for array in paths)


@pytest.mark.parametrize("fill_convention", ["linear", "exponential"])
@pytest.mark.parametrize(("objective", "gamma"), [("penalty", 0.1), ("cara", 0.1), ("cara", 0.5)])
@pytest.mark.parametrize("starts", [0, 10])
def test_adjoint_against_the_exact_gradient(fill_convention, objective, gamma, starts):
    """Sums over the table along which a network moves it: half-spread, skew by inventory, and both by time."""
    parameters = GameParameters(gamma=gamma, fill_convention=fill_convention)
    game = Game(parameters)
    time_left = np.linspace(1.0, 0.0, parameters.steps)[:, None]
    inventory = inventories(parameters) / 6.0
    for table in (glft_shifted(parameters, 0.03, 0.8), dynamic_program(parameters, objective)):
        exact = exact_gradient(table, parameters, objective, start_distribution(parameters, starts))
        found = [game.adjoint(table, 16_384, seed, objective, starts) for seed in range(4)]
        assert np.allclose([one[2].sum(axis=1) for one in found], 1.0)
        curvature = parameters.k * (exact[2] * parameters.k * 0.2).sum()  # order of the objective's second derivative
        for direction in (np.ones_like(time_left), time_left):
            for weight, sign in ((np.ones_like(inventory), 1.0), (inventory, -1.0)):
                along = direction * weight
                target = ((exact[0] + sign * exact[1]) * along).sum()
                sums = [((bid + sign * ask) * along).sum() for bid, ask, _ in found]
                error = abs(np.mean(sums) - target)
                assert error < 5.0 * np.std(sums, ddof=1) / 2.0 + 0.002 * curvature


def test_adjoint_of_one_path_and_of_no_quotes_is_finite():
    for objective in ("penalty", "cara"):
        for table in (glft(GAME.parameters), no_quote(GAME.parameters)):
            bid, ask, visits = GAME.adjoint(table, 1, 0, objective)
            assert np.isfinite(bid).all() and np.isfinite(ask).all() and visits.sum() == pytest.approx(200.0)
    assert np.abs(bid).max() == 0.0


def test_adjoint_refuses_unknown_objectives():
    with pytest.raises(InputError, match="objective"):
        GAME.adjoint(glft(GAME.parameters), 1, 0, "profit")
