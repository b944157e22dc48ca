"""What makers do to a market, on the markets whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from bitquote.errors import InputError
from bitquote.evaluation.market_quality import (
    FIGURES,
    change,
    drift,
    impact_of_metaorder,
    quality,
    response_to_inventory,
    without_metaorder,
)
from bitquote.market import build, shipped_configuration
from bitquote.quoting import glft, no_quote

META = {"size": 1000, "slices": 1, "interval": 5.0, "start": 60.0, "side": "buy"}


def market_of(name, **flow):
    config = shipped_configuration(name)
    config["flow"] |= flow
    return build(config)


def test_a_maker_narrows_the_spread_and_who_does_not_quote_changes_nothing():
    market = market_of("order_book")
    none = quality(market, [], 60, 3)
    assert set(none) == set(FIGURES)
    idle, busy = quality(market, [no_quote(market.game)], 60, 3), quality(market, [glft(market.game)], 60, 3)
    assert change(none, idle, "quoted_spread") == (0.0, 0.0, 0.0)
    narrower = change(none, busy, "quoted_spread")
    assert narrower.high < -0.1 and change(none, busy, "depth").mean != 0.0
    with pytest.raises(InputError, match="metaorder_cost is 'undefined"):
        change(none, busy, "metaorder_cost")


def test_impact_is_what_the_metaorder_did():
    """Where the efficient price follows the square-root law, the mid ends there; without the institution it stays."""
    impact = 0.002
    market = market_of("whale_block", metaorder=META | {"impact": impact})
    found = impact_of_metaorder(market, None, 100, 3, 60.0)
    expected = impact / market.tick * np.sqrt(META["size"])
    assert found.time[0] == 0.0 and found.low[-1] < expected < found.high[-1]
    assert found.high[-1] - found.low[-1] < 0.5 * expected
    assert -0.01 < found.resilience.mean < 0.5
    assert found.resilience.low <= 0.0 or found.mean.argmax() < len(found.mean) - 1
    nothing = without_metaorder(market).summaries(no_quote(market.game), 4, 3)
    assert (nothing["metaorders"] == 0).all()
    with pytest.raises(InputError, match=r"market.flow.metaorder"):
        impact_of_metaorder(market_of("order_book"), None, 4, 3, 60.0)


def test_the_control_variate_has_mean_zero_and_takes_noise_off_the_cost():
    config = shipped_configuration("whale_sliced")
    market = build(config)
    control = drift(market, 300, 3)
    assert abs(control.mean()) < 3.0 * control.std() / np.sqrt(300)
    cost = quality(market, [], 300, 3)["metaorder_cost"]
    assert (cost - control).std() < 0.6 * cost.std()


def test_quotes_lean_against_the_inventory():
    market = market_of("order_book")
    found = response_to_inventory(market, glft(market.game), 100, 3)
    assert np.corrcoef(found.inventory, found.skew)[0, 1] > 0.9 and (found.half_spread > 0.0).all()
    assert found.decisions.min() >= 50
    inside = np.abs(found.inventory) < market.game.max_inventory  # at the bound nobody quotes both sides
    assert inside.all()
    again = response_to_inventory(market, glft(market.game), 100, 4)
    common = np.isin(found.inventory, again.inventory), np.isin(again.inventory, found.inventory)
    apart = np.abs(found.skew[common[0]] - again.skew[common[1]])
    margin = np.hypot(found.skew_margin[common[0]], again.skew_margin[common[1]])
    assert (apart <= margin).mean() > 0.8 and (apart <= 2.0 * margin + 1e-9).all()
