"""Lines of a local time stamp (ns), a space and a JSON object, whose fields are checked as they are asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from bitquote.recorded.lines import fault, read_lines
from bitquote.recorded.tick import UNITS

Levels = list[tuple[int, int]]
"""(price, absolute quantity) in `UNITS`; quantity 0 removes the level."""

MAX_LINE_BYTES = 16 * 2**20
"""A REST snapshot of 5 000 levels a side takes 0.4 MB; a longer line is no message, and is never held whole."""

HIGHEST = 2**62
DAY_MS = 86_400_000

_stamp = re.compile(rb"[1-8]\d{18}").fullmatch  # 2001 to 2255; more would not fit 64 bits
_decimal = re.compile(r"(\d{1,9})(?:\.(\d{1,8})0*)?", re.ASCII).fullmatch


class Message(NamedTuple):
    """A JSON object, and where and when it was recorded. Every method raises the `InputError` that names the line."""

    path: Path
    line: int
    local: int  # ns since 1970, the recorder's clock
    data: dict[str, Any]

    def fault(self, problem: str) -> NoReturn:
        """Refuse the message."""
        fault(self.path, self.line, problem)

    def integer(self, key: str) -> int:
        """An integer from 0; a boolean is none."""
        value = self.data.get(key)
        if type(value) is not int or not 0 <= value <= HIGHEST:
            self.fault(f"'{key}' is {value!r}: must be an integer from 0")
        return value

    def time(self, key: str) -> int:
        """An exchange time in ms, within a day of the local time: a clock further off is none."""
        time = self.integer(key)
        local = self.local // 10**6
        if abs(time - local) > DAY_MS:
            self.fault(f"'{key}' is {time}: more than a day from the local time {local} (ms)")
        return time

    def positive(self, key: str) -> int:
        """A price or quantity above 0, in `UNITS`."""
        value = self._units(key, self.data.get(key))
        if value == 0:
            self.fault(f"'{key}' is {self.data[key]!r}: must be above 0")
        return value

    def levels(self, key: str) -> Levels:
        """The levels of one side; no price is 0 or comes twice."""
        rows = self.data.get(key)
        if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 2 for row in rows):
            self.fault(f"'{key}' must be a list of [price, quantity]")
        levels = [(self._units(key, price), self._units(key, quantity)) for price, quantity in rows]
        prices = {price for price, _ in levels}
        if 0 in prices or len(prices) < len(levels):
            self.fault(f"a price in '{key}' is 0 or comes twice")
        return levels

    def _units(self, key: str, text: Any) -> int:
        """A decimal text as an exact integer of `UNITS`."""
        match = _decimal(text) if isinstance(text, str) else None
        if match is None:
            self.fault(f"'{key}' holds {text!r}: must be a decimal number in quotes, of at most 8 decimals")
        whole, fraction = match.groups()
        return int(whole) * UNITS + int((fraction or "").ljust(8, "0"))


def read_messages(path: Path) -> Iterator[Message]:
    """Yield the messages of a plain or compressed file.

    Raises:
        InputError: the file cannot be read; a line is too long, has no time stamp, is not a JSON object, or its time
            stamp runs backwards.
    """
    latest = 0
    for number, line in read_lines(path, MAX_LINE_BYTES):
        message = _decoded(path, number, line)
        if message.local < latest:
            message.fault(f"the local time runs backwards by {(latest - message.local) * 1e-9:.6f} s")
        latest = message.local
        yield message


def _decoded(path: Path, number: int, line: bytes) -> Message:
    if len(line) > MAX_LINE_BYTES:
        fault(path, number, f"the line is longer than {MAX_LINE_BYTES} bytes")
    stamp, _, body = line.partition(b" ")
    if _stamp(stamp) is None:
        fault(path, number, f"starts with {line[:24]!r}: must start with a time stamp of 19 digits (ns) and a space")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as problem:
        fault(path, number, f"broken JSON ({problem})")
    if not isinstance(data, dict):
        fault(path, number, f"the JSON is a {type(data).__name__}: must be an object")
    return Message(path, number, int(stamp), data)
