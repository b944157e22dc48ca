"""Rows of a CSV recording, one at a time, plain or compressed: each must match its columns to the byte.

The compression is told by the file's first bytes and not by its name. Rows are matched by one regular expression a
format, so that nothing in a file is ever evaluated, and a number too long for 64 bits is no number.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple, NoReturn

from bitquote.errors import InputError
from bitquote.recorded.lines import fault

MAX_ROW_BYTES = 2**16
"""An order-book row of 200 levels takes 16 kB; a longer row is none, and is never held whole."""

_OPENERS = ((b"\x1f\x8b", gzip.open), (b"\xfd7zXZ\x00", lzma.open), (b"BZh", bz2.open))
_DAMAGED = (gzip.BadGzipFile, zlib.error, lzma.LZMAError)
UNREADABLE = (OSError, EOFError, *_DAMAGED)
"""What reading a missing, truncated or damaged file raises."""


class Column(NamedTuple):
    """One column: its name, the regular expression of a value, and what to say of any other."""

    name: str
    pattern: bytes
    expected: str


def read_rows(
    path: Path, columns: tuple[Column, ...], *, header: bool = False, periodic: bool = False
) -> Iterator[tuple[int, tuple[bytes, ...]]]:
    """Yield (line number from 1, the groups that the columns' patterns caught) for every row.

    Args:
        path: A CSV file; plain, gzip, bzip2 or xz.
        columns: What a row holds.
        header: Whether line 1 names the columns.
        periodic: Whether the columns come again and again, as often in every row as in the first.

    Raises:
        InputError: the file is missing, a directory, empty, truncated or corrupted; its header or a row is another.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a directory, not a recording")
    match = _matcher(columns)
    number = 0
    try:
        with opened(path) as stream:
            while row := stream.readline(MAX_ROW_BYTES + 1):
                number += 1
                if header and number == 1:
                    _check_header(path, row, columns)
                    continue
                if periodic and number == 1:
                    columns *= max(1, (row.count(b",") + 1) // len(columns))
                    match = _matcher(columns)
                values = match(row)
                if values is None:
                    _explain(path, number, row, columns)
                yield number, values.groups()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except EOFError:
        fault(path, number + 1, "the compressed file is truncated here")
    except _DAMAGED as problem:
        fault(path, number + 1, f"the compressed data are corrupted ({problem})")
    except OSError as problem:  # bzip2 has no error of its own
        raise InputError(f"{path}: cannot be read after line {number} ({problem.strerror or problem})") from None
    if number <= header:
        raise InputError(f"{path}: is empty")


def _matcher(columns: tuple[Column, ...]) -> Callable[[bytes], re.Match[bytes] | None]:
    return re.compile(b",".join(column.pattern for column in columns) + rb"\r?\n").fullmatch


def opened(path: Path) -> BufferedIOBase:
    """The file's bytes, decompressed if they begin like one of the compressions."""
    with path.open("rb") as stream:
        start = stream.read(6)
    for magic, opener in _OPENERS:
        if start.startswith(magic):
            return opener(path, "rb")
    return path.open("rb")


def _check_header(path: Path, row: bytes, columns: tuple[Column, ...]) -> None:
    names = ",".join(column.name for column in columns)
    if row.rstrip(b"\r\n") != names.encode():
        fault(path, 1, f"the columns are {_shown(row)}: must be {names}")


def _explain(path: Path, number: int, row: bytes, columns: tuple[Column, ...]) -> NoReturn:
    """Raise the `InputError` that says what is wrong with a row."""
    if len(row) > MAX_ROW_BYTES:
        fault(path, number, f"the row is longer than {MAX_ROW_BYTES} bytes")
    if not row.endswith(b"\n"):
        fault(path, number, f"the row {_shown(row)} does not end: the file is truncated here")
    values = row.rstrip(b"\r\n").split(b",")
    if len(values) != len(columns):
        fault(path, number, f"{len(values)} columns in {_shown(row)}: must be {len(columns)}")
    for column, value in zip(columns, values, strict=True):
        if re.fullmatch(column.pattern, value) is None:
            fault(path, number, f"{column.name} is {_shown(value)}: must be {column.expected}")
    fault(path, number, f"the row {_shown(row)} has stray characters")


def _shown(value: bytes) -> str:
    text = value.rstrip(b"\r\n")
    return repr(text[:80].decode("ascii", "backslashreplace") + ("..." if len(text) > 80 else ""))
