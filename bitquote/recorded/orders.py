"""What a recording of single orders holds: one event a row, in ticks and lots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitquote.book.matching import NO_PRICE, best_price, level_quantity
from bitquote.book.order_book import MESSAGE
from bitquote.compilation import inlined
from bitquote.errors import InputError

EVENT = np.dtype([*MESSAGE.descr, ("line", "<i8")])
"""A message of the book and its line in the file. `kind` has four values more, see `FILL`."""

FILL, EXECUTE, PRINT, STATE = range(5, 9)
"""Kinds of event that are no message to a book.

FILL: after an execution the order has `quantity` left; whom it traded with stands in the file as an order too.
EXECUTE: `quantity` of the order was executed by a taker that is not in the file.
PRINT: a trade that did not touch the visible book (a hidden order, a cross).
STATE: trading was halted (price -1), quoting resumed (0), trading resumed (1).
"""

BEST = np.dtype([("bid", "<i8"), ("bid_quantity", "<i8"), ("ask", "<i8"), ("ask_quantity", "<i8")])
"""Best bid and offer in ticks and lots; `NO_PRICE` and 0 where a side is empty."""

__all__ = ["BEST", "EVENT", "EXECUTE", "FILL", "NO_PRICE", "PRINT", "STATE", "OrderRecording", "write_best"]


@dataclass(frozen=True)
class OrderRecording:
    """A validated recording of the orders of one instrument; every row of the file is one event.

    Attributes:
        path: The file.
        exchange, symbol: For example "lobster", "AAPL"; the symbol is empty where neither file nor caller names it.
        origin: What times count from, "1970 UTC", "1970 local" (an exchange's own clock) or "midnight".
        tick: Price of one tick: the largest step on which every recorded price lies.
        lot: Quantity of one lot.
        events: EVENT (n,), in the order of the file. A cancel's quantity is what the recording says was left.
        opening: EVENT (m,), limit orders that rested before the first event, in an order of which only the prices are
            known. Negative ids stand for all unknown orders of one level. `line` is the evidence.
        best: BEST (n,), the recorded best bid and offer after each event; None where the recording has none.
        rounding: Lots by which the exchange's own arithmetic rounds what is left of an order.
        counts: Events by what the file calls them.
        notes: What was found that is no single event's fault, by kind.
    """

    path: Path
    exchange: str
    symbol: str
    origin: str
    tick: float
    lot: float
    events: np.ndarray
    opening: np.ndarray
    best: np.ndarray | None
    rounding: int
    counts: Mapping[str, int]
    notes: Mapping[str, int]


def grid(path: Path, prices: np.ndarray) -> int:
    """The largest step on which all prices lie (int64, any unit)."""
    step = int(np.gcd.reduce(prices)) if len(prices) else 0
    if step == 0:
        raise InputError(f"{path}: holds no price above 0, so that no tick can be inferred")
    return step


@inlined
def write_best(book, row):
    """The best bid and offer of a book into a row (BEST)."""
    row.bid = best_price(book, 1)
    row.ask = best_price(book, -1)
    row.bid_quantity = 0 if row.bid == NO_PRICE else level_quantity(book, 1, row.bid)
    row.ask_quantity = 0 if row.ask == NO_PRICE else level_quantity(book, -1, row.ask)
