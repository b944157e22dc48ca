"""A recording of orders replayed through the order book: every event has an outcome, and every fault its lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bitquote.book.matching import NO_PRICE, allocate
from bitquote.book.order_book import TRADE, resting_orders
from bitquote.errors import require, require_integer, require_number
from bitquote.market.history import write_depth
from bitquote.market.simulation import Tape
from bitquote.recorded.depth import DepthChanges
from bitquote.recorded.following import CHANGE, FAULTS, NEVER, NO_ORDER, OUTCOMES, Following, follow
from bitquote.recorded.orders import BEST, OrderRecording

_TICKS = 4096
_PICTURED = 10**8  # levels of all pictures, at most


@dataclass(frozen=True)
class Replay:
    """A replayed recording.

    Attributes:
        recording: What was replayed.
        outcome: int8 (n,), what became of each event: an index into `OUTCOMES`.
        best: BEST (n,), the rebuilt best bid and offer after each event.
        trades: TRADE, ticks and lots, in order. A taker that the recording does not name has the id 0, a maker of which
            only the level is known a negative one.
        orders: RESTING, the orders that live at the end.
        opened: Orders of the opening that rest when the recording begins; of two that cross the later one does.
        log: CHANGE, every change of an order, first the entry of each of those.
        changes: Every change of a level, as of a `Recording`.
        depth_time: float64 (pictures,), seconds from the first event.
        depth: float64 (pictures, 2, levels, 2), as in `Tape`.
    """

    recording: OrderRecording
    outcome: np.ndarray
    best: np.ndarray
    trades: np.ndarray
    orders: np.ndarray
    opened: int
    log: np.ndarray
    changes: DepthChanges
    depth_time: np.ndarray
    depth: np.ndarray

    @property
    def outcomes(self) -> dict[str, int]:
        """Events by what became of them; they add up to all events."""
        counts = np.bincount(self.outcome, minlength=len(OUTCOMES)).tolist()
        return {name: count for name, count in zip(OUTCOMES, counts, strict=True) if count}

    def lines(self, outcome: str, n: int = 5) -> list[int]:
        """The first `n` lines whose event had this outcome."""
        places = np.flatnonzero(self.outcome == tuple(OUTCOMES).index(outcome))
        return self.recording.events["line"][places[:n]].tolist()

    @property
    def agreement(self) -> tuple[float, list[int]] | None:
        """Share of the events after which the rebuilt best bid and offer, quantities included, are the recorded ones,
        and the first lines where they are not. None: the recording has no best bid and offer.
        """
        if self.recording.best is None:
            return None
        equal = self.best == self.recording.best
        return float(equal.mean()), self.recording.events["line"][~equal][:6].tolist()

    def report(self) -> str:
        """Lines for a reader: every event accounted for, faults with their first lines."""
        recording = self.recording
        total = len(self.outcome)
        lines = [f"{recording.path}: {total} events, {len(self.trades)} trades, {len(self.orders)} orders at the end"]
        lines += [f"  {count:>9} {name}" for name, count in recording.counts.items()]
        lines.append(f"opening: {self.opened} of {len(recording.opening)} orders rest")
        lines += [f"  {count:>9} {name}" for name, count in recording.notes.items()]
        lines.append("every event:")
        for name, count in self.outcomes.items():
            where = f" (lines {_listed(self.lines(name, 6))})" if name in FAULTS else ""
            lines.append(f"  {count:>9} {count / total:7.2%} {name}: {OUTCOMES[name]}{where}")
        if self.agreement is not None:
            share, first = self.agreement
            where = f"; not after lines {_listed(first)}" if first else ""
            lines.append(f"best bid and offer as recorded after {share:.4%} of the events{where}")
        return "\n".join(lines)

    def tape(self) -> Tape:
        """The visible market in the form that calibrations read; seconds from the first event, prices and quantities
        in the recording's units. Quotes are those moments when both sides have orders.
        """
        recording = self.recording
        start = recording.events["time"][0]
        best = self.best
        changed = np.concatenate(([True], best[1:] != best[:-1]))
        shown = changed & (best["bid"] != NO_PRICE) & (best["ask"] != NO_PRICE)
        quote, trade = best[shown], self.trades
        return Tape(
            trade_time=(trade["time"] - start) * 1e-9,
            trade_price=trade["price"] * recording.tick,
            trade_quantity=trade["quantity"] * recording.lot,
            trade_aggressor=trade["aggressor"].astype(np.int8),
            quote_time=(recording.events["time"][shown] - start) * 1e-9,
            bid=quote["bid"] * recording.tick,
            ask=quote["ask"] * recording.tick,
            bid_quantity=quote["bid_quantity"] * recording.lot,
            ask_quantity=quote["ask_quantity"] * recording.lot,
            snapshot_time=self.depth_time,
            depth=self.depth,
        )


def _listed(lines: list[int]) -> str:
    """The first five lines, and a sign if there are more."""
    return ", ".join([*map(str, lines[:5]), *(["..."] if len(lines) > 5 else [])])


def replay(recording: OrderRecording, *, depth_interval: float = 1.0, depth_levels: int = 20) -> Replay:
    """Replay a recording through an empty order book.

    Args:
        recording: What `read_bitstamp` or `read_lobster` gave.
        depth_interval: Seconds between pictures of the depth.
        depth_levels: Levels a side in a picture.

    Raises:
        InputError: the pictures would take more than a few GB.
    """
    interval = require_number("depth_interval", depth_interval, 0.0, above=True)
    levels = require_integer("depth_levels", depth_levels, 1)
    seconds = float(recording.events["time"][-1] - recording.events["time"][0]) * 1e-9
    least = seconds * levels / _PICTURED
    expected = f"at least {least:g} for {levels} levels over the {seconds:g} s of {recording.path}"
    require(interval >= least, "depth_interval", depth_interval, expected)
    capacity = 1024
    while (result := _replay_within(recording, capacity, interval, levels)) is None:
        capacity *= 2  # how many orders live at once is not known beforehand
    return result


class Prepared(NamedTuple):
    """A recording whose opening has entered a book.

    Attributes:
        state: The book, and where each order stands in it.
        names: int64 (orders,), the recording's id of each order number.
        number: int64 (n,), the order of each event.
        fallback: int64 (n,), the order without a name at its side and price, or `NO_ORDER`.
    """

    state: Following
    names: np.ndarray
    number: np.ndarray
    fallback: np.ndarray


def prepare(recording: OrderRecording, capacity: int) -> Prepared | None:
    """An empty book that takes in the opening; None if it needs a larger capacity."""
    events, opening = recording.events, recording.opening
    names, number = np.unique(np.concatenate((opening["order_id"], events["order_id"])), return_inverse=True)
    state = Following(
        allocate(_TICKS, capacity),
        np.full(len(names), NEVER),
        np.zeros(len(names), np.int64),
        np.empty(2 * (len(opening) + len(events)), TRADE),  # a trade ends its maker or its taker
        np.empty(5 * (len(opening) + len(events)), CHANGE),  # a trade, or what an event itself puts and takes
        np.zeros(2, np.int64),
        recording.rounding,
    )
    unread = np.empty(len(opening), np.int8), np.empty(len(opening), BEST)
    first, own = number[: len(opening)], number[len(opening) :]
    unnamed = np.full(len(opening), NO_ORDER)
    if follow(state, opening, first, unnamed, *unread, 0, len(opening)) < len(opening):
        return None
    return Prepared(state, names, own, _anonymous(events, opening, first))


def _replay_within(recording: OrderRecording, capacity: int, interval: float, levels: int) -> Replay | None:
    """The replay; None if the book needs a larger capacity."""
    prepared = prepare(recording, capacity)
    if prepared is None:
        return None
    events, (state, names, own, fallback) = recording.events, prepared
    outcome, best = np.empty(len(events), np.int8), np.empty(len(events), BEST)
    known = state.written[1]
    start = events["time"][0]
    times = np.arange(interval, (events["time"][-1] - start) * 1e-9, interval)
    stops = np.searchsorted(events["time"], start + (times * 1e9).astype(np.int64))
    depth = np.full((len(times), 2, levels, 2), np.nan)
    done = 0
    for i, stop in enumerate([*stops.tolist(), len(events)]):
        if follow(state, events, own, fallback, outcome, best, done, stop) < stop:
            return None
        done = stop
        if i < len(times):
            write_depth(state.book, depth[i])
    trades = state.trades[: state.written[0]].copy()
    for side in ("maker_id", "taker_id"):
        trades[side] = np.where(trades[side] < 0, 0, names[trades[side]])
    log, orders = state.changes[: state.written[1]], resting_orders(state.book)
    lost = log["order_id"][:known][log["by"][:known] < 0]  # of the opening, to a crossing
    log = log[~np.isin(log["order_id"], lost)]
    opened = known - 2 * len(lost)
    for rows in (log, orders):
        rows["order_id"] = names[rows["order_id"]]
    depth *= np.array([recording.tick, recording.lot])
    changes = _changes(log, recording, opened)
    return Replay(recording, outcome, best, trades, orders, opened, log, changes, times, depth)


def _changes(log: np.ndarray, recording: OrderRecording, known: int) -> DepthChanges:
    """The log with the quantities before and after; the first `known` rows are the opening and are left out."""
    order = np.lexsort((log["price"], log["side"]))  # stable: in time within a level
    level = log[order]
    total = np.cumsum(level["by"])
    begins = np.ones(len(log), bool)
    begins[1:] = (level["price"][1:] != level["price"][:-1]) | (level["side"][1:] != level["side"][:-1])
    groups = np.cumsum(begins) - 1
    after = np.empty(len(log), np.int64)
    after[order] = total - (total - level["by"])[begins][groups]
    rows, after = log[known:], after[known:]
    time = (rows["time"] - recording.events["time"][0]) * 1e-9
    quantities = (after - rows["by"]) * recording.lot, after * recording.lot
    return DepthChanges(time, rows["side"], rows["price"] * recording.tick, *quantities)


def _anonymous(events: np.ndarray, opening: np.ndarray, number: np.ndarray) -> np.ndarray:
    """For each event the number of the opening order without a name at its side and price, or `NO_ORDER`."""
    unnamed = opening["order_id"] < 0
    if not unnamed.any():
        return np.full(len(events), NO_ORDER)
    places = np.concatenate((opening[unnamed], events))[["side", "price"]]
    _, place = np.unique(places, return_inverse=True)
    at = np.full(place.max() + 1, NO_ORDER)
    at[place[: unnamed.sum()]] = number[unnamed]
    return at[place[unnamed.sum() :]]
