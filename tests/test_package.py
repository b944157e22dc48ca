"""The package as others meet it: what it installs, where it finds its files, who imports whom."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import bitquote

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

ALLOWED = {
    "errors": set(),
    "compilation": set(),
    "progress": {"errors"},
    "environments": set(),
    "quoting": {"errors"},
    "book": {"errors", "compilation"},
    "flow": {"errors", "compilation", "book"},
    "market": {"errors", "compilation", "environments", "quoting", "book", "flow"},
    "ternary": {"errors", "compilation"},
    "recorded": {"errors", "compilation", "progress", "book", "market"},
    "calibration": {"errors", "progress", "quoting", "market", "recorded"},
    "server": {"errors", "progress"},
    "learning": {"errors", "progress", "quoting", "market", "ternary", "server"},
    "evaluation": {"errors", "quoting", "market", "ternary"},
    "report": {"errors", "quoting", "market", "recorded", "calibration", "evaluation"},
    "config": {"errors", "quoting", "learning", "server"},
    "run": {"errors", "ternary"},
}
"""Which rooms of the house a room may import from, besides itself."""
TORCH_FREE = (
    "book", "calibration", "config", "evaluation", "flow", "learning", "market", "quoting", "recorded", "run", "server",
)  # fmt: skip


def python(*arguments: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run this interpreter in `cwd`, with `path` alone as PYTHONPATH."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=250, check=False)


def imported(path: Path) -> set[str]:
    """The absolute names of all modules that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "bitquote").parts[0].removesuffix(".py")


SOURCES = [path for path in sorted((ROOT / "bitquote").rglob("*.py")) if path != ROOT / "bitquote" / "__init__.py"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    room = room_of(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "bitquote" and len(parts) > 1 and parts[1] != room:
            assert parts[1] in ALLOWED[room], f"{room} must not know {parts[1]}"
        assert parts[0] not in ("hydra", "omegaconf", "train"), "only train knows Hydra"
        assert room != "quoting" or parts[0] in {*sys.stdlib_module_names, "numpy", "scipy", "bitquote"}


def test_who_simulates_or_deploys_does_not_wait_for_torch(tmp_path):
    modules = ", ".join(f"bitquote.{room}" for room in (*TORCH_FREE, "ternary", "report"))
    code = f"import sys, {modules}; assert 'torch' not in sys.modules; from bitquote.ternary import load_policy"
    result = python("-c", f"{code}; assert 'torch' not in sys.modules", cwd=tmp_path, path=ROOT)
    assert result.returncode == 0, result.stderr


def test_importing_bitquote_is_light(tmp_path):
    heavy = ("torch", "numba", "scipy", "hydra", "lightning", "matplotlib")
    code = f"import sys, bitquote; print([name for name in {heavy} if name in sys.modules])"
    assert python("-c", code, cwd=tmp_path, path=ROOT).stdout.strip() == "[]"


def test_every_package_is_installed():
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "bitquote").rglob("__init__.py")}
    packages = {".".join(folder.parts) for folder in folders}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages | {"bitquote.apps", "bitquote.conf"}


def test_version_is_the_same_everywhere():
    assert f"version: {bitquote.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {bitquote.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_constraints_cover_what_is_installed_from_ranges():
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    project = PROJECT["project"]
    for requirement in project["dependencies"] + project["optional-dependencies"]["test"]:
        name = requirement.partition(">")[0].lower()
        assert name in {item.replace("_", "-") for item in pinned}, name


def test_code_is_clean():
    result = python("-m", "ruff", "check", "--no-cache", ".", cwd=ROOT)
    assert result.returncode == 0, result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The folder that holds the unpacked wheel, built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("bitquote", "conf", "train"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    result = python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source), cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_wheel_holds_every_file(wheel):
    for installed, checkout in (("bitquote", "bitquote"), ("bitquote/apps", "train"), ("bitquote/conf", "conf")):
        for path in (ROOT / checkout).rglob("*"):
            if path.suffix in (".py", ".yaml", ".typed", ".jinja"):
                assert (wheel / installed / path.relative_to(ROOT / checkout)).is_file(), path


@pytest.mark.slow
def test_wheel_runs_from_another_directory(wheel, tmp_path):
    result = python("-m", "bitquote.apps", "benchmark", "market=game", "output=result.json", cwd=tmp_path, path=wheel)
    assert result.returncode == 0, result.stderr
    assert "dynamic_program_penalty" in result.stdout
    assert (tmp_path / "result.json").is_file()
    code = """
import bitquote, pathlib
from importlib.metadata import entry_points
assert pathlib.Path(bitquote.__file__).is_relative_to(pathlib.Path(%r))
[point.load()() for point in entry_points(group="gymnasium.envs") if point.value.startswith("bitquote")]
import gymnasium
assert gymnasium.make("bitquote/Game-v0").action_space.shape == (2,)
print(len(bitquote.benchmark("market=game", output="again.json")["rows"]))
"""
    result = python("-W", "ignore", "-c", code % str(wheel), cwd=tmp_path, path=wheel)
    assert result.returncode == 0, result.stderr


def test_bare_checkout_runs_from_another_directory(tmp_path):
    code = "import bitquote\ntry: bitquote.benchmark('market=nonsense')\nexcept bitquote.InputError as e: print(e)"
    result = python("-c", code, cwd=tmp_path, path=ROOT)
    assert "btcusdt_spot" in result.stdout, result.stderr
