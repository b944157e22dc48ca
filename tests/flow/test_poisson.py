"""The flow against the theory of its Poisson processes, and the generator against known bits."""

from __future__ import annotations

import numpy as np
import pytest

from bitquote.book.matching import (
    best_price,
    clear_trades,
    limit_order,
    live_count,
    live_slot,
    order_price,
    order_side,
    trade_count,
)
from bitquote.flow.crowd import begin_flow, constant_rate, flow_event, total_rate, without_extras
from bitquote.flow.informed import informed_trade
from bitquote.flow.poisson import diffuse
from bitquote.flow.random import exponential, next_word, normal, seed_generator, uniform
from bitquote.market import build
from bitquote.market.configuration import shipped_configuration
from bitquote.market.venue import allocate_path
from bitquote.quoting.glft import glft


def drawn(function, count, seed=1):
    generator = np.zeros(2, np.uint64)
    seed_generator(generator, seed, 0, 0, 0)
    return np.array([function(generator) for _ in range(count)])


def reference_word(state):
    """xoroshiro128+ on Python integers."""
    mask = (1 << 64) - 1

    def rotate(x, k):
        return ((x << k) | (x >> (64 - k))) & mask

    s0, s1 = state
    result = (s0 + s1) & mask
    s1 ^= s0
    return result, (rotate(s0, 24) ^ s1 ^ ((s1 << 16) & mask), rotate(s1, 37))


def test_the_generator_is_xoroshiro128plus():
    generator = np.zeros(2, np.uint64)
    seed_generator(generator, 0, 1, 2, 3)
    state = tuple(int(x) for x in generator)
    for _ in range(1000):
        expected, state = reference_word(state)
        assert int(next_word(generator)) == expected


def test_keys_give_different_streams():
    keys = [(s, p, t, k) for s in (0, 1) for p in (0, 1, 2) for t in (0, 1, 2) for k in (0, 1)]
    generator = np.zeros(2, np.uint64)
    first = []
    for key in keys:
        seed_generator(generator, *key)
        first.append(int(next_word(generator)))
    assert len(set(first)) == len(keys)


MOMENTS = [(uniform, 0.5, 1 / 12), (exponential, 1, 1), (normal, 0, 1)]


@pytest.mark.parametrize(("function", "mean", "variance"), MOMENTS)
def test_draws_have_their_moments(function, mean, variance):
    sample = drawn(function, 40_000)
    assert sample.mean() == pytest.approx(mean, abs=5 * np.sqrt(variance / sample.size))
    assert sample.var() == pytest.approx(variance, rel=0.05)


@pytest.fixture(scope="module")
def flow():
    return build(shipped_configuration("order_book")).flow.poisson


def run_events(flow, count, seed=5):
    """`count` events; returns (seconds, live orders after each, trades)."""
    state = allocate_path(256, 4096)
    seed_generator(state.flow.generator, seed, 0, 0, 0)
    seed_generator(state.flow.price_generator, seed, 0, 0, 2)
    crowd = without_extras(flow)
    begin_flow(crowd, state.flow, state.book, 0.0)
    rate, clock, live, trades = constant_rate(crowd), 0.0, np.empty(count), 0
    for i in range(count):
        total = total_rate(crowd, state.flow, state.book, rate)
        seconds = exponential(state.flow.generator) / total
        diffuse(flow, state.flow, seconds)
        clock += seconds
        flow_event(crowd, state.flow, state.book, clock, total)
        trades += trade_count(state.book) > 0
        clear_trades(state.book)
        live[i] = live_count(state.book)
        assert best_price(state.book, 1) < best_price(state.book, -1)
    return clock, live, trades


