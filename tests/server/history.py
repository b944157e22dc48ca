"""Checks of what a parameter server has done, for the tests of every engine: counts, a worker's log, a history."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def check_counts(statistics: Mapping[str, Any], *, gap: float = math.inf, delay: float = math.inf) -> None:
    """Nothing is lost silently, at any shard: pushed == applied + refused + lost. And the histograms keep in bounds.

    statistics: of `Client.statistics`, or of one shard. gap, delay: largest clock gap and version delay permitted.
    """
    for shard in statistics.get("shards", [statistics]):
        assert shard["pushed"] == shard["applied"] + sum(shard["refused"].values()) + shard["lost"], shard
        assert shard["version"] == shard["applied"] == sum(shard["version_delay"])
        assert min([shard["pushed"], shard["applied"], shard["lost"], *shard["refused"].values()]) >= 0
        assert len(shard["clock_gap"]) - 1 <= gap, f"clock gaps {shard['clock_gap']}, permitted are {gap}"
        assert len(shard["version_delay"]) - 1 <= delay, f"delays {shard['version_delay']}, permitted are {delay}"


def entry(kind: str, result: Any) -> list[Any]:
    """A line of a worker's log, from `Client.wait` or `Client.exchange`; plain, so that any engine brings it home."""
    return [kind, result.status.name, result.version, result.delay]


def check_log(log: Sequence[Sequence[Any]], *, crashes: bool = False) -> None:
    """What one worker saw, as `entry` noted it: versions never go back, and what it pulls holds what it pushed.

    crashes: the server may have been set back to a snapshot.
    """
    last = written = 0
    for kind, status, version, delay in log:
        assert kind in ("push", "pull", "exchange") and delay >= 0
        assert crashes or version >= last, f"version {version} after {last}"
        if kind != "push":
            assert crashes or version >= written, f"a pull of version {version} lacks the push that made {written}"
        if status == "APPLIED":
            assert version >= 1
            written = version
        last = version


def check_history(history: Iterable[Mapping[str, Any]], bound: float) -> None:
    """What the server did, shard by shard, as `InprocEngine.history` has it.

    A push is applied once, sequences of an epoch rise, every applied push is a version, no worker is more than the
    bound ahead of another (`bound`, until a "configured" entry changes it), nobody applies after it has gone, and a
    restored shard goes on from its last snapshot.
    """
    shards: dict[int, _Shard] = {}
    for item in history:
        if "shard" in item:
            shard = shards.setdefault(item["shard"], _Shard(bound))
            shard.take(item)


class _Shard:
    """A replica of what a shard should know."""

    def __init__(self, bound: float) -> None:
        self.bound = bound
        self.tau = bound
        self.version = 0
        self.pushes = 0
        self.last: dict[tuple[int, int], int] = {}
        self.gone: set[tuple[int, int]] = set()
        self.kept: tuple[int, dict[tuple[int, int], int], set[tuple[int, int]], float] | None = None

    def take(self, item: Mapping[str, Any]) -> None:
        match item["event"]:
            case "applied":
                self.apply(item)
            case "evicted" | "left":
                self.gone.add((item["worker"], item["epoch"]))
            case "joined":
                assert (item["worker"], item["epoch"]) not in self.gone | self.last.keys(), "an epoch came twice"
                self.last[item["worker"], item["epoch"]] = -1
            case "configured":
                self.tau = item.get("tau", self.tau)
                consistency = item.get("consistency")
                if consistency is not None:
                    self.bound = {"bsp": 0, "bounded": self.tau, "async": math.inf}[consistency]
            case "snapshot":
                assert item["version"] == self.pushes
                self.kept = (self.pushes, dict(self.last), set(self.gone), self.bound)
            case "restored":
                assert self.kept is not None and item["version"] == self.kept[0]
                self.pushes, self.last, self.gone, self.bound = self.kept
                self.last, self.gone = dict(self.last), set(self.gone)
                self.version = self.pushes

    def apply(self, item: Mapping[str, Any]) -> None:
        member = (item["worker"], item["epoch"])
        assert member not in self.gone, f"a push of {member} after it had gone"
        # A restored shard may hear of members that joined after its snapshot.
        assert item["sequence"] > self.last.get(member, -1), f"push {item['sequence']} of {member} applied twice"
        self.last[member] = item["sequence"]
        self.pushes += 1
        assert item["version"] >= max(self.version, self.pushes), "versions go back"  # answers of one release share it
        self.version = item["version"]
        assert 0 <= item["delay"] < item["version"]
        if item["clock"] is not None:
            ahead = item["clock"] - min(item["clocks"].values())
            assert ahead <= self.bound, f"worker {item['worker']} is {ahead} ahead, permitted are {self.bound}"
