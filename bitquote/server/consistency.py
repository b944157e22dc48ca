"""Bounded staleness: the clocks of the workers, and the gate that keeps them together.

A worker's clock is the number of its pushes that are done. A push waits at the gate until no live worker would be
more than `bound` behind it: 0 is bulk-synchronous, infinity asynchronous, anything between the stale-synchronous
parallelism of Ho et al. (NIPS 2013). A waiting push counts as done for those who wait for its worker; so under
bound 0 all pushes of a round are let through together.

Where each of W workers pulls with its push, a gradient is at most (W - 1) max(2 bound, 1) pushes old (`delay_bound`).
Between a worker's pull at clock c and the application of its next push, another goes at most from c - bound to
c + 1 + bound; the last of these steps counts only under bound 0, for pushes that the gate lets through together are
applied in the order of their clocks. Exhaustive schedules attain this for every W and bound that was tried.
"""

from __future__ import annotations

from collections.abc import Iterable


class Gate:
    """Clocks of the live workers.

    Attributes:
        bound: largest permitted gap between two clocks; may be changed at any time.
        clocks: pushes done, of every live worker.
        waiting: workers whose next push waits here.
        idle: workers that others need not wait for, because they stand at a collective.
    """

    def __init__(self, bound: float) -> None:
        self.bound = bound
        self.clocks: dict[int, int] = {}
        self.waiting: set[int] = set()
        self.idle: set[int] = set()

    def join(self, worker: int) -> None:
        """A new worker starts beside the slowest that is at work, so it holds nobody back and is not held."""
        self.clocks[worker] = self._lowest() if self.clocks else 0

    def leave(self, worker: int) -> None:
        del self.clocks[worker]
        self.waiting.discard(worker)
        self.idle.discard(worker)

    def admitted(self) -> list[int]:
        """The waiting workers that may go through now, in the order in which their pushes are to be applied."""
        waiting, clocks = self.waiting, self.clocks
        if not waiting:
            return []
        if len(clocks) == 1:
            return list(waiting)  # nobody to wait for
        ceiling = self.bound + min(
            [clock + (worker in waiting) for worker, clock in clocks.items() if worker not in self.idle]
        )
        through = [worker for worker in waiting if clocks[worker] < ceiling]
        return through if len(through) < 2 else sorted(through, key=lambda worker: (clocks[worker], worker))

    def tick(self, worker: int) -> None:
        """One more push of `worker` is done."""
        self.clocks[worker] += 1
        self.waiting.discard(worker)

    def level(self, workers: Iterable[int]) -> None:
        """Workers leave a collective: they go on together, from the clock of the foremost."""
        workers = list(workers)
        foremost = max(self.clocks[worker] for worker in workers)
        for worker in workers:
            self.clocks[worker] = foremost
            self.idle.discard(worker)

    def gap(self) -> int:
        """Between the foremost and the last of the workers that are not idle."""
        if len(self.clocks) < 2:
            return 0
        clocks = [clock for worker, clock in self.clocks.items() if worker not in self.idle]
        return max(clocks) - min(clocks) if clocks else 0

    def _lowest(self) -> int:
        active = [clock for worker, clock in self.clocks.items() if worker not in self.idle]
        return min(active) if active else max(self.clocks.values())


def delay_bound(workers: int, bound: float) -> float:
    """The largest version delay of a gradient, where every worker pulls with its push, none joins and none meets."""
    return (workers - 1) * max(2 * bound, 1.0) if workers > 1 else 0.0


def step_scale(scaling: str, bound: float, delay: float) -> float:
    """The factor of the step: 1, 1/(1 + bound) or 1/(1 + delay)."""
    if scaling == "none":
        return 1.0
    return 1.0 / (1.0 + (bound if scaling == "bound" else delay))
