"""Lines of a recording, one at a time, plain or compressed; the file's first bytes tell, and not its name."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import NoReturn

from bitquote.errors import InputError
from bitquote.progress import progress

_OPENERS = ((b"\x1f\x8b", gzip.open), (b"\xfd7zXZ\x00", lzma.open), (b"BZh", bz2.open))

MEGABYTE = 2.0**20
REPORTED = 2000
"""Lines between two reports of how much has been read."""


def fault(path: Path, line: int, problem: str) -> NoReturn:
    """Raise the one-line `InputError` that names the file and the line (counted from 1)."""
    problem = problem if len(problem) < 200 else problem[:197] + "..."
    raise InputError(f"{path}, line {line}: {problem}")


def read_lines(path: Path, longest: int) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line with its end) of a plain, gzip, bzip2 or xz file.

    The file is decompressed as it is read, so memory is bounded whatever the compression ratio: of a line of more than
    `longest` bytes come the first `longest` + 1, which the caller refuses.

    Raises:
        InputError: the file is missing, a directory, not to be read, empty, truncated or corrupted.
    """
    number = 0
    try:
        with path.open("rb") as file, progress(f"reading {path.name}", "MB") as report:
            size, stream = path.stat().st_size / MEGABYTE, _decompressed(file)
            while line := stream.readline(longest + 1):
                number += 1
                if number % REPORTED == 0:
                    report("", file.tell() / MEGABYTE, size)
                yield number, line
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory, not a recording") from None
    except EOFError:
        fault(path, number + 1, "the compressed file is truncated here")
    except (OSError, zlib.error, lzma.LZMAError) as problem:
        if reason := getattr(problem, "strerror", None):  # of the system; gzip and bzip2 raise OSError without one
            raise InputError(f"{path}: cannot be read ({reason})") from None
        fault(path, number + 1, f"the compressed data are corrupted ({problem})")
    if number == 0:
        raise InputError(f"{path}: is empty")


def _decompressed(file: BufferedReader) -> BufferedIOBase:
    start = file.peek(6)
    for magic, opener in _OPENERS:
        if start.startswith(magic):
            return opener(file, "rb")
    return file
