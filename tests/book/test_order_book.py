"""The face: what it accepts, what it refuses, and what it answers."""

import numpy as np
import pytest

from bitquote.book import MESSAGE, TRADE, OrderBook
from bitquote.errors import InputError

LOWEST, HIGHEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def stream(*rows) -> np.ndarray:
    """Messages (MESSAGE) from (kind, side, order_id, price, quantity, flags)."""
    return np.array([(time, *row) for time, row in enumerate(rows)], MESSAGE)


def test_the_formats_are_those_of_the_contract():
    assert MESSAGE.descr == [
        ("time", "<i8"),
        ("kind", "|i1"),
        ("side", "|i1"),
        ("order_id", "<i8"),
        ("price", "<i8"),
        ("quantity", "<i8"),
        ("flags", "|i1"),
    ]
    assert TRADE.names == ("time", "maker_id", "taker_id", "price", "quantity", "aggressor")
    assert (MESSAGE.itemsize, TRADE.itemsize) == (35, 41)


def test_an_empty_book():
    book = OrderBook(ticks=16, capacity=4)
    trades = book.apply(np.empty(0, MESSAGE))
    assert trades.dtype == TRADE
    assert len(trades) == 0
    assert book.best_bid() is None
    assert book.best_ask() is None
    assert [levels.shape for levels in book.depth(5)] == [(0, 2), (0, 2)]
    assert len(book.orders()) == 0
    assert (book.rejected, book.discarded) == ({}, {})


def test_answers():
    book = OrderBook(ticks=16, capacity=8)
    book.apply(
        stream(
            (0, 1, 1, 99, 5, 0), (0, 1, 2, 99, 6, 0), (0, 1, 3, 90, 7, 0), (0, -1, 4, 101, 8, 0), (0, 1, 5, 99, 1, 0)
        )
    )
    assert (book.best_bid(), book.best_ask()) == (99, 101)
    assert isinstance(book.best_bid(), int)
    bids, asks = book.depth(10)
    assert bids.tolist() == [[99, 12], [90, 7]]
    assert asks.tolist() == [[101, 8]]
    assert book.depth(1)[0].tolist() == [[99, 12]]
    assert [book.queue_ahead(order_id) for order_id in (1, 2, 3, 4, 5)] == [0, 5, 0, 0, 11]
    assert book.orders()["order_id"].tolist() == [1, 2, 5, 3, 4]


@pytest.mark.parametrize("order_id", [7, -1, 2**70])
def test_queue_ahead_of_an_unknown_order(order_id):
    with pytest.raises(KeyError, match=str(order_id)):
        OrderBook(16, 4).queue_ahead(order_id)


def test_passing_the_capacity_changes_nothing():
    book = OrderBook(ticks=16, capacity=2)
    book.apply(stream((0, 1, 1, 10, 5, 0), (0, -1, 2, 20, 5, 0)))
    before = book.orders()
    with pytest.raises(InputError, match=r"capacity is 2: must be larger for message 0 \(order_id 3\) to rest"):
        book.apply(stream((0, 1, 3, 11, 5, 0)))
    assert (book.orders() == before).all()
    assert (book.rejected, book.discarded) == ({}, {})


def test_passing_the_capacity_keeps_what_came_before():
    book = OrderBook(ticks=16, capacity=2)
    with pytest.raises(InputError, match="message 3") as caught:
        book.apply(
            stream(
                (0, 1, 1, 10, 5, 0), (0, -1, 2, 20, 5, 0), (1, 1, 9, 0, 3, 0), (0, 1, 3, 11, 5, 0), (2, 0, 1, 0, 0, 0)
            )
        )
    assert caught.value.index == 3
    assert caught.value.trades.tolist() == [(2, 2, 9, 20, 3, 1)]
    assert book.orders()["order_id"].tolist() == [1, 2]
    book.apply(stream((2, 0, 1, 0, 0, 0), (0, 1, 3, 11, 5, 0)))
    assert book.orders()["order_id"].tolist() == [3, 2]


