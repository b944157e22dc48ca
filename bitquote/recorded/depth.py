"""A price-level book kept by a snapshot and diffs, by the rules that Binance publishes for its two markets.

Source: "How to manage a local order book correctly", developers.binance.com, spot and USD-M futures.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from bitquote.recorded.message import Levels
from bitquote.recorded.tick import UNITS

Kind = Literal["spot", "usdm"]


class Diff(NamedTuple):
    """One diff message: update ids first..last, `previous` is the last id of the diff before (USD-M only, else -1)."""

    time: int  # exchange time, ms
    first: int
    last: int
    previous: int
    bids: Levels
    asks: Levels


class DepthChanges(NamedTuple):
    """Every change of a level after the snapshot, arrays of one length n, in time order.

    A diff reports the net change since the diff before (100 ms on spot): what came and went within it is not seen.
    """

    time: np.ndarray  # float64, seconds from the start of the tape
    side: np.ndarray  # int8, +1 bid, -1 ask
    price: np.ndarray  # float64
    before: np.ndarray  # float64 quantity, base units; 0: no level known
    after: np.ndarray  # float64 quantity, base units; 0: the level is gone


def follows(kind: Kind, before: Diff, after: Diff) -> bool:
    """Whether no update is missing between two diffs."""
    return after.previous == before.last if kind == "usdm" else after.first == before.last + 1


def is_older(kind: str, diff: Diff, snapshot: int) -> bool:
    """Whether a snapshot with this last update id holds the whole diff already."""
    return diff.last < snapshot if kind == "usdm" else diff.last <= snapshot


def joins(kind: Kind, diff: Diff, snapshot: int) -> bool:
    """Whether the diff may be the first one applied to a snapshot."""
    return diff.first <= (snapshot if kind == "usdm" else snapshot + 1)


@dataclass
class LevelBook:
    """Two sides of price levels, with the log of their changes and a picture of the best levels every `interval`.

    Attributes:
        interval: Exchange time between pictures, ms; one is taken at the first diff in each interval.
        levels: Levels a side in a picture.
        prices: Every price that a snapshot or a diff has named, changed or not.
    """

    interval: int
    levels: int
    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)
    best_bid: int = 0  # price; meaningless while the side is empty
    best_ask: int = 0
    prices: set[int] = field(default_factory=set)
    picture_times: list[int] = field(default_factory=list)  # ms
    pictures: list[np.ndarray] = field(default_factory=list)
    change_times: array[int] = field(default_factory=lambda: array("q"))  # ms
    changes: array[int] = field(default_factory=lambda: array("q"))  # side, price, before, after, ...

    def set_levels(self, bids: Levels, asks: Levels) -> None:
        """Start from a snapshot, which has at least one level a side."""
        self.bids, self.asks = dict(bids), dict(asks)
        self.best_bid, self.best_ask = max(self.bids), min(self.asks)
        self.prices.update(self.bids, self.asks)

    def apply(self, diff: Diff) -> None:
        """Apply a diff's absolute quantities, log them, and take a picture if one is due."""
        for side, book, changed in ((1, self.bids, diff.bids), (-1, self.asks, diff.asks)):
            self.prices.update(price for price, _ in changed)
            for price, quantity in changed:
                before = book.pop(price, 0)
                if quantity:
                    book[price] = quantity
                if before != quantity:
                    self.change_times.append(diff.time)
                    self.changes.extend((side, price, before, quantity))
        self.best_bid = _followed(max, self.best_bid, self.bids, diff.bids)
        self.best_ask = _followed(min, self.best_ask, self.asks, diff.asks)
        if not self.picture_times or diff.time // self.interval > self.picture_times[-1] // self.interval:
            self.picture_times.append(diff.time)
            self.pictures.append(self._picture())

    def is_crossed(self) -> bool:
        """Whether the best bid is at or above the best ask."""
        return bool(self.bids and self.asks) and self.best_bid >= self.best_ask

    def _picture(self) -> np.ndarray:
        """(2, levels, 2) float64 (price, quantity) of bids and asks, best first; NaN where there is no level."""
        picture = np.full((2, self.levels, 2), np.nan)
        best = heapq.nlargest(self.levels, self.bids.items()), heapq.nsmallest(self.levels, self.asks.items())
        for side, levels in enumerate(best):
            if levels:
                picture[side, : len(levels)] = np.array(levels) / UNITS
        return picture

    def logged_changes(self, origin: int) -> DepthChanges:
        """The log, in seconds from `origin` (exchange time in nanoseconds)."""
        rows = np.array(self.changes, dtype=np.int64).reshape(-1, 4)
        time = (np.array(self.change_times, dtype=np.int64) * 10**6 - origin) * 1e-9
        return DepthChanges(time, rows[:, 0].astype(np.int8), *(rows[:, 1:] / UNITS).T)


def _followed(better: Callable[..., int], best: int, book: dict[int, int], changed: Levels) -> int:
    """The best price of a side after a diff; `better` is max for bids and min for asks."""
    if best in book:
        return better([best, *(price for price, quantity in changed if quantity)])
    return better(book, default=best)
