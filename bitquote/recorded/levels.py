"""A Binance recording as updates of price levels, replayed through the order book with one order a level.

The mapping. A new level is a limit order, whose id is twice its price in ticks, plus one for an ask. Another quantity
makes the order smaller or larger where it stands: alone at its price, it has no place to lose. Quantity 0 cancels it.
Trades do not touch the book: the next diff holds what they did. Within a diff the removals come first, because a diff
tells only what the book is after all of it: so no step on the way crosses.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitquote.book.matching import (
    NO_PRICE,
    POST_ONLY,
    REJECTED,
    allocate,
    best_price,
    cancel_order,
    level_quantity,
    limit_order,
    order_quantity,
    reduce_order,
)
from bitquote.book.state import NONE, BookState, in_window, level_at, rank_of, side_index
from bitquote.compilation import inlined, kernel
from bitquote.recorded.binance import Sink, read_binance
from bitquote.recorded.depth import Diff
from bitquote.recorded.message import Levels, Message
from bitquote.recorded.orders import BEST
from bitquote.recorded.recording import Recording
from bitquote.recorded.tick import UNITS

LEVEL, TRADE = 0, 1  # kinds of an update
UPDATE = np.dtype(
    [
        ("time", np.int64),  # the exchange's, ns since 1970
        ("price", np.int64),  # ticks
        ("quantity", np.int64),  # lots; of a level: what it now holds
        ("line", np.int32),
        ("side", np.int8),  # +1 bid, -1 ask; of a trade: the taker's
        ("kind", np.int8),  # LEVEL or TRADE
    ],
    align=True,
)

OUTCOMES = {
    "added": "a new level",
    "reduced": "a level with less",
    "raised": "a level with more",
    "unchanged": "a level with the same quantity",
    "removed": "a level without quantity",
    "absent": "the removal of a level that was not known: it lay beyond the snapshot, or came and went within a diff",
    "trade": "a trade: nothing for the book to do",
    "crosses": "a level that meets the other side: left out",
}
"""What becomes of an update; only the last is a fault."""

_ADDED, _REDUCED, _RAISED, _UNCHANGED, _REMOVED, _ABSENT, _TRADE, _CROSSES = range(len(OUTCOMES))
_TICKS = 1 << 19  # 5 200 USD of BTCUSDT, spot: a level beyond is searched for one by one


@dataclass(frozen=True)
class LevelRecording:
    """The feed of a recording from its snapshot on.

    Attributes:
        recording: The same file as `read_binance` gives it; its tick is the tick here. Skipped are also the trades
            before the first diff.
        lot: The largest step on which every recorded quantity lies, base units.
        opening: UPDATE (m,), the levels of the snapshot.
        updates: UPDATE (n,), levels and trades in the order of the file.
        stops: int64 (diffs,), how many updates there are up to the end of each diff; an empty diff has none of its own.
        lines: int32 (diffs,), where each diff is in the file.
        best: BEST (diffs,), what the best-bid-and-offer stream said last up to the diff's last update id; of quantity 0
            where it had said nothing.
    """

    recording: Recording
    lot: float
    opening: np.ndarray
    updates: np.ndarray
    stops: np.ndarray
    lines: np.ndarray
    best: np.ndarray


@dataclass(frozen=True)
class LevelReplay:
    """A replayed feed.

    Attributes:
        levels: What was replayed.
        outcomes: Updates by what became of them (`OUTCOMES`); they add up to all updates.
        best: BEST (diffs,), the rebuilt best bid and offer after each diff.
    """

    levels: LevelRecording
    outcomes: dict[str, int]
    best: np.ndarray

    @property
    def agreement(self) -> tuple[float, int, list[int]] | None:
        """Share of the diffs after which the rebuilt best bid and offer, quantities included, are the recorded ones;
        the number of diffs compared; the lines of the first diffs where they are not. None: there is no best bid and
        offer from before the end of the last diff.
        """
        compared = self.levels.best["bid_quantity"] > 0
        if not compared.any():
            return None
        equal = (self.best == self.levels.best)[compared]
        return float(equal.mean()), len(equal), self.levels.lines[compared][~equal][:5].tolist()

    def report(self) -> str:
        """Lines for a reader: every update accounted for."""
        total = len(self.levels.updates)
        lines = [f"{self.levels.recording.path}: {total} updates after {len(self.levels.opening)} levels"]
        for name, count in self.outcomes.items():
            lines.append(f"  {count:>9} {count / total:7.2%} {name}: {OUTCOMES[name]}")
        if self.agreement is not None:
            share, compared, first = self.agreement
            where = f"; the first others are the diffs of lines {', '.join(map(str, first))}" if first else ""
            lines.append(f"best bid and offer as recorded after {share:.4%} of {compared} diffs{where}")
        return "\n".join(lines)


def read_binance_levels(path: str | Path) -> LevelRecording:
    """Read and validate a Binance recording as `read_binance` does, and keep each update of a level.

    Kept is each trade too, from the first diff after the snapshot on: the book of those before is not known, and they
    are counted in `recording.skipped`.

    Raises:
        InputError: one line that names the file and, where there is one, the line.
    """
    feed = _Feed()
    return feed.levels(read_binance(path, sink=feed))


class _Feed(Sink):
    """Collects the feed; prices and quantities in UNITS."""

    def __init__(self) -> None:
        self.opening: list[tuple[int, ...]] = []  # UPDATE
        self.updates: list[tuple[int, ...]] = []  # UPDATE
        self.diffs: list[tuple[int, ...]] = []  # time, last update id, line, its stop
        self.quotes: list[tuple[int, ...]] = []  # update id, BEST
        self.early = 0  # trades before the first diff

    def on_snapshot(self, message: Message, bids: Levels, asks: Levels) -> None:
        self.opening = _rows(message, 0, bids, asks)

    def on_diff(self, message: Message, diff: Diff) -> None:
        time = diff.time * 10**6
        rows = _rows(message, time, diff.bids, diff.asks)
        self.updates += sorted(rows, key=lambda row: row[2] > 0)  # stable: the removals first
        self.diffs.append((time, diff.last, message.line, len(self.updates)))

    def on_trade(self, message: Message, time: int, price: int, quantity: int, side: int) -> None:
        if self.diffs:
            self.updates.append((time * 10**6, price, quantity, message.line, side, TRADE))
        else:
            self.early += 1

    def on_quote(self, message: Message, update: int, bid: int, bid_quantity: int, ask: int, ask_quantity: int) -> None:
        self.quotes.append((update, bid, bid_quantity, ask, ask_quantity))

    def levels(self, recording: Recording) -> LevelRecording:
        """Everything collected, in the ticks of the recording."""
        opening, updates = np.array(self.opening, UPDATE), np.array(self.updates, UPDATE)
        quotes = np.array(self.quotes, np.int64)
        times, ids, lines, stops = np.array(self.diffs, np.int64).T.copy()
        said = np.searchsorted(quotes[:, 0], ids, side="right") - 1
        best = np.zeros(len(ids), BEST)
        tick = round(recording.tick.size * UNITS)
        quantities = np.concatenate((opening["quantity"], updates["quantity"], quotes[:, 2], quotes[:, 4]))
        lot = int(np.gcd.reduce(quantities))
        for rows in (opening, updates):
            rows["price"] //= tick
            rows["quantity"] //= lot
        for name, column, unit in (
            ("bid", 1, tick), ("bid_quantity", 2, lot), ("ask", 3, tick), ("ask_quantity", 4, lot),
        ):  # fmt: skip
            best[name] = np.where(said >= 0, quotes[said, column] // unit, 0)
        opening["time"] = times[0]
        if self.early:
            skipped = {**recording.skipped, "trade before the first depth diff": self.early}
            recording = dataclasses.replace(recording, skipped=skipped)
        return LevelRecording(recording, lot / UNITS, opening, updates, stops, lines.astype(np.int32), best)


def _rows(message: Message, time: int, bids: Levels, asks: Levels) -> list[tuple[int, ...]]:
    return [
        (time, price, quantity, message.line, side, LEVEL)
        for side, levels in ((1, bids), (-1, asks))
        for price, quantity in levels
    ]


def replay_levels(levels: LevelRecording) -> LevelReplay:
    """Replay a feed through an empty order book."""
    book = allocate_levels(levels)
    outcomes = np.zeros(len(OUTCOMES), np.int64)
    best = np.zeros(len(levels.stops), BEST)
    apply_levels(book, levels.opening, levels.stops[:0], best[:0], outcomes.copy())
    apply_levels(book, levels.updates, levels.stops, best, outcomes)
    counts = {name: count for name, count in zip(OUTCOMES, outcomes.tolist(), strict=True) if count}
    return LevelReplay(levels, counts, best)


def allocate_levels(levels: LevelRecording) -> BookState:
    """An empty book, large enough for a feed."""
    rows = np.concatenate((levels.opening, levels.updates))
    return allocate(_TICKS, len(np.unique(rows[rows["kind"] == LEVEL][["side", "price"]])))


@kernel
def apply_levels(book, updates, stops, best, outcomes):
    """Apply updates (UPDATE); write the best bid and offer at each stop, and count outcomes (int64, by `OUTCOMES`)."""
    stop = 0
    for i in range(updates.size):
        stop = _write_best(book, stops, best, stop, i)
        update = updates[i]
        if update.kind == LEVEL:
            outcomes[set_level(book, update)] += 1
        else:
            outcomes[_TRADE] += 1
    _write_best(book, stops, best, stop, updates.size)


@kernel
def _write_best(book, stops, best, stop, done):
    """Write the best bid and offer at each stop that `done` updates have reached; the next stop."""
    while stop < stops.size and stops[stop] <= done:
        row = best[stop]
        row.bid = best_price(book, 1)
        row.ask = best_price(book, -1)
        row.bid_quantity = 0 if row.bid == NO_PRICE else level_quantity(book, 1, row.bid)
        row.ask_quantity = 0 if row.ask == NO_PRICE else level_quantity(book, -1, row.ask)
        stop += 1
    return stop


@inlined
def set_level(book, update):
    """Give a level its quantity; the outcome."""
    side = np.int64(update.side)
    price = update.price
    quantity = update.quantity
    slot = _slot_at(book, side_index(side), rank_of(side, price))
    if slot == NONE:
        if quantity == 0:
            return _ABSENT
        slot = limit_order(book, update.time, side, price, quantity, 2 * price + (side < 0), 0, POST_ONLY)
        return _CROSSES if slot == REJECTED else _ADDED
    if quantity == 0:
        cancel_order(book, slot)
        return _REMOVED
    less = order_quantity(book, slot) - quantity
    reduce_order(book, slot, less)  # by a negative quantity, the order grows
    return _REDUCED if less > 0 else _RAISED if less < 0 else _UNCHANGED


@inlined
def _slot_at(book, index, rank):
    """Slot of the one order at a rank, NONE if there is none."""
    if in_window(book, index, rank):
        return np.int64(book.levels[level_at(book, index, rank)].head)
    return _slot_beyond(book, index, rank)


@kernel
def _slot_beyond(book, index, rank):
    """Slot of the one order at a rank outside the window."""
    start = index * book.live.size
    for i in range(start, start + book.sides[index].overflow):
        slot = np.int64(book.overflow[i])
        if book.orders[slot].rank == rank:
            return slot
    return np.int64(NONE)
