"""Several makers in one book, ladders, sizes, and decisions at events."""

from __future__ import annotations

import copy

import gymnasium
import numpy as np
import pytest
from numba import njit
from steps import advance, started
from structure import check_structure

from bitquote.book.matching import NO_PRICE, order_price, order_quantity
from bitquote.errors import InputError
from bitquote.market import build
from bitquote.market.clock import send_quotes
from bitquote.market.configuration import shipped_configuration
from bitquote.quoting import glft, no_quote


def market_of(**changes):
    """The default market with 20 decisions and with `changes` to its venue or its top level."""
    config = copy.deepcopy(shipped_configuration("order_book"))
    config["venue"]["decisions"] = 20
    for key, value in changes.items():
        (config["venue"] if key in VENUE else config)[key] = value
    return build(config)


VENUE = ("levels", "level_spacing", "requote", "requote_gap", "latency_new", "latency_cancel", "order_size")


@njit
def two_ticks(observation):
    return 2.0, 0.1 * observation[0]


@njit
def two_ticks_of_two_orders(observation):
    return 2.0, 0.1 * observation[0], 2.0


@njit
def of_no_size(observation):
    return 2.0, 0.0, 0.4 * 0.2


# ---- several makers


def test_makers_alike_earn_alike_and_share_the_fills():
    market = market_of()
    table = glft(market.game)
    alone, together = market.compete([table], 400, 5), market.compete([table] * 4, 400, 5)
    assert together.shape == (400, 4)
    fills = together["fills"].mean(axis=0)
    error = together["fills"].std() / 20.0
    assert np.abs(fills - fills.mean()).max() < 4.0 * error  # whose message comes first goes round
    assert fills.mean() < 0.7 * alone["fills"].mean() < fills.sum()
    parts = sum(together[name] for name in ("spread", "adverse_selection", "inventory", "fees", "liquidation"))
    assert np.allclose(parts, together["profit"], atol=1e-9)


def test_competition_tightens_the_spread():
    market = market_of()
    table = glft(market.game)
    none, one, four = (market.compete(makers, 100, 6) for makers in ([no_quote(market.game)], [table], [table] * 4))
    spreads = [rows["quoted_spread"][:, 0] for rows in (none, one, four)]
    assert (spreads[0] - spreads[1]).mean() > 0.05 and (spreads[1] - spreads[2]).mean() > 0.05


def test_rivals_are_in_the_book_and_self_is_whoever_is_judged():
    market = market_of(rivals=[{"quoter": "self"}, {"quoter": "glft", "gamma": 2.0, "copies": 2}])
    table = glft(market.game)
    bold = market.rivals[1]
    rows = market.summaries(table, 30, 5)
    same = market.compete([table, table, bold, bold], 30, 5)[:, 0]
    assert rows.tobytes() == same.tobytes() and rows.tobytes() != market_of().summaries(table, 30, 5).tobytes()
    alone = market_of().rollout(table, 4, 5)
    assert not np.array_equal(alone.mid, market.rollout(table, 4, 5).mid)


def test_tables_and_functions_share_a_book_and_two_kinds_of_functions_do_not():
    market = market_of()
    makers = [two_ticks, glft(market.game), two_ticks, two_ticks]
    rows = market.compete(makers, 30, 5, threads=2)
    assert rows.tobytes() == market.compete(makers, 30, 5, threads=1).tobytes()
    assert (rows["fills"].sum(axis=0) > 0).all()
    with pytest.raises(InputError, match=r"market.rivals.gamma is 2.0: must be left out: self has none of its own"):
        market_of(rivals=[{"quoter": "self", "gamma": 2.0}])
    with pytest.raises(InputError, match="the quoters is 'of several kinds'"):
        market.compete([two_ticks, two_ticks_of_two_orders], 4, 5)
    with pytest.raises(InputError, match="quoters is 17: must be 1 to 16"):
        market.compete([two_ticks] * 17, 4, 5)


# ---- ladders and sizes


def test_a_ladder_rests_at_its_prices_and_keeps_the_limit():
    market = market_of(levels=3, level_spacing=2, latency_new=0.0, latency_cancel=0.0)
    state = started(market)
    mid = int(state.maker["mid2"][0]) // 2
    send_quotes(market.venue, state, 0, np.array([mid - 9, mid + 9]), 5, 0.0)
    advance(market, state, 0.0)
    for i, side in ((0, 1), (1, -1)):
        quotes = [state.quotes[0, i, level] for level in range(3)]
        prices = [order_price(state.book, int(quote["slot"])) for quote in quotes]
        assert prices == [mid - side * (9 + 2 * level) for level in range(3)]
        assert [order_quantity(state.book, int(quote["slot"])) for quote in quotes] == [5, 5, 5]
    rows = market.rollout(two_ticks, 64, 2)
    assert np.abs(rows.inventory).max() <= market.game.max_inventory
    one, three = (market_of(levels=levels).summaries(two_ticks, 200, 2) for levels in (1, 3))
    more = three["turnover"] - one["turnover"]
    assert more.mean() > 3.0 * more.std() / np.sqrt(200)


def test_the_size_may_be_part_of_the_action():
    market = market_of()
    two = market.summaries(two_ticks_of_two_orders, 64, 2)
    one = market.summaries(two_ticks, 64, 2)
    assert two["turnover"].mean() > 1.1 * one["turnover"].mean()
    nothing = market.summaries(of_no_size, 8, 2)
    assert (nothing["fills"] == 0).all() and (nothing["profit"] == 0).all()


