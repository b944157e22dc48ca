"""A market whose paths are simulated all over a Ray cluster.

The random numbers of a path are keyed by its number, so that it comes out the same wherever it runs (on processors of
one kind: others may round their last bit differently).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bitquote.errors import InputError, require_integer
from bitquote.market import OrderBookMarket

PIECES = 4
"""Tasks for each CPU of the cluster, so that a slow one holds nobody up for long."""
SMALLEST = 16
"""Paths in a task: fewer would cost more to send than to run."""


class ClusterMarket(OrderBookMarket):
    """An order-book market that sends what is only summed up to the Ray cluster that this process is connected to.

    `ClusterMarket(**market.__dict__)` is `market` so. Rollouts and tapes are made here, as they are without.
    """

    def compete(
        self,
        quoters: Sequence[Any],
        paths: int,
        seed: int,
        threads: int | None = None,
        progress: Callable[[int], None] | None = None,
        first: int = 0,
    ) -> np.ndarray:
        """As in an OrderBookMarket; a task is one thread of one CPU, whatever `threads` says of this machine."""
        import ray

        paths = require_integer("paths", paths, 1)
        cpus = int(ray.cluster_resources().get("CPU", 1.0))
        size = max(SMALLEST, -(-paths // (PIECES * max(1, cpus))))
        given = ray.put((OrderBookMarket(**self.__dict__), list(quoters), seed))
        work = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(_compete)
        spans = [(begin, min(begin + size, paths)) for begin in range(0, paths, size)]
        tasks = {work.remote(given, first + begin, end - begin): (begin, end) for begin, end in spans}
        pieces: dict[int, np.ndarray] = {}
        done = 0
        try:
            while tasks:
                (ready,), _ = ray.wait(list(tasks), num_returns=1)
                begin, end = tasks.pop(ready)
                pieces[begin] = _result(ready)
                done += end - begin
                if progress is not None:
                    progress(done)
        finally:
            for task in tasks:  # after an error or Ctrl-C
                ray.cancel(task)
        return np.concatenate([piece for _, piece in sorted(pieces.items())])


def _compete(given: tuple[OrderBookMarket, list[Any], int], first: int, paths: int) -> np.ndarray:
    market, quoters, seed = given
    return market.compete(quoters, paths, seed, threads=1, first=first)


def _result(task: Any) -> np.ndarray:
    """What a task returns; its own InputError, or one line of what befell it."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(task)
    except RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise InputError(f"a task of the Ray cluster failed: {error.cause!r:.300}") from None
    except RayError as error:
        raise InputError(f"the Ray cluster failed: {str(error).strip().splitlines()[0][:300]}") from None
