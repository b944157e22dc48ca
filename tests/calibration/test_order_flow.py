"""Order events out of tapes: small ones worked out by hand, a simulated market, the real recordings."""

from __future__ import annotations

import numpy as np
import pytest
from recordings import real_recording

from bitquote.calibration.intensity import taker_orders
from bitquote.calibration.order_flow import (
    CANCEL,
    EVENTS,
    LIMIT,
    MARKET,
    best_quote_flow,
    clock_step,
    order_events,
    taken_by_trades,
)
from bitquote.calibration.queue_reactive import queue_spells
from bitquote.calibration.statistics import mid_at
from bitquote.errors import InputError
from bitquote.market import build
from bitquote.market.configuration import shipped_configuration
from bitquote.market.simulation import Tape
from bitquote.recorded import read_binance
from bitquote.recorded.depth import DepthChanges


def tape_of(quotes: list[tuple[float, ...]], trades: list[tuple[float, ...]]) -> Tape:
    """A tape of (time, bid, its quantity, ask, its quantity) and (time, price, quantity, aggressor)."""
    time, bid, bid_quantity, ask, ask_quantity = np.array(quotes).T
    when, price, quantity, side = np.array(trades).reshape(-1, 4).T
    picture = np.array([[[[99.0, 1.0], [98.0, 1.0]], [[101.0, 1.0], [np.nan, np.nan]]]])
    return Tape(when, price, quantity, side.astype(np.int8), time, bid, ask, bid_quantity, ask_quantity,
                np.zeros(1), picture)  # fmt: skip


def test_the_six_types() -> None:
    tape = tape_of(
        [
            (10.0, 99.0, 5.0, 101.0, 5.0),
            (11.0, 99.0, 7.0, 101.0, 5.0),  # more at the bid
            (12.0, 99.0, 7.0, 101.0, 4.0),  # less at the ask
            (13.0, 99.5, 1.0, 101.0, 4.0),  # a better bid
            (14.002, 99.0, 7.0, 101.0, 4.0),  # the seller's
            (15.0, 99.0, 7.0, 100.0, 1.0),  # a better ask
            (16.0, 98.0, 2.0, 102.0, 9.0),  # both sides fall back
        ],
        [(14.0, 99.5, 1.0, -1), (15.5, 100.0, 0.1, 1)],
    )
    flow = best_quote_flow(tape)
    assert [EVENTS[kind] for kind in flow.kind] == [
        "limit_bid", "cancel_ask", "limit_bid", "market_bid", "limit_ask", "market_ask", "cancel_bid", "cancel_ask",
    ]  # fmt: skip
    assert flow.unmatched == 1  # the buyer took less than was shown to move
    assert (np.diff(flow.time) > 0).all()  # the last two, of one stamp, have been parted
    assert flow.time[-1] == pytest.approx(6.0, abs=2e-3)


@pytest.mark.parametrize("clock", [1e-3, 1e-6, 1e-9])
def test_events_are_spread_over_the_clock_that_the_stamps_show(clock: float) -> None:
    trades = [(when, 98.0, 0.1, -1) for when in (12.0, 13.0 + clock, 14.0 + 8 * clock)]
    tape = tape_of([(10.0, 99.0, 5.0, 101.0, 5.0), (13.0 + clock, 99.0, 7.0, 101.0, 5.0)], trades)
    assert clock_step(tape) == clock
    flow = best_quote_flow(tape)
    assert flow.spread == 4  # the quote has the stamp of a trade
    late = flow.time - np.array([2.0, 3.0 + clock, 3.0 + clock, 4.0 + 8 * clock])
    assert (late > -1e-12).all()
    assert (late < clock + 1e-12).all()


def test_each_taker_order_explains_the_nearest_decrease() -> None:
    tape = tape_of([(0.0, 99.0, 5.0, 101.0, 5.0)], [(1.0, 99.0, 1.0, -1), (1.001, 99.0, 1.0, -1), (9.0, 99.0, 1.0, -1)])
    changes = DepthChanges(
        time=np.array([0.999, 1.0, 1.002, 1.003, 5.0]),
        side=np.array([-1, 1, 1, 1, 1], np.int8),
        price=np.array([101.0, 99.0, 99.0, 98.0, 99.0]),
        before=np.full(5, 3.0),
        after=np.array([1.0, 2.0, 1.0, 2.0, 0.0]),
    )
    taken = taken_by_trades(tape, changes, np.ones(5, bool))
    assert taken.tolist() == [False, True, True, False, False]


def test_order_events_of_a_small_book() -> None:
    tape = tape_of([(0.0, 99.0, 5.0, 101.0, 5.0), (8.0, 99.0, 4.0, 101.0, 5.0)], [(2.0, 99.0, 1.0, -1)])
    changes = DepthChanges(
        time=np.array([1.0, 2.001, 3.0, 4.0]),
        side=np.array([1, 1, 1, -1], np.int8),
        price=np.array([98.0, 99.0, 98.0, 109.0]),
        before=np.array([1.0, 5.0, 3.0, 0.0]),
        after=np.array([3.0, 4.0, 2.0, 4.0]),
    )
    events = order_events(tape, changes, 3.0)
    assert events.kind.tolist() == [LIMIT, MARKET, CANCEL]
    assert events.side.tolist() == [1, 1, 1]
    assert events.distance.tolist() == [2.0, 1.0, 2.0]
    assert events.size.tolist() == [2.0, 1.0, 1.0]
    assert events.resting.tolist() == [3.0, 3.0, 3.0]
    assert events.seconds == 8.0


def test_a_simulated_markets_flow_is_counted_whole() -> None:
    tape = build(shipped_configuration("btcusdt_spot")).tape(300.0, 2, levels=60)
    flow = best_quote_flow(tape)
    count = np.bincount(flow.kind, minlength=6)
    assert count[:2].sum() == len(taker_orders(tape).time)
    assert flow.unmatched == 0  # the trade and the change that it makes have one time
    assert flow.spread == 0
    assert (count[2:] > 500).all()
    assert (np.diff(flow.time) > 0).all()


def test_tapes_without_events_are_refused() -> None:
    still = tape_of([(0.0, 99.0, 5.0, 101.0, 5.0)], [])
    with pytest.raises(InputError, match="neither a trade nor a change"):
        best_quote_flow(still)
    none = DepthChanges(*(np.zeros(0) for _ in range(5)))
    with pytest.raises(InputError, match="without pictures"):
        order_events(still._replace(snapshot_time=np.zeros(0), depth=still.depth[:0]), none, 1.0)
    with pytest.raises(InputError, match="reach is 0"):
        order_events(still, none, 0.0)
    assert len(order_events(still, none, 1.0).time) == 0
    with pytest.raises(InputError, match="empty after the first picture"):
        queue_spells(still, none, 1.0, 1, 1.0)


@pytest.mark.parametrize("kind", ["spot", "usdm"])
def test_a_real_recordings_flow(kind: str) -> None:
    recording = read_binance(real_recording(kind))
    flow = best_quote_flow(recording.tape)
    assert (np.diff(flow.time) > 0).all()
    assert flow.unmatched < 0.02 * np.count_nonzero(flow.kind < 2)
    events = order_events(recording.tape, recording.changes, 65.0)
    changes = recording.changes
    distance = changes.side * (mid_at(recording.tape, changes.time) - changes.price)
    rises = (distance > 0) & (distance <= 65.0) & (changes.after > changes.before)
    assert np.count_nonzero(events.kind == LIMIT) == np.count_nonzero(rises)
    assert (np.diff(events.time) >= 0).all()
