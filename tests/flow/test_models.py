"""Each flow model against what theory says of it."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

from bitquote.book.matching import best_price, clear_trades, level_quantity, limit_order, live_count, trade_count
from bitquote.calibration.intensity import taker_orders
from bitquote.errors import InputError
from bitquote.flow.cascade import Cascade, liquidation, trigger
from bitquote.flow.hawkes import branching_matrix, branching_ratio, mean_rates
from bitquote.flow.metaorder import Metaorders, begin_parent, send_slice
from bitquote.flow.momentum import Momentum, follow_trend, momentum_trade
from bitquote.flow.queue_reactive import invariant_sizes
from bitquote.flow.random import seed_generator
from bitquote.flow.regime import Regime, carry_price
from bitquote.flow.stuffing import Stuffing, begin_burst, stuff, unstuff
from bitquote.flow.wash import Wash, wash_trade
from bitquote.market import build
from bitquote.market.configuration import shipped_configuration
from bitquote.market.venue import allocate_path


def market_of(**flow):
    """The default market without informed traders and jumps, whose flow is changed by `flow`."""
    config = copy.deepcopy(shipped_configuration("order_book"))
    config["flow"] |= {"toxicity": 0.0, "jump_rate": 0.0, "stale_cancel_rate": 0.0} | flow
    return build(config)


def book_with(levels=50, lots=10, best_bid=1000, best_ask=1002):
    """(flow state, book) of `lots` at every price of both sides."""
    state = allocate_path(256, 512)
    for level in range(levels):
        limit_order(state.book, 0, 1, best_bid - level, lots, 0, 0, 0)
        limit_order(state.book, 0, -1, best_ask + level, lots, 0, 0, 0)
    state.flow.now["efficient"] = 0.5 * (best_bid + best_ask)
    seed_generator(state.flow.price_generator, 1, 0, 0, 0)
    seed_generator(state.flow.generator, 1, 0, 0, 1)
    return state.flow, state.book


# ---- Hawkes

SELF, CROSS, DECAY = 3.0, 1.0, 6.0


def takers_excite_takers():
    jump = np.zeros((1, 6, 6))
    jump[0, :2, :2] = [[SELF, CROSS], [CROSS, SELF]]
    return jump


@pytest.fixture(scope="module")
def clustered_takers():
    """Counts of taker orders by side in windows of 4 s; taker orders alone excite, and excite only taker orders."""
    hawkes = {"decay": [DECAY], "excitation": takers_excite_takers().tolist()}
    market = market_of(limit_rate=60.0, market_rate_bid=0.8, market_rate_ask=0.5, hawkes=hawkes)
    orders = taker_orders(market.tape(8000.0, 3))
    edges = np.arange(0.0, 8000.0 + 1e-9, 4.0)
    return np.stack([np.histogram(orders.time[orders.side == side], edges)[0] for side in (-1, 1)])


def test_hawkes_rates_are_those_of_theory(clustered_takers):
    rates = mean_rates(np.array([DECAY]), takers_excite_takers(), np.array([0.8, 0.5, 0, 0, 0, 0]))[:2]
    counts = clustered_takers.sum(axis=1) / 8000.0
    error = clustered_takers.std(axis=1) * math.sqrt(clustered_takers.shape[1]) / 8000.0
    assert (np.abs(counts - rates) < 4.0 * error).all()
    assert (rates > 1.5 * np.array([0.8, 0.5])).all()  # there is something to tell


def test_hawkes_clusters_as_its_branching_says(clustered_takers):
    """The covariance of counts over long windows is T (I - G)^-1 diag(rates) (I - G)^-T, far above Poisson's."""
    matrix = branching_matrix(np.array([DECAY]), takers_excite_takers())[:2, :2]
    inverse = np.linalg.inv(np.eye(2) - matrix)
    rates = inverse @ np.array([0.8, 0.5])
    expected = inverse @ np.diag(rates) @ inverse.T
    joined = clustered_takers.reshape(2, -1, 5).sum(axis=2)  # 20 s: long against the clusters
    found = np.cov(joined) / 20.0
    assert found == pytest.approx(expected, rel=0.25)
    assert found[0, 0] > 2.0 * rates[0]


def test_a_hawkes_matrix_that_explodes_is_refused():
    jump = 2.0 * takers_excite_takers()
    assert branching_ratio(np.array([DECAY]), jump) == pytest.approx(8.0 / 6.0)
    with pytest.raises(InputError, match=r"hawkes.excitation is 'a matrix of branching ratio 1.333': must be"):
        market_of(hawkes={"decay": [DECAY], "excitation": jump.tolist()})


# ---- queues


