"""Reader of raw Binance recordings (spot and USD-M futures), as hftbacktest's collector writes them.

A plain or compressed file of lines "<local time in ns> <JSON>": the combined streams `depth`, `bookTicker` and `trade`,
and one REST depth snapshot. Streams: developers.binance.com, "WebSocket Streams" of the two markets.
"""

from __future__ import annotations

from array import array
from collections import Counter
from pathlib import Path

import numpy as np

from bitquote.errors import InputError, require_number
from bitquote.market.simulation import Tape
from bitquote.recorded.clock import fit_clock
from bitquote.recorded.depth import Diff, Kind, LevelBook, follows, is_older, joins
from bitquote.recorded.message import Levels, Message, read_messages
from bitquote.recorded.recording import Recording
from bitquote.recorded.tick import UNITS, Tick, infer_tick


def read_binance(
    path: str | Path,
    *,
    tick: float | None = None,
    depth_interval: float = 1.0,
    depth_levels: int = 500,
    sink: Sink | None = None,
) -> Recording:
    """Read and validate a recording; the clock offset is corrected and the book is rebuilt.

    Times on the tape are the exchange's transaction times. Messages that carry none (spot best bid and offer) have
    their corrected local time of arrival, which is later by about the median of `clock.latency`.

    Args:
        path: The file; plain, gzip, bzip2 or xz.
        tick: The tick that a configuration states, price units; it must agree with the one inferred.
        depth_interval: Seconds between depth pictures.
        depth_levels: Levels a side in a picture.
        sink: Told of every message besides, once it is checked.

    Raises:
        InputError: one line that names the file and, where there is one, the line.
    """
    path = Path(path)
    if tick is not None:
        require_number("tick", tick, 0.0, above=True)
    reader = _Reader(path, LevelBook(max(1, round(depth_interval * 1000)), depth_levels), sink or Sink())
    for message in read_messages(path):
        reader.add(message)
    return reader.recording(tick)


class Sink:
    """What wants more of a recording than its tape: every message in the order of the file. This one forgets them.

    Prices and quantities are in `UNITS`, times in ms.
    """

    def on_snapshot(self, message: Message, bids: Levels, asks: Levels) -> None:
        """The depth snapshot."""

    def on_diff(self, message: Message, diff: Diff) -> None:
        """A diff that the snapshot does not hold already; the first come right after it."""

    def on_trade(self, message: Message, time: int, price: int, quantity: int, side: int) -> None:
        """A trade in the book; the side is the taker's."""

    def on_quote(self, message: Message, update: int, bid: int, bid_quantity: int, ask: int, ask_quantity: int) -> None:
        """A best bid and offer, with its update id."""


