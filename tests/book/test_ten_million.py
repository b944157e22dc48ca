"""Ten million messages through the compiled book and through books by other hands: the same trades, the same orders.

    pytest -m study tests/book/test_ten_million.py               # all of it, one dot a hundred thousand messages
    pytest -m study tests/book/test_ten_million.py -k "naive and seed37"

One seed of each runs with the other tests. Without Liquibook (pip install 'bitquote[book-peer]') its part is skipped.
"""

from __future__ import annotations

import numpy as np
import pytest
from naive import NaiveBook
from scripts_as_modules import load_script
from streams import random_stream
from structure import check_same, check_structure

from bitquote.book import MESSAGE, OrderBook

SEEDS = 100
LENGTH = 100_000  # messages a seed
BATCH = 500
TICKS = (1, 2, 4, 8, 60, 512)
SPREADS = (3, 30, 3000)
FILL_OR_KILL = 4

seeds = pytest.mark.parametrize(
    ("seed", "length"),
    [pytest.param(0, 5_000, id="short")]
    + [pytest.param(seed, LENGTH, id=f"seed{seed}", marks=pytest.mark.study) for seed in range(SEEDS)],
)


@pytest.fixture(scope="module")
def make_stream():
    """`make_stream` of the benchmark: messages whose ids live, around a wandering mid."""
    return load_script("benchmarks/book_stream.py").make_stream


def compare(book: OrderBook, naive: NaiveBook, stream: np.ndarray) -> None:
    """Batch by batch the same trades, and after each the same answers."""
    for start in range(0, len(stream), BATCH):
        batch = stream[start : start + BATCH]
        expected = [trade for message in batch.tolist() for trade in naive.apply(message)]
        assert book.apply(batch).tolist() == expected, f"messages {start} to {start + len(batch)}"
        check_same(book, naive)
    check_structure(book._book)


@seeds
def test_naive_book(seed, length, make_stream):
    """Half of a seed's messages are hostile (streams.py), half zero-intelligence flow with about 40 orders."""
    ticks, spread = TICKS[seed % len(TICKS)], SPREADS[seed // len(TICKS) % len(SPREADS)]
    generator = np.random.default_rng([seed, 1])
    drift = (seed // 18 % 3 - 1) * 0.01 * spread
    hostile = random_stream(generator, length // 2, spread=spread, drift=drift)
    compare(OrderBook(ticks, 80), NaiveBook(80), hostile)
    compare(OrderBook(4 * ticks, 640), NaiveBook(640), make_stream(length - length // 2, 40, 1000 + seed))


@seeds
def test_liquibook(seed, length, make_stream):
    """Zero-intelligence flow with 20 to 320 orders: a replace is cancel and limit, some orders are fill-or-kill."""
    pytest.importorskip("liquibook", reason="Liquibook is not installed: pip install 'bitquote[book-peer]'")
    from liquibook_twin import LiquibookTwin

    live = 20 << seed % 5
    stream = split_replaces(make_stream(length, live, 2000 + seed))[:length]
    plain = (stream["kind"] == 0) & (stream["flags"] == 0)
    stream["flags"][plain & (np.random.default_rng([seed, 2]).random(len(stream)) < 0.05)] = FILL_OR_KILL
    book, twin = OrderBook(64 << seed % 4, 16 * live), LiquibookTwin()
    traded = 0
    for start in range(0, length, BATCH):
        batch = stream[start : start + BATCH]
        expected = [trade for message in batch.tolist() for trade in twin.apply(message)]
        assert book.apply(batch).tolist() == expected, f"messages {start} to {start + len(batch)}"
        traded += len(expected)
    assert traded > length // 10
    assert set(book.rejected) <= {"unknown_id", "fill_or_kill"}  # cancels of orders that were killed, and those
    resting = book.orders()[["order_id", "side", "price", "quantity"]].tolist()
    assert twin.sweep() == resting


def split_replaces(stream: np.ndarray) -> np.ndarray:
    """The stream with a cancel and a limit order in place of every replace."""
    split = np.repeat(stream, np.where(stream["kind"] == 4, 2, 1))
    second = np.flatnonzero(split["kind"] == 4)[1::2]
    split["kind"][second - 1] = 2
    split["kind"][second] = 0
    assert split.dtype == MESSAGE
    return split