def test_queues_have_their_invariant_law():
    """With the price held, each queue is a birth-and-death process of its own."""
    limit = [[3.0] * 13, [2.0, 2.5, 2.0, 1.5] + [1.0] * 9]
    cancel = [[0.5 * size for size in range(13)], [0.4 * size for size in range(13)]]
    queues = {"unit": 2, "limit": limit, "cancel": cancel, "market": [0.0] * 13}
    market = market_of(
        volatility=0.0, limit_rate=0.0, cancel_rate=1e-6, market_rate_bid=0.0, market_rate_ask=0.0,
        price=100.005, queue_reactive=queues,
    )  # fmt: skip
    depth = market.tape(6000.0, 5, levels=2, snapshot_interval=4.0).depth
    price, quantity = depth[..., 0] / market.tick, depth[..., 1] / 2.0
    for distance in range(2):
        law = invariant_sizes(np.array(limit[distance]), np.array(cancel[distance]))
        for side, at in ((0, 10000 - distance), (1, 10001 + distance)):
            sizes = np.where(np.round(price[:, side]) == at, quantity[:, side], 0.0).sum(axis=1)
            found = np.bincount(sizes.astype(int), minlength=13)[:13] / len(sizes)
            assert np.abs(np.cumsum(found) - np.cumsum(law)).max() < 1.95 / math.sqrt(len(sizes))


def test_market_orders_take_from_the_best_queue_at_their_rate():
    queues = {"unit": 1, "limit": [[30.0, 0.0]], "cancel": [[0.0, 1.0]], "market": [0.0, 3.0]}
    market = market_of(
        volatility=0.0, limit_rate=0.0, cancel_rate=1e-6, market_rate_bid=0.0, market_rate_ask=0.0,
        queue_reactive=queues,
    )  # fmt: skip
    tape = market.tape(2000.0, 7)
    expected = 2 * 3.0 * 2000.0 * 30.0 / (30.0 + 1.0 + 3.0)  # a queue of one order that is there, or is not
    assert len(tape.trade_time) == pytest.approx(expected, abs=4 * math.sqrt(expected))


# ---- price moves


def test_a_move_ends_where_it_should():
    state, _ = book_with()
    regime = Regime(*(np.array([a, b]) for a, b in ((1.03, 9.0), (4.0, 2.0), (4.0, 0.5), (5.0, 7.0))))
    state.now["efficient"] = 1000.0
    crowd = {}
    for step in range(1, 200):
        carry_price(regime, state, step / 16.0, 1.0 / 16.0)
        crowd[step] = float(state.now["move_rate"][0])
    assert state.now["efficient"][0] == pytest.approx(2000.0)
    assert crowd[16] == 0.0 and crowd[32] == 5.0 and crowd[90] == 0.0 and crowd[150] == -7.0 and crowd[199] == 0.0


def test_selling_that_triggers_selling_is_amplified_by_its_branching():
    """A shock of x ticks ends at x / (1 - n), n = density x impact."""
    density, impact = 8.0, 0.1
    cascade = Cascade(density, 1001.0, 0.0, impact, 5.0, 4)
    state, book = book_with(levels=100, lots=50)
    state.now["low"] = 1001.0
    state.now["efficient"] = 1001.0 - 10.0
    trigger(cascade, state)
    while state.now["backlog"][0] >= 1.0:
        liquidation(cascade, state, book, 0, 1000)
        clear_trades(book)
    fall = 1001.0 - float(state.now["efficient"][0])
    assert fall == pytest.approx(10.0 / (1.0 - density * impact), abs=1.0)  # a backlog below one lot stays
    assert state.now["liquidated"][0] == pytest.approx(density * fall, abs=1.5)


def test_momentum_traders_follow_the_trend_and_nothing_less():
    momentum = Momentum(1.0, 2.0, 3.0)
    state, book = book_with()
    follow_trend(momentum, state, book, 0.1)
    for sign in (1, -1):
        while abs(best_price(book, 1) + best_price(book, -1) - 2002) < 2 * 20:  # the mid moves by twenty ticks
            limit_order(book, 0, sign, best_price(book, -sign), 10, 0, 0, 2)
            clear_trades(book)
        momentum_trade(momentum, state, book, 0, 1, 10)
        assert trade_count(book) == 0  # nobody has looked yet
        follow_trend(momentum, state, book, 0.5)
        mid = 0.5 * (best_price(book, 1) + best_price(book, -1))
        trend = float(state.now["trend"][0])
        assert trend == pytest.approx((mid - 1001.0) * math.exp(-0.5 / 2.0))
        momentum_trade(momentum, state, book, 0, 1, 10)
        assert trade_count(book) == 1 and book.trades[0]["aggressor"] == sign
        clear_trades(book)
        state, book = book_with()
        follow_trend(momentum, state, book, 0.1)