@pytest.mark.parametrize(
    ("row", "left"),
    [
        ((0, 1, 3, 20, 7, 0), [3, 1]),  # fills order 2 and takes its place
        ((0, 1, 3, 20, 5, 0), [1]),
        ((0, 1, 3, 11, 5, 2), [1, 2]),  # immediate-or-cancel does not rest
        ((0, 1, 3, 11, 5, 4), [1, 2]),  # fill-or-kill is rejected
        ((0, 1, 1, 11, 5, 0), [1, 2]),  # a duplicate is rejected
        ((1, -1, 3, 0, 9, 0), [2]),
        ((4, 0, 1, 12, 9, 0), [1, 2]),
    ],
)
def test_a_full_book_takes_what_does_not_add_an_order(row, left):
    book = OrderBook(ticks=16, capacity=2)
    book.apply(stream((0, 1, 1, 10, 5, 0), (0, -1, 2, 20, 5, 0)))
    book.apply(stream(row))
    assert book.orders()["order_id"].tolist() == left


@pytest.mark.parametrize(
    "messages",
    [
        [(0, 0, 1, 1, 10, 5, 0)],
        np.zeros(3),
        np.zeros((2, 2), MESSAGE),
        np.zeros(2, TRADE),
        np.zeros(2, np.dtype([(name, MESSAGE[name]) for name in MESSAGE.names], align=True)),
        None,
    ],
    ids=["list", "floats", "two dimensions", "trades", "aligned", "None"],
)
def test_other_arrays_are_refused(messages):
    with pytest.raises(InputError, match=r"messages.* is .*: must be"):
        OrderBook(16, 4).apply(messages)


def test_views_and_read_only_arrays_are_accepted():
    messages = stream((0, 1, 1, 10, 5, 0), (9, 9, 9, 9, 9, 9), (0, -1, 2, 10, 5, 0), (9, 9, 9, 9, 9, 9))
    messages.flags.writeable = False
    assert OrderBook(16, 4).apply(messages[::2]).tolist() == [(2, 1, 2, 10, 5, -1)]
    assert OrderBook(16, 4).apply(messages[:3]).tolist() == [(2, 1, 2, 10, 5, -1)]


@pytest.mark.parametrize("ticks", [0, -4, 2.5, "16", True, None])
def test_bad_ticks(ticks):
    with pytest.raises(InputError, match="ticks"):
        OrderBook(ticks, 4)


@pytest.mark.parametrize("capacity", [0, -4, 2.5, "16", True, 2**40])
def test_bad_capacity(capacity):
    with pytest.raises(InputError, match="capacity"):
        OrderBook(16, capacity)


def test_bad_depth():
    with pytest.raises(InputError, match="n is -1"):
        OrderBook(16, 4).depth(-1)


def test_the_ends_of_int64():
    book = OrderBook(ticks=16, capacity=4)
    book.apply(stream((0, 1, LOWEST, LOWEST, HIGHEST, 0), (0, -1, HIGHEST, HIGHEST, HIGHEST, 0)))
    assert (book.best_bid(), book.best_ask()) == (LOWEST, HIGHEST)
    assert [levels.tolist() for levels in book.depth(3)] == [[[LOWEST, HIGHEST]], [[HIGHEST, HIGHEST]]]
    trades = book.apply(stream((1, 1, 1, 0, HIGHEST, 4), (1, -1, 2, 0, 5, 0)))
    assert trades["price"].tolist() == [HIGHEST, LOWEST]
    assert book.orders()["quantity"].tolist() == [HIGHEST - 5]


def test_one_book_does_not_know_of_another():
    one, other = OrderBook(16, 4), OrderBook(16, 4)
    one.apply(stream((0, 1, 1, 10, 5, 0)))
    assert other.best_bid() is None


def test_batches_do_not_matter():
    generator = np.random.default_rng(0)
    messages = np.zeros(200_000, MESSAGE)  # more than one entry into the kernel
    messages["side"] = generator.choice([-1, 1], len(messages))
    messages["order_id"] = np.arange(len(messages))
    messages["price"] = 100 + generator.integers(-3, 4, len(messages))
    messages["quantity"] = generator.integers(1, 5, len(messages))
    whole, parts = OrderBook(16, 100_000), OrderBook(16, 100_000)
    expected = np.concatenate([parts.apply(part) for part in np.array_split(messages, 7)])
    assert (whole.apply(messages) == expected).all()
    assert (whole.orders() == parts.orders()).all()
