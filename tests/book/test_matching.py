"""The kernels on slots, as the simulator calls them."""

import numpy as np
import pytest
from structure import check_structure

from bitquote.book import OrderBook
from bitquote.book.matching import (
    BOOK_FULL,
    IMMEDIATE,
    NO_PRICE,
    NOTHING_RESTS,
    POST_ONLY,
    REJECTED,
    ahead_of,
    allocate,
    best_price,
    best_slot,
    cancel_order,
    clear_trades,
    crosses,
    level_quantity,
    limit_order,
    live_count,
    live_slot,
    market_order,
    next_price,
    order_owner,
    order_price,
    order_quantity,
    order_side,
    quantity_before,
    reduce_order,
    replace_order,
    reset,
    trade_count,
)

BACKGROUND, MAKER = 0, 1


@pytest.fixture(params=[4, 64])
def book(request):
    return allocate(ticks=request.param, capacity=6)


def test_slots_know_their_order(book):
    slot = limit_order(book, 5, -1, 101, 7, 42, MAKER, 0)
    assert slot >= 0
    assert order_price(book, slot) == 101
    assert order_quantity(book, slot) == 7
    assert order_side(book, slot) == -1
    assert order_owner(book, slot) == MAKER
    other = limit_order(book, 6, 1, -99, 3, 43, BACKGROUND, 0)
    assert (order_price(book, other), order_side(book, other), order_owner(book, other)) == (-99, 1, BACKGROUND)
    assert live_count(book) == 2
    assert {live_slot(book, i) for i in range(2)} == {slot, other}


def test_trades_name_the_makers_owner(book):
    limit_order(book, 0, 1, 10, 3, 1, BACKGROUND, 0)
    mine = limit_order(book, 0, 1, 10, 4, 2, MAKER, 0)
    assert ahead_of(book, mine) == 3
    assert market_order(book, 9, -1, 5, 77, BACKGROUND) == 5
    assert trade_count(book) == 2
    first, second = book.trades[:2]
    assert (first["maker_id"], first["quantity"], first["remaining"], first["maker_owner"]) == (1, 3, 0, BACKGROUND)
    assert (second["maker_slot"], second["quantity"], second["remaining"], second["maker_owner"]) == (mine, 2, 2, MAKER)
    assert (second["price"], second["aggressor"]) == (10, -1)
    assert ahead_of(book, mine) == 0
    clear_trades(book)
    assert trade_count(book) == 0


def test_each_taking_call_starts_with_no_trades(book):
    limit_order(book, 0, 1, 10, 3, 1, BACKGROUND, 0)
    assert market_order(book, 0, -1, 1, 2, BACKGROUND) == 1
    assert limit_order(book, 0, -1, 10, 1, 3, BACKGROUND, IMMEDIATE) == NOTHING_RESTS
    assert trade_count(book) == 1
    limit_order(book, 0, -1, 12, 1, 4, BACKGROUND, 0)
    assert trade_count(book) == 0


def test_return_codes(book):
    assert limit_order(book, 0, 1, 10, 0, 1, 0, 0) == REJECTED
    slot = limit_order(book, 0, 1, 10, 2, 1, 0, 0)
    assert limit_order(book, 0, -1, 10, 1, 2, 0, POST_ONLY) == REJECTED
    assert market_order(book, 0, 1, 3, 2, 0) == 0
    assert replace_order(book, 0, slot, 10, 0, 0) == REJECTED
    assert replace_order(book, 0, slot, 10, 5, 0) == slot
    ask = limit_order(book, 0, -1, 20, 1, 3, 0, 0)
    assert replace_order(book, 0, ask, 5, 4, POST_ONLY) == REJECTED
    assert order_price(book, ask) == 20
    assert replace_order(book, 0, ask, 5, 4, 0) == NOTHING_RESTS
    assert order_quantity(book, slot) == 1
    for i in range(5):
        assert limit_order(book, 0, 1, 1 - i, 1, 10 + i, 0, 0) >= 0
    assert limit_order(book, 0, 1, 9, 1, 20, 0, 0) == BOOK_FULL
    assert live_count(book) == 6
    check_structure(book)


