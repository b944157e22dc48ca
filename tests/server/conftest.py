"""What the tests of several engines share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from server.leaks import nothing_left


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A place for temporary files of its own, in which, as elsewhere, nothing may be left."""
    tmp_path_factory.getbasetemp()  # is elsewhere
    with tempfile.TemporaryDirectory(prefix="shm", dir="/tmp") as place:
        monkeypatch.setattr(tempfile, "tempdir", place)
        with nothing_left(Path(place)):
            yield Path(place)
