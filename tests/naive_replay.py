"""A slow and obvious twin of `bitquote.recorded.replay`: one list of orders, one dictionary of how orders ended."""

from __future__ import annotations

import numpy as np
from naive import CANCEL, LIMIT, POST_ONLY, REDUCE, REPLACE, NaiveBook, NaiveOrder

from bitquote.recorded.orders import EXECUTE, FILL, NO_PRICE, OrderRecording


class NaiveReplay:
    """Replays on construction: `outcome`, `best` (bid, its quantity, ask, its quantity), `trades` and the `book`."""

    def __init__(self, recording: OrderRecording) -> None:
        self.book = NaiveBook(10**9)
        self.rounding = recording.rounding
        self.ended: dict[int, str] = {}
        self.shown: dict[int, int] = {}  # what the recording said last
        self.trades: list[tuple[int, ...]] = []
        self.opening = {}
        for event in recording.opening:
            self.apply(event)
            if event["order_id"] < 0:
                self.opening[int(event["side"]), int(event["price"])] = int(event["order_id"])
        self.outcome, self.best = [], []
        self.opening_depth = self.depth()
        for event in recording.events:
            self.outcome.append(self.apply(event))
            self.best.append(self._best())

    def depth(self) -> dict[tuple[int, int], int]:
        """Quantity by side and price."""
        return {(side, price): quantity for side in (1, -1) for price, quantity in self.book.depth(side)}

    def live(self, order_id: int) -> NaiveOrder | None:
        return next((order for order in self.book.resting if order.order_id == order_id), None)

    def apply(self, event: np.void) -> str:
        """The outcome of one event."""
        order_id, quantity = int(event["order_id"]), int(event["quantity"])
        order = self.live(order_id)
        elsewhere = order is not None and event["price"] != order.price
        outcome = self._apply(event)
        raised = outcome == "ahead" and quantity > self.shown[order_id]
        self.shown[order_id] = quantity
        if elsewhere and event["kind"] in (CANCEL, REDUCE, FILL, EXECUTE):
            return "other_price"
        return "raised" if raised else outcome

    def _apply(self, event: np.void) -> str:
        time, kind, side, order_id, price, quantity, flags, _ = event.item()
        order = self.live(order_id)
        if kind > EXECUTE:
            return "no_change"
        if kind == LIMIT:
            return self._enter(time, side, order_id, price, quantity, flags, order)
        if order is None and order_id not in self.ended:
            anonymous = self.live(self.opening.get((side, price), 0))
            if anonymous is None:
                if kind == CANCEL or (kind == FILL and quantity == 0):
                    self.ended[order_id] = "over"
                return "unknown_order"
            outcome = self._take(time, EXECUTE if kind == EXECUTE else REDUCE, anonymous, quantity)
            return "opening" if outcome in ("reduced", "executed") else outcome
        if order is None:
            if kind in (FILL, REPLACE) and self.ended[order_id] == "filled":
                if quantity:
                    return "ahead"
                self.ended[order_id] = "over"
                return "executed"
            return "repeated_end" if self.ended[order_id] == "over" else "ended_by_book"
        if kind in (REDUCE, EXECUTE):
            return self._take(time, kind, order, quantity)
        if kind == CANCEL:
            self._end(order, "over")
            return self._compare(quantity - order.quantity, "cancelled", "other_quantity")
        if kind == REPLACE and quantity:
            enough = quantity <= order.quantity
            self._message(time, REPLACE, side, order_id, price, min(quantity, order.quantity), 0)
            return "replaced" if enough else "ahead"
        if quantity >= order.quantity:
            return "executed" if quantity == order.quantity else "ahead"
        missing = order.quantity - quantity
        order.quantity = quantity
        if quantity == 0:
            self._end(order, "over")
        return self._compare(missing, "executed", "not_matched")

    def _compare(self, difference: int, same: str, other: str) -> str:
        return same if difference == 0 else "rounding" if abs(difference) <= self.rounding else other

    def _enter(self, time, side, order_id, price, quantity, flags, order) -> str:
        if order is not None:
            return "duplicate_id"
        if order_id in self.ended:
            return "entered_after_end"
        if quantity == 0:
            return "no_quantity"
        crossed = [other for other in self.book.side(-side) if side * (price - other.price) >= 0]
        if flags & POST_ONLY:
            for other in crossed:
                self._end(other, "lost")
        self._message(time, LIMIT, side, order_id, price, quantity, 0)
        if not crossed:
            return "rested"
        return "crosses" if flags & POST_ONLY else "traded"

    def _message(self, *message: int) -> None:
        """Match; whoever is then gone was filled."""
        before = {order.order_id for order in self.book.resting} | {message[3]}
        self.trades += self.book.apply(message)
        for order_id in before - {order.order_id for order in self.book.resting}:
            self.ended[order_id] = "filled"

    def _take(self, time: int, kind: int, order: NaiveOrder, quantity: int) -> str:
        outcome = "reduced"
        taken = min(quantity, order.quantity)
        if kind == EXECUTE:
            outcome = "executed" if self.book.side(order.side)[0] is order else "not_first"
            self.trades.append((time, max(order.order_id, 0), 0, order.price, taken, -order.side))
        if quantity > order.quantity:
            outcome = "too_much"
        order.quantity -= taken
        if order.quantity == 0:
            self._end(order, "filled" if kind == EXECUTE else "over")
        return outcome

    def _end(self, order: NaiveOrder, how: str) -> None:
        self.book.resting.remove(order)
        self.ended[order.order_id] = how

    def _best(self) -> tuple[int, ...]:
        row: list[int] = []
        for side in (1, -1):
            orders = self.book.side(side)
            best = [order for order in orders if order.price == orders[0].price]
            row += [orders[0].price, sum(order.quantity for order in best)] if orders else [NO_PRICE, 0]
        return tuple(row)
