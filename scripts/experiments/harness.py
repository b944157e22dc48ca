"""Minimise a function through the parameter server, and keep the weights that were passed on the way.

Both experiments of Li et al., "Parameter Server for Distributed Machine Learning" (2013), have one shape: the smooth
part of f is a mean over rows, every worker holds a share of the rows and pushes the gradient of its share, the server
steps on the sum of the workers' latest gradients. What differs is f, and that is a `Problem`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from bitquote.errors import InputError
from bitquote.server import Client, Server, ServerConfig, ServerError
from bitquote.server.monitor import mean_and_max

EPSILON = 1e-6
"""Of the bound of the step."""
TICK = 1e-3
"""Seconds of virtual time that a gradient takes under `inproc`: far below the heartbeat, even times many workers."""


class Problem(Protocol):
    """A function of float32 weights (size,): a smooth part that is a mean over rows, and maybe one with a prox.

    `gradient` is that of the smooth part: of this share's rows, divided by the number of all rows, so that the
    gradients of all shares add up to the whole problem's. `objective` is the whole function in float64.
    """

    @property
    def size(self) -> int: ...
    def gradient(self, weights: np.ndarray) -> np.ndarray: ...
    def objective(self, weights: np.ndarray) -> float: ...
    def share(self, rank: int, workers: int) -> Self: ...


@dataclass(frozen=True)
class Setup:
    """One run through a server."""

    engine: str
    workers: int
    tau: int
    """Largest gap between the clocks of two workers; 0 is bulk-synchronous."""
    rounds: int
    """Pushes of every worker."""
    step_size: float
    lipschitz: float | None = None
    """Of the smooth part's gradient, for the server's own check of the step."""
    prox: dict[str, Any] | None = None
    """The server's description of the proximal operator."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further fields of `ServerConfig`."""

    def configuration(self) -> ServerConfig:
        """The gate at `tau`, and a step on the sum of the workers' latest gradients."""
        common: dict[str, Any] = {"aggregate": "sum", "allow_oversubscription": True} | self.options
        consistency = "bounded" if self.tau else "bsp"
        return ServerConfig(self.engine, self.workers, consistency=consistency, tau=self.tau, **common)

    def update(self) -> dict[str, Any]:
        """The server's description of the delayed proximal gradient."""
        return {
            "kind": "proximal_gradient",
            "step_size": self.step_size,
            "lipschitz": self.lipschitz,
            "prox": self.prox,
        }


class Trace(NamedTuple):
    """What a run passed; `at`, `seconds` and `weights` have one entry a mark."""

    at: np.ndarray
    """int64 (marks,): rounds of worker 0 (`train`) or pushes of all (`exact_delay`) that were done."""
    seconds: np.ndarray
    """float64 (marks,): since all workers began, without recording; NaN where time means nothing."""
    weights: np.ndarray
    """float32 (marks, size)."""
    statistics: dict[str, Any]
    """`Server.statistics()` at the end."""


def objectives(problem: Problem, weights: np.ndarray) -> np.ndarray:
    """float64 (marks,) for float32 weights (marks, size)."""
    return np.array([problem.objective(row) for row in weights])


def measured(setup: Setup, trace: Trace, values: np.ndarray) -> dict[str, Any]:
    """What results.json says of a run in either experiment; `values` are the trace's objectives, float64 (marks,)."""
    mean, largest = mean_and_max(trace.statistics["version_delay"])
    return {
        "workers": setup.workers,
        "tau": setup.tau,
        "step_size": setup.step_size,
        "pushes": setup.workers * setup.rounds,
        "seconds": float(trace.seconds[-1]),
        "objective": float(values[-1]),
        "mean_delay": mean,
        "largest_delay": largest,
        "bytes_pushed": trace.statistics["bytes_received"],
        "bytes_pushed_raw": trace.statistics["bytes_raw_received"],
    }


class Watch:
    """Seconds since it was made, less the pauses between `read` and `resume`."""

    def __init__(self) -> None:
        self._begun = self._stopped = time.perf_counter()

    def read(self) -> float:
        self._stopped = time.perf_counter()
        return self._stopped - self._begun

    def resume(self) -> None:
        self._begun += time.perf_counter() - self._stopped


def needed(name: str) -> ModuleType:
    """A module that bitquote itself does without; raises `InputError` where it is missing."""
    try:
        return import_module(name)
    except ImportError:
        package = "scikit-learn" if name.startswith("sklearn") else name
        raise InputError(f"{package} is not installed; add it with: pip install 'bitquote[experiments]'") from None


def one_thread() -> AbstractContextManager[Any]:
    """Hold numpy's products to one thread: from now on, or as a context."""
    return needed("threadpoolctl").threadpool_limits(limits=1)


def step_bound(lipschitz: float, tau: float) -> float:
    """1/((1 + tau) L + eps): with it the delayed proximal gradient comes to a stationary point (Li et al. 2013)."""
    return 1.0 / ((1.0 + tau) * lipschitz + EPSILON)


