"""Slow and obvious twins of the compiled kernels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

LIMIT, MARKET, CANCEL, REDUCE, REPLACE = range(5)
POST_ONLY, IMMEDIATE_OR_CANCEL, FILL_OR_KILL = 1, 2, 4


@dataclass
class NaiveOrder:
    """A resting order."""

    order_id: int
    side: int
    price: int
    quantity: int
    time: int


class NaiveBook:
    """A limit order book that is one list of orders, oldest place first, searched from end to end for everything."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.resting: list[NaiveOrder] = []
        self.rejected: Counter[str] = Counter()
        self.discarded: Counter[str] = Counter()

    def apply(self, message: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Apply one message (the fields of MESSAGE); its trades (the fields of TRADE).

        OverflowError, nothing changed, if more than `capacity` orders would rest.
        """
        time, kind, side, order_id, price, quantity, flags = message
        order = next((order for order in self.resting if order.order_id == order_id), None)
        if kind not in (LIMIT, MARKET, CANCEL, REDUCE, REPLACE):
            return self._reject("unknown_kind")
        if kind in (LIMIT, MARKET):
            if side not in (1, -1):
                return self._reject("unknown_side")
            if quantity <= 0:
                return self._reject("quantity")
            if order is not None:
                return self._reject("duplicate_id")
            return self._enter(NaiveOrder(order_id, side, price, quantity, time), flags, market=kind == MARKET)
        if kind != CANCEL and quantity <= 0:
            return self._reject("quantity")
        if order is None:
            return self._reject("unknown_id")
        if kind == CANCEL or (kind == REDUCE and quantity >= order.quantity):
            self.resting.remove(order)
        elif kind == REDUCE:
            order.quantity -= quantity
        elif price == order.price and quantity <= order.quantity:
            order.quantity = quantity
        else:
            return self._enter(NaiveOrder(order_id, order.side, price, quantity, time), flags, replaced=order)
        return []

    def _reject(self, reason: str) -> list[tuple[int, ...]]:
        self.rejected[reason] += 1
        return []

    def _enter(self, taker, flags, market=False, replaced=None) -> list[tuple[int, ...]]:
        """Match an order and rest what is left, in place of `replaced` if that is given."""

        def meets(maker: NaiveOrder) -> bool:
            if maker.side == taker.side:
                return False
            return market or (maker.price <= taker.price if taker.side > 0 else maker.price >= taker.price)

        # Best price first; sorting is stable, so that the oldest place comes first within a price.
        makers = sorted(filter(meets, self.resting), key=lambda maker: taker.side * maker.price)
        if flags & POST_ONLY and makers:
            return self._reject("post_only")
        if flags & FILL_OR_KILL and sum(maker.quantity for maker in makers) < taker.quantity:
            return self._reject("fill_or_kill")
        trades, left = [], taker.quantity
        for maker in makers:
            traded = min(maker.quantity, left)
            if traded == 0:
                break
            left -= traded
            trades.append((taker.time, maker.order_id, taker.order_id, maker.price, traded, taker.side))
        rests = left > 0 and not market and not flags & IMMEDIATE_OR_CANCEL
        filled = sum(traded == maker.quantity for maker, (*_, traded, _) in zip(makers, trades, strict=False))
        if len(self.resting) - filled - (replaced is not None) + rests > self.capacity:
            raise OverflowError

        if replaced is not None:
            self.resting.remove(replaced)
        for maker, (*_, traded, _) in zip(makers, trades, strict=False):
            maker.quantity -= traded
        self.resting = [order for order in self.resting if order.quantity > 0]
        if rests:
            taker.quantity = left
            self.resting.append(taker)
        elif left > 0:
            self.discarded["market" if market else "immediate_or_cancel"] += 1
        return trades

    def side(self, side: int) -> list[NaiveOrder]:
        """The orders of a side in order of priority."""
        return sorted((order for order in self.resting if order.side == side), key=lambda order: -side * order.price)

    def orders(self) -> list[tuple[int, ...]]:
        """Every live order (order_id, side, price, quantity, time) in order of priority, the bids first."""
        return [(o.order_id, o.side, o.price, o.quantity, o.time) for o in self.side(1) + self.side(-1)]

    def depth(self, side: int) -> list[list[int]]:
        """[price, quantity] of every level of a side, best first."""
        levels: dict[int, int] = {}
        for order in self.side(side):
            levels[order.price] = levels.get(order.price, 0) + order.quantity
        return [list(level) for level in levels.items()]

    def queue_ahead(self, order_id: int) -> int:
        """Quantity at the same price and side that came before."""
        order = next(order for order in self.resting if order.order_id == order_id)
        ahead = self.resting[: self.resting.index(order)]
        return sum(o.quantity for o in ahead if (o.side, o.price) == (order.side, order.price))
