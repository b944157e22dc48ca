"""Torch's optimisers as descriptions and arrays: what of them travels, and the checks of what has travelled."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from bitquote.errors import InputError, require
from bitquote.server.errors import Rejected
from bitquote.server.update import check_tensor

PREFIX = "torch.optim."
REFUSED = {"LBFGS": "it evaluates the loss many times a step", "SparseAdam": "it needs sparse gradients"}
LARGEST = 1e30
"""Of a hyperparameter: beyond it torch's float32 arithmetic would overflow, and torch raise."""
HYPERPARAMETERS = "hyperparameters"
"""Name of the state that holds the groups' present hyperparameters, JSON as bytes."""


def describe_optimizers(optimizers: Sequence[Any], parameters: Sequence[torch.Tensor]) -> dict[str, Any]:
    """The description of torch's `optimizers` over the weights that are `parameters` one after another.

    Raises `Rejected` for optimisers that are none of torch's, or that cannot work on a server.
    """
    starts: dict[int, int] = {}
    size = 0
    for parameter in parameters:
        if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
            raise Rejected(f"a parameter is {parameter.dtype} on {parameter.device}: must be torch.float32 on the CPU")
        starts[id(parameter)] = size
        size += parameter.numel()
    described = []
    for optimizer in optimizers:
        kind = type(optimizer)
        if kind.__name__ in REFUSED:
            raise Rejected(f"{kind.__name__} cannot work on a parameter server: {REFUSED[kind.__name__]}")
        if getattr(torch.optim, kind.__name__, None) is not kind:
            raise Rejected(f"the optimiser {kind.__module__}.{kind.__qualname__} is none of torch.optim")
        groups = []
        for group, hyper in zip(optimizer.param_groups, hyperparameters(optimizer), strict=True):
            if not all(id(parameter) in starts for parameter in group["params"]):
                raise Rejected(f"{kind.__name__} optimises a parameter that is not the module's")
            groups.append({**hyper, "tensors": [[starts[id(p)], list(p.shape)] for p in group["params"]]})
        described.append({"class": PREFIX + kind.__name__, "groups": groups})
    return checked({"kind": "torch", "optimizers": described})


def hyperparameters(optimizer: Any) -> list[dict[str, Any]]:
    """What the optimiser's groups say now, one dictionary a group: `hyper["groups"]` of a push. What is no
    hyperparameter of torch's (a scheduler's notes) is left out."""
    return [
        {name: value for name, value in plain(group).items() if name in optimizer.defaults}
        for group in optimizer.param_groups
    ]


def to_torch(description: Mapping[str, Any], states: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, Any]]:
    """The `state_dict()` of every optimiser, for torch's `load_state_dict`, out of the `state()` of every shard."""
    if not states:
        raise Rejected("no shard's state was given")
    result = []
    for number, optimizer in enumerate(description["optimizers"]):
        groups, first = [], 0
        for group, hyper in zip(optimizer["groups"], from_bytes(states[0].get(HYPERPARAMETERS))[number], strict=True):
            count = len(group["tensors"])
            groups.append({**_tuples(hyper), "params": list(range(first, first + count))})
            first += count
        result.append({"state": {}, "param_groups": groups})
    for state in states:
        for name, array in state.items():
            if name != HYPERPARAMETERS:
                number, index, own = parsed(name)
                result[number]["state"].setdefault(index, {})[own] = torch.from_numpy(array.copy())
    return result


def from_torch(
    descriptions: Sequence[Mapping[str, Any]], state_dicts: Sequence[Mapping[str, Any]]
) -> list[dict[str, np.ndarray]]:
    """The `state()` of every shard, for its `load`, out of the optimisers' `state_dict()`.

    Args:
        descriptions: of every shard's own rule (see `update.restrict`).
    """
    states: list[dict[str, np.ndarray]] = []
    for description in descriptions:
        if len(state_dicts) != len(description["optimizers"]):
            raise Rejected(f"states of {len(state_dicts)} optimisers, where there are {len(description['optimizers'])}")
        hyper = []
        arrays: dict[str, np.ndarray] = {}
        for number, (optimizer, saved) in enumerate(zip(description["optimizers"], state_dicts, strict=True)):
            saved_groups = saved["param_groups"]
            wanted, given = [len(g["tensors"]) for g in optimizer["groups"]], [len(g["params"]) for g in saved_groups]
            if wanted != given:
                raise Rejected(f"the state of an optimiser with groups of {given} tensors: must be {wanted}")
            hyper.append(
                [
                    {name: value for name, value in plain(old).items() if name in group}
                    for old, group in zip(saved_groups, optimizer["groups"], strict=True)
                ]
            )
            ids = [identity for group in saved_groups for identity in group["params"]]
            tensors = [tensor for group in optimizer["groups"] for tensor in group["tensors"]]
            for index, (identity, tensor) in enumerate(zip(ids, tensors, strict=True)):
                if tensor is not None:
                    arrays |= state_of(saved["state"].get(identity, {}), f"{number}/{index}/")
        states.append({HYPERPARAMETERS: as_bytes(hyper), **arrays})
    return states


# Checks and conversions.


