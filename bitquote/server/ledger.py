"""What a shard counts: every push ends as applied, refused or lost, and how stale the applied ones were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass
class Ledger:
    """Counts since the shard began, crashes included. `pushed == applied + sum(refused) + lost` at any time."""

    pushed: int = 0
    """Pushes accounted for; one that waits at the gate is counted when it comes through."""
    applied: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By reason."""
    lost: int = 0
    """Begun by a worker and without effect: it died before they arrived, or a crash undid them."""
    duplicates: int = 0
    """Repeated messages of pushes that were accounted for already; not pushes of their own."""
    fenced: int = 0
    """Messages of workers that had been evicted, or that this server never knew."""
    joined: int = 0
    left: int = 0
    evicted: int = 0
    snapshots: int = 0
    gate_waits: int = 0
    gate_wait_seconds: float = 0.0
    bytes_received: int = 0
    bytes_raw_received: int = 0
    """What the received gradients would have been without filters; `bytes_raw_sent` the same of the weights."""
    bytes_sent: int = 0
    bytes_raw_sent: int = 0
    version_delay: Counter[int] = field(default_factory=Counter)
    """Of applied pushes: how many others were applied since their worker pulled."""
    clock_gap: Counter[int] = field(default_factory=Counter)
    """At every applied push: between the foremost and the last worker."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values; a histogram is the list of its counts at 0, 1, 2, ..."""
        values = asdict(self)
        values["refused"] = dict(sorted(self.refused.items()))
        values["version_delay"] = _dense(self.version_delay)
        values["clock_gap"] = _dense(self.clock_gap)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Ledger:
        """The inverse of `as_dict`."""
        ledger = cls(**{known.name: values[known.name] for known in fields(cls)})
        ledger.refused = Counter(values["refused"])
        ledger.version_delay = _sparse(values["version_delay"])
        ledger.clock_gap = _sparse(values["clock_gap"])
        return ledger


def merged(ledgers: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of several shards' counts as `as_dict` gives them."""
    total = Ledger()
    for values in ledgers:
        one = Ledger.from_dict({known.name: values[known.name] for known in fields(Ledger)})
        for known in fields(Ledger):
            setattr(total, known.name, getattr(total, known.name) + getattr(one, known.name))
    return total.as_dict()


def _dense(histogram: Counter[int]) -> list[int]:
    return [histogram[value] for value in range(max(histogram) + 1)] if histogram else []


def _sparse(counts: list[int]) -> Counter[int]:
    return Counter({value: count for value, count in enumerate(counts) if count})
