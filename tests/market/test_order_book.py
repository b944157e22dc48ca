"""The order-book market: accounts, persistent quotes, latency, liquidation, pairing and reproducibility."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from numba import njit
from steps import advance, started

from bitquote.book.matching import NO_PRICE, ahead_of, best_price, limit_order, live_count, live_slot, order_owner
from bitquote.errors import InputError
from bitquote.market import build
from bitquote.market.accounts import accrue, liquidate, wealth
from bitquote.market.action import quote_prices
from bitquote.market.clock import send_quotes as send_ladder
from bitquote.market.configuration import shipped_configuration
from bitquote.market.flow_configuration import quantile_table
from bitquote.market.observation import NAMES, SIZE, observe
from bitquote.market.order_book import SIMULATION_FIELDS
from bitquote.market.rollout import Exploration
from bitquote.market.venue import FIRST_MAKER
from bitquote.quoting.glft import glft
from bitquote.quoting.table import QuoteTable


def market_of(**changes):
    """The shipped market with 20 decisions and with `changes` to its venue and flow."""
    config = copy.deepcopy(shipped_configuration("order_book"))
    config["venue"]["decisions"] = 20
    for key, value in changes.items():
        section = next(s for s in (config["venue"], config["flow"], config["closed_form"], config) if key in s)
        section[key] = value
    return build(config)


def constant_table(market, distance):
    shape = market.game.shape
    bid, ask = np.full(shape, distance * market.tick), np.full(shape, distance * market.tick)
    bid[:, -1] = ask[:, 0] = np.inf
    return QuoteTable(bid, ask)


@njit
def wide_or_narrow(observation, narrow, wide):
    """A user's quoter: wider when the market moved."""
    return (wide if abs(observation[14]) > 1.0 else narrow), 0.2 * observation[0]


def send_quotes(venue, state, prices):
    """Quotes of the venue's order size, without delay."""
    send_ladder(venue, state, 0, prices, venue.order_size, 0.0)


def snapshot(state):
    maker = state.maker[0]
    return {name: maker[name].item() for name in ("position", "cash", "mid2", "edge2", "maker_notional")} | {
        "filled": state.quotes["filled"].ravel().copy(),
        "price": state.quotes["price"].ravel().copy(),
    }


def test_cash_and_inventory_balance_after_every_event():
    """Position, cash, notional and edge are four counters of the same fills: they must agree event by event."""
    market = market_of(latency_new=0.0, latency_cancel=0.0)
    state = started(market)
    fills = 0
    prices = np.empty(2, np.int64)
    for step in range(25):
        quote_prices(state, 0, 1.6 + 0.3 * (step % 3), 1.6, -1.0, prices)
        send_quotes(market.venue, state, prices)
        for part in range(500):  # 2 ms: hardly ever two events
            before = snapshot(state)
            events = advance(market, state, step + (part + 1) / 500)
            after = snapshot(state)
            if events != 1:
                continue
            bought, sold = (after["filled"] - before["filled"]).tolist()
            bid, ask = before["price"].tolist()
            fills += bought + sold
            assert after["position"] - before["position"] == bought - sold
            assert after["cash"] - before["cash"] == sold * ask - bought * bid
            assert after["maker_notional"] - before["maker_notional"] == sold * ask + bought * bid
            marked = [2 * s["cash"] + s["position"] * s["mid2"] for s in (before, after)]
            moved = after["position"] * (after["mid2"] - before["mid2"])
            assert marked[1] - marked[0] == after["edge2"] - before["edge2"] + moved
    assert fills > 25


def test_attribution_adds_up_and_fees_are_paid():
    market = market_of(maker_fee=0.0002, taker_fee=0.0005)
    result = market.simulate(glft(market.game), 64, 5)
    parts = sum(getattr(result, name) for name in ("spread", "adverse_selection", "inventory", "fees", "liquidation"))
    assert np.allclose(parts, result.profit, atol=1e-9)
    assert (result.fees[result.fills > 0] < 0).all()
    free = market_of().simulate(glft(market.game), 64, 5)
    assert np.allclose(free.profit - result.profit, free.fees - result.fees, atol=1e-9)


