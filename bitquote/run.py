"""A run directory: where one training leaves its policy, its configuration, its figures and its checkpoints."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bitquote.errors import InputError

CONFIG = "config.yaml"
POLICY = "policy.safetensors"
METRICS = "metrics.json"
BENCHMARK = "benchmark.json"

ROOM = 200 * 2**20
"""Bytes that must be free before a run begins: a run with its checkpoints and events takes a tenth of it."""


@dataclass(frozen=True)
class Run:
    """A finished run: `metrics` of the training and `benchmark`, the content of benchmark.json."""

    directory: Path
    metrics: dict[str, Any]
    benchmark: dict[str, Any]

    @classmethod
    def load(cls, directory: Path) -> Run:
        """The run that `directory` holds."""
        return cls(directory, read_json(directory / METRICS, "updates"), read_json(directory / BENCHMARK, "rows"))

    @property
    def policy(self) -> Any:
        """The trained policy (`bitquote.ternary.Policy`)."""
        from bitquote.ternary import load_policy

        return load_policy(self.directory / POLICY)


def new_directory(output: str | None, market: str) -> Path:
    """Make an empty run directory at `output`, or at runs/<market>/<time>-<number> when it is None."""
    if output is not None:
        directory = Path(output)
        if directory.is_dir() and any(directory.iterdir()):
            resume = f"resume it with run={output}, or " if (directory / CONFIG).exists() else ""
            raise InputError(f"output={output} is not empty: {resume}choose another directory")
    else:
        stem = Path("runs") / re.sub(r"[^\w-]+", "_", market) / datetime.now().strftime("%Y%m%d-%H%M%S")
        number = 1
        while (directory := stem.with_name(f"{stem.name}-{number}")).exists():
            number += 1
    make_directory(directory)
    return directory


def existing_directory(run: str) -> Path:
    """The directory of `run=`, which must hold a run's configuration."""
    directory = Path(run)
    if not (directory / CONFIG).is_file():
        raise InputError(f"run={run} holds no run: it has no {CONFIG}")
    return directory


def make_directory(directory: Path) -> None:
    """Make `directory` and see that it can be written and that the disk has room, before any work is done."""
    probe = directory / f".probe-{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        free = shutil.disk_usage(directory).free
    except OSError as error:
        raise InputError(f"cannot write to the directory {directory}: {error.strerror}") from None
    if free < ROOM:
        raise InputError(f"the disk of {directory} has {free / 2**20:.0f} MB free: a run needs {ROOM / 2**20:.0f} MB")


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """The object in a JSON file that a run wrote, which must hold `keys`."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path} is damaged: it is not JSON") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged: it is not a JSON object")
    for key in keys:
        if key not in value:
            raise InputError(f"{path} is damaged: it does not hold {key!r}")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` whole or not at all; a number that is not finite becomes null."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` whole or not at all: a reader never meets half a file."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
