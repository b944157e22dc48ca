"""Zero-intelligence messages for the order book, those that the benchmarks time and the tests compare books by."""

from __future__ import annotations

import numpy as np

from bitquote.book import MESSAGE
from bitquote.book.matching import (
    IMMEDIATE,
    allocate,
    cancel_order,
    limit_order,
    live_count,
    live_slot,
    market_order,
    order_side,
    replace_order,
)
from bitquote.compilation import kernel
from bitquote.flow.random import exponential, seed_generator, uniform

LIMIT, MARKET, CANCEL, _, REPLACE = range(5)
FIRST_ID = 10_000_000


@kernel
def fill_stream(book, messages, live, generator, reach, filled):
    """Write a stream that keeps about `live` orders, playing it on `book` to know which ids live.

    Orders are `reach` ticks from the mid on average; the first `filled` messages are limit orders.
    """
    mid = 1_000_000
    for i in range(len(messages)):
        message = messages[i]
        message.time = i * 1000
        message.order_id = FIRST_ID + i
        message.side = side = 1 if uniform(generator) < 0.5 else -1
        message.quantity = quantity = 1 + int(10 * exponential(generator))
        distance = 1 + int(reach * exponential(generator))
        message.price = price = mid - side * distance
        message.flags = 0
        count = live_count(book)
        wanted = count < 2 * live * uniform(generator) or i < filled
        pick = uniform(generator) if i >= filled else 0.5
        if pick < 0.85 and wanted:
            message.kind = LIMIT
            message.flags = flags = IMMEDIATE if pick < 0.04 else 0
            limit_order(book, message.time, side, price, quantity, message.order_id, 0, flags)
        elif pick < 0.70 and count > 0:
            slot = live_slot(book, int(uniform(generator) * count))
            message.kind = CANCEL
            message.order_id = book.orders[slot].order_id
            cancel_order(book, slot)
        elif pick < 0.85 and count > 0:
            slot = live_slot(book, int(uniform(generator) * count))
            message.kind = REPLACE
            message.order_id = book.orders[slot].order_id
            message.side = side = order_side(book, slot)
            message.price = price = mid - side * distance
            replace_order(book, message.time, slot, price, quantity, 0)
        else:
            message.kind = MARKET
            market_order(book, message.time, side, quantity, message.order_id, 0)
        if i % 16 == 0:
            mid += int(3 * uniform(generator)) - 1


def make_stream(length: int, live: int, seed: int, reach: float = 20.0, filled: int = 0) -> np.ndarray:
    """A stream of `length` messages (MESSAGE); see `fill_stream`."""
    messages = np.zeros(length, MESSAGE)
    generator = np.zeros(2, np.uint64)
    seed_generator(generator, seed, 0, 0, 0)
    fill_stream(allocate(4096, 16 * live), messages, live, generator, reach, filled)
    return messages
