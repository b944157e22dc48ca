"""How a shard begins: with a definition, from its last snapshot, or empty until the first worker brings the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bitquote.server import snapshot
from bitquote.server.config import ServerConfig
from bitquote.server.partition import Part, identity
from bitquote.server.shard import ShardState
from bitquote.server.update import make_update


def snapshot_name(shard: int) -> str:
    """Under which a shard's snapshots are kept."""
    return f"shard-{shard}"


def pack_definition(part: Part, weights: np.ndarray, fingerprint: str | None) -> bytes:
    """A model's part for one shard, as `open_shard` takes it: float32 `weights` of the whole model, cut."""
    return snapshot.pack(
        {"weights": weights[part.start : part.stop]}, {"update": part.update, "fingerprint": fingerprint}
    )


def open_shard(
    config: ServerConfig,
    shard: int,
    definition: bytes | None,
    directory: Path | None,
    *,
    restore: bool,
    term: int,
    now: float,
) -> ShardState:
    """A shard as a server begins with it: from its last snapshot if `restore`, else of a definition, else empty.

    Raises `SnapshotError` for a snapshot that is damaged, or of another model than the definition's.
    """
    arrays, meta = ({}, {}) if definition is None else snapshot.unpack(definition)
    if restore and directory is not None:
        wanted = identity(meta["fingerprint"], len(arrays["weights"]), shard, config) if definition else None
        found = snapshot.latest(directory, snapshot_name(shard), wanted)
        if found is not None:
            state = ShardState.restore(config, found.arrays, found.meta, term=term, now=now)
            for reason in found.passed_over:
                state.note("snapshot passed over", reason=reason)
            return state
    state = ShardState(config, shard=shard, term=term)
    if definition is not None:
        state.define(arrays["weights"], make_update(meta["update"], config), meta["fingerprint"])
    return state

