"""The cache of compiled kernels notices an edit of any file that a kernel may have been compiled from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CODE = "from bitquote.flow.random import seed_generator; import numpy; seed_generator(numpy.zeros(2, 'u8'), 0, 0, 0, 0)"


def test_an_edit_elsewhere_forgets_the_compiled_kernels(tmp_path):
    package = tmp_path / "bitquote"
    for room in (".", "book", "flow"):
        (package / room).mkdir(parents=True, exist_ok=True)
        for source in (ROOT / "bitquote" / room).glob("*.py"):
            shutil.copy(source, package / room)
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}

    def compiled() -> dict[Path, int]:
        subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, env=environment, check=True)
        return {path: path.stat().st_mtime_ns for path in package.rglob("*.nbi")}

    first = compiled()
    assert first
    assert compiled() == first
    with (package / "book" / "state.py").open("a") as file:
        file.write("\n# edited\n")
    again = compiled()
    assert set(again) == set(first) and all(again[path] > first[path] for path in first)
