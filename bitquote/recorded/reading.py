"""Any recording by one name: which of the formats a file has is told by its first line."""

from __future__ import annotations

import re
from pathlib import Path

from bitquote.errors import InputError, require_choice
from bitquote.recorded.bitstamp import read_bitstamp
from bitquote.recorded.levels import LevelRecording, read_binance_levels
from bitquote.recorded.lobster import read_lobster
from bitquote.recorded.orders import OrderRecording
from bitquote.recorded.rows import DAMAGED, open_plain

FORMATS = ("binance", "bitstamp", "lobster")

_LINES = {
    "binance": re.compile(rb"\d{19} *\{").match,
    "bitstamp": re.compile(rb"id,timestamp,").match,
    "lobster": re.compile(rb"\d+(\.\d+)?,\d,-?\d+,\d+,-?\d+,-?1\s").match,
}


def read_recording(
    path: str | Path, format: str | None = None, order_book: str | Path | None = None
) -> OrderRecording | LevelRecording:
    """Read and validate a recording of any format.

    Args:
        path: The file.
        format: One of `FORMATS`; None tells it from the first line.
        order_book: LOBSTER's order-book file beside the messages.

    Raises:
        InputError: one line that names the file and, where there is one, the line.
    """
    path = Path(path)
    chosen = _told(path) if format is None else require_choice("format", format, FORMATS)
    if chosen == "lobster":
        return read_lobster(path, order_book)
    if order_book is not None:
        raise InputError(f"order_book is {str(order_book)!r}: must be left out, {path} is no message file of LOBSTER")
    return read_binance_levels(path) if chosen == "binance" else read_bitstamp(path)


def _told(path: Path) -> str:
    """The format of a file by its first line."""
    if path.is_dir():
        raise InputError(f"{path}: is a directory, not a recording")
    try:
        with open_plain(path) as stream:
            line = stream.readline(256)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (EOFError, OSError, *DAMAGED) as problem:
        raise InputError(f"{path}: cannot be read ({problem})") from None
    for name, match in _LINES.items():
        if match(line):
            return name
    begin = repr(line[:60].decode("ascii", "backslashreplace"))
    raise InputError(f"{path}: begins with {begin}: must be a recording of {', '.join(FORMATS)}, or say format=")
