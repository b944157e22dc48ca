"""Lightning's checkpoints when the worker that writes them may die: written whole or not at all, known to everybody."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO

from bitquote.server.snapshot import sync_folder

SUFFIX = ".ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name, has the disk keep it, and renames it.

    Files elsewhere than on a local disk (s3://..., for one) are written as Lightning does.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any = None) -> None:
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(Path(path), buffer.getbuffer())


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Replace `path` by a file of `data`, on disk when this returns; raises `OSError` and leaves the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def rename(trainer: Trainer, old: str, new: str) -> None:
    """Tell this worker's callbacks that the checkpoint which they know as `old` is in the file `new` ("": in none).

    Workers count their own steps, so that they would give one checkpoint different names.
    """
    for callback in trainer.checkpoint_callbacks:
        if old == new or not isinstance(callback, ModelCheckpoint):
            continue
        for name in ("best_model_path", "last_model_path", "kth_best_model_path"):
            if getattr(callback, name) == old:
                setattr(callback, name, new)
        if old in callback.best_k_models:
            score = callback.best_k_models.pop(old)
            if new:
                callback.best_k_models[new] = score


def newest(trainer: Trainer) -> Path | None:
    """The checkpoint that `trainer`'s callbacks have written last, by what lies in their folders."""
    found: list[tuple[float, Path]] = []
    for folder in _folders(trainer):
        with suppress(OSError):
            found += [(path.stat().st_mtime, path) for path in folder.iterdir() if path.suffix == SUFFIX]
    return max(found)[1] if found else None


def _folders(trainer: Trainer) -> Iterable[Path]:
    """Where checkpoints go: as `ModelCheckpoint` resolves it, which only a worker has done."""
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, ModelCheckpoint):
            continue
        if callback.dirpath is not None:
            yield Path(callback.dirpath)
        elif trainer.loggers:
            logger = trainer.loggers[0]
            version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
            yield Path(logger.save_dir or trainer.default_root_dir, str(logger.name), version, "checkpoints")
        else:
            yield Path(trainer.default_root_dir, "checkpoints")
