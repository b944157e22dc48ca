"""Cutting a model into the ranges of its shards."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from bitquote.server.config import ServerConfig
from bitquote.server.errors import Rejected
from bitquote.server.update import restrict, tensor_offsets


class Part(NamedTuple):
    """Weights [start, stop) of the model and what the update rule's description says of them."""

    start: int
    stop: int
    update: dict[str, Any]


def partition(size: int, shards: int, update: Mapping[str, Any]) -> list[Part]:
    """`shards` ranges of about equal length over `size` weights, cut where no tensor or group is cut in two.

    Raises `Rejected` when there are not that many places to cut at.
    """
    if shards == 1:
        return [Part(0, size, dict(update))]
    offsets = tensor_offsets(update, size)
    # A model without tensors or groups may be cut anywhere.
    places = np.arange(size + 1) if len(offsets) == 2 and "optimizers" not in update else offsets
    cuts = [0]
    for shard in range(1, shards):
        inside = places[(places > cuts[-1]) & (places < size)]
        if not len(inside):
            raise Rejected(f"server.shards is {shards}: must be at most {shard}, as this model cannot be cut further")
        cuts.append(int(inside[np.abs(inside - shard * size / shards).argmin()]))
    cuts.append(size)
    return [Part(a, b, restrict(update, a, b)) for a, b in pairwise(cuts)]


def identity(fingerprint: str | None, size: int, shard: int, config: ServerConfig) -> str:
    """What a snapshot must agree with: the model, and how it is cut."""
    return f"{fingerprint or 'unnamed'}: {size} weights, shard {shard} of {config.shards}"

