"""The shipped markets: each builds, runs, repeats its bits on any number of threads, and is what its name says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bitquote.market import OrderBookMarket, build
from bitquote.market.configuration import shipped_configuration
from bitquote.quoting import glft, no_quote

SHIPPED = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "market").glob("*.yaml"))
SCENARIOS = (
    "calm", "clustered", "toxic", "whale_block", "whale_sliced", "pump", "crash", "cascade", "stuffed", "washed",
    "competition", "tight", "wide",
)  # fmt: skip


def scenario(name) -> OrderBookMarket:
    return build(shipped_configuration(name))


def test_every_scenario_is_shipped_and_described():
    assert set(SCENARIOS) <= set(SHIPPED)
    for name in SCENARIOS:
        assert 20 < len(shipped_configuration(name)["description"]) < 120 and scenario(name).name == name


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_same_bits_for_any_number_of_threads(name):
    market = scenario(name)
    one, two = (market.summaries(glft(market.game), 6, 3, threads=threads) for threads in (1, 2))
    assert one.tobytes() == two.tobytes()
    assert (one["fills"] > 0).any() and np.isfinite(one["profit"]).all()
    assert one["two_sided"].mean() > 0.5


def moved(name):
    """Mid at the horizon as a multiple of the mid at the start, by path."""
    market = scenario(name)
    rollout = market.rollout(glft(market.game), 8, 1)
    return rollout.mid[:, -1] / rollout.mid[:, 0]


def test_prices_go_where_the_name_says():
    assert np.median(moved("pump")) == pytest.approx(2.0, rel=0.15)  # 300 % up, then half of it
    assert np.median(moved("crash")) == pytest.approx(0.7, rel=0.05)
    assert np.median(moved("cascade")) < 0.95  # a shock of 1 % alone would end at 0.99
    assert np.median(moved("calm")) == pytest.approx(1.0, abs=0.01)


def test_spreads_are_tight_and_wide():
    spreads = {}
    for name in ("tight", "order_book", "wide"):
        market = scenario(name)
        spreads[name] = market.summaries(glft(market.game), 8, 1)["quoted_spread"].mean()
    wide = scenario("wide").summaries(no_quote(scenario("wide").game), 16, 1)
    effective = wide["effective_spread"]  # although a side is empty at times, when there is no mid to compare with
    assert (wide["two_sided"] < 1.0).any() and 8.0 < effective.min() <= effective.max() < 60.0
    assert spreads["tight"] < 1.3 < spreads["order_book"] < spreads["wide"] / 2


def test_a_block_costs_more_than_its_slices():
    costs = {}
    for name in ("whale_block", "whale_sliced"):
        market = scenario(name)
        rows = market.summaries(glft(market.game), 32, 1)
        assert (rows["metaorders"] == 1).all() and rows["metaorder_lots"].mean() > 900
        costs[name] = rows["metaorder_cost"]
    assert (costs["whale_block"] - costs["whale_sliced"]).mean() > 0.0


def test_wash_trades_inflate_the_volume_alone():
    plain, washed = (scenario(name).tape(400.0, 2) for name in ("order_book", "washed"))
    assert washed.trade_quantity.sum() > 1.5 * plain.trade_quantity.sum()
    assert np.mean(washed.ask - washed.bid) == pytest.approx(np.mean(plain.ask - plain.bid), rel=0.2)