# ---- large orders


def test_a_block_walks_the_book_and_slices_wait_for_it():
    """The cost of a block is that of the levels that it takes; a book that refills makes slices cheaper."""
    for slices, refills in ((1, False), (10, False), (10, True)):
        meta = Metaorders(200, slices, 1.0, 1.0, 0.0, 1, 0.25, 1000)
        state, book = book_with()
        for step in range(1, 200):
            begin_parent(meta, state, book, step / 16.0, 1.0 / 16.0)
            send_slice(meta, state, book, step / 16.0, 0)
            if trade_count(book) and refills:
                for price in range(1002, 1030):
                    if level_quantity(book, -1, price) < 10:
                        limit_order(book, 0, -1, price, 10 - level_quantity(book, -1, price), 0, 0, 0)
            clear_trades(book)
        now = state.now[0]
        levels = 2 if refills else 20
        assert now["parent_filled"] == 200 and now["parents"] == 1
        assert now["parent_cost2"] / 400 == pytest.approx(1.0 + (levels - 1) / 2.0)
        assert now["efficient"] - 1001.0 == pytest.approx(0.25 * math.sqrt(200.0))  # the square-root law, sliced or not


def test_slices_that_do_not_divide_the_size_are_as_many_as_asked_for():
    meta = Metaorders(10, 3, 1.0, 1.0, 0.0, 1, 0.0, 1000)
    state, book = book_with()
    sent = []
    for step in range(1, 100):
        begin_parent(meta, state, book, step / 16.0, 1.0 / 16.0)
        before = int(state.now["parent_sent"][0])
        send_slice(meta, state, book, step / 16.0, 0)
        sent.append(int(state.now["parent_sent"][0]) - before)
        clear_trades(book)
    assert [lots for lots in sent if lots > 0] == [3, 3, 4]


def test_metaorders_arrive_at_their_rate():
    meta = Metaorders(1, 1, 1.0, math.inf, 0.5, 0, 0.0, 0)
    state, book = book_with(lots=100_000)
    for step in range(1, 16 * 2000):
        begin_parent(meta, state, book, step / 16.0, 1.0 / 16.0)
        send_slice(meta, state, book, step / 16.0, 0)
        clear_trades(book)
    assert state.now["parents"][0] == pytest.approx(0.5 * 2000, abs=4 * math.sqrt(1000))


# ---- manipulation


def test_stuffing_withdraws_what_it_places():
    stuffing = Stuffing(0.2, 2.0, 50.0, 0.1, 3, 1, 0.0)
    state, book = book_with()
    before = live_count(book)
    begun = 0
    for step in range(1, 16 * 500):
        end = float(state.now["burst_end"][0])
        begin_burst(stuffing, state, step / 16.0, 1.0 / 16.0)
        begun += float(state.now["burst_end"][0]) != end
    # A burst that would begin within another does not.
    assert begun == pytest.approx(500 * 0.2 / (1.0 + 0.2 * 2.0), abs=4 * math.sqrt(70))
    for _ in range(30):
        stuff(stuffing, state, book, 0)
    side = int(state.now["burst_side"][0])
    price = best_price(book, side) - side
    assert live_count(book) == before + 30 and level_quantity(book, side, price) == 10 + 30 * 3
    taken = level_quantity(book, side, price) + level_quantity(book, side, price + side) - 3 * 20
    limit_order(book, 0, -side, price, taken, 0, 0, 2)  # a taker meets ten of them
    for word in range(30):
        unstuff(state, book, np.uint64(word) << np.uint64(59))
    assert state.now["stuffed"][0] == 0 and live_count(book) == before - 2
    assert level_quantity(book, side, price) == 0


def test_a_wash_trade_prints_and_leaves_the_book_as_it_was():
    _, book = book_with()
    wash = Wash(1.0, np.arange(1024) % 7 + 1, 0.25)
    before = live_count(book)
    sides = []
    for share in (np.arange(400) + 0.5) / 400:
        wash_trade(wash, book, 0, share, np.uint64(int(share * 1023)))
        assert trade_count(book) == 1 and book.trades[0]["price"] == 1001
        sides.append(int(book.trades[0]["aggressor"]))
    assert sides.count(1) == 100 and live_count(book) == before
    assert (best_price(book, 1), best_price(book, -1)) == (1000, 1002)
    limit_order(book, 0, 1, 1001, 1, 0, 0, 0)
    clear_trades(book)
    wash_trade(wash, book, 0, 0.5, np.uint64(3))
    assert trade_count(book) == 0  # a spread of one tick leaves no room
