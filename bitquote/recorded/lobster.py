"""Reader of LOBSTER's message files and, where it is given, of the order-book file beside one.

Rows of a message file: time (seconds after midnight), type, order id, size, price (1e-4), direction of the resting
order. Rows of an order-book file: ask price, ask size, bid price, bid size, level by level, after the message of the
same row; unoccupied levels have the price 9999999999 or -9999999999 and the size 0. Neither has a header. Format:
lobsterdata.com, "Output" (data structure), and Huang & Polak, LOBSTER: Limit Order Book Reconstruction System, 2011.

A marketable order has no row: it shows as executions of the orders it meets, and only what is left of it is submitted.
So a submission (1) rests, and crossing the book is an inconsistency; 2 reduces, 3 cancels; an execution (4) is held
against the order that is first in the book; hidden executions (5) and crosses (6) leave the book alone; a halt (7)
tells the state of trading.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np

from bitquote.book.matching import POST_ONLY
from bitquote.book.order_book import CANCEL, LIMIT, REDUCE
from bitquote.errors import InputError
from bitquote.recorded.lines import fault
from bitquote.recorded.orders import BEST, EVENT, EXECUTE, NO_PRICE, PRINT, STATE, OrderRecording, grid
from bitquote.recorded.rows import Column, read_rows

_COLUMNS = (
    Column("time", rb"(\d{1,5})(?:\.(\d{1,9})0*)?", "seconds after midnight of at most 9 decimals"),
    Column("type", rb"([1-7])", "an integer from 1 to 7"),
    Column("order id", rb"(-?\d{1,18})", "an integer of at most 18 digits"),
    Column("size", rb"(\d{1,12})", "an integer of at most 12 digits, not negative"),
    Column("price", rb"(-?\d{1,12})", "an integer of at most 12 digits (1e-4)"),
    Column("direction", rb"(-?1)", "1 or -1"),
)
_PRICE = Column("price", rb"(-?\d{1,12})", "an integer of at most 12 digits (1e-4)")
_SIZE = Column("size", rb"(\d{1,12})", "an integer of at most 12 digits, not negative")
_LEVEL = (_PRICE, _SIZE, _PRICE, _SIZE)
_KINDS = {1: LIMIT, 2: REDUCE, 3: CANCEL, 4: EXECUTE, 5: PRINT, 6: PRINT, 7: STATE}
_NAMES = ("", "submission", "reduction", "deletion", "execution", "hidden execution", "cross", "halt")
_NAME = re.compile(r"(.+)_(\d{4}-\d{2}-\d{2})_(\d+_\d+)_(?:message|orderbook)_(\d+)\..*").fullmatch
_UNOCCUPIED = 9_999_999_999
_UNIT = 1e-4
_DAY_NS = 86_400 * 10**9


def read_lobster(messages: str | Path, order_book: str | Path | None = None, symbol: str = "") -> OrderRecording:
    """Read and validate a message file, and the order-book file of the same rows; plain, gzip, bzip2 or xz.

    Times are int64 nanoseconds on the exchange's local clock, since 1970 where the file's name is LOBSTER's and so
    tells the day, else since midnight. With the order-book file, its first row gives the levels that stood before the
    first message (`opening`, one anonymous order a level) and every row the recorded best bid and offer. LOBSTER
    leaves out what happens beyond the recorded levels, so orders that the market has left may be stale.

    Args:
        messages: The message file.
        order_book: The order-book file.
        symbol: The instrument; by default the ticker in the file's name, if that is LOBSTER's.

    Raises:
        InputError: one line that names the file and the line.
    """
    path = Path(messages)
    events, counts = _messages(path)
    named = _NAME(path.name)
    if named:
        events["time"] += _midnight(path, named[2])
    opening, best = np.empty(0, EVENT), None
    if order_book is not None:
        other = Path(order_book)
        _check_names(path, other)
        opening, best = _order_book(other, events, path)
    priced = [events["price"][events["kind"] != STATE], opening["price"]]
    if best is not None:
        priced += [best[name][best[name] != NO_PRICE] for name in ("bid", "ask")]
    tick = grid(path, np.concatenate(priced))
    events["price"][events["kind"] != STATE] //= tick
    opening["price"] //= tick
    if best is not None:
        for name in ("bid", "ask"):
            best[name][best[name] != NO_PRICE] //= tick
    symbol = symbol or (named[1] if named else "")
    return OrderRecording(
        path=path,
        exchange="lobster",
        symbol=symbol,
        origin="1970 local" if named else "midnight",
        tick=tick * _UNIT,
        lot=1.0,
        events=events,
        opening=opening,
        best=best,
        rounding=0,
        counts=counts,
        notes={},
    )


def _messages(path: Path) -> tuple[np.ndarray, dict[str, int]]:
    """The events, prices in 1e-4, and their number by name."""
    rows: list[tuple[int, ...]] = []
    sides: dict[int, int] = {}
    counts: Counter[str] = Counter()
    latest = 0
    for line, (seconds, decimals, type_, id_, size_, price_, direction) in read_rows(path, _COLUMNS):
        time = int(seconds) * 10**9 + int((decimals or b"").ljust(9, b"0"))
        kind, order, size, price, side = _KINDS[int(type_)], int(id_), int(size_), int(price_), int(direction)
        if time >= _DAY_NS:
            fault(path, line, f"time is {int(seconds)}: must be below 86400 seconds after midnight")
        if time < latest:
            fault(path, line, f"the time runs backwards: {time * 1e-9:.9f} after {latest * 1e-9:.9f} s")
        latest = time
        if kind == STATE:
            if price not in (-1, 0, 1):
                fault(path, line, f"price is {price} in a halt: must be -1 (halt), 0 (quoting) or 1 (trading resumes)")
        elif (price <= 0 or size == 0) and (price < 0 or type_ != b"6"):  # an auction may find no cross
            fault(path, line, f"price is {price} and size {size}: both must be above 0")
        if kind < PRINT:
            if order <= 0:
                fault(path, line, f"order id is {order}: must be above 0 for a visible order")
            if sides.setdefault(order, side) != side:
                fault(path, line, f"order {order} has direction {side}, but had {-side} before: two instruments?")
        counts[_NAMES[int(type_)]] += 1
        rows.append((time, kind, side, order, price, size, POST_ONLY if kind == LIMIT else 0, line))
    return np.array(rows, EVENT), dict(counts)


def _midnight(path: Path, day: str) -> int:
    """Nanoseconds from 1970 to the beginning of a day."""
    try:
        return (date.fromisoformat(day) - date(1970, 1, 1)).days * _DAY_NS
    except ValueError:
        raise InputError(f"{path}: its name has the day {day}: must be one of the calendar") from None


def _check_names(messages: Path, order_book: Path) -> None:
    """Refuse two files of different instruments, days or depths, as far as their names tell."""
    one, other = _NAME(messages.name), _NAME(order_book.name)
    if one and other and one.groups() != other.groups():
        raise InputError(f"{order_book}: is not the order book of {messages.name}, by its name")


def _order_book(path: Path, events: np.ndarray, messages: Path) -> tuple[np.ndarray, np.ndarray]:
    """The opening levels and the best bid and offer after each event, prices in 1e-4."""
    best = np.empty(len(events), BEST)
    opening = np.empty(0, EVENT)
    row = 0
    for line, values in read_rows(path, _LEVEL, periodic=True):
        if row == len(events):
            fault(path, line, f"{messages.name} has no more than {row} messages")
        if row == 0:
            opening = _opening(path, [int(value) for value in values], events[0])
        best[row] = _best(path, line, [int(value) for value in values[:4]])
        row += 1
    if row < len(events):
        fault(path, row + 1, f"the file ends here, but {messages.name} has {len(events)} messages")
    return opening, best


def _best(path: Path, line: int, level: list[int]) -> tuple[int, int, int, int]:
    """A row's best bid and offer (BEST)."""
    ask, ask_size, bid, bid_size = level
    ask, bid = NO_PRICE if ask == _UNOCCUPIED else ask, NO_PRICE if bid == -_UNOCCUPIED else bid
    for name, price, size in (("ask", ask, ask_size), ("bid", bid, bid_size)):
        if (price <= 0 or size == 0) and not (price == NO_PRICE and size == 0):
            fault(path, line, f"the best {name} is {size} at {price}: must be above 0, or 0 at ±{_UNOCCUPIED}")
    if NO_PRICE not in (ask, bid) and bid >= ask:
        fault(path, line, f"the book is crossed: bid {bid} is not below ask {ask}")
    return bid, bid_size, ask, ask_size


