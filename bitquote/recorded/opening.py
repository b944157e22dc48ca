"""Any recording, opened by what its first line looks like."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bitquote.errors import InputError, require_choice
from bitquote.recorded.binance import read_binance
from bitquote.recorded.bitstamp import read_bitstamp
from bitquote.recorded.levels import LevelRecording, read_binance_levels
from bitquote.recorded.lines import read_lines
from bitquote.recorded.lobster import read_lobster
from bitquote.recorded.orders import OrderRecording
from bitquote.recorded.recording import Recording

_STARTS = {
    "binance": re.compile(rb"\d{19} "),
    "bitstamp": re.compile(rb"id,timestamp,"),
    "lobster": re.compile(rb"\d+(\.\d+)?,[1-7],"),
}
FORMATS = tuple(_STARTS)

_Read = TypeVar("_Read")


def recording_format(path: str | Path) -> str:
    """One of `FORMATS`, told by a file's first bytes once it is decompressed.

    Raises:
        InputError: it cannot be read, or begins like none of them.
    """
    _, start = next(read_lines(Path(path), 64))
    for name, begins in _STARTS.items():
        if begins.match(start):
            return name
    line = start.split(b"\n")[0].decode("ascii", "backslashreplace")
    raise InputError(
        f"{path}, line 1: begins with {line!r}: must be a Binance recording (a time stamp of 19 digits and JSON), "
        "Bitstamp's orders (id,timestamp,...) or a LOBSTER message file; format= says which"
    )


def open_recording(
    path: str | Path, format: str | None = None, order_book: str | Path | None = None
) -> Recording | OrderRecording:
    """Read a recording of any kind: tape and pictures (Binance), or single orders, which `replay` makes a book of.

    Args:
        path: The file.
        format: One of `FORMATS`; by default what the content tells.
        order_book: The order-book file beside a LOBSTER message file.

    Raises:
        InputError: one line that names the file, and the line where there is one.
    """
    return _open(read_binance, path, format, order_book)


def open_updates(
    path: str | Path, format: str | None = None, order_book: str | Path | None = None
) -> LevelRecording | OrderRecording:
    """The same for a replay: of Binance every update of a level, which `replay_levels` takes."""
    return _open(read_binance_levels, path, format, order_book)


def _open(
    of_binance: Callable[[str | Path], _Read], path: str | Path, format: str | None, order_book: str | Path | None
) -> _Read | OrderRecording:
    name = recording_format(path) if format is None else require_choice("format", format, FORMATS)
    if name == "lobster":
        return read_lobster(path, order_book)
    if order_book is not None:
        raise InputError(f"order_book is {order_book}: it belongs to LOBSTER's messages, and {path} is of {name}")
    return of_binance(path) if name == "binance" else read_bitstamp(path)