def test_rates_of_market_orders_and_the_stationary_number_of_orders(flow):
    """Without informed traders and stale quotes the number of orders is an M/M/infinity queue less what trades."""
    quiet = flow._replace(informed_rate=0.0, stale_cancel_rate=0.0, jump_rate=0.0)
    seconds, live, trades = run_events(quiet, 20_000)
    expected = (quiet.market_rate_bid + quiet.market_rate_ask) * seconds
    assert trades == pytest.approx(expected, abs=5 * np.sqrt(expected))
    # Arrivals less the orders that trades take, over the rate of cancellation.
    without_trades = 2 * quiet.limit_rate / quiet.cancel_rate
    assert 0.8 * without_trades < live[4000:].mean() < without_trades


def test_the_efficient_price_diffuses_at_its_volatility(flow):
    quiet = flow._replace(jump_rate=0.0)
    state = allocate_path(256, 4096)
    seed_generator(state.flow.price_generator, 2, 0, 0, 0)
    moves = []
    for _ in range(2000):
        state.flow.now["efficient"] = 0.0
        for _ in range(10):
            diffuse(quiet, state.flow, 0.1)
        moves.append(state.flow.now["efficient"][0])
    assert np.std(moves) == pytest.approx(flow.volatility, rel=0.06)
    assert np.mean(moves) == pytest.approx(0.0, abs=5 * flow.volatility / np.sqrt(2000))


def test_jumps_have_their_rate_and_size(flow):
    jumpy = flow._replace(volatility=0.0, jump_rate=2.0, jump_size=5.0)
    state = allocate_path(256, 4096)
    seed_generator(state.flow.price_generator, 2, 0, 0, 0)
    prices = []
    for _ in range(20_000):
        diffuse(jumpy, state.flow, 0.05)
        prices.append(state.flow.now["efficient"][0])
    moves = np.diff(prices)
    jumps = moves[moves != 0.0]
    assert jumps.size == pytest.approx(20_000 * -np.expm1(-0.1), rel=0.1)
    assert jumps.std() == pytest.approx(5.0, rel=0.06)


def test_limit_orders_stand_behind_the_efficient_price(flow):
    state = allocate_path(256, 4096)
    seed_generator(state.flow.generator, 2, 0, 0, 0)
    begin_flow(without_extras(flow), state.flow, state.book, 0.0)
    slots = [live_slot(state.book, i) for i in range(live_count(state.book))]
    offsets = [order_side(state.book, s) * (flow.price - order_price(state.book, s)) for s in slots]
    nearest = flow.limit_distance.min()
    assert min(offsets) >= nearest and max(offsets) <= flow.limit_distance.max() + 1
    assert np.mean(offsets) == pytest.approx(flow.limit_distance.mean() + 0.5, rel=0.25)


def test_informed_traders_trade_only_at_a_profit():
    book = allocate_path(64, 64).book
    limit_order(book, 0, 1, 100, 5, 1, 0, 0)
    limit_order(book, 0, -1, 104, 5, 2, 0, 0)
    for efficient in (100.0, 102.0, 104.0):
        informed_trade(book, 0, efficient, 3, 0)
        assert (best_price(book, 1), best_price(book, -1)) == (100, 104) and live_count(book) == 2
    informed_trade(book, 0, 104.5, 99, 0)
    assert trade_count(book) == 1 and book.trades[0]["price"] == 104 and live_count(book) == 1  # the rest does not rest
    informed_trade(book, 0, 99.5, 3, 0)
    assert trade_count(book) == 1 and book.trades[0]["aggressor"] == -1


def test_toxicity_costs_a_maker():
    """The dial does what it says: the same market with more informed traders has worse markouts."""
    config = shipped_configuration("order_book")
    config["venue"]["decisions"] = 50
    markouts = []
    for toxicity in (0.0, 1.0):
        config["flow"]["toxicity"] = toxicity
        market = build(config)

        rows = market.summaries(glft(market.game), 100, 3)
        markouts.append(np.nanmean(rows["markout"]))
    assert markouts[1] < markouts[0] < 0.0 or markouts[1] < markouts[0] - 0.05
