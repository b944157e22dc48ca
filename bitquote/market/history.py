"""The tape of a path as it is written inside the market: trades, and the best quotes at every change."""

from typing import NamedTuple

import numpy as np

from bitquote.book.matching import NO_PRICE, best_price, level_quantity, next_price, trade_count
from bitquote.compilation import inlined, kernel

TAPE_TRADE = np.dtype(
    [("time", np.float64), ("price", np.int64), ("quantity", np.int64), ("aggressor", np.int8)], align=True
)
TAPE_QUOTE = np.dtype(
    [
        ("time", np.float64),
        ("bid", np.int64),
        ("ask", np.int64),
        ("bid_quantity", np.int64),
        ("ask_quantity", np.int64),
    ],
    align=True,
)
WRITTEN = np.dtype([("trades", np.int64), ("quotes", np.int64), ("lost", np.int64)], align=True)


class TapeBuffer(NamedTuple):
    """Room for a stretch of the tape."""

    trades: np.ndarray  # TAPE_TRADE (room,)
    quotes: np.ndarray  # TAPE_QUOTE (room,)
    last: np.ndarray  # TAPE_QUOTE[1], the latest quote, from before as well
    written: np.ndarray  # WRITTEN[1], rows in use, and rows that found no room


def allocate_tape(room: int) -> TapeBuffer:
    """An empty tape."""
    return TapeBuffer(
        np.zeros(room, TAPE_TRADE), np.zeros(room, TAPE_QUOTE), np.zeros(1, TAPE_QUOTE), np.zeros(1, WRITTEN)
    )


@kernel
def record_trades(tape, book, time):
    """Write the trades of the latest event."""
    written = tape.written[0]
    for i in range(trade_count(book)):
        if written.trades == tape.trades.size:
            written.lost += 1
            continue
        trade = book.trades[i]
        row = tape.trades[written.trades]
        row.time = time
        row.price = trade.price
        row.quantity = trade.quantity
        row.aggressor = trade.aggressor
        written.trades += 1


@inlined
def _differs(a, bid, ask, bid_quantity, ask_quantity):
    return a.bid != bid or a.ask != ask or a.bid_quantity != bid_quantity or a.ask_quantity != ask_quantity


@kernel
def record_quote(tape, book, time):
    """Write the best quotes if both sides have one and anything about them has changed."""
    bid = best_price(book, 1)
    ask = best_price(book, -1)
    if bid == NO_PRICE or ask == NO_PRICE:
        return
    bid_quantity = level_quantity(book, 1, bid)
    ask_quantity = level_quantity(book, -1, ask)
    last = tape.last[0]
    if not _differs(last, bid, ask, bid_quantity, ask_quantity):
        return
    last.time = time
    last.bid = bid
    last.ask = ask
    last.bid_quantity = bid_quantity
    last.ask_quantity = ask_quantity
    written = tape.written[0]
    if written.quotes == tape.quotes.size:
        written.lost += 1
        return
    tape.quotes[written.quotes] = last
    written.quotes += 1


@kernel
def write_depth(book, depth):
    """Write the best levels (2, levels, 2) of (price, quantity), bids first; absent levels stay as they are."""
    for i in range(2):
        side = 1 - 2 * i
        price = best_price(book, side)
        for level in range(depth.shape[1]):
            if price == NO_PRICE:
                break
            depth[i, level, 0] = price
            depth[i, level, 1] = level_quantity(book, side, price)
            price = next_price(book, side, price)