class _Reader:
    """Collects the messages of one recording in file order, each checked as it comes."""

    def __init__(self, path: Path, book: LevelBook, sink: Sink) -> None:
        self.path = path
        self.book = book
        self.sink = sink
        self.kind: Kind = "spot"
        self.symbol = ""
        self.counts: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.trades = array("q")  # transaction time ms, price, quantity, aggressor, ...
        self.quotes = array(
            "q"
        )  # local time ns, transaction time ms (0: none), bid, its quantity, ask, its quantity, ...
        self.clock = array("q")  # local time ns, event time ms, ...
        self.latest: dict[str, int] = {}  # the last id or time of each sort
        self.previous: Diff | None = None
        self.waiting: list[tuple[Message, Diff]] = []  # diffs that came before the snapshot
        self.snapshot: int | None = None  # its last update id
        self.joined = False

    def add(self, message: Message) -> None:
        """Check one message and keep it."""
        if "lastUpdateId" in message.data:
            self.counts["snapshot"] += 1
            self._add_snapshot(message)
            return
        stream, data = message.data.get("stream"), message.data.get("data")
        if not isinstance(stream, str) or not isinstance(data, dict):
            message.fault("the message has neither 'stream' and 'data' nor 'lastUpdateId'")
        channel = stream.partition("@")[2]
        self.counts[channel] += 1
        message = message._replace(data=data)
        if channel == "trade":
            self._add_trade(message)
        elif channel == "bookTicker":
            self._add_quote(message)
        elif channel.partition("@")[0] == "depth":
            self._add_diff(message)
        else:
            self.skipped[f"other stream: {stream}"] += 1

    def _add_trade(self, message: Message) -> None:
        self._check_symbol(message)
        self._check_clock(message, "trade event time")
        number = message.integer("t")
        due = self.latest.get("trade id", number - 1) + 1
        if number != due:
            message.fault(f"trade id {number} where {due} was due: trades are missing or repeated")
        self.latest["trade id"] = number
        time = self._ascending(message, "trade time", message.time("T"))
        price, quantity, buyer_is_maker = message.positive("p"), message.positive("q"), message.data.get("m")
        if not isinstance(buyer_is_maker, bool):
            message.fault(f"'m' is {buyer_is_maker!r}: must be true or false (whether the buyer is the maker)")
        origin = message.data.get("X", "MARKET")
        if origin != "MARKET":  # USD-M: liquidation by the insurance fund, for example
            self.skipped[f"trade outside the book: {origin}"] += 1
            return
        trade = time, price, quantity, -1 if buyer_is_maker else 1
        self.trades.extend(trade)
        self.sink.on_trade(message, *trade)

    def _add_quote(self, message: Message) -> None:
        self._check_symbol(message)
        if "E" in message.data:
            self._check_clock(message, "best bid and offer event time")
        update = self._ascending(message, "best bid and offer update id", message.integer("u"))
        time = message.time("T") if "T" in message.data else 0
        self._ascending(message, "best bid and offer time", time)
        bid, bid_quantity, ask, ask_quantity = (message.positive(key) for key in "bBaA")
        if bid >= ask:
            message.fault(f"the book is crossed: bid {message.data['b']} is not below ask {message.data['a']}")
        self.quotes.extend((message.local, time, bid, bid_quantity, ask, ask_quantity))
        self.sink.on_quote(message, update, bid, bid_quantity, ask, ask_quantity)

    def _add_diff(self, message: Message) -> None:
        self._check_symbol(message)
        self._check_clock(message, "depth event time")
        kind: Kind = "usdm" if "pu" in message.data else "spot"
        if self.previous is not None and self.kind != kind:
            message.fault("the diff is of another market than those before ('pu' is in USD-M diffs only)")
        self.kind = kind
        diff = Diff(
            time=self._ascending(message, "depth time", message.time("T" if kind == "usdm" else "E")),
            first=message.integer("U"),
            last=message.integer("u"),
            previous=message.integer("pu") if kind == "usdm" else -1,
            bids=message.levels("b"),
            asks=message.levels("a"),
        )
        if diff.first > diff.last:
            message.fault(f"the diff's first update id {diff.first} is above its last {diff.last}")
        if self.previous is not None and not follows(kind, self.previous, diff):
            start = diff.previous if kind == "usdm" else diff.first
            message.fault(f"gap in the update ids: {start} does not follow {self.previous.last}")
        self.previous = diff
        if self.snapshot is None:
            self.waiting.append((message, diff))
        else:
            self._apply(message, diff, self.snapshot)

    def _add_snapshot(self, message: Message) -> None:
        last = message.integer("lastUpdateId")
        bids, asks = message.levels("bids"), message.levels("asks")
        if not bids or not asks or any(quantity == 0 for _, quantity in bids + asks):
            message.fault("the depth snapshot has an empty side or a level of quantity 0")
        if self.snapshot is not None:
            self.skipped["snapshot after the first"] += 1
            return
        self.snapshot = last
        self.book.set_levels(bids, asks)
        self._check_uncrossed(message)
        self.sink.on_snapshot(message, bids, asks)
        for waiting in self.waiting:
            self._apply(*waiting, last)
        self.waiting.clear()

    def _apply(self, message: Message, diff: Diff, snapshot: int) -> None:
        if not self.joined:
            if is_older(self.kind, diff, snapshot):
                self.skipped["depth diff older than the snapshot"] += 1
                return
            if not joins(self.kind, diff, snapshot):
                message.fault(f"gap in the update ids: {diff.first} does not reach back to the snapshot's {snapshot}")
            self.joined = True
        self.book.apply(diff)
        self._check_uncrossed(message)
        self.sink.on_diff(message, diff)

    def _check_uncrossed(self, message: Message) -> None:
        if self.book.is_crossed():
            message.fault("the rebuilt book is crossed: its best bid is not below its best ask")

    def _check_symbol(self, message: Message) -> None:
        symbol = message.data.get("s")
        if not isinstance(symbol, str) or not symbol:
            message.fault(f"'s' is {symbol!r}: must be the symbol")
        if self.symbol not in ("", symbol):
            message.fault(f"the symbol is {symbol!r}, but the recording began with {self.symbol!r}")
        self.symbol = symbol

    def _check_clock(self, message: Message, name: str) -> None:
        self.clock.extend((message.local, self._ascending(message, name, message.time("E"))))

    def _ascending(self, message: Message, name: str, value: int) -> int:
        """`value`, not below the last one of its name."""
        latest = self.latest.get(name, 0)
        if value < latest:
            message.fault(f"the {name} runs backwards: {value} after {latest}")
        self.latest[name] = value
        return value

    def recording(self, tick: float | None) -> Recording:
        """Everything collected, once the file has ended."""
        for missing, name in (
            (not self.trades, "trades"),
            (not self.quotes, "best bids and offers"),
            (self.snapshot is None, "depth snapshot"),
            (not self.joined, "depth diffs that follow the snapshot"),
        ):
            if missing:
                raise InputError(f"{self.path}: holds no {name}")
        local, event = _rows(self.clock, 2).T
        clock = fit_clock(local, event * 10**6)
        trades, quotes = _rows(self.trades, 4), _rows(self.quotes, 6)
        trade_time = trades[:, 0] * 10**6
        quote_time = np.where(quotes[:, 1] > 0, quotes[:, 1] * 10**6, clock.exchange_time(quotes[:, 0]))
        picture_time = np.array(self.book.picture_times, dtype=np.int64) * 10**6
        start = int(min(trade_time[0], quote_time[0], picture_time[0]))
        tape = Tape(
            trade_time=(trade_time - start) * 1e-9,
            trade_price=trades[:, 1] / UNITS,
            trade_quantity=trades[:, 2] / UNITS,
            trade_aggressor=trades[:, 3].astype(np.int8),
            quote_time=(quote_time - start) * 1e-9,
            bid=quotes[:, 2] / UNITS,
            bid_quantity=quotes[:, 3] / UNITS,
            ask=quotes[:, 4] / UNITS,
            ask_quantity=quotes[:, 5] / UNITS,
            snapshot_time=(picture_time - start) * 1e-9,
            depth=np.stack(self.book.pictures),
        )
        return Recording(
            path=self.path,
            exchange="binance",
            kind=self.kind,
            symbol=self.symbol,
            start=start,
            tape=tape,
            changes=self.book.logged_changes(start),
            tick=self._tick(np.concatenate((trades[:, 1], quotes[:, 2], quotes[:, 4], list(self.book.prices))), tick),
            clock=clock,
            messages=dict(self.counts),
            skipped=dict(self.skipped),
        )

    def _tick(self, prices: np.ndarray, stated: float | None) -> Tick:
        inferred = infer_tick(prices)
        if inferred is None:
            raise InputError(f"{self.path}: all prices are equal, so no tick can be inferred")
        if stated is not None and abs(stated - inferred.size) > 1e-9:
            raise InputError(
                f"{self.path}: the tick is stated as {stated:g}, but the {inferred.prices} distinct prices in the "
                f"recording lie on multiples of {inferred.size:g}"
            )
        return inferred


def _rows(values: array[int], columns: int) -> np.ndarray:
    """A flat array of int64 as (n, columns)."""
    return np.array(values, dtype=np.int64).reshape(-1, columns)