def marks(steps: int, count: int, *, logarithmic: bool = False) -> np.ndarray:
    """About `count` numbers from 0 to `steps`, both included, int64: evenly, or evenly in the logarithm."""
    points = np.geomspace(1, steps, count) if logarithmic else np.linspace(0, steps, count)
    return np.unique(np.concatenate(([0], np.round(points).astype(np.int64), [steps])))


def descend(
    problem: Problem, start: np.ndarray, step_size: float, at: np.ndarray, *, l1: float = 0.0, delay: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The single-process reference: w <- soft(w - step g(w of `delay` steps ago), step l1), in float32, one thread.

    Args:
        start: float32 (size,).
        at: ascending step numbers to record; the last is the number of steps.

    Returns:
        Seconds (marks,) without recording, and weights float32 (marks, size).
    """
    weights, step, threshold = start.copy(), np.float32(step_size), np.float32(step_size * l1)
    wanted, seconds, passed = set(at.tolist()), [], []
    with one_thread():
        gradients = [problem.gradient(weights)] * delay  # until step `delay` nothing but the start has been seen
        watch = Watch()
        for number in range(int(at[-1]) + 1):
            if number in wanted:
                seconds.append(watch.read())
                passed.append(weights)
                watch.resume()
            gradients.append(problem.gradient(weights))
            weights = weights - step * gradients.pop(0)
            if l1:
                weights = np.sign(weights) * np.maximum(np.abs(weights) - threshold, np.float32(0.0))
    return np.array(seconds), np.array(passed)


def train(problem: Problem, start: np.ndarray, setup: Setup, at: np.ndarray) -> Trace:
    """Run `setup` from the weights `start` (float32), recording what worker 0 holds after its rounds `at`.

    Raises:
        ServerError: a worker died or raised.
    """
    values, statistics = _run(_share_rows, problem, start, setup, at)
    seconds, weights = values[0]
    return Trace(at, seconds, weights, statistics)


def exact_delay(problem: Problem, start: np.ndarray, setup: Setup, at: np.ndarray) -> Trace:
    """Delayed proximal gradient whose every gradient is exactly `setup.tau` pushes old, recorded after pushes `at`.

    tau + 1 workers of the inproc engine push whole gradients strictly in turn, each computed on the weights that came
    with its own last push, and every push is a step. (The first tau pushes are only as old as the start is.)
    `setup.rounds`, its engine and its workers are not used.
    """
    options = setup.options | {"aggregate": "each"}
    setup = replace(setup, engine="inproc", workers=setup.tau + 1, options=options)
    values, statistics = _run(_take_turns, problem, start, setup, at)
    passed = {push: weights for seen in values for push, weights in seen.items()}
    passed[0] = start
    return Trace(at, np.full(at.size, np.nan), np.array([passed[push] for push in at.tolist()]), statistics)


def _run(
    function: Callable[..., Any], problem: Problem, start: np.ndarray, setup: Setup, at: np.ndarray
) -> tuple[list[Any], dict[str, Any]]:
    """What `function` returns in every worker, and the server's statistics."""
    # The limit is the whole process's: workers of the inproc engine run in it, those of others set their own.
    with one_thread(), Server(start, setup.update(), setup.configuration()) as server:
        outcomes = server.run(function, problem, setup, at)
        statistics = server.statistics()
    for outcome in outcomes:
        if outcome.error is not None:
            raise ServerError(f"worker {outcome.rank}: {outcome.error}")
    return [outcome.value for outcome in outcomes], statistics


def _begin(client: Client, problem: Problem) -> np.ndarray:
    """The weights, once all workers are there to begin; float32 (size,)."""
    one_thread()  # for good: the process is the worker's own
    weights = client.weights()
    client.collect("begin")
    return weights


def _share_rows(
    client: Client, rank: int, problem: Problem, setup: Setup, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A worker of `train`: gradient of its rows, push, pull, again. Worker 0 records, the others return nothing."""
    share = problem.share(rank, setup.workers)
    weights = _begin(client, problem)
    wanted, seconds, passed = set(at.tolist()) if rank == 0 else set(), [], []
    watch = Watch()
    for done in range(setup.rounds + 1):
        if done in wanted:
            seconds.append(watch.read())
            passed.append(weights.copy())
            watch.resume()
        if done < setup.rounds:
            gradient = share.gradient(weights)
            if setup.engine == "inproc":
                client.sleep(TICK)
            client.exchange(gradient, weights)
    client.collect("end")  # a share that leaves is missing in the sum of those who still push
    return np.array(seconds), np.array(passed)


def _take_turns(client: Client, rank: int, problem: Problem, setup: Setup, at: np.ndarray) -> dict[int, np.ndarray]:
    """A worker of `exact_delay`: push number r + 1, r + 1 + workers, ... The weights after those that `at` names."""
    weights = _begin(client, problem)
    wanted, passed = set(at.tolist()), {}
    client.sleep(TICK * (rank + 1))
    for push in range(rank + 1, int(at[-1]) + 1, setup.workers):
        client.exchange(problem.gradient(weights), weights)
        if push in wanted:
            passed[push] = weights.copy()
        client.sleep(TICK * setup.workers)
    return passed
