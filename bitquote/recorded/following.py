"""The compiled loop that makes a book follow a recording of orders: one outcome an event.

The book does its own matching; the recording says what the exchange's did. Where they differ the book is made to
follow the recording, and the event counts as a fault of its kind.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bitquote.book.matching import (
    BOOK_FULL,
    NOTHING_RESTS,
    POST_ONLY,
    BookState,
    best_slot,
    cancel_order,
    crosses,
    limit_order,
    order_price,
    order_quantity,
    order_side,
    reduce_order,
    replace_order,
    trade_count,
)
from bitquote.book.order_book import CANCEL, LIMIT, REDUCE, REPLACE
from bitquote.compilation import inlined, kernel
from bitquote.recorded.orders import EXECUTE, FILL, PRINT, STATE, write_best

OUTCOMES = {
    "rested": "entered without meeting the other side",
    "traded": "entered and traded at once",
    "cancelled": "taken off the book",
    "reduced": "made smaller",
    "replaced": "given another price",
    "executed": "executed as the book would have done it",
    "ahead": "an execution that the book, which matches at once, had done before, and more",
    "opening": "taken off an opening level, whose orders are not known one by one",
    "no_change": "a print or a trading state: nothing for the book to do",
    "unknown_order": "of an order that is not in the recording before",
    "duplicate_id": "enters an order that lives",
    "entered_after_end": "enters an order that had ended",
    "repeated_end": "of an order that the recording had ended",
    "ended_by_book": "of an order that the book had filled, or lost to a crossing",
    "other_quantity": "cancelled with another quantity than the book had",
    "too_much": "takes more off an order than it has",
    "not_matched": "an execution that the book had not done: now done",
    "rounding": "a lot or two from what the book had: the exchange's arithmetic rounds",
    "not_first": "an execution of an order that price-time priority would have passed over",
    "crosses": "rests at a price that meets the other side, whose orders there are taken off",
    "no_quantity": "enters an order of quantity 0",
    "raised": "has more left than the recording said before; the book leaves it as it was",
    "other_price": "at another price than its order's",
}
"""What becomes of an event; the first nine are no faults."""

FAULTS = tuple(OUTCOMES)[9:]
(
    _RESTED, _TRADED, _CANCELLED, _REDUCED, _REPLACED, _EXECUTED, _AHEAD, _OPENING, _NO_CHANGE, _UNKNOWN, _DUPLICATE,
    _AFTER_END, _REPEATED_END, _ENDED, _OTHER_QUANTITY, _TOO_MUCH, _NOT_MATCHED, _ROUNDING, _NOT_FIRST,
    _CROSSES, _NO_QUANTITY, _RAISED, _OTHER_PRICE,
) = range(len(OUTCOMES))  # fmt: skip

_FULL = -1  # no outcome: the book is full
NO_ORDER = -1

# What a slot may be besides a slot: its order never entered, was filled, lost to a crossing, or ended by the recording.
NEVER, _FILLED, _LOST, _OVER = -1, -2, -3, -4

CHANGE = np.dtype(
    [("time", "<i8"), ("order_id", "<i8"), ("side", "i1"), ("price", "<i8"), ("by", "<i8"), ("cancelled", "?")]
)
"""An order enters (`by` > 0, lots), or loses what is cancelled, executed or lost to a crossing. One that is replaced
loses all, as if cancelled, and enters again."""


class Following(NamedTuple):
    """The book, and where each order of the recording stands in it; orders are known by their number."""

    book: BookState
    slots: np.ndarray  # int64 (orders,): slot, or one of NEVER, _FILLED, _LOST, _OVER
    shown: np.ndarray  # int64 (orders,): lots that the recording said last
    trades: np.ndarray  # TRADE: written so far
    changes: np.ndarray  # CHANGE: every change of an order so far
    written: np.ndarray  # int64 (2,): how many trades, and how many changes
    rounding: int  # lots


@kernel
def follow(state, events, number, fallback, outcome, best, first, last):
    """Apply events first..last; where it stopped, earlier than `last` if the book is full."""
    for i in range(first, last):
        event = events[i]
        kind = np.int64(event.kind)
        if kind == LIMIT:
            result = _enter(state, event, number[i])
        elif kind in (PRINT, STATE):
            result = _NO_CHANGE
        else:
            result = _change(state, event, kind, number[i], fallback[i])
            if result == _AHEAD and event.quantity > state.shown[number[i]]:
                result = _RAISED
        if result == _FULL:
            return i
        state.shown[number[i]] = event.quantity
        outcome[i] = result
        write_best(state.book, best[i])
    return last


@inlined
def _enter(state, event, order):
    """A limit order; its outcome."""
    book = state.book
    side = np.int64(event.side)
    if state.slots[order] >= 0:
        return _DUPLICATE
    if state.slots[order] != NEVER:
        return _AFTER_END
    if event.quantity <= 0:
        return _NO_QUANTITY
    result = _RESTED
    if event.flags & POST_ONLY:
        while crosses(book, side, event.price):
            slot = best_slot(book, -side)
            maker = book.orders[slot].order_id
            _remove(state, event.time, maker, slot, False)
            state.slots[maker] = _LOST
            result = _CROSSES
    slot = limit_order(book, event.time, side, event.price, event.quantity, order, 0, 0)
    if slot == BOOK_FULL:
        return _FULL
    if trade_count(book) > 0:
        result = _TRADED
        _keep_trades(state, event.time, order)
    _settle(state, event.time, order, slot)
    return result


@inlined
def _change(state, event, kind, order, fallback):
    """Any event of an order that should live; its outcome."""
    slot = state.slots[order]
    if slot >= 0:
        elsewhere = kind != REPLACE and event.price != order_price(state.book, slot)
        result = _change_live(state, event, kind, order, slot)
        return _OTHER_PRICE if elsewhere else result
    if slot == NEVER and fallback != NO_ORDER and state.slots[fallback] >= 0:
        result = _take(state, event, kind, fallback, state.slots[fallback], event.quantity)
        return _OPENING if result in (_REDUCED, _EXECUTED) else result
    if kind in (FILL, REPLACE) and slot == _FILLED:
        if event.quantity > 0:
            return _AHEAD
        state.slots[order] = _OVER
        return _EXECUTED
    if slot == NEVER:
        if kind == CANCEL or (kind == FILL and event.quantity == 0):
            state.slots[order] = _OVER  # whatever of it comes later is too late
        return _UNKNOWN
    return _REPEATED_END if slot == _OVER else _ENDED


@inlined
def _change_live(state, event, kind, order, slot):
    """An event of a live order."""
    book = state.book
    quantity = event.quantity
    left = order_quantity(book, slot)
    if kind in (REDUCE, EXECUTE):
        return _take(state, event, kind, order, slot, quantity)
    if kind == CANCEL:
        _remove(state, event.time, order, slot, True)
        state.slots[order] = _OVER
        if quantity == left:
            return _CANCELLED
        return _ROUNDING if abs(quantity - left) <= state.rounding else _OTHER_QUANTITY
    side, price = order_side(book, slot), order_price(book, slot)
    if kind == REPLACE and quantity > 0:  # an instant order for a sum of money shrinks when its price rises
        _keep_change(state, event.time, order, side, price, -left, True)
        slot = replace_order(book, event.time, slot, event.price, min(quantity, left), 0)
        _keep_trades(state, event.time, order)
        _settle(state, event.time, order, slot)
        return _REPLACED if quantity <= left else _AHEAD
    if quantity >= left:
        return _EXECUTED if quantity == left else _AHEAD
    _keep_change(state, event.time, order, side, price, quantity - left, False)
    reduce_order(book, slot, left - quantity)
    if quantity == 0:
        state.slots[order] = _OVER
    return _ROUNDING if left - quantity <= state.rounding else _NOT_MATCHED


@inlined
def _take(state, event, kind, order, slot, quantity):
    """Take a quantity off a live order, by reduction or by execution."""
    book = state.book
    left = order_quantity(book, slot)
    side, price = order_side(book, slot), order_price(book, slot)
    result = _REDUCED
    _keep_change(state, event.time, order, side, price, -min(quantity, left), kind != EXECUTE)
    if kind == EXECUTE:
        result = _EXECUTED if best_slot(book, side) == slot else _NOT_FIRST
        _keep_trade(state, event.time, order, NO_ORDER, price, min(quantity, left), -side)
    if quantity >= left:
        state.slots[order] = _FILLED if kind == EXECUTE else _OVER
    reduce_order(book, slot, quantity)
    return _TOO_MUCH if quantity > left else result


@inlined
def _settle(state, time, order, slot):
    """Where an order stands after it was matched: what is left of it rests."""
    if slot == NOTHING_RESTS:
        state.slots[order] = _FILLED
        return
    state.slots[order] = slot
    book = state.book
    _keep_change(state, time, order, order_side(book, slot), order_price(book, slot), order_quantity(book, slot), False)


@inlined
def _remove(state, time, order, slot, cancelled):
    """Take an order off the book."""
    book = state.book
    side, price, left = order_side(book, slot), order_price(book, slot), order_quantity(book, slot)
    _keep_change(state, time, order, side, price, -left, cancelled)
    cancel_order(book, slot)


@inlined
def _keep_trades(state, time, taker):
    """Write the trades of the latest order; the makers that they filled are gone."""
    for i in range(trade_count(state.book)):
        fill = state.book.trades[i]
        _keep_trade(state, time, fill.maker_id, taker, fill.price, fill.quantity, fill.aggressor)
        _keep_change(state, time, fill.maker_id, -fill.aggressor, fill.price, -fill.quantity, False)
        if fill.remaining == 0:
            state.slots[fill.maker_id] = _FILLED


@inlined
def _keep_trade(state, time, maker, taker, price, quantity, aggressor):
    trade = state.trades[state.written[0]]
    state.written[0] += 1
    trade.time = time
    trade.maker_id = maker
    trade.taker_id = taker
    trade.price = price
    trade.quantity = quantity
    trade.aggressor = aggressor


@inlined
def _keep_change(state, time, order, side, price, by, cancelled):
    change = state.changes[state.written[1]]
    state.written[1] += 1
    change.time = time
    change.order_id = order
    change.side = side
    change.price = price
    change.by = by
    change.cancelled = cancelled
