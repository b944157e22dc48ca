"""Delayed proximal gradient descent: w <- prox_step(w - step * g), with g the gradient of the smooth part.

Li, Andersen, Smola and Yu, "Communication Efficient Distributed Machine Learning with the Parameter Server", NIPS 2014:
with gradients up to tau steps old it reaches a stationary point for steps of at most 1 / ((1 + tau) L + eps), L being
the Lipschitz constant of the gradient. The sum of the workers' latest gradients (`aggregate` sum) is the proximal
incremental aggregated gradient method of Vanli, Gürbüzbalaban and Ozdaglar, SIAM Journal on Optimization 2018.

The proximal operator of h with step s is prox(v) = argmin_w h(w) + |w - v|^2 / (2 s).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from bitquote.errors import InputError, require, require_choice, require_integer, require_number
from bitquote.server.config import ServerConfig
from bitquote.server.errors import Rejected
from bitquote.server.packing import Unpackable

LARGEST_STEP = 1e30
"""Steps and strengths beyond it are no float32 any more once multiplied."""


class Prox(Protocol):
    """The proximal operator of a penalty h."""

    def bind(self, size: int) -> None:
        """There are `size` weights; raises `Rejected` if the penalty speaks of others."""
        ...

    def cuts(self, start: int, stop: int) -> bool:
        """Whether the operator cannot be applied to weights [start, stop) alone."""
        ...

    def apply(self, weights: np.ndarray, step: float, start: int) -> None:
        """Replace float32 `weights` (k,), those from `start` on, by their prox, in place."""
        ...

    def describe(self) -> dict[str, Any]: ...


class L1:
    """h(w) = strength * sum |w|: soft-thresholding, w = sign(v) * max(|v| - step * strength, 0)."""

    def __init__(self, strength: float) -> None:
        self.strength = require_number("prox.strength", strength, 0.0, LARGEST_STEP)

    def bind(self, size: int) -> None: ...

    def cuts(self, start: int, stop: int) -> bool:
        return False

    def apply(self, weights: np.ndarray, step: float, start: int) -> None:
        threshold = np.float32(min(step * self.strength, 3e38))
        weights -= np.clip(weights, -threshold, threshold)

    def describe(self) -> dict[str, Any]:
        return {"kind": "l1", "strength": self.strength}


class Box:
    """h(w) = 0 for low <= w <= high, else infinity: clipping. None is no limit."""

    def __init__(self, low: float | None, high: float | None) -> None:
        self.low = -math.inf if low is None else require_number("prox.low", low)
        self.high = math.inf if high is None else require_number("prox.high", high)
        require(self.low <= self.high, "prox.low", low, f"at most prox.high, {high}")

    def bind(self, size: int) -> None: ...

    def cuts(self, start: int, stop: int) -> bool:
        return False

    def apply(self, weights: np.ndarray, step: float, start: int) -> None:
        np.clip(weights, np.float32(self.low), np.float32(self.high), out=weights)

    def describe(self) -> dict[str, Any]:
        low, high = (limit if math.isfinite(limit) else None for limit in (self.low, self.high))
        return {"kind": "box", "low": low, "high": high}


class Group:
    """h(w) = strength * sum over groups of |w_group|_2: w_group = v_group * max(0, 1 - step * strength / |v_group|).

    Args:
        groups: pairs (start, stop), ascending, not empty, disjoint; weights in no group have no penalty.
    """

    def __init__(self, strength: float, groups: Sequence[Sequence[int]]) -> None:
        self.strength = require_number("prox.strength", strength, 0.0, LARGEST_STEP)
        require(isinstance(groups, Sequence) and not isinstance(groups, str), "prox.groups", groups, "a list of pairs")
        self.groups: list[tuple[int, int]] = []
        last = 0
        for group in groups:
            require(isinstance(group, Sequence) and len(group) == 2, "prox.groups", group, "pairs [start, stop]")
            start = require_integer("the start of a group", group[0], last)
            last = require_integer("the stop of a group", group[1], start + 1)
            self.groups.append((start, last))
        # Segments [edge, next edge) cover all weights up to the last group; those in a group have a penalty.
        edges: dict[int, bool] = {0: False}
        for start, stop in self.groups:
            edges[start], edges[stop] = True, False
        self._edges = np.array(sorted(edges), np.int64)
        self._grouped = np.array([edges[edge] for edge in self._edges.tolist()])

    def bind(self, size: int) -> None:
        if self.groups and self.groups[-1][1] > size:
            raise Rejected(f"group [{self.groups[-1][0]}, {self.groups[-1][1]}) is beyond the {size} weights")

    def cuts(self, start: int, stop: int) -> bool:
        inside = np.searchsorted(self._edges, [start, stop], side="right") - 1  # the segments that hold the two ends
        return bool(np.any(self._grouped[inside] & (self._edges[inside] != [start, stop])))

    def apply(self, weights: np.ndarray, step: float, start: int) -> None:
        first = np.searchsorted(self._edges, start, side="right") - 1
        last = np.searchsorted(self._edges, start + len(weights))
        edges = np.maximum(self._edges[first:last], start) - start
        grouped = self._grouped[first:last]
        norms = np.sqrt(np.add.reduceat(np.square(weights, dtype=np.float64), edges))
        factors = np.ones(len(norms))
        shrunk = grouped & (norms > 0.0)
        factors[shrunk] = np.maximum(0.0, 1.0 - step * self.strength / norms[shrunk])
        weights *= np.repeat(factors, np.diff(edges, append=len(weights))).astype(np.float32)

    def describe(self) -> dict[str, Any]:
        return {"kind": "group", "strength": self.strength, "groups": [list(group) for group in self.groups]}


class ProximalGradient:
    """w <- prox(w - scale * step_size * g).

    With `aggregate` "each" every gradient is such a step. With "sum" the latest gradient of every worker is kept, and
    a release of gradients makes one step along the sum of all of them, scaled as the smallest of the release (the sum
    is taken in the order of the workers, so it does not depend on who came first). A worker that leaves takes its
    share with it: its data are no longer part of the objective, until others take them over.

    `hyper` may hold {"step_size": ...}, for a schedule.
    """

    def __init__(
        self, step_size: float, prox: Prox | None = None, lipschitz: float | None = None, aggregate: str = "each"
    ) -> None:
        self.step_size = require_number("update.step_size", step_size, 0.0, LARGEST_STEP, above=True)
        self.lipschitz = None if lipschitz is None else require_number("update.lipschitz", lipschitz, 0.0, above=True)
        self.prox = prox
        self.aggregate = require_choice("server.aggregate", aggregate, ("each", "sum"))
        self.weights = np.empty(0, np.float32)
        self._saxpy: Callable[..., Any]
        self._latest: dict[int, np.ndarray] = {}
        self._sum: np.ndarray | None = None  # of all in _latest; None when it must be computed anew
        self._next_step = math.inf  # of the gradients since the last step(); infinite when there were none

    @classmethod
    def from_description(cls, description: Mapping[str, Any], config: ServerConfig) -> Self:
        """See `update.make_update`; raises InputError."""
        _only(description, "update", ("kind", "step_size", "lipschitz", "prox"))
        prox = make_prox(description.get("prox"))
        fits = config.kkt_slack is None or isinstance(prox, L1)
        require(fits, "server.kkt_slack", config.kkt_slack, "null without an l1 prox")
        return cls(description.get("step_size"), prox, description.get("lipschitz"), config.aggregate)  # type: ignore[arg-type]

    @property
    def l1(self) -> float | None:
        return self.prox.strength if isinstance(self.prox, L1) else None

    def bind(self, weights: np.ndarray) -> None:
        if weights.dtype != np.float32 or weights.ndim != 1 or not weights.flags.carray:
            raise Rejected("weights must be a float32 array of one dimension that can be written to")
        if self.prox is not None:
            self.prox.bind(len(weights))
        # Here and not above: it takes a quarter of a second, also of processes that never bind a rule.
        from scipy.linalg.blas import saxpy

        self._saxpy = saxpy
        self.weights = weights

    def fold(
        self,
        worker: int,
        start: int,
        stop: int,
        gradient: np.ndarray,
        scale: float,
        hyper: Mapping[str, Any],
        keys: np.ndarray | None = None,
    ) -> None:
        step = scale * (_step_size(hyper, self.step_size) if hyper else self.step_size)
        if self.aggregate == "sum":
            self._share(worker)[start:stop][slice(None) if keys is None else keys] = gradient
            self._sum = None
            self._next_step = min(self._next_step, step)
            return
        weights = self.weights
        if stop - start != len(weights):
            weights = weights[start:stop]
            if self.prox is not None and self.prox.cuts(start, stop):
                raise Unpackable("keys", f"keys [{start}, {stop}) hold a part of a group")
        self._saxpy(gradient if keys is None else dense(gradient, keys, stop - start), weights, a=-step)
        if self.prox is not None:
            self.prox.apply(weights, step, start)

    def step(self) -> None:
        if self._next_step == math.inf:
            return
        step, self._next_step = self._next_step, math.inf
        self._saxpy(self._total(), self.weights, a=-step)
        if self.prox is not None:
            self.prox.apply(self.weights, step, 0)

    def forget(self, worker: int) -> None:
        if self._latest.pop(worker, None) is not None:
            self._sum = None

    def estimate(self, workers: Collection[int]) -> np.ndarray | None:
        return self._total() if self._latest and self._latest.keys() >= set(workers) else None

    def warning(self, delay: float, scale: float = 1.0) -> str | None:
        if self.lipschitz is None:
            return None
        bound = 1.0 / ((1.0 + delay) * self.lipschitz)
        if scale * self.step_size <= bound * (1.0 + 1e-9):
            return None
        used = scale * self.step_size
        return (
            f"step size {used:.3g} exceeds {bound:.3g} = 1 / ((1 + {delay:g}) * {self.lipschitz:.3g}), the largest "
            f"that is proven to converge with gradients up to {delay:g} steps old"
        )

    def state(self) -> dict[str, np.ndarray]:
        return {f"latest/{worker}": gradient.copy() for worker, gradient in self._latest.items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        latest = {}
        for name, gradient in state.items():
            kind, _, worker = name.partition("/")
            fits = gradient.dtype == np.float32 and gradient.shape == self.weights.shape
            if self.aggregate != "sum" or kind != "latest" or not worker.isdecimal() or not fits:
                raise Rejected(f"the state {name!r} is none of this update rule and its {len(self.weights)} weights")
            if not np.isfinite(gradient).all():
                raise Rejected(f"the state {name!r} must be finite")
            latest[int(worker)] = gradient.copy()
        self._latest, self._sum = latest, None

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "proximal_gradient",
            "step_size": self.step_size,
            "lipschitz": self.lipschitz,
            "prox": None if self.prox is None else self.prox.describe(),
        }

    def _share(self, worker: int) -> np.ndarray:
        if worker not in self._latest:
            self._latest[worker] = np.zeros_like(self.weights)
        return self._latest[worker]

    def _total(self) -> np.ndarray:
        """Computed anew whenever a share has changed: a running sum would drift."""
        if self._sum is not None:
            return self._sum
        total = self._sum = np.zeros_like(self.weights)
        for _, gradient in sorted(self._latest.items()):
            total += gradient
        return total


def dense(values: np.ndarray, keys: np.ndarray, size: int) -> np.ndarray:
    """A gradient (size,) that is zero but for float32 `values` (k,) at `keys` (k,)."""
    gradient = np.zeros(size, np.float32)
    gradient[keys] = values
    return gradient


def make_prox(description: Mapping[str, Any] | None) -> Prox | None:
    """The operator that `description` says; InputError for anything else."""
    if description is None:
        return None
    require(isinstance(description, Mapping), "update.prox", description, "null or the description of an operator")
    kind = require_choice("prox.kind", description.get("kind"), ("l1", "box", "group"))
    if kind == "l1":
        _only(description, "prox", ("kind", "strength"))
        return L1(description.get("strength"))  # type: ignore[arg-type]
    if kind == "box":
        _only(description, "prox", ("kind", "low", "high"))
        return Box(description.get("low"), description.get("high"))
    _only(description, "prox", ("kind", "strength", "groups"))
    return Group(description.get("strength"), description.get("groups"))  # type: ignore[arg-type]


def _only(description: Mapping[str, Any], name: str, known: tuple[str, ...]) -> None:
    for key in description:
        require(key in known, f"a key of {name}", key, "one of " + ", ".join(known))


def _step_size(hyper: Mapping[str, Any], default: float) -> float:
    try:
        _only(hyper, "hyper", ("step_size",))
        return require_number("hyper.step_size", hyper.get("step_size", default), 0.0, LARGEST_STEP)
    except InputError as error:
        raise Unpackable("hyper", str(error)) from None
