"""The order book of Liquibook (C++; PyPI: liquibook), an engine by other hands, under the messages of ours.

Compared is what both define: limit orders (plain, immediate-or-cancel, fill-or-kill), market orders and cancels. What
they define differently must not be in a stream and is refused here, never passed over: post-only (Liquibook has none),
reduce and replace (its `replace` counts from the original quantity), live duplicate ids and senseless fields. A market
order without a counterpart would rest there: it is sent as immediate-or-cancel, which is ours.
"""

from __future__ import annotations

import liquibook

LIMIT, MARKET, CANCEL = range(3)
CONDITIONS = {
    0: liquibook.oc_no_conditions,
    2: liquibook.oc_immediate_or_cancel,
    4: liquibook.oc_fill_or_kill,
}


class LiquibookTwin(liquibook.OrderListener):
    """Liquibook's book, its orders by our ids, and the trades that it tells of (the fields of TRADE)."""

    def __init__(self) -> None:
        super().__init__()
        self.book = liquibook.DepthOrderBook()
        self.book.set_order_listener(self)
        self.orders: dict[int, liquibook.SimpleOrder] = {}
        self.ids: dict[int, int] = {}
        self.message: tuple[int, ...] = ()
        self.trades: list[tuple[int, ...]] = []

    def apply(self, message: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Apply one message (the fields of MESSAGE); its trades (the fields of TRADE)."""
        _, kind, side, order_id, price, quantity, flags = self.message = message
        self.trades = []
        if kind == CANCEL:
            if order_id in self.orders:  # live or not: it refuses what is filled or gone
                self.book.cancel(self.orders.pop(order_id))
            return self.trades
        if kind not in (LIMIT, MARKET) or flags not in CONDITIONS or side not in (1, -1) or min(price, quantity) <= 0:
            raise ValueError(f"{message}: not what both books define")
        order = liquibook.SimpleOrder(side > 0, price if kind == LIMIT else 0, quantity)
        self.ids[order.order_id_] = order_id
        self.orders[order_id] = order
        self.book.add(order, CONDITIONS[flags] if kind == LIMIT else liquibook.oc_immediate_or_cancel)
        return self.trades

    def sweep(self) -> list[tuple[int, int, int, int]]:
        """Every resting order (order_id, side, price, quantity) in order of priority, the bids first; empties it."""
        return [
            (maker, -side, price, quantity)
            for side in (-1, 1)
            for _, maker, _, price, quantity, _ in self.apply((0, MARKET, side, 0, 1, 2**31 - 1, 0))
        ]

    # What a listener must have: Liquibook calls them, by these names.

    def on_fill(self, taker, maker, quantity, price) -> None:
        time, _, side, taker_id, *_ = self.message
        assert self.ids[taker.order_id_] == taker_id
        self.trades.append((time, self.ids[maker.order_id_], taker_id, price, quantity, side))

    def on_accept(self, order) -> None: ...
    def on_reject(self, order, reason) -> None: ...
    def on_cancel(self, order) -> None: ...
    def on_cancel_reject(self, order, reason) -> None: ...
    def on_replace(self, order, size_delta, new_price) -> None: ...
    def on_replace_reject(self, order, reason) -> None: ...
    def on_trigger_stop(self, order) -> None: ...
