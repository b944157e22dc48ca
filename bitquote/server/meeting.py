"""Where workers meet (`Meeting`) and where they fetch work (`Shares`): two small ledgers without clocks or sockets.

Both are pure: what they answer depends on the calls alone. Both answer a repeated request as they answered it the first
time, since a worker whose connection broke asks again; and both go to and from plain dicts that JSON holds.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from bitquote.errors import require, require_integer
from bitquote.server.errors import Rejected

ROUNDS_KEPT = 4
"""Finished rounds whose results are kept. A live worker misses one at most; more are for those that were away."""
KEYS_KEPT = 4
"""Pieces of work that are handed out at one time: workers of an asynchronous run are in different ones."""
NAMES_KEPT = 64
"""Keys that are forgotten but known to be over: a straggler that asks for one gets nothing, not all of it again."""
LONGEST_NAME = 256
"""Letters of the name of a collective or of work."""


class Released(NamedTuple):
    """The end of somebody's waiting: the values of all, by `str(worker)` as in JSON, or what went wrong."""

    worker: int
    round: int
    values: dict[str, Any] | None
    error: str | None


class Meeting:
    """A collective: every worker brings a value and gets those of all. Barrier, broadcast, reduce, gather are such.

    Workers number their collectives 1, 2, 3, ... (`round`); one round is open at a time, since nobody can be in the
    next before all are through this one. Only live workers are waited for: the caller says who lives.
    """

    def __init__(self) -> None:
        self.round = 1
        """The open round; where a worker that joins now begins."""
        self._name: str | None = None
        self._came: dict[int, Any] = {}
        self._waiting: set[int] = set()
        self._finished: dict[int, dict[str, Any]] = {}
        self._released: list[Released] = []

    def collect(
        self,
        worker: int,
        round: int,
        name: str,
        value: Any,
        previous: Mapping[str, Any] | None,
        live: Collection[int],
        missing: int = 0,
    ) -> dict[str, Any] | None:
        """`worker` comes to `round` with a `value`; the values of all, or None: it waits, see `results`.

        previous: what round - 1 gave this worker (None if it had none): a server set back by a crash learns from it.
        live: the workers that are waited for. missing: how many must still join before any round can end.
        Raises `Rejected` for a round that is over and forgotten, and when workers meet under different names: then
        nobody who comes to this round gets a result.
        """
        require_integer("the round of a collective", round, 1)
        require(isinstance(name, str) and len(name) <= LONGEST_NAME, "the name of a collective", name, "a short text")
        require(previous is None or isinstance(previous, Mapping), "the result before", previous, "a mapping or null")
        if round > self.round:
            self.recall(round - 1, previous)
        if round < self.round:
            return self._result(round)
        if self._name is not None and name != self._name:
            self._finish({"error": f"workers disagree: {self._name!r} and {name!r}"}, keep=worker)
            return self._result(round)
        self._name = name
        self._came[worker] = value
        self._waiting.add(worker)
        if self._complete(live, missing):
            self._finish({"values": self._values(live)}, keep=worker)
            return self._result(round)
        return None

    def results(self, live: Collection[int], missing: int = 0) -> list[Released]:
        """Whose waiting has ended since the last call: by the last worker's coming, or since another one is gone."""
        if self._waiting and self._complete(live, missing):
            self._finish({"values": self._values(live)})
        released, self._released = self._released, []
        return released

    def recall(self, round: int, result: Mapping[str, Any] | None) -> None:
        """A worker remembers `round` as over, with this result. Only news to a server that was set back by a crash."""
        if round >= self.round:
            self.round = round
            self._finish({"values": {str(key): value for key, value in (result or {}).items()}})

    def forget(self, worker: int) -> None:
        """`worker` is gone: it waits no longer and what it brought to the open round does not count."""
        self._came.pop(worker, None)
        self._waiting.discard(worker)
        if not self._came:
            self._name = None

    def as_dict(self) -> dict[str, Any]:
        """All but who waits: after a restart those ask again."""
        return {
            "round": self.round,
            "name": self._name,
            "came": [[worker, value] for worker, value in sorted(self._came.items())],
            "finished": [[round, result] for round, result in sorted(self._finished.items())],
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Meeting:
        """The inverse of `as_dict`."""
        meeting = cls()
        meeting.round = int(state["round"])
        meeting._name = state["name"]
        meeting._came = {int(worker): value for worker, value in state["came"]}
        meeting._finished = {int(round): dict(result) for round, result in state["finished"]}
        return meeting

    def _complete(self, live: Collection[int], missing: int) -> bool:
        return missing <= 0 and self._came.keys() >= set(live)

    def _values(self, live: Collection[int]) -> dict[str, Any]:
        return {str(worker): value for worker, value in sorted(self._came.items()) if worker in live}

    def _finish(self, result: dict[str, Any], keep: int | None = None) -> None:
        """The open round ends with `result`; all who wait are released, save `keep`, who is answered at once."""
        self._finished[self.round] = result
        for worker in sorted(self._waiting - {keep}):
            self._released.append(Released(worker, self.round, result.get("values"), result.get("error")))
        self.round += 1
        self._name, self._came, self._waiting = None, {}, set()
        self._finished = {round: self._finished[round] for round in sorted(self._finished)[-ROUNDS_KEPT:]}

    def _result(self, round: int) -> dict[str, Any]:
        result = self._finished.get(round)
        if result is None:
            raise Rejected(f"round {round} of the collectives is over: round {self.round} is open")
        if "error" in result:
            raise Rejected(result["error"])
        return result["values"]


class Shares:
    """Work of `total` items under a key, handed out in pieces of `block` items, each piece once.

    With W workers alive when the key is opened, number r of them (by worker id) owns the pieces r, r + W, ... and gets
    them in this order. Who has none left takes over those of workers that are gone, and then, if it may, the last one
    of whoever has most before it; but never the first piece of a live worker, so that everyone alive takes part.
    """

    def __init__(self) -> None:
        self._open: dict[str, dict[str, Any]] = {}
        self._over: list[str] = []
        self._last: dict[int, tuple[list[int], int | None]] = {}

    def draw(
        self,
        key: str,
        worker: int,
        total: int,
        block: int,
        live: Collection[int],
        steal: bool,
        request: tuple[int, int] | None = None,
        previous: int | None = None,
    ) -> int | None:
        """The first index of the next piece, [index, min(index + block, total)), or None: nothing is left.

        live: the workers that own pieces if the key is new, and those whose pieces are not free to take otherwise.
        request: (epoch, number) of the request; one that was the worker's last is answered as before.
        previous: what the worker drew last under this key; news only to a server that was set back by a crash.
        Raises `Rejected` if `total` or `block` is not what the key was opened with, `InputError` if out of range.
        """
        require(isinstance(key, str) and len(key) <= LONGEST_NAME, "the key of a draw", key, "a short text")
        require_integer("total of a draw", total, 0)
        require_integer("block of a draw", block, 1)
        if previous is not None:
            require_integer("the previous index of a draw", previous, 0)
        if request is not None:
            last = self._last.get(worker)
            if last is not None and last[0] == list(request):
                return last[1]
        index = self._next(key, worker, total, block, live, steal, previous)
        if request is not None:
            self._last[worker] = (list(request), index)
        return index

    def forget(self, worker: int) -> None:
        """`worker` is gone and its last request is not repeated. Its pieces become free by its absence from `live`."""
        self._last.pop(worker, None)

    def as_dict(self) -> dict[str, Any]:
        """Everything, in plain lists and dicts."""
        last = [[worker, *last] for worker, last in sorted(self._last.items())]
        return copy.deepcopy({"open": list(map(list, self._open.items())), "over": self._over, "last": last})

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Shares:
        """The inverse of `as_dict`."""
        shares = cls()
        state = copy.deepcopy(dict(state))
        shares._open = dict(state["open"])
        shares._over = state["over"]
        shares._last = {int(worker): (request, index) for worker, request, index in state["last"]}
        return shares

    def _next(
        self, key: str, worker: int, total: int, block: int, live: Collection[int], steal: bool, previous: int | None
    ) -> int | None:
        if key in self._over:
            return None
        work = self._open.get(key)
        if work is None:
            work = self._begin(key, worker, total, block, live)
        if (work["total"], work["block"]) != (total, block):
            raise Rejected(
                f"workers disagree about the work {key!r}: "
                f"{work['total']} items in blocks of {work['block']}, and {total} in blocks of {block}"
            )
        owners, front, back = work["owners"], work["front"], work["back"]
        if previous is not None and worker in owners:
            # Own pieces are handed out in order, so those before it were too. (Others may be done twice after a crash.)
            i, r = divmod(previous // block, len(owners))
            if owners[r] == worker and i < _count(work, r):
                front[r] = max(front[r], min(i + 1, _count(work, r) - back[r]))
        for r, owner in sorted(enumerate(owners), key=lambda pair: pair[1] != worker):
            # Pieces of the gone are taken in order too: the first of them is the one waited for longest.
            if (owner == worker or owner not in live) and _left(work, r) > 0:
                front[r] += 1
                return (r + (front[r] - 1) * len(owners)) * block
        if steal:
            # The first piece of a live owner stays its own: it counts as left only once the owner has begun.
            spare = [_left(work, r) - (front[r] == 0) for r in range(len(owners))]
            r = max(range(len(owners)), key=lambda r: (spare[r], -r))
            if spare[r] > 0:
                back[r] += 1
                return (r + (_count(work, r) - back[r]) * len(owners)) * block
        return None

    def _begin(self, key: str, worker: int, total: int, block: int, live: Collection[int]) -> dict[str, Any]:
        owners = sorted({*live, worker})
        zeros = [0] * len(owners)
        work = {"total": total, "block": block, "owners": owners, "front": zeros, "back": list(zeros)}
        self._open[key] = work
        while len(self._open) > KEYS_KEPT:
            oldest = next(iter(self._open))
            del self._open[oldest]
            self._over = [*self._over, oldest][-NAMES_KEPT:]
        return work


def _count(work: Mapping[str, Any], r: int) -> int:
    """Pieces that owner number r was given when the key was opened."""
    pieces = -(-work["total"] // work["block"])
    return max(0, -(-(pieces - r) // len(work["owners"])))


def _left(work: Mapping[str, Any], r: int) -> int:
    """Pieces of owner number r that nobody has taken: `front` are gone from the beginning, `back` from the end."""
    return _count(work, r) - work["front"][r] - work["back"][r]