def test_rewards_add_up_to_the_objective():
    market = market_of()
    rows = market.rollout(glft(market.game), 32, 5)
    result = market.simulate(glft(market.game), 32, 5)
    assert np.allclose(rows.reward.sum(axis=1), result.profit - result.penalty, atol=1e-4)
    bought = rows.filled[..., 0] - rows.filled[..., 1]
    assert np.allclose(np.diff(rows.inventory, axis=1), bought, atol=1e-5)


def test_results_do_not_depend_on_threads_and_seed_zero_is_a_seed():
    market = market_of()
    one, two = (market.summaries(glft(market.game), 40, 0, threads=threads) for threads in (1, 2))
    assert one.tobytes() == two.tobytes()
    assert market.summaries(glft(market.game), 40, 1).tobytes() != one.tobytes()


def test_paths_do_not_depend_on_how_many_there_are():
    market = market_of()
    few, many = (market.summaries(glft(market.game), paths, 9) for paths in (5, 33))
    assert few.tobytes() == many[:5].tobytes()


def test_an_unchanged_quote_keeps_its_order_and_its_place():
    market = market_of(latency_new=0.0, latency_cancel=0.0)
    state = started(market)
    prices = np.array([best_price(state.book, 1), NO_PRICE])
    send_quotes(market.venue, state, prices)
    advance(market, state, 0.0)
    slot = int(state.quotes[0, 0, 0]["slot"])
    ahead = ahead_of(state.book, slot)
    limit_order(state.book, 0, 1, prices[0], 7, 0, 0, 0)  # somebody joins behind
    send_quotes(market.venue, state, prices)
    advance(market, state, 0.0)
    assert int(state.quotes[0, 0, 0]["slot"]) == slot
    assert ahead_of(state.book, slot) == ahead
    send_quotes(market.venue, state, prices - np.array([1, 0]))
    advance(market, state, 0.0)
    send_quotes(market.venue, state, prices)
    advance(market, state, 0.0)
    assert ahead_of(state.book, int(state.quotes[0, 0, 0]["slot"])) >= ahead + 7  # it lost its place


def test_messages_arrive_after_their_latency():
    market = market_of(latency_new=0.3, latency_cancel=0.1)
    state = started(market)
    prices = np.array([best_price(state.book, 1) - 3, NO_PRICE])
    send_quotes(market.venue, state, prices)
    advance(market, state, 0.299)
    assert state.quotes[0, 0, 0]["slot"] == -1
    advance(market, state, 0.301)
    assert state.quotes[0, 0, 0]["slot"] >= 0
    send_quotes(market.venue, state, np.array([NO_PRICE, NO_PRICE]))
    advance(market, state, 0.4)
    assert state.quotes[0, 0, 0]["slot"] >= 0
    advance(market, state, 0.402)
    assert state.quotes[0, 0, 0]["slot"] == -1


def own_orders(state):
    slots = (live_slot(state.book, i) for i in range(live_count(state.book)))
    return sum(order_owner(state.book, slot) == FIRST_MAKER for slot in slots)


def test_at_most_one_order_a_side_and_never_beyond_the_limit():
    market = market_of(max_inventory=2, order_size=7, market_rate_bid=12.0, limit_rate=10.0)
    rows = market.rollout(constant_table(market, 1.0), 64, 2)
    assert np.abs(rows.inventory).max() <= 2.0
    assert np.abs(rows.inventory).max() > 1.0
    assert (rows.inventory % 1.0 > 0.0).any()  # partial fills happen
    state = started(market)
    prices = np.empty(2, np.int64)
    for step in range(20):
        quote_prices(state, 0, 1.0, 1.0, -1.0, prices)
        send_quotes(market.venue, state, prices)
        advance(market, state, step + 1.0)
        assert own_orders(state) == (state.quotes["slot"] >= 0).sum() <= 2


