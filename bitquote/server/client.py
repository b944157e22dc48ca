"""A worker's side of the parameter server: push, pull, wait.

A client speaks to every shard over a connection that breaks and heals without the caller's knowledge: it connects
again, says who it was, and repeats what was not answered; the server knows what it has accounted for already.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

import numpy as np

from bitquote.server import snapshot
from bitquote.server.errors import Rejected, ServerError
from bitquote.server.ledger import merged
from bitquote.server.line import Connect, Line, Result, Who
from bitquote.server.message import Kind, Message, Status
from bitquote.server.partition import Part, partition


class Client:
    """A worker at the parameter server, or an observer of it.

    `push` and `pull` return a timestamp at once, `wait` waits for it. A worker's next push first waits for the answer
    to its last one, which comes when the gate has let that through. Not for use from several threads.

    Args:
        connects: one function a shard that makes a channel to it.
        worker: the id that is wished for; -1 takes the lowest free one.
        fingerprint: names the model; the server refuses a worker of another one. None: no check.
        observer: only looks and configures; is no member, and nobody waits for it.
        deadline: seconds without a sign of life from the server after which a call raises `ServerUnavailable`.
        beats: send signs of life from a background thread (an engine with a virtual clock has its own).
        seed: of the filters that draw random numbers.
        sleep, clock: time as the engine has it.
    """

    def __init__(
        self,
        connects: Sequence[Connect],
        *,
        worker: int = -1,
        fingerprint: str | None = None,
        observer: bool = False,
        deadline: float = 30.0,
        beats: bool = True,
        seed: int = 0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sleep = sleep
        self.clock = clock
        self.pushed = self.applied = self.refused = 0
        self._who = Who(worker, fingerprint, observer, deadline, seed, sleep, clock)
        self._lines: list[Line] = []
        self._open: dict[int, tuple[np.ndarray | None, list[tuple[Line, Kind, int]]]] = {}
        self._timestamp = 0
        self._drawn: dict[str, int] = {}
        self._scratch = np.empty(0, np.float32)
        self._closed = threading.Event()
        try:
            for shard, connect in enumerate(connects):
                self._lines.append(Line(self._who, connect, shard))
        except BaseException:
            self.close()
            raise
        self._place()
        if beats and not observer:
            threading.Thread(target=self._beat, name="bitquote-heartbeat", daemon=True).start()

    @classmethod
    def connect(cls, address: str, token: str, **options: Any) -> Self:
        """A client of the server at `address`: the path of a socket (shm), or "ray:<name>" on the cluster in use."""
        if address.startswith("ray:"):
            from bitquote.server.ray.engine import connects
        else:
            from bitquote.server.shm.channel import connects
        return cls(connects(address, token), **options)

    @property
    def worker(self) -> int:
        """This worker's id; -1 for an observer."""
        return self._who.worker

    @property
    def epoch(self) -> int:
        """Of this stay, at the first shard."""
        return self._lines[0].epoch

    @property
    def size(self) -> int:
        """Number of weights over all shards; 0 until the model is defined."""
        lines = self._lines
        return lines[0].size if len(lines) == 1 else sum(line.size for line in lines)

    @property
    def version(self) -> int:
        """Pushes in the weights that were pulled last (the fewest of any shard)."""
        return min(line.version for line in self._lines)

    @property
    def parts(self) -> list[Part]:
        """The shards' ranges, and what each knows of the update rule."""
        return [Part(line.start, line.stop, line.update) for line in self._lines]

    @property
    def gradient(self) -> np.ndarray:
        """Scratch space, float32 (size,): with one shard, a gradient written here is pushed without a copy."""
        own = self._lines[0].channel.gradient() if len(self._lines) == 1 else None
        if own is not None:
            return own
        if len(self._scratch) != self.size:
            self._scratch = np.empty(self.size, np.float32)
        return self._scratch

    def push(
        self,
        gradient: np.ndarray,
        *,
        start: int = 0,
        hyper: Mapping[str, Any] | None = None,
        pull: bool = False,
        out: np.ndarray | None = None,
    ) -> int:
        """Send a gradient, float32, of the keys from `start` on; the timestamp to `wait` for.

        `gradient` must not change before then. `hyper`: hyperparameters of the update rule, for this push and those
        after it. `pull`: the answer brings the weights of the same keys, into `out` if given.
        """
        keys = self._keys(gradient, "gradient", start, None)
        if out is not None:
            self._keys(out, "out", start, len(gradient))
        self.pushed += 1
        opened = []
        for line, own in self._touched(keys):
            part = gradient if len(self._lines) == 1 else gradient[own.start - start : own.stop - start]
            target = out if out is None or len(self._lines) == 1 else out[own.start - start : own.stop - start]
            opened.append((line, Kind.PUSH, line.push(part, own.start - line.start, hyper, pull, target)))
        return self._stamped(out, opened)

    def pull(self, out: np.ndarray | None = None, *, start: int = 0, stop: int | None = None) -> int:
        """Ask for the weights of keys [start, stop), into `out` (float32) if given; the timestamp to `wait` for."""
        stop = self.size if stop is None else stop
        if out is None and len(self._lines) > 1:
            out = np.empty(max(stop - start, 0), np.float32)
        if out is not None:
            self._keys(out, "out", start, stop - start)
        opened = []
        for line, own in self._touched(self._range(start, stop)):
            target = None if out is None else out[own.start - start : own.stop - start]
            opened.append((line, Kind.PULL, line.pull(own.start - line.start, own.stop - line.start, target)))
        return self._stamped(out, opened)

    def wait(self, timestamp: int) -> Result:
        """What became of the push or pull with this timestamp. A refused push is a result, not an exception."""
        if timestamp not in self._open:
            raise Rejected(f"timestamp {timestamp} is unknown, or was waited for already")
        out, opened = self._open.pop(timestamp)
        if len(opened) == 1:
            line, kind, number = opened[0]
            result = line.result(kind, number)
        else:
            result = _worst([line.result(kind, number) for line, kind, number in opened])._replace(weights=out)
        return self._counted(result) if opened[0][1] == Kind.PUSH else result

    def exchange(
        self, gradient: np.ndarray, out: np.ndarray | None = None, *, hyper: Mapping[str, Any] | None = None
    ) -> Result:
        """Push, and wait for the weights that the push has led to: one round trip to every shard.

        `out` None needs no copy where there is one shard: the result's weights are then a view.
        """
        if len(self._lines) > 1:
            out = np.empty(len(gradient), np.float32) if out is None else out
            return self.wait(self.push(gradient, hyper=hyper, pull=True, out=out))
        # The same without the detour over a timestamp: here microseconds count.
        self._keys(gradient, "gradient", 0, None)
        if out is not None:
            self._keys(out, "out", 0, len(gradient))
        line = self._lines[0]
        self.pushed += 1
        return self._counted(line.result(Kind.PUSH, line.push(gradient, 0, hyper, True, out)))

    def weights(self) -> np.ndarray:
        """All weights as they are now, float32 (size,)."""
        out = np.empty(self.size, np.float32)
        self.wait(self.pull(out))
        return out

    def define(self, weights: np.ndarray, update: Mapping[str, Any], fingerprint: str | None = None) -> bool:
        """Bring the model, unless another worker has: weights float32 (n,) and the description of an update rule.

        Returns whether this worker was the first. Raises `Rejected` when the server trains another model.
        """
        _check_array(weights, "weights")
        first = False
        for line, part in zip(self._lines, partition(len(weights), len(self._lines), update), strict=True):
            data = snapshot.pack({"weights": weights[part.start : part.stop]}, {})
            body = {"fingerprint": fingerprint, "update": part.update}
            welcome = line.ask(Kind.DEFINE, body, np.frombuffer(data, np.uint8)).body
            line.welcome(welcome)
            first |= bool(welcome["first"])
        self._who.fingerprint = fingerprint
        self._place()
        return first

    def state(self) -> list[dict[str, np.ndarray]]:
        """The state of the update rule, shard by shard."""
        replies = [line.ask(Kind.SAVE) for line in self._lines]
        return [snapshot.unpack(np.asarray(reply.values))[0] for reply in replies]

    def load(self, state: Sequence[Mapping[str, np.ndarray]]) -> bool:
        """Put a state of the update rule back; only before the first push. Returns whether it was put."""
        loaded = True
        for line, arrays in zip(self._lines, state, strict=True):
            data = np.frombuffer(snapshot.pack(arrays, {}), np.uint8)
            loaded &= bool(line.ask(Kind.LOAD, values=data).body["loaded"])
        return loaded

    def configure(self, **changes: Any) -> None:
        """Change `consistency`, `tau` or the number of `expected` workers while the server runs."""
        for line in self._lines:
            line.ask(Kind.CONFIGURE, changes)

    def statistics(self) -> dict[str, Any]:
        """Counts and histograms over all shards (see `Ledger`), and each shard's own under "shards"."""
        shards: list[Mapping[str, Any]] = [dict(line.ask(Kind.STATISTICS).body) for line in self._lines]
        first = {name: shards[0][name] for name in ("version", "term", "consistency", "tau", "members", "parked")}
        return {**first, "size": sum(shard["size"] for shard in shards), **merged(shards), "shards": shards}

    def snapshot(self) -> None:
        """Ask every shard for a snapshot now."""
        for line in self._lines:
            line.ask(Kind.SNAPSHOT)

    def collect(self, name: str, value: Any = None, *, deadline: float = 600.0) -> dict[int, Any]:
        """Meet all live workers under `name`; what each has brought (anything that JSON holds), by worker.

        Nobody waits at the gate for one who waits here. Raises `ServerUnavailable` if others fail to come in time.
        """
        who, first = self._who, self._lines[0]
        number = who.round + 1
        for line in self._lines:
            body = {"name": name, "value": value if line is first else None, "previous": who.met}
            line.request(Message(Kind.COLLECT, who.worker, line.epoch, number, body=body))
        until = self.clock() + deadline
        replies = [line.reply(Kind.COLLECT, number, until) for line in self._lines]
        who.round, who.met = number, replies[0].body["values"]
        return {int(worker): brought for worker, brought in replies[0].body["values"].items()}

    def draw(self, key: str, total: int, block: int = 1) -> int | None:
        """The next piece [index, index + block) of the shared work `key`; None when nothing is left for this worker."""
        body = {"key": key, "total": total, "block": block, "previous": self._drawn.get(key)}
        index = self._lines[0].ask(Kind.DRAW, body).body["index"]
        if index is not None:
            self._drawn = {key: index}
        return index

    def leave(self) -> None:
        """Leave the server in good order, and close."""
        for line in self._lines:
            with suppress(ServerError):
                line.leave()
        self.close()

    def close(self) -> None:
        """Close the connections; a worker that has not left counts as crashed."""
        self._closed.set()
        for line in self._lines:
            line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and not self._who.observer and not self._closed.is_set():
            self.leave()
        self.close()

    def _place(self) -> None:
        """Lay the shards' ranges side by side."""
        start = 0
        for line in self._lines:
            line.start, line.stop = start, start + line.size
            start += line.size

    def _keys(self, array: np.ndarray, name: str, start: int, length: int | None) -> slice:
        """The keys that an array is for, from `start` on."""
        _check_array(array, name)
        if length is not None and len(array) != length:
            raise Rejected(f"{name} has length {len(array)}: must be {length}, the number of keys")
        return self._range(start, start + len(array))

    def _range(self, start: int, stop: int) -> slice:
        if not 0 <= start < stop <= self.size:
            if not self.size:
                raise Rejected("the server has no model yet: define it first")
            raise Rejected(f"keys [{start}, {stop}) are unknown: this server has [0, {self.size})")
        return slice(start, stop)

    def _touched(self, keys: slice) -> list[tuple[Line, slice]]:
        """The shards that hold some of the keys, with the part that each holds."""
        if len(self._lines) == 1:
            return [(self._lines[0], keys)]
        return [
            (line, slice(max(keys.start, line.start), min(keys.stop, line.stop)))
            for line in self._lines
            if line.start < keys.stop and keys.start < line.stop
        ]

    def _counted(self, result: Result) -> Result:
        """The result of a push, once for every push."""
        if result.status == Status.REFUSED:
            self.refused += 1
        else:
            self.applied += 1
        return result

    def _stamped(self, out: np.ndarray | None, opened: list[tuple[Line, Kind, int]]) -> int:
        self._timestamp += 1
        self._open[self._timestamp] = (out, opened)
        return self._timestamp

    def _beat(self) -> None:
        """Signs of life while the worker computes."""
        while not self._closed.wait(min(line.config.heartbeat for line in self._lines) / 3.0):
            for line in self._lines:
                line.beat()


def _check_array(array: Any, name: str) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != 1:
        shown = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise Rejected(f"{name} is {shown}: must be a float32 array of one dimension")


def _worst(results: list[Result]) -> Result:
    """Of what several shards made of one push: refused if any refused it, and the largest delay."""
    refused = next((result for result in results if result.status == Status.REFUSED), results[0])
    return refused._replace(
        version=min(result.version for result in results), delay=max(result.delay for result in results)
    )
