"""Ten short streams worked out by hand: their trades, and the orders that are left."""

import numpy as np
import pytest
from naive import NaiveBook
from structure import check_structure

from bitquote.book import MESSAGE, OrderBook

BID, ASK = 1, -1
POST_ONLY, IOC, FOK = 1, 2, 4


def limit(order_id, side, price, quantity, flags=0):
    """A limit order; the tests number their messages in time themselves."""
    return (0, side, order_id, price, quantity, flags)


def market(order_id, side, quantity, flags=0):
    """A market order, with a price that must not matter."""
    return (1, side, order_id, -77, quantity, flags)


def cancel(order_id):
    """A cancel, with a side that must not matter."""
    return (2, 0, order_id, 0, 0, 0)


def reduce(order_id, quantity):
    """A reduction by `quantity`."""
    return (3, 0, order_id, 0, quantity, 0)


def replace(order_id, price, quantity, flags=0):
    """A new price and remaining quantity."""
    return (4, 0, order_id, price, quantity, flags)


# name: messages at times 0, 1, 2, ...; trades (time, maker, taker, price, quantity, aggressor); orders left (id, side,
# price, quantity, time), best first and the bids before the asks; rejected; discarded
SEQUENCES = {
    "a sweep goes through the prices and, within one, through time": (
        [
            limit(1, ASK, 102, 5),
            limit(2, ASK, 101, 3),
            limit(3, ASK, 101, 4),
            limit(4, ASK, 103, 9),
            limit(5, BID, 102, 10),  # 3 of order 2, 4 of order 3, 3 of order 1
        ],
        [(4, 2, 5, 101, 3, BID), (4, 3, 5, 101, 4, BID), (4, 1, 5, 102, 3, BID)],
        [(1, ASK, 102, 2, 0), (4, ASK, 103, 9, 3)],
        {},
        {},
    ),
    "the rest of a crossing limit order rests at its own price, not at that of the trade": (
        [limit(1, ASK, 100, 4), limit(2, BID, 105, 10), limit(3, ASK, 104, 1), limit(4, BID, 99, 2)],
        [(1, 1, 2, 100, 4, BID), (2, 2, 3, 105, 1, ASK)],
        [(2, BID, 105, 5, 1), (4, BID, 99, 2, 3)],
        {},
        {},
    ),
    "a market order takes what there is and the rest is gone": (
        [limit(1, BID, 50, 2), limit(2, BID, 49, 2), market(3, ASK, 7), market(4, BID, 1), limit(5, ASK, 51, 1)],
        [(2, 1, 3, 50, 2, ASK), (2, 2, 3, 49, 2, ASK)],
        [(5, ASK, 51, 1, 4)],
        {},
        {"market": 2},  # 3 units of order 3, all of order 4
    ),
    "post-only is rejected when it would take and rests otherwise": (
        [
            limit(1, ASK, 10, 5),
            limit(2, BID, 10, 1, POST_ONLY),
            limit(3, BID, 11, 1, POST_ONLY),
            limit(4, BID, 9, 1, POST_ONLY),
            limit(5, ASK, 9, 1, POST_ONLY),
        ],
        [],
        [(4, BID, 9, 1, 3), (1, ASK, 10, 5, 0)],
        {"post_only": 3},
        {},
    ),
    "immediate-or-cancel never rests": (
        [
            limit(1, ASK, 10, 5),
            limit(2, BID, 9, 3, IOC),
            limit(3, BID, 10, 8, IOC),
            limit(4, ASK, 12, 1),
            limit(5, BID, 12, 1, IOC),
        ],
        [(2, 1, 3, 10, 5, BID), (4, 4, 5, 12, 1, BID)],
        [],
        {},
        {"immediate_or_cancel": 2},  # all of order 2, 3 units of order 3
    ),
    "fill-or-kill fills wholly within its price or not at all": (
        [
            limit(1, BID, 20, 3),
            limit(2, BID, 19, 3),
            limit(3, ASK, 20, 4, FOK),  # only 3 at 20
            limit(4, ASK, 19, 7, FOK),  # only 6 down to 19
            limit(5, ASK, 19, 5, FOK),
            market(6, ASK, 2, FOK),  # only 1 left
            market(7, ASK, 1, FOK),
        ],
        [(4, 1, 5, 20, 3, ASK), (4, 2, 5, 19, 2, ASK), (6, 2, 7, 19, 1, ASK)],
        [],
        {"fill_or_kill": 3},
        {},
    ),
    "reduce and a lower replace keep the place, a higher replace loses it": (
        [
            limit(1, BID, 30, 5),
            limit(2, BID, 30, 5),
            limit(3, BID, 30, 5),
            reduce(1, 2),  # 1: 3
            replace(2, 30, 5),  # the same: stays second
            replace(1, 30, 4),  # 1: 4, to the end
            replace(2, 30, 1),  # 2: 1, stays
            market(9, ASK, 7),  # 1 of order 2, 5 of order 3, 1 of order 1
        ],
        [(7, 2, 9, 30, 1, ASK), (7, 3, 9, 30, 5, ASK), (7, 1, 9, 30, 1, ASK)],
        [(1, BID, 30, 3, 5)],
        {},
        {},
    ),
    "a replace may trade, and honours its flags": (
        [
            limit(1, BID, 40, 5),
            limit(2, ASK, 45, 3),
            replace(1, 45, 2, POST_ONLY),  # would take: order 1 stays as it is
            replace(1, 46, 4, FOK),  # only 3: order 1 stays as it is
            replace(1, 46, 4),  # takes 3, rests with 1
            limit(3, ASK, 50, 6),
            replace(1, 50, 9, IOC),  # takes 6, 3 are gone
        ],
        [(4, 2, 1, 45, 3, BID), (6, 3, 1, 50, 6, BID)],
        [],
        {"post_only": 1, "fill_or_kill": 1},
        {"immediate_or_cancel": 1},
    ),
    "what cannot be is rejected and changes nothing": (
        [
            limit(1, BID, 60, 5),
            limit(1, BID, 61, 5),
            limit(2, BID, 61, 0),
            limit(3, BID, 61, -4),
            limit(4, 0, 61, 5),
            limit(5, 2, 61, 5),
            cancel(99),
            reduce(1, 0),
            replace(1, 60, -1),
            replace(98, 60, 1),
            (5, BID, 6, 60, 1, 0),
            (-1, BID, 7, 60, 1, 0),
            market(1, ASK, 5),
            reduce(1, 7),  # more than all of it: a cancel
            cancel(1),
            limit(1, ASK, 59, 2),  # an id is free again once its order is gone
        ],
        [],
        [(1, ASK, 59, 2, 15)],
        {"duplicate_id": 2, "quantity": 4, "unknown_side": 2, "unknown_id": 3, "unknown_kind": 2},
        {},
    ),
    "orders far from the market wait, keep their turn, and trade when it comes to them": (
        [
            limit(1, ASK, 100, 1),
            limit(2, ASK, 1_000_000, 2),
            limit(3, ASK, 500, 3),
            limit(4, ASK, 1_000_000, 4),
            limit(5, BID, -1_000_000, 5),
            reduce(2, 1),
            limit(6, BID, 1_000_000, 8),  # 1 of order 1, 3 of order 3, 1 of order 2, 3 of order 4
            market(7, ASK, 2),
            limit(8, BID, -1_000_000, 6),
            market(9, ASK, 4),
        ],
        [
            (6, 1, 6, 100, 1, BID),
            (6, 3, 6, 500, 3, BID),
            (6, 2, 6, 1_000_000, 1, BID),
            (6, 4, 6, 1_000_000, 3, BID),
            (7, 5, 7, -1_000_000, 2, ASK),
            (9, 5, 9, -1_000_000, 3, ASK),
            (9, 8, 9, -1_000_000, 1, ASK),
        ],
        [(8, BID, -1_000_000, 5, 8), (4, ASK, 1_000_000, 1, 3)],
        {},
        {},
    ),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_naive_book(name):
    messages, trades, orders, rejected, discarded = SEQUENCES[name]
    book = NaiveBook(capacity=16)
    assert [trade for time, message in enumerate(messages) for trade in book.apply((time, *message))] == trades
    assert (book.orders(), book.rejected, book.discarded) == (orders, rejected, discarded)


@pytest.mark.parametrize("ticks", [1, 4, 64, 1000])
@pytest.mark.parametrize("name", SEQUENCES)
def test_order_book(name, ticks):
    messages, trades, orders, rejected, discarded = SEQUENCES[name]
    book = OrderBook(ticks=ticks, capacity=16)
    stream = np.array([(time, *message) for time, message in enumerate(messages)], MESSAGE)
    assert book.apply(stream).tolist() == trades
    assert book.orders().tolist() == orders
    assert book.rejected == rejected
    assert book.discarded == discarded
    check_structure(book._book)
