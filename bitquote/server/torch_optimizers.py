"""Torch's own optimisers on a shard's weights.

The tensors are views of the flat weights with the shapes that they have in the module, and torch steps on them as it
would in the module: one worker's result is bitwise that of training without a server. This module imports torch, and
`update.make_update` imports this module when it is needed.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from bitquote.errors import InputError, require, require_integer
from bitquote.server.config import ServerConfig
from bitquote.server.errors import Rejected
from bitquote.server.packing import Unpackable
from bitquote.server.torch_description import (
    HYPERPARAMETERS,
    LARGEST,
    as_bytes,
    attempt,
    checked,
    from_bytes,
    is_number,
    make_optimizer,
    parsed,
    plain,
    state_of,
)


class TorchOptimizers:
    """One or more optimisers of torch.optim; see `update` for the description.

    A push names the optimiser that is to step: `hyper` is {"optimizer": number, "groups": one dictionary a group with
    hyperparameters that hold from now on, "absent": numbers of tensors that have no gradient}, all of it optional. A
    tensor's number is its position within its optimiser, counted through the groups, as in torch's `state_dict()`.
    """

    l1 = None

    def __init__(self, description: Mapping[str, Any], config: ServerConfig) -> None:
        """Raises InputError for a description that is none, or that torch does not accept."""
        require(config.aggregate == "each", "server.aggregate", config.aggregate, "each with an optimiser of torch")
        self._description = checked(description)
        self.weights = np.empty(0, np.float32)
        self._gradient = np.empty(0, np.float32)
        self._optimizers: list[torch.optim.Optimizer] = []
        # Of each optimiser: its tensors by number (None: on another shard), and their ranges in the weights.
        self._tensors: list[list[torch.Tensor | None]] = []
        self._ranges: list[list[tuple[int, int]]] = []
        self._gradients: dict[tuple[int, tuple[int, ...]], torch.Tensor] = {}
        # What holds at present: hyperparameters as they came, the order that they gave, and which gradients are set.
        self._hyper: Mapping[str, Any] | None = None
        self._order = (0, frozenset[int]())
        self._set: tuple[int, int, int, frozenset[int]] | None = None

    def bind(self, weights: np.ndarray) -> None:
        if weights.dtype != np.float32 or weights.ndim != 1 or not weights.flags.carray:
            raise Rejected("weights must be a float32 array of one dimension that can be written to")
        described = [[tensor for group in groups for tensor in group["tensors"]] for groups in self._groups()]
        _disjoint({_frozen(tensor) for tensors in described for tensor in tensors if tensor is not None}, len(weights))
        self.weights, self._gradient = weights, np.zeros_like(weights)
        flat, flat_gradient = torch.from_numpy(weights), torch.from_numpy(self._gradient)
        views: dict[tuple[int, tuple[int, ...]], torch.Tensor] = {}
        for tensors in described:
            for start, shape in (_frozen(tensor) for tensor in tensors if tensor is not None):
                stop = start + prod(shape)
                views[start, shape] = flat[start:stop].view(shape)
                self._gradients[start, shape] = flat_gradient[start:stop].view(shape)
        self._tensors = [[None if t is None else views[_frozen(t)] for t in tensors] for tensors in described]
        self._ranges = [[(0, 0) if t is None else (t[0], t[0] + prod(t[1])) for t in tensors] for tensors in described]
        self._optimizers = [
            make_optimizer(
                optimizer["class"], groups, [[v for v in some if v is not None] for some in _split(tensors, groups)]
            )
            for optimizer, groups, tensors in zip(
                self._description["optimizers"], self._groups(), self._tensors, strict=True
            )
        ]

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
        order, changes = (self._order, None) if hyper == self._hyper else self._read(hyper)
        wanted = (order[0], start, stop, order[1])
        if wanted != self._set:
            self._set_gradients(*wanted)
            self._set = wanted
        number = order[0]
        if changes is not None:
            self._take(number, changes)
            self._hyper, self._order = copy.deepcopy(dict(hyper)), order
        if keys is None:
            self._gradient[start:stop] = gradient
        else:
            self._gradient[start:stop] = 0.0
            self._gradient[start:stop][keys] = gradient
        optimizer = self._optimizers[number]
        if scale == 1.0:
            optimizer.step()
            return
        rates = [group["lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * scale
        optimizer.step()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def step(self) -> None:
        """Nothing: every gradient was a step of its own."""

    def forget(self, worker: int) -> None:
        """Nothing: no worker has a share of its own here."""

    def estimate(self, workers: Collection[int]) -> np.ndarray | None:
        return None

    def warning(self, delay: float, scale: float = 1.0) -> str | None:
        return None

    def state(self) -> dict[str, np.ndarray]:
        """Arrays named "optimiser/tensor/name" with torch's name, and the present hyperparameters."""
        hyper = [[plain(group) for group in optimizer.param_groups] for optimizer in self._optimizers]
        arrays = {HYPERPARAMETERS: as_bytes(hyper)}
        for number, (optimizer, tensors) in enumerate(zip(self._optimizers, self._tensors, strict=True)):
            for index, tensor in enumerate(tensors):
                if tensor is not None:
                    arrays |= state_of(optimizer.state.get(tensor, {}), f"{number}/{index}/")
        return arrays

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        try:
            hyper = from_bytes(state.get(HYPERPARAMETERS))
            require(len(hyper) == len(self._optimizers), "state", len(hyper), f"of {len(self._optimizers)} optimisers")
            changes = [self._changes(number, groups) for number, groups in enumerate(hyper)]
            found = self._matched(state)
        except InputError as error:
            raise Rejected(f"the state of another optimiser: {error}") from None
        self._hyper = None
        for number, groups in enumerate(changes):
            self._take(number, groups)
        for number, (optimizer, tensors) in enumerate(zip(self._optimizers, self._tensors, strict=True)):
            for index, tensor in enumerate(tensors):
                if tensor is not None:
                    optimizer.state.pop(tensor, None)
                    if values := found.get((number, index)):
                        optimizer.state[tensor] = {name: torch.from_numpy(v.copy()) for name, v in values.items()}

    def describe(self) -> dict[str, Any]:
        return self._description

    def _groups(self) -> list[list[dict[str, Any]]]:
        return [optimizer["groups"] for optimizer in self._description["optimizers"]]

    def _read(self, hyper: Mapping[str, Any]) -> tuple[tuple[int, frozenset[int]], list[dict[str, Any]]]:
        """Check what came with a push: which optimiser, which tensors lack a gradient, and what changes."""
        try:
            for key in hyper:
                require(key in ("optimizer", "groups", "absent"), "a key of hyper", key, "optimizer, groups or absent")
            number = require_integer("hyper.optimizer", hyper.get("optimizer", 0), 0, len(self._optimizers) - 1)
            absent = hyper.get("absent", [])
            require(isinstance(absent, list | tuple), "hyper.absent", absent, "a list of numbers of tensors")
            last = len(self._tensors[number]) - 1
            absent = frozenset(require_integer("hyper.absent", index, 0, last) for index in absent)
            groups = hyper.get("groups", [{}] * len(self._optimizers[number].param_groups))
            return (number, absent), self._changes(number, groups)
        except InputError as error:
            raise Unpackable("hyper", str(error)) from None

    def _take(self, number: int, changes: list[dict[str, Any]]) -> None:
        for group, values in zip(self._optimizers[number].param_groups, changes, strict=True):
            group.update(values)

    def _changes(self, number: int, groups: Any) -> list[dict[str, Any]]:
        """What `groups` would change in an optimiser's hyperparameters; InputError where that cannot be."""
        optimizer = self._optimizers[number]
        count = len(optimizer.param_groups)
        fits = isinstance(groups, list) and len(groups) == count and all(isinstance(g, Mapping) for g in groups)
        require(fits, "hyper.groups", groups, f"a list of {count} dictionaries")
        changes = []
        for group, wanted in zip(optimizer.param_groups, groups, strict=True):
            values, known = {}, plain(group)
            names = "one of " + ", ".join(known)
            for name, value in wanted.items():
                require(name in known, "a hyperparameter", name, names)
                value = tuple(value) if isinstance(value, list) else value
                if value != group[name] or type(value) is not type(group[name]):
                    values[name] = _changed(type(optimizer).__name__, name, group[name], value)
            if values.keys() - {"lr", "weight_decay"}:
                attempt(type(optimizer).__name__, {**known, **values}, [(1, 1)])
            changes.append(values)
        return changes

    def _set_gradients(self, number: int, start: int, stop: int, absent: frozenset[int]) -> None:
        """Tensors in [start, stop) have a gradient, unless absent; others have none. Part of one is refused."""
        ranges = self._ranges[number]
        for first, last in ranges:
            if first < stop and last > start and (first < start or last > stop):
                raise Unpackable("keys", f"keys [{start}, {stop}) hold a part of the tensor of keys [{first}, {last})")
        for index, (tensor, (first, last)) in enumerate(zip(self._tensors[number], ranges, strict=True)):
            if tensor is not None:
                inside = start <= first and last <= stop and index not in absent
                tensor.grad = self._gradients[first, tuple(tensor.shape)] if inside else None

    def _matched(self, state: Mapping[str, np.ndarray]) -> dict[tuple[int, int], dict[str, np.ndarray]]:
        """The arrays of a `state()` by (optimiser, tensor); InputError unless torch can go on from them."""
        found: dict[tuple[int, int], dict[str, np.ndarray]] = {}
        for name, array in state.items():
            if name != HYPERPARAMETERS:
                number, index, own = parsed(name)
                tensors = self._tensors[number] if number < len(self._tensors) else []
                require(index < len(tensors) and tensors[index] is not None, "state", name, "of a tensor that is here")
                found.setdefault((number, index), {})[own] = array
        for (number, index), arrays in found.items():
            optimizer, tensor = self._optimizers[number], self._tensors[number][index]
            assert tensor is not None
            group = next(g for g in optimizer.param_groups if any(tensor is p for p in g["params"]))
            needed = attempt(type(optimizer).__name__, plain(group), [tuple(tensor.shape)])
            for name, example in needed.items():
                fits = name in arrays and arrays[name].shape == example.shape and arrays[name].dtype == example.dtype
                require(fits, f"state {number}/{index}", sorted(arrays), f"with {name} of shape {example.shape}")
            for name, array in arrays.items():
                fits = name in needed or array.shape in ((), tuple(tensor.shape))
                require(fits and array.dtype == np.float32, f"state {number}/{index}/{name}", array.shape, "float32")
        return found


