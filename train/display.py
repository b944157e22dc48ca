"""What a run says, on the screen and in its log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bitquote.progress import LOG

NAME = "log.txt"


@contextmanager
def logged(directory: Path) -> Iterator[None]:
    """Inside, progress and what `note` is told also go to the directory's log.txt, each line with its time."""
    handler = logging.FileHandler(directory / NAME, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
    handler.handleError = lambda record: None  # a full disk is no reason to stop, nor to print a traceback
    level = LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        yield
    except BaseException as error:
        note(f"stopped: {error or type(error).__name__}")
        raise
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
        handler.close()


def note(text: str) -> None:
    """Write lines to the log."""
    for line in text.splitlines():
        LOG.info(line.rstrip())