# ---- decisions at events


@pytest.mark.parametrize("gap", [0.0, 0.25])
def test_makers_are_asked_again_when_the_best_price_moves(gap):
    market = market_of(requote="best", requote_gap=gap)
    assert market.venue.latency_new > 0.0
    state = started(market)
    state.public["asked"] = 0.0
    asked = []
    while float(state.maker["clock"][0]) < 20.0:
        before = (int(state.public["bid"][0]), int(state.public["ask"][0]))
        advance(market, state, 20.0)
        now = float(state.maker["clock"][0])
        if now < 20.0:
            if gap == 0.0:
                assert (int(state.public["bid"][0]), int(state.public["ask"][0])) != before
            asked.append(now)
            state.public["asked"], state.public["wake"] = now, np.inf
    assert len(asked) > 20
    assert gap == 0.0 or np.diff(asked).min() >= gap - 1e-9


def test_makers_are_asked_again_after_a_fill():
    """A maker who skews hard leaves the side that was hit before the next decision comes."""

    @njit
    def skewed(observation):
        return 1.0, 20.0 * observation[0]

    never, fill = (market_of(requote=word).rollout(skewed, 200, 2) for word in ("never", "fill"))
    less = np.abs(never.inventory).mean(axis=1) - np.abs(fill.inventory).mean(axis=1)
    assert less.mean() > 3.0 * less.std() / np.sqrt(200)
    assert np.array_equal(market_of(requote="never").rollout(skewed, 2, 2).mid, market_of().rollout(skewed, 2, 2).mid)


def test_no_step_of_the_clock_is_lost_when_makers_are_asked_at_it():
    """A quote that improves the best price arrives at the very time of a step, and the call ends there."""
    ends = []
    for requote in ("never", "best"):
        market = market_of(requote=requote, latency_new=0.125)  # two steps of 1/16
        state = started(market)
        send_quotes(market.venue, state, 0, np.array([int(state.public["ask"][0]) - 1, NO_PRICE]), 5, 0.0)
        state.public["asked"] = 0.0
        calls = 0
        while float(state.maker["clock"][0]) < 1.0:
            calls += 1
            advance(market, state, 1.0)
            state.public["asked"], state.public["wake"] = float(state.maker["clock"][0]), np.inf
        ends.append((int(state.public["step"][0]), state.flow.price_generator.tolist()))
        assert (calls > 1) == (requote == "best")
    assert ends[0] == ends[1] and ends[0][0] == 17


def test_makers_who_could_answer_each_other_for_ever_are_refused():
    with pytest.raises(InputError, match=r"market.venue.requote_gap is 0.0: must be above 0 without latency_new"):
        market_of(requote="fill", latency_new=0.0)
    market_of(requote="fill", latency_new=0.0, requote_gap=0.1)


def test_statistics_do_not_move_on_between_decisions():
    """Asked at every fill by a table that does nothing with it, a maker sees what it would have seen."""
    market = market_of(requote="best")
    quiet = no_quote(market.game)
    assert np.array_equal(market.rollout(quiet, 4, 2).mid, market_of().rollout(quiet, 4, 2).mid)


# ---- messages


def test_a_stuffed_exchange_is_slow():
    config = copy.deepcopy(shipped_configuration("order_book"))
    config["flow"]["stuffing"] = {
        "rate": 50.0, "duration": 5.0, "orders": 100.0, "life": 0.05, "size": 20, "distance": 1, "delay": 0.3
    }  # fmt: skip
    market = build(config)
    state = started(market)
    send_quotes(market.venue, state, 0, np.array([int(state.public["bid"][0]) - 5, NO_PRICE]), 5, 0.3)
    advance(market, state, 0.3)
    assert state.quotes[0, 0, 0]["slot"] == -1
    advance(market, state, 0.32)
    assert state.quotes[0, 0, 0]["slot"] >= 0
    assert float(state.flow.now["burst_end"][0]) > 0.0  # so that a policy's own messages take 0.3 s longer
    config["flow"]["stuffing"]["delay"] = 0.0
    fast = build(config).summaries(glft(market.game), 100, 3)
    slow = market.summaries(glft(market.game), 100, 3)
    assert slow["adverse_selection"].mean() < fast["adverse_selection"].mean()


# ---- gymnasium


def test_an_environment_with_rivals_sizes_and_events():
    config = copy.deepcopy(shipped_configuration("competition"))
    config["venue"] |= {"decisions": 10, "requote": "fill_or_best", "requote_gap": 0.1}
    config["rivals"] = [{"quoter": "glft", "copies": 2}, {"quoter": "self"}]
    environment = gymnasium.make("bitquote/OrderBook-v0", market=config, sizes=True)
    assert environment.action_space.shape == (3,)
    total, turnover = 0.0, []
    for size in (0.0, 1.0):
        environment.reset(seed=1)
        rewards = [environment.step(np.array([2.0, 0.0, size], np.float32))[1] for _ in range(10)]
        turnover.append(float(np.abs(rewards).sum()))
        total += sum(rewards)
        state = environment.unwrapped._episodes._states[0]
        check_structure(state.book)  # at the end makers leave one another's quotes alone
        assert (state.quotes["slot"] == -1).all() and (state.maker["position"] == 0).all()
    assert turnover[0] == 0.0 < turnover[1] and np.isfinite(total)
