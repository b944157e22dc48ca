"""A raw Binance recording as hftbacktest's event array.

    python convert.py RECORDING OUTPUT.npz

bitquote's reader checks the recording (no gap in its ids, no crossed book), fits the recorder's clock and infers the
tick. A sink beside it keeps what hftbacktest needs and a tape does not: when each message came.

- `exch_ts` is the exchange's transaction time. Spot best bids and offers carry none: theirs is the time of arrival, as
  on bitquote's tape, which is later by about the median latency.
- `local_ts` is the time of arrival on the exchange's clock: the recorder's own ran 1.27 s behind. The smallest latency
  cannot be told from the offset and is missing from every one.
- Depth (every 100 ms on spot) and best bid and offer (at every change) become one book by hftbacktest's
  `FuseMarketDepth`. What came before the REST snapshot is left out: until then there is no book.
"""

from __future__ import annotations

import argparse
import sys
from array import array
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hftbacktest import (
    BUY_EVENT,
    DEPTH_BBO_EVENT,
    DEPTH_EVENT,
    DEPTH_SNAPSHOT_EVENT,
    EXCH_EVENT,
    LOCAL_EVENT,
    SELL_EVENT,
    TRADE_EVENT,
)
from hftbacktest.data import FuseMarketDepth, correct_event_order, correct_local_timestamp, validate_event_order
from hftbacktest.types import event_dtype
from numba import njit

from bitquote.errors import InputError
from bitquote.recorded import Recording, read_binance
from bitquote.recorded.binance import Sink
from bitquote.recorded.depth import Diff
from bitquote.recorded.message import Levels, Message
from bitquote.recorded.tick import UNITS

MILLISECOND = 10**6
_UNKNOWN = -1  # exchange time of a message that carries none


class Converted(NamedTuple):
    """A recording for hftbacktest.

    Attributes:
        events: event_dtype (n,), each marked for the exchange, for us, or for both; in order for either.
        recording: what bitquote read: tape, clock, tick.
        lot: the largest step on which every recorded quantity lies, base units.
    """

    events: np.ndarray
    recording: Recording
    lot: float


class _Rows:
    """Events as they are collected: flags, exchange and local time (ns), price and quantity in `UNITS`."""

    def __init__(self) -> None:
        self.numbers = array("q")

    def add(self, flags: int, exchange: int, local: int, price: int, quantity: int) -> None:
        self.numbers.extend((flags, exchange, local, price, quantity))

    def add_levels(self, flags: int, exchange: int, local: int, bids: Levels, asks: Levels) -> None:
        for side, levels in ((BUY_EVENT, bids), (SELL_EVENT, asks)):
            for price, quantity in levels:
                self.add(flags | side, exchange, local, price, quantity)

    def events(self, recording: Recording) -> np.ndarray:
        """With local times on the exchange's clock."""
        rows = np.array(self.numbers, np.int64).reshape(-1, 5)
        events = np.zeros(len(rows), event_dtype)
        events["ev"] = rows[:, 0]
        events["local_ts"] = recording.clock.exchange_time(rows[:, 2])
        events["exch_ts"] = np.where(rows[:, 1] == _UNKNOWN, events["local_ts"], rows[:, 1])
        events["px"], events["qty"] = rows[:, 3] / UNITS, rows[:, 4] / UNITS
        return events


class _Collected(Sink):
    """Trades, and everything about the book, from the snapshot on."""

    def __init__(self) -> None:
        self.trades, self.depth = _Rows(), _Rows()
        self.snapshot: tuple[int, Levels, Levels] = 0, [], []  # with its time of arrival
        self.joined = False

    def on_snapshot(self, message: Message, bids: Levels, asks: Levels) -> None:
        self.snapshot = message.local, bids, asks

    def on_diff(self, message: Message, diff: Diff) -> None:
        snapshot, bids, asks = self.snapshot
        time, arrival = diff.time * MILLISECOND, max(message.local, snapshot)  # those before the snapshot had to wait
        if not self.joined:  # of the snapshot's own time nothing is known, but that it is no later
            self.depth.add_levels(DEPTH_SNAPSHOT_EVENT, time, arrival, bids, asks)
        self.joined = True
        self.depth.add_levels(DEPTH_EVENT, time, arrival, diff.bids, diff.asks)

    def on_trade(self, message: Message, time: int, price: int, quantity: int, side: int) -> None:
        if self.joined:
            flags = TRADE_EVENT | (BUY_EVENT if side > 0 else SELL_EVENT)
            self.trades.add(flags, time * MILLISECOND, message.local, price, quantity)

    def on_quote(self, message: Message, update: int, bid: int, bid_quantity: int, ask: int, ask_quantity: int) -> None:
        if self.joined:
            time = message.time("T") * MILLISECOND if "T" in message.data else _UNKNOWN
            for side, price, quantity in ((SELL_EVENT, ask, ask_quantity), (BUY_EVENT, bid, bid_quantity)):
                self.depth.add(DEPTH_BBO_EVENT | side, time, message.local, price, quantity)


def convert(path: str | Path) -> Converted:
    """Read a recording (spot or USD-M) and convert it; `InputError`, one line, for a file that is no good."""
    collected = _Collected()
    recording = read_binance(path, sink=collected)
    trades, depth = collected.trades, collected.depth
    quantities = np.array(trades.numbers[4::5] + depth.numbers[4::5], np.int64)
    lot = int(np.gcd.reduce(quantities)) / UNITS
    events = np.concatenate([trades.events(recording), _fused(depth.events(recording), recording.tick.size, lot)])
    return Converted(_ordered(events), recording, lot)


@njit
def _fuse(book: Any, events: np.ndarray) -> None:
    for i in range(len(events)):
        book.process_event(events, i, True)


def _fused(events: np.ndarray, tick: float, lot: float) -> np.ndarray:
    """Depth and best bid and offer in the order in which they came, as the changes of one book."""
    book = FuseMarketDepth(tick, lot)
    _fuse(book, events)
    fused = book.fused_events.copy()
    book.close()
    return fused


def _ordered(events: np.ndarray) -> np.ndarray:
    """Events in the order of either clock, by hftbacktest's own helpers; trades before the book of the same time."""
    events = correct_local_timestamp(events, 0)
    orders = (np.argsort(events[clock], kind="stable") for clock in ("exch_ts", "local_ts"))
    ordered = correct_event_order(events, *orders)
    validate_event_order(ordered)
    return ordered


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("recording", type=Path, help="file of hftbacktest's collector, spot or USD-M")
    words.add_argument("output", type=Path, help="the .npz file that hftbacktest's data() takes")
    options = words.parse_args()
    try:
        if options.output.suffix != ".npz":
            raise InputError(f"the output {options.output} must end in .npz")
        converted = convert(options.recording)
    except InputError as error:
        sys.exit(f"convert: {error}")
    np.savez_compressed(options.output, data=converted.events)
    events, recording = converted.events, converted.recording
    for name, flag in (("exchange", EXCH_EVENT), ("local", LOCAL_EVENT)):
        print(f"{np.count_nonzero(events['ev'] & flag)} {name} events")
    print(f"{recording.symbol} {recording.kind}: tick {recording.tick.size:g}, lot {converted.lot:g}")
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
