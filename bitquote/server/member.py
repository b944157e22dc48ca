"""What a shard remembers of each worker, present or departed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bitquote.server.consistency import Gate
from bitquote.server.filters import WeightPacker
from bitquote.server.message import Message
from bitquote.server.packing import KeyCache


@dataclass(slots=True)
class Member:
    """A live worker. One of its pushes at most is open at a time."""

    worker: int
    epoch: int
    heard: float
    packer: WeightPacker
    sequence: int = 0
    """Of its last push that is accounted for."""
    reason: str | None = None
    """Why that was refused; None if it was applied."""
    issued: int = 0
    """Pushes that it is known to have begun."""
    pushed: int = 0
    parked: Message | None = None
    arrived: float = 0.0
    """When the parked push came."""
    collecting: Message | None = None
    hyper: Mapping[str, Any] = field(default_factory=dict)
    """Hyperparameters that came with its last push and hold until others come."""
    key_lists: KeyCache = field(default_factory=KeyCache)
    """Of its pushes that leave keys out."""

    def as_dict(self, gate: Gate) -> dict[str, Any]:
        """Plain values, for statistics and snapshots."""
        return {
            "worker": self.worker,
            "epoch": self.epoch,
            "clock": gate.clocks[self.worker],
            "sequence": self.sequence,
            "reason": self.reason,
            "issued": self.issued,
            "pushed": self.pushed,
            "idle": self.worker in gate.idle,
            "parked": self.parked is not None,
            "hyper": dict(self.hyper),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], now: float, packer: WeightPacker) -> Member:
        """The inverse of `as_dict`, save for what only a connection knows; the gate keeps the clock."""
        names = ("worker", "epoch", "sequence", "reason", "issued", "pushed", "hyper")
        return cls(heard=now, packer=packer, **{name: values[name] for name in names})


@dataclass(slots=True)
class Departed:
    """A worker that left or was evicted."""

    accounted: int
    """Sequence of its last push that was applied or refused."""
    begun: int
    """Sequence of its last push that is known of; those between the two are lost."""
    refused: bool = False
    """Whether the last accounted for was refused."""
