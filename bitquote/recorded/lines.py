"""Lines of a gzip recording, one at a time: a local time stamp in nanoseconds, a space, a JSON object."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from bitquote.errors import InputError

MAX_LINE_BYTES = 16 * 2**20
"""A REST snapshot of 5 000 levels a side takes 0.4 MB; a longer line is no message, and is never held whole."""

_stamp = re.compile(rb"[1-8]\d{18}").fullmatch  # 2001 to 2255; more would not fit 64 bits


def fault(path: Path, line: int, problem: str) -> NoReturn:
    """Raise the one-line `InputError` that names the file and the line (counted from 1)."""
    problem = problem if len(problem) < 200 else problem[:197] + "..."
    raise InputError(f"{path}, line {line}: {problem}")


def read_lines(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield (line number from 1, local time in nanoseconds since 1970, message) of a gzip file.

    The file is decompressed as it is read, so memory is bounded by `MAX_LINE_BYTES` whatever the compression ratio.

    Raises:
        InputError: the file is missing, a directory, empty, not gzip, truncated or corrupted; a line is too long, has
            no time stamp, is not a JSON object, or its time stamp runs backwards.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a directory, not a recording")
    number = 0
    latest = 0
    try:
        with gzip.open(path, "rb") as stream:
            while text := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                stamp, message = _split(path, number, text)
                if stamp < latest:
                    fault(path, number, f"the local time runs backwards by {(latest - stamp) * 1e-9:.6f} s")
                latest = stamp
                yield number, stamp, message
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except EOFError:
        fault(path, number + 1, "the gzip file is truncated here")
    except (gzip.BadGzipFile, zlib.error) as problem:
        if number == 0:
            raise InputError(f"{path}: is not a gzip file ({problem})") from None
        fault(path, number + 1, f"the gzip data are corrupted ({problem})")
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem.strerror})") from None
    if number == 0:
        raise InputError(f"{path}: is empty")


def _split(path: Path, number: int, text: bytes) -> tuple[int, dict[str, Any]]:
    """The time stamp and the JSON object of one line."""
    if len(text) > MAX_LINE_BYTES:
        fault(path, number, f"the line is longer than {MAX_LINE_BYTES} bytes")
    stamp, _, body = text.partition(b" ")
    if _stamp(stamp) is None:
        fault(
            path,
            number,
            f"starts with {text[:24]!r}: must start with a time stamp of 19 digits (ns) and a space",
        )
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as problem:
        fault(path, number, f"broken JSON ({problem})")
    if not isinstance(message, dict):
        fault(path, number, f"the JSON is a {type(message).__name__}: must be an object")
    return int(stamp), message
