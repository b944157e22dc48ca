"""Flow planted in the simulator comes out of the fits of its tape: Hawkes excitation, queue-reactive tables."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from planted import simulated_recording

from bitquote.calibration import fit_hawkes, fit_queue_reactive, fit_reaching_takers, queue_spells, taker_orders
from bitquote.calibration.queue_reactive import flow_tables
from bitquote.flow.hawkes import branching_ratio
from bitquote.market import build
from bitquote.market.configuration import shipped_configuration

UNIT = 10
SIZES = 7
LIMIT = [[3.0, 2.6, 2.2, 1.8, 1.4, 1.0, 0.6], [2.0, 2.0, 1.8, 1.6, 1.2, 0.8, 0.4]]
CANCEL = [[0.0, 0.2, 0.5, 0.8, 1.1, 1.4, 1.7], [0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8]]
MARKET = [0.0, 0.1, 0.3, 0.4, 0.4, 0.5, 0.5]


def market_orders_alone(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the excitation of market orders by market orders, and no other."""
    config = copy.deepcopy(config)
    jump = np.array(config["flow"]["hawkes"]["excitation"])
    jump[:, 2:, :] = jump[:, :, 2:] = 0.0
    config["flow"]["hawkes"]["excitation"] = jump.tolist()
    return config


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_the_branching_ratio_of_the_clustered_market_is_recovered(seed: int) -> None:
    config = market_orders_alone(shipped_configuration("clustered"))
    config["flow"] |= {"toxicity": 0.0}  # every taker order is one of the process
    hawkes = config["flow"]["hawkes"]
    planted = branching_ratio(np.array(hawkes["decay"]), np.array(hawkes["excitation"]))
    orders = taker_orders(build(config).tape(600.0, seed))
    fit = fit_hawkes(orders.time, np.where(orders.side < 0, 0, 1), 2, 600.0, hawkes["decay"])
    assert fit.branching_ratio.contains(planted)
    assert fit.branching_ratio.high - fit.branching_ratio.low < 0.3


def test_trades_of_informed_traders_excite_where_they_are_said_to() -> None:
    config = market_orders_alone(shipped_configuration("clustered"))
    config["flow"] |= {"informed_rate": 3.0, "toxicity": 1.0}
    ratios = {}
    for informed in (False, True):
        config["flow"]["hawkes"]["informed"] = informed
        tape = build(config).tape(3000.0, 21)
        ratios[informed] = fit_reaching_takers(tape, 0.0).branching_ratio
    assert ratios[True].value > ratios[False].value


def test_queue_reactive_tables_come_back_from_a_simulation() -> None:
    """Wherever a size was seen for 12 s the intervals hold the planted rates nearly as often as they say."""
    config = copy.deepcopy(shipped_configuration("order_book"))
    tick, lot = config["venue"]["tick"], config["venue"]["lot"]
    config["venue"]["decision_interval"] = 1.0
    config["flow"] |= {
        "price": 1000.5 * tick, "volatility": 0.0, "jump_rate": 0.0, "limit_rate": 0.0, "cancel_rate": 1e-6,
        "stale_cancel_rate": 0.0, "market_rate_bid": 0.0, "market_rate_ask": 0.0, "informed_rate": 0.0,
        "queue_reactive": {"unit": UNIT, "limit": LIMIT, "cancel": CANCEL, "market": MARKET, "follow": 0.0},
    }  # fmt: skip
    recording = simulated_recording(config, 200.0, 5, 0.01)
    spells = queue_spells(recording.tape, recording.changes, tick, 2, UNIT * lot)
    fit = fit_queue_reactive(spells, 2, SIZES)
    enough = fit.exposure > 12.0
    held = []
    for table, planted in ((fit.limit, LIMIT), (fit.cancel, CANCEL)):
        planted = np.array(planted)
        seen = enough & (planted > 0.0)
        seen[:, -1] = False  # the last size stands for all larger ones
        held += table.contains(planted)[seen].tolist()
    held += fit.market.contains(np.array([MARKET, MARKET]))[0, 1:-1][enough[0, 1:-1]].tolist()
    assert len(held) >= 12
    assert np.mean(held) >= 0.8
    tables = flow_tables(fit, UNIT)
    config["flow"]["queue_reactive"] = tables | {"market": [0.0, *tables["market"][1:]]}
    build(config)
