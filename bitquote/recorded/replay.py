"""A recording of orders replayed through the order book: every event has an outcome, and every fault its lines.

The book does its own matching; the recording says what the exchange's did. Where they differ the book is made to
follow the recording, and the event counts as a fault of its kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bitquote.book.matching import (
    BOOK_FULL,
    NO_PRICE,
    NOTHING_RESTS,
    POST_ONLY,
    BookState,
    allocate,
    best_price,
    best_slot,
    cancel_order,
    crosses,
    level_quantity,
    limit_order,
    next_price,
    order_price,
    order_quantity,
    order_side,
    reduce_order,
    replace_order,
    trade_count,
)
from bitquote.book.order_book import CANCEL, LIMIT, REDUCE, REPLACE, RESTING, TRADE
from bitquote.compilation import inlined, kernel
from bitquote.errors import require, require_integer, require_number
from bitquote.market.simulation import Tape
from bitquote.recorded.orders import BEST, EXECUTE, FILL, PRINT, STATE, OrderRecording

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
    "repeated_end": "of an order that had been cancelled",
    "ended_by_book": "of an order that the book had filled, or lost to a crossing",
    "other_quantity": "cancelled with another quantity than the book had",
    "too_much": "takes more off an order than it has",
    "not_matched": "an execution that the book had not done: now done",
    "rounding": "a lot or two from what the book had: the exchange's arithmetic rounds",
    "not_first": "an execution of an order that price-time priority would have passed over",
    "crosses": "rests at a price that meets the other side, whose orders there are taken off",
    "no_quantity": "enters an order of quantity 0",
}
"""What becomes of an event; the first nine are no faults."""

FAULTS = tuple(OUTCOMES)[9:]
(
    _RESTED, _TRADED, _CANCELLED, _REDUCED, _REPLACED, _EXECUTED, _AHEAD, _OPENING, _NO_CHANGE, _UNKNOWN, _DUPLICATE,
    _AFTER_END, _REPEATED_END, _ENDED, _OTHER_QUANTITY, _TOO_MUCH, _NOT_MATCHED, _ROUNDING, _NOT_FIRST,
    _CROSSES, _NO_QUANTITY,
) = range(len(OUTCOMES))  # fmt: skip

_FULL = -1  # no outcome: the book is full
_NONE = -1  # no order
_TICKS = 4096
_PICTURED = 10**8  # levels of all pictures, at most

# What a slot may be besides a slot: where its order stands.
_NEVER, _FILLED, _LOST, _CANCELED = -1, -2, -3, -4


class _State(NamedTuple):
    """The book, and where each order of the recording stands in it; orders are known by their number."""

    book: BookState
    slots: np.ndarray  # int64 (orders,): slot, or one of _NEVER, _FILLED, _LOST, _CANCELED
    trades: np.ndarray  # TRADE: written so far
    written: np.ndarray  # int64 (1,): how many
    rounding: int  # lots


@dataclass(frozen=True)
class Replay:
    """A replayed recording.

    Attributes:
        recording: What was replayed.
        outcome: int8 (n,), what became of each event: an index into `OUTCOMES`.
        best: BEST (n,), the rebuilt best bid and offer after each event.
        trades: TRADE, ticks and lots, in order. Where the recording does not name the taker its id is 0.
        orders: RESTING, the orders that live at the end.
        opened: Orders of the opening that entered the book; those that would cross it were left out.
        depth_time: float64 (pictures,), seconds from the first event.
        depth: float64 (pictures, 2, levels, 2), as in `Tape`.
    """

    recording: OrderRecording
    outcome: np.ndarray
    best: np.ndarray
    trades: np.ndarray
    orders: np.ndarray
    opened: int
    depth_time: np.ndarray
    depth: np.ndarray

    @property
    def outcomes(self) -> dict[str, int]:
        """Events by what became of them; they add up to all events."""
        counts = np.bincount(self.outcome, minlength=len(OUTCOMES)).tolist()
        return {name: count for name, count in zip(OUTCOMES, counts, strict=True) if count}

    def lines(self, outcome: str, n: int = 5) -> list[int]:
        """The first `n` lines whose event had this outcome."""
        places = np.flatnonzero(self.outcome == tuple(OUTCOMES).index(outcome))
        return self.recording.events["line"][places[:n]].tolist()

    @property
    def agreement(self) -> tuple[float, list[int]] | None:
        """Share of the events after which the rebuilt best bid and offer, quantities included, are the recorded ones,
        and the first lines where they are not. None: the recording has no best bid and offer.
        """
        if self.recording.best is None:
            return None
        equal = self.best == self.recording.best
        return float(equal.mean()), self.recording.events["line"][~equal][:5].tolist()

    def report(self) -> str:
        """Lines for a reader: every event accounted for, faults with their first lines."""
        recording = self.recording
        total = len(self.outcome)
        lines = [f"{recording.path}: {total} events, {len(self.trades)} trades, {len(self.orders)} orders at the end"]
        lines += [f"  {count:>9} {name}" for name, count in recording.counts.items()]
        lines.append(f"opening: {self.opened} of {len(recording.opening)} orders entered")
        lines += [f"  {count:>9} {name}" for name, count in recording.notes.items()]
        lines.append("every event:")
        for name, count in self.outcomes.items():
            where = f" (lines {', '.join(map(str, self.lines(name)))}, ...)" if name in FAULTS else ""
            lines.append(f"  {count:>9} {count / total:7.2%} {name}: {OUTCOMES[name]}{where}")
        if self.agreement is not None:
            share, first = self.agreement
            where = f"; first other lines {', '.join(map(str, first))}" if first else ""
            lines.append(f"best bid and offer as recorded after {share:.4%} of the events{where}")
        return "\n".join(lines)

    def tape(self) -> Tape:
        """The visible market in the form that calibrations read; seconds from the first event, prices and quantities
        in the recording's units. Quotes are those moments when both sides have orders.
        """
        recording = self.recording
        start = recording.events["time"][0]
        best = self.best
        changed = np.concatenate(([True], best[1:] != best[:-1]))
        shown = changed & (best["bid"] != NO_PRICE) & (best["ask"] != NO_PRICE)
        quote, trade = best[shown], self.trades
        return Tape(
            trade_time=(trade["time"] - start) * 1e-9,
            trade_price=trade["price"] * recording.tick,
            trade_quantity=trade["quantity"] * recording.lot,
            trade_aggressor=trade["aggressor"].astype(np.int8),
            quote_time=(recording.events["time"][shown] - start) * 1e-9,
            bid=quote["bid"] * recording.tick,
            ask=quote["ask"] * recording.tick,
            bid_quantity=quote["bid_quantity"] * recording.lot,
            ask_quantity=quote["ask_quantity"] * recording.lot,
            snapshot_time=self.depth_time,
            depth=self.depth,
        )


def replay(recording: OrderRecording, *, depth_interval: float = 1.0, depth_levels: int = 20) -> Replay:
    """Replay a recording through an empty order book.

    Args:
        recording: What `read_bitstamp` or `read_lobster` gave.
        depth_interval: Seconds between pictures of the depth.
        depth_levels: Levels a side in a picture.

    Raises:
        InputError: the pictures would take more than a few GB.
    """
    interval = require_number("depth_interval", depth_interval, 0.0, above=True)
    levels = require_integer("depth_levels", depth_levels, 1)
    seconds = float(recording.events["time"][-1] - recording.events["time"][0]) * 1e-9
    least = seconds * levels / _PICTURED
    expected = f"at least {least:g} for {levels} levels over the {seconds:g} s of {recording.path}"
    require(interval >= least, "depth_interval", depth_interval, expected)
    capacity = 1024
    while (result := _replay_within(recording, capacity, interval, levels)) is None:
        capacity *= 2  # how many orders live at once is not known beforehand
    return result


def _replay_within(recording: OrderRecording, capacity: int, interval: float, levels: int) -> Replay | None:
    """The replay; None if the book needs a larger capacity."""
    events, opening = recording.events, recording.opening
    names, number = np.unique(np.concatenate((opening["order_id"], events["order_id"])), return_inverse=True)
    state = _State(
        allocate(_TICKS, capacity),
        np.full(len(names), _NEVER),
        np.empty(2 * (len(opening) + len(events)), TRADE),  # a trade ends its maker or its taker
        np.zeros(1, np.int64),
        recording.rounding,
    )
    outcome, best = np.empty(len(events), np.int8), np.empty(len(events), BEST)
    entered, discarded = np.empty(len(opening), np.int8), np.empty(len(opening), BEST)
    first, own = number[: len(opening)], number[len(opening) :]
    unnamed = np.full(len(opening), _NONE)
    if _run(state, opening, first, unnamed, entered, discarded, 0, len(opening)) < len(opening):
        return None
    fallback = _anonymous(events, opening, first)
    start = events["time"][0]
    times = np.arange(interval, (events["time"][-1] - start) * 1e-9, interval)
    stops = np.searchsorted(events["time"], start + (times * 1e9).astype(np.int64))
    depth = np.full((len(times), 2, levels, 2), np.nan)
    done = 0
    for i, stop in enumerate([*stops.tolist(), len(events)]):
        if _run(state, events, own, fallback, outcome, best, done, stop) < stop:
            return None
        done = stop
        if i < len(times):
            _picture(state.book, depth[i])
    trades = state.trades[: state.written[0]].copy()
    for side in ("maker_id", "taker_id"):
        trades[side] = np.where(trades[side] < 0, 0, names[trades[side]])
    opened = int(np.count_nonzero(entered == _RESTED))
    depth *= np.array([recording.tick, recording.lot])
    return Replay(recording, outcome, best, trades, _resting(state.book, names), opened, times, depth)


def _anonymous(events: np.ndarray, opening: np.ndarray, number: np.ndarray) -> np.ndarray:
    """For each event the number of the opening order without a name at its side and price, or `_NONE`."""
    unnamed = opening["order_id"] < 0
    if not unnamed.any():
        return np.full(len(events), _NONE)
    places = np.concatenate((opening[unnamed], events))[["side", "price"]]
    _, place = np.unique(places, return_inverse=True)
    at = np.full(place.max() + 1, _NONE)
    at[place[: unnamed.sum()]] = number[unnamed]
    return at[place[unnamed.sum() :]]


def _resting(book: BookState, names: np.ndarray) -> np.ndarray:
    """The live orders (RESTING) in order of priority, the bids before the asks."""
    records = book.orders[book.live[: book.counters["live"][0]]]
    records = records[np.lexsort((records["arrival"], records["rank"], -records["side"]))]
    resting = np.empty(len(records), RESTING)
    for name in ("side", "quantity", "time"):
        resting[name] = records[name]
    resting["order_id"] = names[records["order_id"]]
    resting["price"] = np.where(records["side"] > 0, ~records["rank"], records["rank"])
    return resting


# ---- kernels


@kernel
def _run(state, events, number, fallback, outcome, best, first, last):
    """Apply events first..last; where it stopped, earlier than `last` if the book is full."""
    book = state.book
    for i in range(first, last):
        event = events[i]
        kind = np.int64(event.kind)
        if kind == LIMIT:
            result = _enter(state, event, number[i])
        elif kind in (PRINT, STATE):
            result = _NO_CHANGE
        else:
            result = _change(state, event, kind, number[i], fallback[i])
        if result == _FULL:
            return i
        outcome[i] = result
        row = best[i]
        row.bid = best_price(book, 1)
        row.ask = best_price(book, -1)
        row.bid_quantity = 0 if row.bid == NO_PRICE else level_quantity(book, 1, row.bid)
        row.ask_quantity = 0 if row.ask == NO_PRICE else level_quantity(book, -1, row.ask)
    return last


@inlined
def _enter(state, event, order):
    """A limit order; its outcome."""
    book = state.book
    side = np.int64(event.side)
    if state.slots[order] >= 0:
        return _DUPLICATE
    if state.slots[order] != _NEVER:
        return _AFTER_END
    if event.quantity <= 0:
        return _NO_QUANTITY
    result = _RESTED
    if event.flags & POST_ONLY:
        while crosses(book, side, event.price):
            slot = best_slot(book, -side)
            state.slots[book.orders[slot].order_id] = _LOST
            cancel_order(book, slot)
            result = _CROSSES
    slot = limit_order(book, event.time, side, event.price, event.quantity, order, 0, 0)
    if slot == BOOK_FULL:
        return _FULL
    if trade_count(book) > 0:
        result = _TRADED
        _keep_trades(state)
    state.slots[order] = _FILLED if slot == NOTHING_RESTS else slot
    return result


@inlined
def _change(state, event, kind, order, fallback):
    """Any event of an order that should live; its outcome."""
    slot = state.slots[order]
    if slot >= 0:
        return _change_live(state, event, kind, order, slot)
    if slot == _NEVER and fallback != _NONE and state.slots[fallback] >= 0:
        result = _take(state, event, kind, fallback, state.slots[fallback], event.quantity)
        return _OPENING if result in (_REDUCED, _EXECUTED) else result
    if kind in (FILL, REPLACE) and slot == _FILLED:
        return _AHEAD if event.quantity > 0 else _EXECUTED
    if slot == _NEVER:
        if kind == CANCEL or (kind == FILL and event.quantity == 0):
            state.slots[order] = _CANCELED  # whatever of it comes later is too late
        return _UNKNOWN
    return _REPEATED_END if slot == _CANCELED else _ENDED


@inlined
def _change_live(state, event, kind, order, slot):
    """An event of a live order."""
    book = state.book
    quantity = event.quantity
    left = order_quantity(book, slot)
    if kind in (REDUCE, EXECUTE):
        return _take(state, event, kind, order, slot, quantity)
    if kind == CANCEL:
        cancel_order(book, slot)
        state.slots[order] = _CANCELED
        if quantity == left:
            return _CANCELLED
        return _ROUNDING if abs(quantity - left) <= state.rounding else _OTHER_QUANTITY
    if kind == REPLACE:  # an instant order for a sum of money shrinks when its price rises
        slot = replace_order(book, event.time, slot, event.price, min(quantity, left), 0)
        if slot == NOTHING_RESTS:
            state.slots[order] = _FILLED
        _keep_trades(state)
        return _REPLACED if quantity <= left else _AHEAD
    if quantity >= left:
        return _EXECUTED if quantity == left else _AHEAD
    reduce_order(book, slot, left - quantity)
    if quantity == 0:
        state.slots[order] = _FILLED
    return _ROUNDING if left - quantity <= state.rounding else _NOT_MATCHED


@inlined
def _take(state, event, kind, order, slot, quantity):
    """Take a quantity off a live order, by reduction or by execution."""
    book = state.book
    left = order_quantity(book, slot)
    side = order_side(book, slot)
    result = _REDUCED
    if kind == EXECUTE:
        result = _EXECUTED if best_slot(book, side) == slot else _NOT_FIRST
        _keep_trade(state, event.time, order, _NONE, order_price(book, slot), min(quantity, left), -side)
    if quantity >= left:
        state.slots[order] = _FILLED if kind == EXECUTE else _CANCELED
    reduce_order(book, slot, quantity)
    return _TOO_MUCH if quantity > left else result


@inlined
def _keep_trades(state):
    """Write the trades of the latest order; the makers that they filled are gone."""
    for i in range(trade_count(state.book)):
        fill = state.book.trades[i]
        _keep_trade(state, fill.time, fill.maker_id, fill.taker_id, fill.price, fill.quantity, fill.aggressor)
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


@kernel
def _picture(book, depth):
    """Write the best levels (2, levels, 2) of (price, quantity); absent levels stay NaN."""
    for i in range(2):
        side = 1 - 2 * i
        price = best_price(book, side)
        for level in range(depth.shape[1]):
            if price == NO_PRICE:
                break
            depth[i, level, 0] = price
            depth[i, level, 1] = level_quantity(book, side, price)
            price = next_price(book, side, price)