def _changed(kind: str, name: str, old: Any, new: Any) -> Any:
    """`new` for the hyperparameter `name`; InputError unless it is a number, or numbers, as `old` is."""
    olds, news = (value if isinstance(value, tuple) else (value,) for value in (old, new))
    same = isinstance(old, tuple) == isinstance(new, tuple) and len(olds) == len(news)
    same = same and all(
        after is before or (is_number(before) and is_number(after)) for before, after in zip(olds, news, strict=True)
    )
    require(same, f"{kind} {name}", new, f"numbers of at most {LARGEST:g} as {old!r} is: nothing else can change")
    if name in ("lr", "weight_decay"):
        require(new >= 0.0, f"{kind} {name}", new, "at least 0")
    # RMSprop makes the buffer at a tensor's first step, or never.
    require(kind != "RMSprop" or name != "momentum" or old > 0, f"{kind} momentum", new, "0 as it was at the start")
    return new


def _disjoint(tensors: set[tuple[int, tuple[int, ...]]], size: int) -> None:
    """Rejected unless tensors lie within `size` weights and apart from one another."""
    last = 0
    for start, shape in sorted(tensors, key=lambda tensor: (tensor[0], prod(tensor[1]))):
        if start < last or start + prod(shape) > size:
            raise Rejected(f"the tensor of keys [{start}, {start + prod(shape)}) overlaps another or the end, {size}")
        last = start + prod(shape)


def _frozen(tensor: Sequence[Any]) -> tuple[int, tuple[int, ...]]:
    return tensor[0], tuple(tensor[1])


def _split(tensors: Sequence[Any], groups: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """All tensors of an optimiser, group by group."""
    rest = iter(tensors)
    return [[next(rest) for _ in group["tensors"]] for group in groups]
