"""Reader of Bitstamp's live order events, as the R package obAnalytics records them.

A CSV file with the columns id, timestamp (ms, the recorder's clock), exchange.timestamp (ms, but whole seconds: when
the order was placed), price, volume (1e-8), action (created, changed, deleted), direction (bid, ask). The volume is
what is left of the order. Format: obAnalytics, "Expected csv schema", CRAN 2016.

An order that meets the other side is first `created` whole; then each execution shows twice, as a `changed` (or a
`deleted` with volume 0) of the maker and of the taker, in either order and some 0.1 s later. So `created` is a limit
order, which the book matches itself; `changed` and `deleted` with volume 0 say what an execution left and are held
against the book; `deleted` with volume is a cancellation; a new price is a replacement (an instant order, which
Bitstamp moves from level to level until it is filled).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from bitquote.book.matching import POST_ONLY
from bitquote.book.order_book import CANCEL, LIMIT, REPLACE
from bitquote.recorded.lines import fault
from bitquote.recorded.orders import EVENT, FILL, OrderRecording, grid
from bitquote.recorded.rows import Column, read_rows
from bitquote.recorded.tick import UNITS

_TIME = "milliseconds since 1970 (13 digits, up to the year 2255)"
_COLUMNS = (
    Column("id", rb"(\d{1,18})", "an integer of at most 18 digits"),
    Column("timestamp", rb"([1-8]\d{12})", _TIME),
    Column("exchange.timestamp", rb"([1-8]\d{12})", _TIME),
    Column("price", rb"(\d{1,9})(?:\.(\d{1,8})0*)?", "a decimal number of at most 8 decimals, not negative"),
    Column("volume", rb"(\d{1,15})", "an integer of at most 15 digits (1e-8), not negative"),
    Column("action", rb"(created|changed|deleted)", "created, changed or deleted"),
    Column("direction", rb"(bid|ask)", "bid or ask"),
)
_DAY_MS = 86_400_000
_ROUNDING = 2  # lots: what maker and taker lose in an execution may differ by so much


def read_bitstamp(path: str | Path, symbol: str = "") -> OrderRecording:
    """Read and validate a file of order events; plain, gzip, bzip2 or xz.

    Times are the recorder's (the exchange's are whole seconds), int64 nanoseconds since 1970. Orders that are deleted
    with a volume but were never created rested before the recording began: they are its `opening`, known by hindsight.
    Orders that rested from before its beginning until after its end cannot be known.

    Raises:
        InputError: one line that names the file and the line.
    """
    path = Path(path)
    rows: list[tuple[int, ...]] = []  # EVENT with the price in UNITS
    last: dict[int, tuple[int, int]] = {}  # side and price of an order
    created: set[int] = set()
    counts: Counter[str] = Counter()
    latest = 0
    for line, values in read_rows(path, _COLUMNS, header=True):
        order, local, exchange = map(int, values[:3])
        whole, decimals, volume_, action, direction = values[3:]
        volume = int(volume_)
        price = int(whole) * UNITS + int((decimals or b"").ljust(8, b"0"))
        side = 1 if direction == b"bid" else -1
        if price == 0:
            fault(path, line, "price is 0: must be above 0")
        if local < latest:
            fault(path, line, f"the local time runs backwards: {local} after {latest} (ms)")
        if exchange - local > _DAY_MS:
            fault(path, line, f"exchange.timestamp is {exchange}: more than a day after the local time {local}")
        latest = local
        before, previous = last.get(order, (side, price))
        if side != before:
            fault(path, line, f"order {order} is a {direction.decode()}, but was none before: two instruments?")
        last[order] = side, price
        kind = CANCEL if action == b"deleted" and volume else FILL
        if action == b"created":
            kind = LIMIT
            created.add(order)
        elif action == b"changed" and price != previous:
            kind = REPLACE
        counts[action.decode()] += 1
        rows.append((local * 10**6, kind, side, order, price, volume, 0, line))
    events = np.array(rows, EVENT)
    opening, notes = _opening(events, created)
    tick = grid(path, events["price"])
    for array in (events, opening):
        array["price"] //= tick
    return OrderRecording(
        path=path,
        exchange="bitstamp",
        symbol=symbol,
        origin="1970 UTC",
        tick=tick / UNITS,
        lot=1 / UNITS,
        events=events,
        opening=opening,
        best=None,
        rounding=_ROUNDING,
        counts=dict(counts),
        notes=notes,
    )


def _opening(events: np.ndarray, created: set[int]) -> tuple[np.ndarray, dict[str, int]]:
    """The orders that rested before the first event, oldest id first, and how many of them have an unknown volume."""
    seen: set[int] = set()
    places = []
    for place, order in enumerate(events["order_id"].tolist()):
        if order not in created and order not in seen:
            places.append(place)
            seen.add(order)
    first = events[places]
    known = first["kind"] == CANCEL
    opening = np.sort(first[known], order="order_id")
    opening["kind"] = LIMIT
    opening["time"] = events["time"][0]
    opening["flags"] = POST_ONLY
    unknown = int(np.count_nonzero(~known))
    return opening, {"opening orders of unknown volume, left out": unknown} if unknown else {}
