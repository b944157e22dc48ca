"""Recordings for tests: small synthetic ones with known truths, and the real ones where they are at hand."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Line = tuple[int, dict[str, Any]]
"""(local time in ns, message)."""

START_MS = 1_700_000_000_000
TICK = 0.05
SYMBOL = "ABCUSDT"


def real_recording(kind: str) -> Path:
    """A real Binance recording (kind spot or usdm), or skip."""
    return data_file("binance", f"{kind}_btcusdt_20240808.gz")


def data_file(folder: str, name: str) -> Path:
    """A real recording, or skip. BITQUOTE_DATA, else ../shared/data, holds the folder."""
    data = Path(os.environ.get("BITQUOTE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    path = data / folder / name
    if not path.exists():
        pytest.skip(f"no recording {path}: set BITQUOTE_DATA to the folder that holds {folder}/")
    return path


def write(path: Path, lines: list[Line]) -> Path:
    """Write lines as a recorder does."""
    return write_text(path, "".join(f"{stamp} {json.dumps(message)}\n" for stamp, message in lines))


def write_text(path: Path, text: str) -> Path:
    """Compress any text."""
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return path


def synthetic_lines(
    kind: str = "spot", updates: int = 120, seed: int = 0, offset: float = -1.25, drift: float = 0.0
) -> list[Line]:
    """A small valid recording: a level book that changes every 10 ms, a diff every fifth change, a trade every third.

    The local clock is the exchange's plus `offset` + `drift` t seconds; latencies are exponential with mean 1 ms.
    """
    return _Market(kind, seed, offset, drift).run(updates)


def of_stream(lines: list[Line], channel: str) -> list[int]:
    """Positions of the messages of a channel ("trade", "bookTicker", "depth"), or of the "snapshot"."""
    if channel == "snapshot":
        return [i for i, (_, message) in enumerate(lines) if "lastUpdateId" in message]
    return [i for i, (_, message) in enumerate(lines) if f"@{channel}" in message.get("stream", "")]


class _Market:
    """A book of price levels that produces the messages of a recording."""

    def __init__(self, kind: str, seed: int, offset: float, drift: float) -> None:
        self.usdm = kind == "usdm"
        self.random = np.random.default_rng(seed)
        self.offset, self.drift = offset, drift
        self.books = {"b": {1000 - i: 100 + i for i in range(40)}, "a": {1001 + i: 100 + i for i in range(40)}}
        self.changed: dict[str, set[int]] = {"b": set(), "a": set()}
        self.update = self.sent = 5000
        self.trade = 77
        self.lines: list[Line] = []

    def run(self, updates: int) -> list[Line]:
        for i in range(updates):
            self.now = START_MS + 10 * i
            self._change()
            self._quote()
            if i % 3 == 0:
                self._trade()
            if i % 5 == 4:
                self._diff()
            if i == 12:
                self._snapshot()
        return sorted(self.lines, key=lambda line: line[0])

    def _emit(self, message: dict[str, Any]) -> None:
        seconds = (self.now - START_MS) * 1e-3
        delay = self.offset + self.drift * seconds + self.random.exponential(1e-3)
        stamp = self.now * 10**6 + round(delay * 1e9)
        if self.lines:
            stamp = max(stamp, self.lines[-1][0])  # one connection delivers in order
        self.lines.append((stamp, message))

    def _stream(self, channel: str, data: dict[str, Any]) -> None:
        self._emit({"stream": f"{SYMBOL.lower()}@{channel}", "data": data | {"s": SYMBOL}})

    def _change(self) -> None:
        """Set one level near the touch; a removed best moves the touch, and the other side follows."""
        side, other, direction = ("b", "a", -1) if self.random.random() < 0.5 else ("a", "b", 1)
        best = self._best(side)
        if self.random.random() < 0.2:
            self._set(side, best, 0)
            self._set(other, self._best(side) - direction, 30)
        else:
            self._set(side, best + direction * int(self.random.integers(0, 8)), int(self.random.integers(1, 500)))

    def _set(self, side: str, price: int, quantity: int) -> None:
        self.books[side].pop(price, None)
        if quantity:
            self.books[side][price] = quantity
        self.changed[side].add(price)
        self.update += 1

    def _best(self, side: str) -> int:
        return max(self.books["b"]) if side == "b" else min(self.books["a"])

    def _quote(self) -> None:
        bid, ask = self._best("b"), self._best("a")
        data = {"u": self.update, "b": _price(bid), "B": _quantity(self.books["b"][bid])}
        data |= {"a": _price(ask), "A": _quantity(self.books["a"][ask])}
        self._stream("bookTicker", data | ({"E": self.now, "T": self.now} if self.usdm else {}))

    def _trade(self) -> None:
        maker_buys = bool(self.random.random() < 0.5)
        price = self._best("b" if maker_buys else "a")
        data = {"e": "trade", "E": self.now, "T": self.now, "t": self.trade, "p": _price(price), "q": "0.01000000"}
        self._stream("trade", data | {"m": maker_buys} | ({"X": "MARKET"} if self.usdm else {"M": True}))
        self.trade += 1

    def _diff(self) -> None:
        data: dict[str, Any] = {"e": "depthUpdate", "E": self.now, "U": self.sent + 1, "u": self.update}
        if self.usdm:
            data |= {"T": self.now, "pu": self.sent}
        for side, prices in self.changed.items():
            data[side] = [[_price(price), _quantity(self.books[side].get(price, 0))] for price in sorted(prices)]
            prices.clear()
        self._stream("depth@0ms" if self.usdm else "depth@100ms", data)
        self.sent = self.update

    def _snapshot(self) -> None:
        bids = sorted(self.books["b"].items(), reverse=True)
        message: dict[str, Any] = {"lastUpdateId": self.update}
        for name, levels in (("bids", bids), ("asks", sorted(self.books["a"].items()))):
            message[name] = [[_price(price), _quantity(quantity)] for price, quantity in levels]
        self._emit(message)


def _price(ticks: int) -> str:
    return f"{ticks * TICK:.8f}"


def _quantity(lots: int) -> str:
    return f"{lots / 1000:.8f}"
