"""What a recording holds once it is read: a `Tape`, and the evidence for everything that was inferred."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bitquote.errors import InputError
from bitquote.market.simulation import Tape
from bitquote.recorded.clock import Clock
from bitquote.recorded.depth import DepthChanges
from bitquote.recorded.following import FAULTS
from bitquote.recorded.orders import STATE
from bitquote.recorded.replay import Replay
from bitquote.recorded.tick import UNITS, Tick, infer_tick


@dataclass(frozen=True)
class Recording:
    """A validated recording of one instrument.

    Attributes:
        path: The file.
        exchange, kind, symbol: For example "binance", "spot", "BTCUSDT".
        kind: "spot" or "usdm"; "orders" if it is made of single orders.
        start: Start of the tape on the exchange's clock, nanoseconds since 1970 (or since `orders.recording.origin`).
        tape: Trades, best bid and offer, and pictures of the depth, in seconds from `start`.
        changes: Every change of a depth level.
        tick: The inferred tick and its evidence.
        clock: The recorder's clock against the exchange's, already corrected in `tape`; None where there is but one.
        messages: Messages read, by stream.
        skipped: Messages left out for a legitimate reason, by that reason; of single orders, the replay's faults.
        orders: The replay that it comes from, if it is made of single orders.
    """

    path: Path
    exchange: str
    kind: str
    symbol: str
    start: int
    tape: Tape
    changes: DepthChanges
    tick: Tick
    clock: Clock | None
    messages: Mapping[str, int]
    skipped: Mapping[str, int]
    orders: Replay | None = None

    @property
    def duration(self) -> float:
        """Seconds from the start to the last event."""
        return max(float(self.tape.trade_time[-1]), float(self.tape.quote_time[-1]))


def from_orders(replay: Replay) -> Recording:
    """A replayed recording of single orders as one of levels and trades, which keeps its orders."""
    orders = replay.recording
    tape = replay.tape()
    for values, name in ((tape.quote_time, "moment at which both sides have orders"), (tape.trade_time, "trade")):
        if not len(values):
            raise InputError(f"{orders.path}: its replay has no {name}")
    prices = orders.events["price"][orders.events["kind"] != STATE]
    tick = infer_tick(prices * round(orders.tick * UNITS))
    if tick is None:
        raise InputError(f"{orders.path}: all prices are equal, so no tick can be inferred")
    return Recording(
        path=orders.path,
        exchange=orders.exchange,
        kind="orders",
        symbol=orders.symbol,
        start=int(orders.events["time"][0]),
        tape=tape,
        changes=replay.changes,
        tick=tick,
        clock=None,
        messages=dict(orders.counts),
        skipped={name: count for name, count in replay.outcomes.items() if name in FAULTS} | dict(orders.notes),
        orders=replay,
    )
