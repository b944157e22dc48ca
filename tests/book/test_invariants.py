"""What holds in every book: never crossed, first in first out, nothing lost, and a window that follows the market."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import random_stream
from structure import check_structure

from bitquote.book import MESSAGE, TRADE, OrderBook


def limits(sides, ids, prices, quantities) -> np.ndarray:
    """Limit orders (MESSAGE) from arrays or scalars."""
    messages = np.zeros(np.broadcast(sides, ids, prices, quantities).shape or 1, MESSAGE)
    messages["side"], messages["order_id"], messages["price"], messages["quantity"] = sides, ids, prices, quantities
    return messages


def one(kind, side, order_id, price, quantity, flags=0) -> np.ndarray:
    """A stream (MESSAGE) of one message."""
    return np.array([(0, kind, side, order_id, price, quantity, flags)], MESSAGE)


@given(seed=st.integers(0, 10**6), ticks=st.sampled_from([4, 8, 256]))
@settings(max_examples=25)
def test_one_message_at_a_time(seed, ticks):
    book = OrderBook(ticks, 200)
    for message in random_stream(np.random.default_rng(seed), 150, spread=25)[:, None]:
        before, rejected, discarded = book.orders(), sum(book.rejected.values()), sum(book.discarded.values())
        trades = book.apply(message)
        after = book.orders()
        if sum(book.rejected.values()) > rejected:
            assert len(trades) == 0
            assert (after == before).all()
            assert sum(book.discarded.values()) == discarded
            continue

        bid, ask = book.best_bid(), book.best_ask()
        assert bid is None or ask is None or bid < ask

        # A trade is at its maker's price, and the makers come in order of priority.
        resting = {order["order_id"]: order for order in before}
        priority = before["order_id"].tolist()
        places = [priority.index(trade["maker_id"]) for trade in trades]
        assert places == list(range(places[0], places[0] + len(places))) if places else True
        for trade in trades:
            maker = resting[trade["maker_id"]]
            assert trade["price"] == maker["price"]
            assert trade["aggressor"] == -maker["side"]
            assert trade["taker_id"] == message["order_id"][0]
            assert trade["time"] == message["time"][0]
        opposite = [order for order in before if len(trades) and order["side"] != trades["aggressor"][0]]
        assert not places or places[0] == priority.index(opposite[0]["order_id"])

        # What makers lose, takers get: each order's quantity before equals trades plus what it has after.
        left = dict(zip(after["order_id"].tolist(), after["quantity"].tolist(), strict=True))
        traded = dict.fromkeys(trades["maker_id"].tolist(), 0)
        for trade in trades:
            traded[trade["maker_id"]] += trade["quantity"]
        for order_id, quantity in traded.items():
            assert resting[order_id]["quantity"] == quantity + left.get(order_id, 0)
        if message["kind"][0] in (0, 1, 4) and sum(book.discarded.values()) == discarded:
            taker = message["order_id"][0]
            assert trades["quantity"].sum() + left.get(taker, 0) == message["quantity"][0]

        # Every order that the message did not name keeps its place among the others.
        untouched = [i for i in priority if i in left and i != message["order_id"][0]]
        assert [i for i in after["order_id"].tolist() if i in set(untouched)] == untouched


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("ticks", [4, 8, 64])
def test_a_trend_of_many_windows_keeps_every_order(ticks, direction):
    steps, gap = 600, 3
    book = OrderBook(ticks, 3 * steps)
    kept = 0
    for step in range(steps):
        mid = direction * step * gap
        # A far order and a near one on either side; then the market moves away and leaves the far ones behind.
        book.apply(limits([1, -1], [4 * step, 4 * step + 1], [mid - 2 * steps * gap, mid + 2 * steps * gap], 1))
        book.apply(limits([1, -1], [4 * step + 2, 4 * step + 3], [mid - 1, mid + 1], 1))
        assert book.best_bid() == mid - 1
        assert book.best_ask() == mid + 1
        taker = one(1, direction, -1 - step, 0, 1)
        assert book.apply(taker)["maker_id"].tolist() == [4 * step + 2 + (direction > 0)]
        book.apply(one(2, 0, 4 * step + 2 + (direction < 0), 0, 0))
        kept += 2
        assert len(book.orders()) == kept
        side = book._book.sides[0]
        assert side["low"] <= side["best"] < side["low"] + ticks
    assert set(book.orders()["order_id"]) == {4 * step + far for step in range(steps) for far in (0, 1)}
    check_structure(book._book)
    # One sweep a side takes them all, in order of price.
    bids = book.apply(one(1, -1, -10_000, 0, steps))["price"]
    asks = book.apply(one(1, 1, -10_001, 0, steps))["price"]
    assert (np.diff(bids) == -gap).all()
    assert (np.diff(asks) == gap).all()
    assert len(bids) == len(asks) == steps
    assert len(book.orders()) == 0
    assert not book.rejected
    assert not book.discarded


@pytest.mark.parametrize("ticks", [4, 8])
def test_arrival_order_survives_moves_of_the_window(ticks):
    book = OrderBook(ticks, 1000)
    book.apply(limits(1, np.arange(5), 0, 1))
    for far in range(1, 40):  # each a better price beyond the window: the queue at 0 goes to the overflow
        book.apply(limits(1, 100 * far, 10 * ticks * far, 1))
        book.apply(limits(1, 5 + far, 0, 1))
    check_structure(book._book)
    book.apply(one(1, -1, -1, 0, 39))  # takes the better prices: the market is back at 0
    assert book.best_bid() == 0
    assert book.apply(one(1, -1, -2, 0, 44))["maker_id"].tolist() == [*range(5), *range(6, 45)]


@pytest.mark.parametrize("ticks", [1, 16, 1024])
def test_a_sweep_of_the_whole_book_returns_every_trade(ticks):
    capacity = 5000
    book = OrderBook(ticks, capacity)
    prices = np.random.default_rng(0).integers(0, 10 * 1024, capacity)
    book.apply(limits(-1, np.arange(capacity), prices, 2))
    trades = book.apply(one(0, 1, -1, 10 * 1024, 2 * capacity + 5))
    assert trades.dtype == TRADE
    assert trades["maker_id"].tolist() == np.lexsort((np.arange(capacity), prices)).tolist()
    assert book.orders().tolist() == [(-1, 1, 10 * 1024, 5, 0)]


def test_many_sweeps_in_one_stream_return_every_trade():
    rounds, makers = 300, 400
    ids = np.arange(rounds * (makers + 1))
    stream = limits(np.tile([-1] * makers + [1], rounds), ids, 7, np.tile([1] * makers + [makers], rounds))
    book = OrderBook(8, makers)
    trades = book.apply(stream)
    assert len(trades) == rounds * makers
    assert all(a < b for a, b in pairwise(trades["maker_id"].tolist()))
    assert len(book.orders()) == 0
