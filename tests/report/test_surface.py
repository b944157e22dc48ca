"""Surfaces: a table's own numbers; a rollout's averages; a common grid for both."""

from __future__ import annotations

import numpy as np
import pytest

from bitquote.market.simulation import Rollout
from bitquote.quoting import GameParameters, glft
from bitquote.report.surface import matched, rollout_surface, table_surface

PARAMETERS = GameParameters(steps=40, max_inventory=30)


def make_rollout(paths=30, seed=0):
    """Random inventories with the quotes of GLFT, in units of half a price."""
    random = np.random.default_rng(seed)
    steps = PARAMETERS.steps
    inventory = np.cumsum(random.integers(-1, 2, (paths, steps + 1)), axis=1).clip(-12, 12)
    table = glft(PARAMETERS)
    row, column = np.arange(steps), inventory[:, :-1] + PARAMETERS.max_inventory
    bid, ask = table.bid[row, column], table.ask[row, column]
    mean = np.stack([0.5 * (bid + ask), 0.5 * (bid - ask)], axis=-1) / 0.5
    blank = {name: np.zeros(0) for name in Rollout._fields}
    arrays = {"mean": mean, "inventory": inventory.astype(np.float32), "start": random.integers(0, 5, paths)}
    return Rollout(**blank | arrays)


def test_a_tables_surface_is_its_half_spread_and_skew():
    surface = table_surface(glft(PARAMETERS), PARAMETERS, largest=5)
    table = glft(PARAMETERS)
    middle = PARAMETERS.max_inventory
    assert surface.half_spread.shape == (40, 11)
    assert surface.half_spread[0, 5] == pytest.approx(0.5 * (table.bid[0, middle] + table.ask[0, middle]))
    assert surface.skew[3, 7] == pytest.approx(0.5 * (table.bid[3, middle + 2] - table.ask[3, middle + 2]))
    assert surface.skew[0, -1] > 0.0 > surface.skew[0, 0]


def test_the_bound_where_a_side_does_not_quote_is_blank():
    surface = table_surface(glft(PARAMETERS), PARAMETERS, largest=100)
    assert np.isnan(surface.half_spread[:, [0, -1]]).all()
    assert np.isfinite(surface.half_spread[:, 1:-1]).all()


def test_a_rollouts_surface_is_the_tables_where_it_went():
    rollout = make_rollout()
    surface = rollout_surface(rollout, PARAMETERS, price_unit=0.5, no_quote=1e3, times=PARAMETERS.steps)
    policy, reference = matched(surface, table_surface(glft(PARAMETERS), PARAMETERS))
    seen = np.isfinite(policy.half_spread)
    assert seen.sum() > 100
    np.testing.assert_allclose(policy.half_spread[seen], reference.half_spread[seen], rtol=1e-6)
    np.testing.assert_allclose(policy.skew[seen], reference.skew[seen], atol=1e-6)


def test_matching_averages_the_finer_surface():
    coarse = rollout_surface(make_rollout(), PARAMETERS, price_unit=0.5, no_quote=1e3, times=10)
    policy, reference = matched(coarse, table_surface(glft(PARAMETERS), PARAMETERS))
    assert policy.half_spread.shape == reference.half_spread.shape
    fine = table_surface(glft(PARAMETERS), PARAMETERS, largest=int(policy.inventory[-1]))
    np.testing.assert_allclose(reference.skew[0], fine.skew[:4].mean(axis=0))


def test_steps_without_quotes_are_blank():
    surface = rollout_surface(make_rollout(), PARAMETERS, price_unit=0.5, no_quote=0.0)
    assert np.isnan(surface.half_spread).all()
