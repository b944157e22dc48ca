"""What a shard does with a gradient: delayed proximal gradient descent (numpy) or torch's optimisers.

A rule is made of a description, plain JSON that the first worker brings:

    {"kind": "proximal_gradient", "step_size": 0.1, "lipschitz": 4.0 or null,
     "prox": null | {"kind": "l1", "strength": 1e-4} | {"kind": "box", "low": -1.0 or null, "high": 1.0 or null}
             | {"kind": "group", "strength": 0.1, "groups": [[start, stop], ...]}}
    {"kind": "torch", "optimizers": [{"class": "torch.optim.AdamW",
                                      "groups": [{"lr": 1e-3, ..., "tensors": [[start, shape], ...]}, ...]}, ...]}

Positions are those of the flat weights. `restrict` cuts the description of a whole model down to a shard's.
Torch is imported when a rule of torch's is made, and not before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod
from typing import Any, Protocol

import numpy as np

from bitquote.errors import InputError, require, require_choice, require_integer
from bitquote.server.config import ServerConfig
from bitquote.server.errors import Rejected
from bitquote.server.proximal import ProximalGradient

KINDS = ("proximal_gradient", "torch")


class Update(Protocol):
    """The rule that a shard applies."""

    weights: np.ndarray

    @property
    def l1(self) -> float | None:
        """Strength of the L1 term, None where there is none."""
        ...

    def bind(self, weights: np.ndarray) -> None:
        """Float32 `weights` (n,) are updated in place from now on. Raises `Rejected` where the rule does not fit."""
        ...

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
        """Take a float32 gradient, a guarded one, of keys [start, stop).

        It is (stop - start,) long; or (k,) with `keys` (k,) counted from `start`, and the others were not sent: they
        are zero, and under `sum` what this worker sent of them last. The step is multiplied by `scale`; `hyper` are
        hyperparameters for this push. Raises `packing.Unpackable` ("keys", "hyper") before anything has changed.
        """
        ...

    def step(self) -> None:
        """After all gradients of one release."""
        ...

    def forget(self, worker: int) -> None:
        """A worker has left or was evicted."""
        ...

    def estimate(self, workers: Collection[int]) -> np.ndarray | None:
        """The sum (n,) of all workers' latest gradients; None where there is no such sum, or where one of `workers`
        has no share in it yet. Valid until the next `fold`."""
        ...

    def warning(self, delay: float, scale: float = 1.0) -> str | None:
        """A line that says so when, with gradients up to `delay` steps old, the step size is beyond what is proven to
        converge."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """All that the rule remembers besides the weights; copies."""
        ...

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Put `state()` back, after `bind`. Raises `Rejected`, changing nothing, for one that does not fit."""
        ...

    def describe(self) -> dict[str, Any]:
        """What `make_update` made this rule of."""
        ...


def make_update(description: Mapping[str, Any], config: ServerConfig) -> Update:
    """The rule that `description` says; raises `Rejected` for anything else."""
    try:
        kind = _kind(description)
        if kind == "torch":
            from bitquote.server.torch_optimizers import TorchOptimizers

            return TorchOptimizers(description, config)
        return ProximalGradient.from_description(description, config)
    except InputError as error:
        raise Rejected(str(error)) from None


def load_torch() -> None:
    """Import torch, and by making an optimiser what torch itself puts off until then."""
    optimizer = {"class": "torch.optim.SGD", "groups": [{"lr": 0.1, "tensors": []}]}
    make_update({"kind": "torch", "optimizers": [optimizer]}, ServerConfig())


def restrict(description: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
    """What of a whole model's `description` concerns the shard with weights [start, stop), counted from its first.

    Torch's tensors keep their numbers: those of other shards become null. Raises `Rejected` when a tensor or a group
    straddles the shard's end (cut at `tensor_offsets`).
    """
    try:
        if _kind(description) == "torch":
            return {
                **description,
                "optimizers": [_restricted(optimizer, start, stop) for optimizer in description["optimizers"]],
            }
        prox = description.get("prox")
        if prox is None or prox.get("kind") != "group":
            return dict(description)
        inside = []
        for first, last in prox["groups"]:
            if first >= start and last <= stop:
                inside.append([first - start, last - start])
            elif first < stop and last > start:
                raise Rejected(f"group [{first}, {last}) straddles the end of the shard [{start}, {stop})")
        return {**description, "prox": {**prox, "groups": inside}}
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise Rejected(str(error)) from None
        raise Rejected("update must be the description of a rule, and its groups and tensors lists") from None


def tensor_offsets(description: Mapping[str, Any], size: int) -> np.ndarray:
    """Where tensors or groups begin and end in `size` weights: ascending int64 (t + 1,), from 0 to `size`. Shards are
    cut there, and each stretch has a ternary scale of its own."""
    prox = description.get("prox")
    pairs = [] if prox is None else list(prox.get("groups", []))
    for optimizer in description.get("optimizers", []):
        for group in optimizer["groups"]:
            pairs += [(tensor[0], tensor[0] + prod(tensor[1])) for tensor in group["tensors"] if tensor is not None]
    return np.unique(np.append(np.array(pairs, np.int64), [0, size]))


def check_tensor(tensor: Any) -> tuple[int, tuple[int, ...]]:
    """A [start, shape] of a description as (start, shape); InputError for anything else."""
    pair = isinstance(tensor, list | tuple) and len(tensor) == 2 and isinstance(tensor[1], list | tuple)
    require(pair and len(tensor[1]) <= 64, "tensor", tensor, "[start, shape], of at most 64 dimensions")
    start, shape = tensor
    return require_integer("start", start, 0), tuple(require_integer("shape", length, 0) for length in shape)


def _kind(description: Mapping[str, Any]) -> str:
    require(isinstance(description, Mapping), "update", description, "the description of a rule")
    return require_choice("update.kind", description.get("kind"), KINDS)


def _restricted(optimizer: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
    groups = []
    for group in optimizer["groups"]:
        tensors: list[list[Any] | None] = []
        for first, shape in map(check_tensor, group["tensors"]):
            last = first + prod(shape)
            if first >= start and last <= stop:
                tensors.append([first - start, list(shape)])
            elif last <= start or first >= stop:
                tensors.append(None)
            else:
                raise Rejected(f"tensor [{first}, {last}) straddles the end of the shard [{start}, {stop})")
        groups.append({**group, "tensors": tensors})
    return {**optimizer, "groups": groups}
