"""A synthetic recording of each kind, as lines and as a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from recordings import Line, synthetic_lines, write


@pytest.fixture(params=["spot", "usdm"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def lines(kind: str) -> list[Line]:
    return synthetic_lines(kind)


@pytest.fixture
def recorded(tmp_path: Path, lines: list[Line]) -> Path:
    return write(tmp_path / "recording.gz", lines)
