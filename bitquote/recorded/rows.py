"""Rows of a CSV recording, one at a time: each must match its columns to the byte.

Rows are matched by one regular expression a format, so that nothing in a file is ever evaluated, and a number too long
for 64 bits is no number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from bitquote.errors import InputError
from bitquote.recorded.lines import fault, read_lines

MAX_ROW_BYTES = 2**16
"""An order-book row of 200 levels takes 16 kB; a longer row is none, and is never held whole."""


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
        InputError: the file cannot be read; it has no row; its header or a row is another.
    """
    match = _matcher(columns)
    number = 0
    for number, row in read_lines(path, MAX_ROW_BYTES):
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
    if number <= header:
        raise InputError(f"{path}: is empty")


def _matcher(columns: tuple[Column, ...]) -> Callable[[bytes], re.Match[bytes] | None]:
    return re.compile(b",".join(column.pattern for column in columns) + rb"\r?\n").fullmatch


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
