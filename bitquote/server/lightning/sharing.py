"""One worker's part of a sequence that all workers of an epoch share out among themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any


class SharedSequence:
    """Iterates over the pieces of `sequence` that this worker is given, until none is left for it.

    A piece is `sequence.block` items (1 where the sequence has no such attribute), all from one multiple of it to the
    next. Every item goes to one worker. How many a worker gets is not known beforehand, so there is no length.

    Args:
        name: of this work; the same in all workers.
        draw: (key, total, block) -> first index of the next piece or None, as `Client.draw`.
        epoch: the number of the epoch that an iteration beginning now is of.
        limit: how many items this worker may still take in it, or infinity.
    """

    def __init__(
        self,
        sequence: Sequence[Any],
        name: str,
        draw: Callable[[str, int, int], int | None],
        epoch: Callable[[], int],
        limit: Callable[[], float],
    ) -> None:
        self.sequence = sequence
        self._name = name
        self._draw = draw
        self._epoch = epoch
        self._limit = limit
        self._begun = (-1, 0)

    def __iter__(self) -> Iterator[Any]:
        # Lightning may begin an epoch twice and drop the first iterator with what it has drawn: a key for each pass.
        epoch, passes = self._epoch(), 0
        if self._begun[0] == epoch:
            passes = self._begun[1] + 1
        self._begun = (epoch, passes)
        return self._items(f"{self._name}, epoch {epoch}, pass {passes}", self._limit())

    def _items(self, key: str, limit: float) -> Iterator[Any]:
        total, block, taken = len(self.sequence), int(getattr(self.sequence, "block", 1)), 0
        while taken < limit and (start := self._draw(key, total, block)) is not None:
            stop = min(start + block, total)
            if not math.isinf(limit):
                stop = min(stop, start + int(limit) - taken)
            for index in range(start, stop):
                yield self.sequence[index]
            taken += stop - start