def test_liquidation_leaves_nothing_and_costs_the_spread():
    market = market_of()
    state = started(market)
    maker = state.maker[0]
    maker["position"], maker["cash"] = 12, -6 * maker["mid2"]
    before = wealth(market.venue, maker)
    position, cost2, left = liquidate(market.venue, state, 0)
    assert (position, left, maker["position"]) == (12, 0, 0)
    assert cost2 < 0
    fee = market.venue.taker_fee * maker["taker_notional"]
    assert wealth(market.venue, maker) - before == pytest.approx(market.venue.price_unit * (0.5 * cost2 - fee))


def test_squared_inventory_is_integrated_over_time():
    market = market_of()
    state = started(market)
    maker = state.maker[0]
    maker["position"] = 3
    advance(market, state, 2.5)
    accrue(maker)
    assert maker["squared"] == pytest.approx(9 * 2.5)


def test_every_quoter_of_the_contract_drives_the_market():
    market = market_of()
    table = market.summaries(constant_table(market, 2.0), 16, 4)
    function = market.summaries((wide_or_narrow, (2.0, 4.0)), 16, 4)
    assert (table["fills"].sum() > 0) and (function["fills"].sum() > 0)
    nothing = market.summaries(constant_table(market, np.inf), 16, 4)
    assert (nothing["profit"] == 0).all() and np.isnan(nothing["mean_spread"]).all()
    with pytest.raises(InputError, match="QuoteTable"):
        market.summaries("glft", 16, 4)


def test_a_function_that_reads_the_baseline_equals_its_table():
    """What a zero-initialised residual policy does."""

    @njit
    def baseline(observation):
        return observation[20], observation[21]

    market = market_of()
    table, function = market.summaries(glft(market.game), 64, 4), market.summaries(baseline, 64, 4)
    assert table.tobytes() == function.tobytes()


def test_common_random_numbers_pair_quoters():
    market = market_of()
    one = market.simulate(constant_table(market, 2.0), 400, 4).profit
    two = market.simulate(constant_table(market, 2.5), 400, 4).profit
    assert np.std(one - two) < 0.75 * np.sqrt(np.var(one) + np.var(two))


def test_distances_are_rounded_away_from_the_mid():
    market = market_of()
    state = started(market)
    maker = state.maker[0]
    prices = np.empty(2, np.int64)
    middle = int(maker["mid2"])
    for mid2 in (middle, middle + 1):
        maker["mid2"] = mid2
        for distance in (3.0, 3.2, 3.5, 4.0, 12.25):
            quote_prices(state, 0, distance, distance, -1.0, prices)
            assert prices[0] == np.floor(mid2 / 2 - distance) and prices[1] == np.ceil(mid2 / 2 + distance)
    quote_prices(state, 0, np.inf, 2.0, -1.0, prices)
    assert prices[0] == NO_PRICE and prices[1] != NO_PRICE
    quote_prices(state, 0, -40.0, 2.0, -1.0, prices)
    assert prices[0] == best_price(state.book, -1) - 1  # post-only


def test_dither_is_unbiased_about_the_deterministic_rounding():
    market = market_of()
    state = started(market)
    prices = np.empty(2, np.int64)
    dithered, rounded = [], []
    for u in (np.arange(400) + 0.5) / 400:
        quote_prices(state, 0, 5.0 + u, 5.0, float(u * 7 % 1), prices)
        dithered.append(prices[0])
        quote_prices(state, 0, 5.0 + u, 5.0, -1.0, prices)
        rounded.append(prices[0])
    assert np.mean(dithered) == pytest.approx(np.mean(rounded), abs=0.02)


def test_observations_are_finite_named_and_bounded():
    market = market_of()
    rows = market.rollout((wide_or_narrow, (2.0, 4.0)), 16, 4, exploration=(0.5, 0.5), start_inventory=5, dither=True)
    assert rows.observation.shape == (16, 20, SIZE) and len(NAMES) == SIZE == market.observation_size
    assert np.isfinite(rows.observation).all()
    assert np.abs(rows.observation[..., 5:8]).max() <= 1.0
    assert len(np.unique(rows.inventory[:, 0])) > 5
    assert np.std(rows.action[..., 0] - rows.mean[..., 0]) == pytest.approx(0.5, rel=0.1)


