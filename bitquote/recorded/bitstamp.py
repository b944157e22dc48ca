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

    Times are the recorder's (the exchange's are whole seconds), int64 nanoseconds since 1970. Orders that were
    never created rested before the recording began: they are its `opening`, known by hindsight. Their volume is the one
    that they are deleted with; or, if the first that is seen of them is an execution, what that left and what a
    neighbouring row says was executed on the other side. Orders that rested from before the recording until after it
    cannot be known.

    Raises:
        InputError: one line that names the file and the line.
    """
    path = Path(path)
    rows: list[tuple[int, ...]] = []  # EVENT with the price in UNITS
    last: dict[int, tuple[int, int]] = {}  # side and price of an order
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
        elif action == b"changed" and volume and price != previous:
            kind = REPLACE
        counts[action.decode()] += 1
        rows.append((local * 10**6, kind, side, order, price, volume, 0, line))
    events = np.array(rows, EVENT)
    opening, notes = _opening(events)
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


def _opening(events: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """The orders that rested before the first event, oldest id first, and how many volumes were inferred or unknown."""
    created = set(events["order_id"][events["kind"] == LIMIT].tolist())
    left: dict[int, int] = {}
    executed = np.zeros(len(events), np.int64)
    first = []
    for place, (_, kind, _, order, _, volume, _, _) in enumerate(events.tolist()):
        if order not in created and order not in left:
            first.append(place)
        elif kind == FILL:
            executed[place] = max(left.get(order, volume) - volume, 0)
        left[order] = volume
    opening = events[first]
    filled = np.flatnonzero(opening["kind"] != CANCEL)
    volumes = np.array([_other_side(events, executed, first[i]) for i in filled], np.int64)
    opening["quantity"][filled] += volumes
    unknown = int(np.count_nonzero(volumes == 0))
    opening = np.sort(np.delete(opening, filled[volumes == 0]), order="order_id")
    opening["kind"] = LIMIT
    opening["time"] = events["time"][0]
    opening["flags"] = POST_ONLY
    notes = {"opening orders whose volume a neighbouring execution tells": len(filled) - unknown}
    notes["opening orders of unknown volume, left out"] = unknown
    return opening, {name: count for name, count in notes.items() if count}


def _other_side(events: np.ndarray, executed: np.ndarray, place: int) -> int:
    """What was executed on the other side of an execution, by the row before or after it, the nearer in time; else 0.

    The two sides of an execution come within some milliseconds, the next execution of a taker some 30 later.
    """
    near = [n for n in (place - 1, place + 1) if 0 <= n < len(events)]
    near = [n for n in near if executed[n] > 0 and events["side"][n] == -events["side"][place]]
    nearest = min(near, key=lambda n: abs(events["time"][n] - events["time"][place]), default=None)
    return 0 if nearest is None else int(executed[nearest])
