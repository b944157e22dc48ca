"""Snapshots: arrays and plain values in one checked file, written so that a crash leaves the one before it whole.

A file is a magic word, the SHA-256 of the rest, and the rest: a safetensors container (arrays) whose metadata hold a
JSON text (plain values). Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from bitquote.server import points
from bitquote.server.errors import SnapshotError

MAGIC = b"bitquote"
_PREFIX = len(MAGIC) + hashlib.sha256().digest_size
_ENDING = ".snapshot"


class Snapshot(NamedTuple):
    """What `latest` found; `passed_over` says, a line each, why newer files were not taken."""

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    path: Path
    passed_over: list[str]


def pack(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> bytes:
    """One checked blob. `meta` is what JSON can hold; meta["identity"], if there, names the run (see `latest`)."""
    text = json.dumps(dict(meta), allow_nan=False, separators=(",", ":"))
    try:
        # (ascontiguousarray would make a vector of a scalar.)
        body = safetensors.save({name: np.asarray(array, order="C") for name, array in arrays.items()}, {"json": text})
    except SafetensorError as error:
        raise SnapshotError(f"a snapshot cannot hold this: {_line(error)}") from None
    return b"".join([MAGIC, hashlib.sha256(body).digest(), body])


def unpack(data: bytes | bytearray | memoryview | np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, meta) of a blob, copies that may be written to; raises SnapshotError for anything that is none."""
    data = bytes(data)
    if not data.startswith(MAGIC):
        raise SnapshotError("not a snapshot: it does not begin as one")
    body = data[_PREFIX:]
    if hashlib.sha256(body).digest() != data[len(MAGIC) : _PREFIX]:
        raise SnapshotError("a damaged snapshot: its checksum is another")
    try:
        arrays = {name: _owned(array) for name, array in safetensors.load(body).items()}
        (length,) = struct.unpack_from("<Q", body)
        meta = json.loads(json.loads(body[8 : 8 + length])["__metadata__"]["json"])
        if not isinstance(meta, dict):
            raise TypeError("its values are not a dictionary")
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError, struct.error) as error:
        # The checksum is right: somebody made this on purpose.
        raise SnapshotError(f"not a snapshot of ours: {_line(error)}") from None
    return arrays, meta


def write(directory: str | Path, name: str, data: bytes, keep: int = 2, *, sync: bool = True) -> Path:
    """Make `data` (of `pack`) the newest snapshot `name` in `directory`; returns its path.

    It is written under a temporary name, synced and renamed, and then the folder is synced; after that all but the
    `keep` newest are removed. One process writes snapshots of one name at a time. An OSError (the disk is full)
    leaves those that were there, and nothing else. Without `sync` it survives the death of processes and not that of
    the machine.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    existing = _existing(directory, name)
    for _, stale in _existing(directory, name, ".", ".tmp"):  # of a writer that was killed
        stale.unlink(missing_ok=True)
    number = existing[0][0] + 1 if existing else 1
    path = directory / f"{name}-{number:09d}{_ENDING}"
    temporary = directory / f".{path.name}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            points.reach("snapshot.written")
            if sync:
                os.fsync(file.fileno())
        points.reach("snapshot.before_rename")
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(directory)
    for _, old in existing[max(keep - 1, 0) :]:
        old.unlink(missing_ok=True)
    return path


def latest(directory: str | Path, name: str, identity: str | None = None) -> Snapshot | None:
    """The newest snapshot `name` that is undamaged; None when there is none at all.

    Raises SnapshotError when all of them are damaged, or when one that is newer than any whole one is of another run:
    its meta["identity"] is not `identity` (None: no matter).
    """
    passed_over: list[str] = []
    for _, path in _existing(Path(directory), name):
        try:
            arrays, meta = unpack(path.read_bytes())
        except (SnapshotError, OSError) as error:
            passed_over.append(f"{path.name}: {_line(error)}")
            continue
        if identity is not None and meta.get("identity") != identity:
            raise SnapshotError(f"{path} is a snapshot of another run: use another directory, or remove it")
        return Snapshot(arrays, meta, path, passed_over)
    if passed_over:
        raise SnapshotError(f"no snapshot in {directory} is whole: {passed_over[0]}")
    return None


def _existing(directory: Path, name: str, before: str = "", after: str = "") -> list[tuple[int, Path]]:
    """Numbers and paths of the snapshots `name`, the newest first; with `before` and `after` around the file's name."""
    pattern = re.compile(re.escape(before + name) + r"-(\d{9,})" + re.escape(_ENDING + after))
    paths = directory.iterdir() if directory.is_dir() else ()
    found = ((pattern.fullmatch(path.name), path) for path in paths)
    return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)


def _owned(array: np.ndarray) -> np.ndarray:
    return array if array.flags.writeable else array.copy()


def sync_folder(directory: Path) -> None:
    """Have the disk keep the names of the files in `directory`, which their own syncing does not."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _line(error: Exception) -> str:
    """An error's text, or where it has none its name, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
