"""Recordings in the order of time: what walk-forward evaluation is made of, and how a long one is cut into several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

from bitquote.errors import InputError, require_number
from bitquote.recorded import Recording
from bitquote.recorded.depth import DepthChanges


def check_sequence(recordings: Sequence[Recording]) -> None:
    """Refuse recordings that do not follow each other in time, or that are not of one instrument.

    Raises:
        InputError: one line that names the two recordings.
    """
    if len(recordings) < 2:
        raise InputError(f"walk-forward evaluation has {len(recordings)} recording: it needs at least two")
    for recording in recordings:
        if recording.orders is not None and recording.orders.recording.origin == "midnight":
            raise InputError(f"{recording.path} does not tell its day: must be named as LOBSTER names its files, "
                             "<ticker>_<year-month-day>_<first>_<last>_message_<levels>.csv")  # fmt: skip
    for earlier, later in pairwise(recordings):
        if (what := _instrument(later)) != _instrument(earlier):
            raise InputError(f"{later.path} is of {what}: must be of {_instrument(earlier)}, as {earlier.path} is")
        end = earlier.start + round(earlier.duration * 1e9)
        if later.start < end:
            how = "begins before" if later.start < earlier.start else "overlaps with"
            raise InputError(
                f"{later.path} {how} {earlier.path}: it begins at {_clock(later.start)} and must not begin before "
                f"{_clock(end)}, where the earlier one ends"
            )


def stretch(recording: Recording, first: float, last: float) -> Recording:
    """The part of a recording between two times, seconds from its start; the quote in force at `first` opens it.

    What was counted and inferred while reading (messages, tick, clock) stays that of the whole.
    """
    first = require_number("first", first, 0.0)
    last = require_number("last", last, first, recording.duration, above=True)
    tape = recording.tape
    quotes = (tape.quote_time > first) & (tape.quote_time <= last)
    opening = int((tape.quote_time <= first).sum()) - 1
    if opening < 0:
        raise InputError(f"first is {first:g}: the first quote of {recording.path} comes at {tape.quote_time[0]:g} s")
    quotes[opening] = True
    trades, pictures, changes = (
        (time >= first) & (time <= last) for time in (tape.trade_time, tape.snapshot_time, recording.changes.time)
    )
    if not trades.any():
        raise InputError(f"{recording.path} has no trade from {first:g} to {last:g} s")
    part = tape._replace(**{name: getattr(tape, name)[trades] for name in tape._fields if name.startswith("trade_")})
    part = part._replace(
        **{name: getattr(tape, name)[quotes] for name in ("bid", "ask", "bid_quantity", "ask_quantity")},
        trade_time=part.trade_time - first,
        quote_time=(tape.quote_time[quotes] - first).clip(min=0.0),
        snapshot_time=tape.snapshot_time[pictures] - first,
        depth=tape.depth[pictures],
    )
    log = DepthChanges(*(field[changes] for field in recording.changes))
    log = log._replace(time=log.time - first)
    return replace(recording, start=recording.start + round(first * 1e9), tape=part, changes=log)


def _instrument(recording: Recording) -> str:
    return f"{recording.exchange} {recording.kind} {recording.symbol}"


def _clock(nanoseconds: int) -> str:
    return f"{datetime.fromtimestamp(nanoseconds * 1e-9, UTC):%Y-%m-%d %H:%M:%S.%f}"