def test_prices_in_and_beyond_the_window(book):
    for order_id, price in enumerate([100, 101, 130, 100_000]):
        limit_order(book, 0, -1, price, 10 + order_id, order_id, 0, 0)
    assert best_price(book, -1) == 100
    assert best_price(book, 1) == NO_PRICE
    assert [next_price(book, -1, price) for price in (-5, 100, 101, 129, 130, 99_999)] == [
        100,
        101,
        130,
        130,
        100_000,
        100_000,
    ]
    assert next_price(book, -1, 100_000) == NO_PRICE
    assert next_price(book, 1, 0) == NO_PRICE
    assert [level_quantity(book, -1, price) for price in (99, 100, 130, 100_000)] == [0, 10, 12, 13]
    assert level_quantity(book, 1, 100) == 0
    assert crosses(book, 1, 100)
    assert not crosses(book, 1, 99)
    assert not crosses(book, -1, 0)


def test_queue_place_beyond_the_window(book):
    limit_order(book, 0, 1, 10**6, 1, 0, 0, 0)
    slots = [limit_order(book, 0, 1, 5, 10 + i, 1 + i, 0, 0) for i in range(4)]
    assert [ahead_of(book, slot) for slot in slots] == [0, 10, 21, 33]
    reduce_order(book, slots[1], 4)
    cancel_order(book, slots[0])
    assert [ahead_of(book, slot) for slot in slots[1:]] == [0, 7, 19]
    assert level_quantity(book, 1, 5) == 7 + 12 + 13
    check_structure(book)


@pytest.mark.parametrize("best", [5, 10**6])  # the price 5 inside the window, or beyond it
def test_quantity_before_an_arrival(book, best):
    limit_order(book, 0, 1, best, 1, 0, 0, 0)
    begun = int(book.counters["arrivals"][0])
    slots = [limit_order(book, 0, 1, 5, 10 + i, 1 + i, 0, 0) for i in range(4)]
    later = int(book.counters["arrivals"][0])
    first = 1 if best == 5 else 0
    reduce_order(book, slots[1], 4)
    cancel_order(book, slots[0])
    assert [quantity_before(book, 1, 5, arrival) for arrival in range(begun, later + 1)] == [
        first, first, first + 7, first + 19, first + 32
    ]  # fmt: skip
    for slot in slots[1:]:
        assert quantity_before(book, 1, 5, int(book.orders[slot]["arrival"])) == ahead_of(book, slot)
    assert quantity_before(book, 1, 6, later) == quantity_before(book, -1, 5, later) == 0


def test_best_slot_trades_first(book):
    assert best_slot(book, 1) < 0
    limit_order(book, 0, 1, 5, 1, 0, 0, 0)
    first = limit_order(book, 0, 1, 7, 1, 1, 0, 0)
    limit_order(book, 0, 1, 7, 1, 2, 0, 0)
    assert best_slot(book, 1) == first
    market_order(book, 0, -1, 1, 9, 0)
    assert book.trades["maker_slot"][0] == first


def test_reset(book):
    for i in range(6):
        limit_order(book, 0, 1, 1000 * i, 1, i, 0, 0)
    reset(book)
    check_structure(book)
    assert live_count(book) == 0
    assert best_price(book, 1) == NO_PRICE
    assert limit_order(book, 0, -1, 3, 1, 0, 0, 0) >= 0


def test_an_order_fills_one_cache_line():
    orders = allocate(ticks=8, capacity=10).orders
    assert orders.dtype.itemsize == 64
    assert orders.ctypes.data % 64 == 0


def test_a_book_of_4096_orders_stays_within_512_kib():
    assert sum(array.nbytes for array in allocate(ticks=256, capacity=4096)) <= 480 * 1024
    assert OrderBook(ticks=256, capacity=4096).nbytes <= 512 * 1024


def test_uniform_cancellation_by_the_live_list():
    book = allocate(ticks=64, capacity=200)
    generator = np.random.default_rng(0)
    alive = {limit_order(book, 0, 1, int(generator.integers(500)), 1, i, 0, 0) for i in range(200)}
    while alive:
        slot = live_slot(book, int(generator.integers(live_count(book))))
        alive.remove(slot)
        cancel_order(book, slot)
    assert live_count(book) == 0
    check_structure(book)