def checked(description: Mapping[str, Any]) -> dict[str, Any]:
    """The description with every hyperparameter said; InputError for one that is none."""
    for key in description:
        require(key in ("kind", "optimizers"), "a key of update", key, "kind or optimizers")
    optimizers = description.get("optimizers")
    require(isinstance(optimizers, list) and len(optimizers) > 0, "update.optimizers", optimizers, "a list of some")
    assert isinstance(optimizers, list)
    checked = []
    for optimizer in optimizers:
        fits = isinstance(optimizer, Mapping) and optimizer.keys() == {"class", "groups"}
        require(fits, "an optimiser", optimizer, "a dictionary of class and groups")
        name = _class_name(optimizer["class"])
        groups = optimizer["groups"]
        require(isinstance(groups, list) and len(groups) > 0, "groups", groups, "a list of some")
        checked.append({"class": PREFIX + name, "groups": [_checked_group(name, group) for group in groups]})
    return {"kind": "torch", "optimizers": checked}


def _checked_group(name: str, group: Any) -> dict[str, Any]:
    require(isinstance(group, Mapping) and isinstance(group.get("tensors"), list), "a group", group, "one with tensors")
    tensors = [None if tensor is None else check_tensor(tensor) for tensor in group["tensors"]]
    hyper = _tuples({key: value for key, value in group.items() if key != "tensors"})
    defaults = _class(name)([torch.zeros(1, 1)]).defaults
    for key, value in hyper.items():
        require(key in defaults, f"a hyperparameter of {name}", key, "one of " + ", ".join(defaults))
        for number in value if isinstance(value, tuple) else (value,):
            number = is_number(number) or number is None or isinstance(number, bool | str)
            require(number, f"{name} {key}", value, f"finite and at most {LARGEST:g}")
    hyper = {**defaults, **hyper}
    # Muon takes matrices only.
    attempt(name, hyper, sorted({(1,) * len(tensor[1]) for tensor in tensors if tensor is not None}) or [(1, 1)])
    return {**plain(hyper), "tensors": [None if t is None else [t[0], list(t[1])] for t in tensors]}


def _class_name(text: Any) -> str:
    name = text.removeprefix(PREFIX) if isinstance(text, str) and text.startswith(PREFIX) else ""
    if name in REFUSED:
        raise Rejected(f"{name} cannot work on a parameter server: {REFUSED[name]}")
    kind = getattr(torch.optim, name) if name in torch.optim.__all__ else None
    known = isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    require(known, "class", text, "the name of an optimiser of torch, as in torch.optim.Adam")
    return name


def _class(name: str) -> Any:
    return getattr(torch.optim, name)


def make_optimizer(
    name: str, groups: Sequence[Mapping[str, Any]], tensors: Sequence[Sequence[torch.Tensor]]
) -> torch.optim.Optimizer:
    """Torch's optimiser with one group for each of `groups` (hyperparameters; "tensors" is ignored)."""
    hyper = [_tuples({key: value for key, value in group.items() if key != "tensors"}) for group in groups]
    made = [{"params": list(some), **values} for some, values in zip(tensors, hyper, strict=True)]
    kind = _class(name.removeprefix(PREFIX))
    return kind(made, **_arguments(kind, hyper[0]))


def _arguments(kind: Any, hyper: Mapping[str, Any]) -> dict[str, Any]:
    """Those hyperparameters that are arguments too (AdamW holds one that is not)."""
    names = inspect.signature(kind).parameters
    return {name: value for name, value in hyper.items() if name in names}


def attempt(name: str, hyper: Mapping[str, Any], shapes: Sequence[tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Make one step with such hyperparameters on tensors of zeros; InputError with torch's own complaint if it has one.

    Returns the state that torch then has of the last tensor.
    """
    try:
        tensors = [torch.zeros(shape) for shape in shapes]
        for tensor in tensors:
            tensor.grad = torch.zeros_like(tensor)
        optimizer = make_optimizer(name, [hyper], [tensors])
        optimizer.step()
    except Exception as error:  # torch raises whatever it likes
        raise InputError(f"torch refuses {name}: {' '.join(str(error).split()) or type(error).__name__}") from None
    return state_of(optimizer.state[tensors[-1]], "")


def is_number(value: Any) -> bool:
    """Whether torch can compute with it: no boolean, not NaN, not beyond `LARGEST`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def plain(group: Mapping[str, Any]) -> dict[str, Any]:
    """A group's hyperparameters as JSON holds them."""

    def one(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.item()
        return [one(each) for each in value] if isinstance(value, tuple | list) else value

    return {name: one(value) for name, value in group.items() if name != "params"}


def _tuples(hyper: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in hyper.items()}


def state_of(values: Mapping[str, Any], prefix: str) -> dict[str, np.ndarray]:
    """A tensor's state as arrays, copies; old torch wrote steps as plain numbers, and None is nothing."""
    return {
        prefix + name: np.array(value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value, np.float32)
        for name, value in values.items()
        if value is not None
    }


def parsed(name: str) -> tuple[int, int, str]:
    """The name of a state's array: optimiser, tensor, torch's name."""
    number, _, rest = name.partition("/")
    index, _, own = rest.partition("/")
    require(number.isdecimal() and index.isdecimal() and own != "", "state", name, "optimiser/tensor/name")
    return int(number), int(index), own


def as_bytes(value: Any) -> np.ndarray:
    """JSON as uint8 (n,)."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8).copy()


def from_bytes(array: np.ndarray | None) -> list[Any]:
    """The list that `as_bytes` wrote; InputError for anything else."""
    try:
        value = json.loads(array.tobytes()) if array is not None else None
    except (ValueError, RecursionError):
        value = None
    require(isinstance(value, list), "state", HYPERPARAMETERS, "there, and a list")
    assert isinstance(value, list)
    return value
