"""What a page was made with: versions and hardware, so that a figure can be made again."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import bitquote

PACKAGES = ("numba", "numpy", "scipy", "torch")


def provenance() -> dict[str, str]:
    """Names and values in reading order; nothing that names a user, a folder or a host."""
    return {
        "bitquote": bitquote.__version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }


def _processor() -> str:
    """The processor's name: of Linux's own list, elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
