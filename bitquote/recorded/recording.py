"""What a recording holds once it is read: a `Tape`, and the evidence for everything that was inferred."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bitquote.market.simulation import Tape
from bitquote.recorded.clock import Clock
from bitquote.recorded.depth import DepthChanges, Kind
from bitquote.recorded.tick import Tick


@dataclass(frozen=True)
class Recording:
    """A validated recording of one instrument.

    Attributes:
        path: The file.
        exchange, kind, symbol: For example "binance", "spot", "BTCUSDT".
        start: Start of the tape on the exchange's clock, nanoseconds since 1970.
        tape: Trades, best bid and offer, and pictures of the depth, in seconds from `start`.
        changes: Every change of a depth level.
        tick: The inferred tick and its evidence.
        clock: The recorder's clock against the exchange's; already corrected in `tape`.
        messages: Messages read, by stream.
        skipped: Messages left out for a legitimate reason, by that reason.
    """

    path: Path
    exchange: str
    kind: Kind
    symbol: str
    start: int
    tape: Tape
    changes: DepthChanges
    tick: Tick
    clock: Clock
    messages: Mapping[str, int]
    skipped: Mapping[str, int]

    @property
    def duration(self) -> float:
        """Seconds from the start to the last event."""
        return max(float(self.tape.trade_time[-1]), float(self.tape.quote_time[-1]))
