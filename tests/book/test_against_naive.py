"""The compiled book and its slow twin give the same trades, rejections and orders on random streams."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from naive import NaiveBook
from streams import HIGHEST, LOWEST, random_stream
from structure import check_same, check_structure

from bitquote.book import MESSAGE, OrderBook
from bitquote.errors import InputError

CAPACITY = 80  # the streams know 80 ids


@pytest.mark.parametrize("spread", [3, 30, 3000])
@pytest.mark.parametrize("ticks", [1, 2, 4, 8, 60, 512])
def test_random_streams(ticks, spread):
    generator = np.random.default_rng([ticks, spread])
    for drift in (0.0, 0.7 * spread / 10, -0.7 * spread / 10):
        book, naive = OrderBook(ticks, CAPACITY), NaiveBook(CAPACITY)
        stream = random_stream(generator, 600, spread=spread, drift=drift)
        for batch in np.array_split(stream, 30):
            trades = [trade for message in batch.tolist() for trade in naive.apply(message)]
            assert book.apply(batch).tolist() == trades
            check_same(book, naive)
            check_structure(book._book)


@pytest.mark.parametrize("centre", [LOWEST, LOWEST + 40, -(2**62), 2**53 + 1, HIGHEST - 40, HIGHEST])
@pytest.mark.parametrize("ticks", [1, 8, 128])
def test_prices_at_the_ends_of_int64(ticks, centre):
    book, naive = OrderBook(ticks, CAPACITY), NaiveBook(CAPACITY)
    for batch in np.array_split(random_stream(np.random.default_rng(ticks), 400, spread=20, centre=centre), 20):
        trades = [trade for message in batch.tolist() for trade in naive.apply(message)]
        assert book.apply(batch).tolist() == trades
        check_same(book, naive)
        check_structure(book._book)


def test_wide_window_with_a_summary_of_several_words():
    book, naive = OrderBook(3 * 4096, CAPACITY), NaiveBook(CAPACITY)
    stream = random_stream(np.random.default_rng(0), 1500, spread=6000)
    assert book.apply(stream).tolist() == [trade for message in stream.tolist() for trade in naive.apply(message)]
    check_same(book, naive)
    check_structure(book._book)


quantities = st.integers(1, 9) | st.sampled_from([-1, 0, HIGHEST // 16])
prices = st.integers(-6, 6) | st.integers(-60, 60) | st.sampled_from([LOWEST, LOWEST + 1, HIGHEST - 1, HIGHEST])


class Books(RuleBasedStateMachine):
    """Both books under the same messages, one at a time."""

    @initialize(ticks=st.sampled_from([1, 4, 8, 64]), capacity=st.sampled_from([3, 12]))
    def start(self, ticks, capacity):
        self.book = OrderBook(ticks, capacity)
        self.naive = NaiveBook(capacity)
        self.time = 0

    @rule(
        side=st.sampled_from([1, -1]),
        order_id=st.integers(0, 20),
        price=prices,
        quantity=quantities,
        flags=st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5, 6, 7]),
    )
    def limit(self, side, order_id, price, quantity, flags):
        self._apply(0, side, order_id, price, quantity, flags)

    @rule(
        side=st.sampled_from([1, -1]),
        order_id=st.integers(0, 20),
        quantity=quantities,
        flags=st.sampled_from([0, 0, 1, 2, 4]),
    )
    def market(self, side, order_id, quantity, flags):
        self._apply(1, side, order_id, 0, quantity, flags)

    @rule(order_id=st.integers(0, 20))
    def cancel(self, order_id):
        self._apply(2, 0, order_id, 0, 0, 0)

    @rule(order_id=st.integers(0, 20), quantity=quantities)
    def reduce(self, order_id, quantity):
        self._apply(3, 0, order_id, 0, quantity, 0)

    @rule(order_id=st.integers(0, 20), price=prices, quantity=quantities, flags=st.integers(0, 7))
    def replace(self, order_id, price, quantity, flags):
        self._apply(4, 0, order_id, price, quantity, flags)

    def _apply(self, *fields):
        message = (self.time, *fields)
        self.time += 1
        stream = np.array([message], MESSAGE)
        try:
            trades = self.naive.apply(message)
        except OverflowError:
            with pytest.raises(InputError, match="capacity"):
                self.book.apply(stream)
        else:
            assert self.book.apply(stream).tolist() == trades

    @invariant()
    def same(self):
        if hasattr(self, "book"):
            check_same(self.book, self.naive)
            check_structure(self.book._book)


Books.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None, derandomize=True)
TestBooks = Books.TestCase