def _opening(path: Path, row: list[int], first: np.void) -> np.ndarray:
    """The levels before the first message: those of the first row without what that message did."""
    opening: dict[tuple[int, int], int] = {}
    for column, side in ((0, -1), (2, 1)):
        occupied = [(price, size) for price, size in zip(row[column::4], row[column + 1 :: 4], strict=True) if size > 0]
        prices = [-side * price for price, _ in occupied]
        if prices != sorted(set(prices)) or any(price <= 0 for price, _ in occupied):
            fault(path, 1, f"the {'bid' if side > 0 else 'ask'} prices are not above 0 and in order, best first")
        opening |= {(side, price): size for price, size in occupied}
    place = int(first["side"]), int(first["price"])
    if first["kind"] == LIMIT and place in opening:
        opening[place] -= int(first["quantity"])
        if opening[place] < 0:
            fault(path, 1, "the level of the first message is smaller than its order: not the book of these messages")
    elif first["kind"] in (REDUCE, CANCEL, EXECUTE):
        opening[place] = opening.get(place, 0) + int(first["quantity"])
    rows = [
        (first["time"], LIMIT, side, -1 - i, price, size, POST_ONLY, 1)
        for i, ((side, price), size) in enumerate(opening.items())
        if size > 0
    ]
    return np.array(rows, EVENT)