def wide(state):
    return best_price(state.book, -1) - best_price(state.book, 1) >= 3


def test_the_maker_does_not_see_its_own_quotes():
    market = market_of(latency_new=0.0)
    state = next(s for s in (started(market, seed) for seed in range(99)) if wide(s))
    observation = np.empty(SIZE)
    observe(market.venue, state, 0, 0, market.baseline_features(), observation)
    before = observation.copy()
    mid2 = int(state.maker[0]["mid2"])
    send_quotes(market.venue, state, np.array([best_price(state.book, 1) + 1, NO_PRICE]))
    advance(market, state, 0.0)
    assert state.quotes[0, 0, 0]["slot"] >= 0 and int(state.maker[0]["mid2"]) == mid2
    observe(market.venue, state, 0, 0, market.baseline_features(), observation)
    assert np.array_equal(observation[4:9], before[4:9])


def test_a_full_book_is_an_error():
    market = market_of(capacity=180)
    with pytest.raises(InputError, match=r"market.venue.capacity is 180: must be larger"):
        market.simulate(glft(market.game), 4, 0)


def test_fields_of_the_summary():
    market = market_of()
    result = market.simulate(glft(market.game), 8, 0)
    assert all(getattr(result, name).shape == (8,) for name in SIMULATION_FIELDS)
    assert Exploration() == (0.0, 0.0, 0, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tick": 0.0}, "market.venue.tick"),
        ({"order_size": 0}, "market.venue.order_size"),
        ({"latency_new": 1.0}, "below the decision interval"),
        ({"cancel_rate": 0.0}, "market.flow.cancel_rate"),
        ({"toxicity": 1.5}, "market.flow.toxicity"),
        ({"sigma": -1.0}, "market.closed_form.sigma"),
        ({"k": 0}, "market.closed_form.k"),
        ({"max_inventory": 0}, "market.closed_form.max_inventory"),
        ({"gamma": float("nan")}, "market.gamma"),
        ({"market_size": {"mean": -3}}, "market.flow.market_size.mean"),
        ({"limit_size": {"quantiles": [3, 1]}}, "ascending"),
        ({"kind": "orderbook"}, "market.kind"),
    ],
)
def test_impossible_markets_are_refused_by_name(change, message):
    with pytest.raises(InputError, match=message) as caught:
        market_of(**change)
    assert "\n" not in str(caught.value)


def test_unknown_keys_suggest_the_nearest():
    config = shipped_configuration("order_book")
    config["venue"]["latency_nwe"] = 0.1
    with pytest.raises(InputError, match=r"market.venue.latency_nwe is unknown: did you mean latency_new\?"):
        build(config)
    with pytest.raises(InputError, match=r"did you mean 'toxic'\?"):
        shipped_configuration("toxc")
    with pytest.raises(InputError, match=r"market.rivals.quoter is 'gltf': .* did you mean 'glft'\?"):
        build(shipped_configuration("order_book") | {"rivals": [{"quoter": "gltf"}]})


def test_quantile_tables():
    geometric = quantile_table("x", {"mean": 4.0}, 1)
    assert geometric.min() == 1 and geometric.mean() == pytest.approx(4.0, rel=0.01)
    line = quantile_table("x", {"quantiles": [0, 10]}, 0)
    assert line.min() == 0 and line.max() == 10 and line.mean() == pytest.approx(5.0)


def test_tape_agrees_with_the_market():
    market = market_of()
    tape = market.tape(60.0, 1)
    assert (tape.ask > tape.bid).all() and (np.diff(tape.quote_time) >= 0).all()
    assert np.isin(tape.trade_aggressor, (-1, 1)).all() and (tape.trade_quantity > 0).all()
    assert tape.snapshot_time.size == 60 and (tape.depth[:, 0, 0, 0] < tape.depth[:, 1, 0, 0]).all()
    again = market.tape(60.0, 1)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(tape, again, strict=True))
