"""The documentation runs as it stands: the README's Python, and every block of the pages named here.

On a page the blocks run one after the other in one folder, so that each may use what those before it have left. Python
is saved under the name in its first line, if there is one, and run; bash stops at the first failure. Words after the
language make exceptions: `setup` is not run here, `serve` runs until it is stopped. A `diff` is applied to a copy of
the package, which the blocks after it then import.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from recordings import real_recording

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```(\w+)( \w+)?\n(.*?)^```", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"# (\w+\.py)\n")
README = [text for kind, _, text in FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8")) if kind == "python"]
PAGES = {
    "model": pytest.mark.slow,
    "security": pytest.mark.slow,
    "measuring": pytest.mark.study,
    "quickstart": pytest.mark.study,
    "tutorial": pytest.mark.study,
    "extending": pytest.mark.study,
}
SERVED = 15.0
"""Seconds that a server must live."""
TIMED_OUT = 124
"""How `timeout` ends when the command was still there."""


def run(command: list[str], folder: Path, package: Path = ROOT, timeout: float = 280, status: int = 0) -> str:
    """What a command prints, with `bitquote` and this package where a shell would find them."""
    shim = folder / "bin" / "bitquote"
    shim.parent.mkdir(exist_ok=True)
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m train "$@"\n')
    shim.chmod(0o755)
    path = os.pathsep.join([str(shim.parent), str(Path(sys.executable).parent), "/usr/bin", "/bin"])
    environment = {"PYTHONPATH": str(package), "PATH": path, "HOME": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("block", README, ids=[block.split("\n")[0] for block in README])
def test_a_block_of_python_runs(block, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(block, encoding="utf-8")
    assert run([sys.executable, script.name], tmp_path)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", [pytest.param(page, marks=mark) for page, mark in PAGES.items()])
def test_every_block_of_a_page_runs(page, tmp_path):
    if page == "tutorial":
        (tmp_path / "recording.gz").symlink_to(real_recording("spot"))
    package = ROOT
    for kind, word, text in FENCE.findall((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")):
        if kind == "python":
            named = NAMED.match(text)
            script = tmp_path / (named[1] if named else "block.py")
            script.write_text(text, encoding="utf-8")
            assert run([sys.executable, script.name], tmp_path, package, 900)
        elif kind == "bash" and word == " serve":
            run(["timeout", "-s", "INT", str(SERVED), *text.split()], tmp_path, package, status=TIMED_OUT)
        elif kind == "bash" and not word:
            run(["bash", "-euo", "pipefail", "-c", text], tmp_path, package, 900)
        elif kind == "diff":
            package = patched(package, text, tmp_path)


def patched(package: Path, change: str, folder: Path) -> Path:
    """A copy of the package in `folder` with the change applied."""
    copy = folder / "changed"
    if package == ROOT:
        for part in ("bitquote", "train", "conf"):
            shutil.copytree(package / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        ["git", "apply", "--recount", "-"], cwd=copy, input=change, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return copy


def test_every_page_is_listed_and_known():
    listed = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in listed, page.name
    for page in PAGES:
        assert FENCE.search((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"))
