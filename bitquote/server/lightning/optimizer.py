"""The optimiser that a module sees in a worker: its `step` pushes gradients and pulls weights."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from bitquote.server.client import Client
from bitquote.server.errors import Rejected, ServerError
from bitquote.server.line import Result
from bitquote.server.message import Status
from bitquote.server.torch_description import describe_optimizers, from_torch, hyperparameters, to_torch


class FlatParameters:
    """The parameters that `optimizers` change, laid one after the other in a flat float32 array.

    They stay where they are in memory, and are copied: kernels may compute differently at another alignment.

    Raises `Rejected`, naming the parameter, for what is not a plain float32 tensor of the CPU.
    """

    def __init__(self, module: Module, optimizers: Sequence[Optimizer]) -> None:
        self.names = dict(module.named_parameters(remove_duplicate=False))
        """Every parameter of the module by its name; shared ones under each of theirs."""
        changed = {id(parameter) for optimizer in optimizers for parameter in _parameters(optimizer)}
        ordered: dict[int, Tensor] = {id(own): own for own in module.parameters() if id(own) in changed}
        for parameter in chain.from_iterable(map(_parameters, optimizers)):
            ordered.setdefault(id(parameter), parameter)  # not the module's own
        self.parameters = list(ordered.values())
        named = {id(parameter): name for name, parameter in self.names.items()}
        for position, parameter in enumerate(self.parameters):
            _check(named.get(id(parameter), f"of the optimiser, number {position},"), parameter)
        offsets = np.cumsum([0, *(parameter.numel() for parameter in self.parameters)])
        self.size = int(offsets[-1])
        self.fingerprint = hashlib.sha256(
            json.dumps(
                [
                    [(named.get(id(p), ""), list(p.shape), str(p.dtype)) for p in self.parameters],
                    [(type(optimizer).__name__, self.positions(optimizer)) for optimizer in optimizers],
                ]
            ).encode()
        ).hexdigest()
        self._ranges = [(int(a), int(b)) for a, b in pairwise(offsets)]

    def positions(self, optimizer: Optimizer) -> list[int]:
        """Where the parameters of `optimizer`, group by group, stand in `parameters`."""
        order = {id(parameter): position for position, parameter in enumerate(self.parameters)}
        return [order[id(parameter)] for parameter in _parameters(optimizer)]

    def split(self, flat: np.ndarray) -> list[Tensor]:
        """Views of `flat`, float32 (size,), one a parameter and of its shape."""
        whole = torch.from_numpy(flat)
        pairs = zip(self._ranges, self.parameters, strict=True)
        return [whole[start:stop].view(parameter.shape) for (start, stop), parameter in pairs]

    def flat(self) -> np.ndarray:
        """A flat copy of the parameters, float32 (size,)."""
        flat = np.empty(self.size, np.float32)
        _copy(self.split(flat), [parameter.detach() for parameter in self.parameters])
        return flat

    def by_name(self, flat: np.ndarray) -> dict[str, Tensor]:
        """Copies of the tensors in `flat`, under every name that the module has for them."""
        tensors = {id(p): t for p, t in zip(self.parameters, self.split(flat), strict=True)}
        return {name: tensors[id(p)].clone() for name, p in self.names.items() if id(p) in tensors}


class Exchange:
    """What a module's optimisers have in common: the client, and the flat layout of gradients and weights.

    Args:
        fenced: called when the server had thrown this worker out, and took it in again.
    """

    def __init__(
        self, client: Client, module: Module, optimizers: Sequence[Optimizer], fenced: Callable[[], None]
    ) -> None:
        self.client = client
        self.layout = FlatParameters(module, optimizers)
        self.description = describe_optimizers(optimizers, self.layout.parameters)
        self.defined = False
        """Whether the server has the model."""
        self._fenced = fenced
        self._optimizers = list(optimizers)
        self._positions = [self.layout.positions(optimizer) for optimizer in optimizers]
        self._gradient = _Views(self.layout)
        self._weights = _Views(self.layout)
        self._final: list[Any] | None = None
        self._warned = False

    def define(self, states: Sequence[Mapping[str, Any]] | None) -> None:
        """Bring the model to the server, with the optimisers' `state_dict`s if it goes on from a checkpoint.

        Call `pull` after every worker has done this.
        """
        client = self.client
        client.define(self.layout.flat(), self.description, self.layout.fingerprint)
        if states is not None:
            client.load(from_torch([part.update for part in client.parts], states))
        self.defined = True

    @torch.no_grad()
    def step(self, index: int) -> None:
        """Push the gradients of optimiser number `index`, and take the weights that the server then has."""
        gradient, absent = self._gather(index)
        hyper: dict[str, Any] = {"optimizer": index, "groups": hyperparameters(self._optimizers[index])}
        if absent:
            hyper["absent"] = absent
        result = self.client.exchange(gradient, hyper=hyper)
        if result.status == Status.REFUSED:
            self._refused(result)
        if result.weights is None:
            self.pull()
        else:
            self._take(result.weights)

    @torch.no_grad()
    def pull(self) -> None:
        """Take the weights that the server has now."""
        self._take(self.client.weights())

    def weights(self) -> dict[str, Tensor]:
        """The weights that the server has now, by the module's names; the module keeps its own."""
        return self.layout.by_name(self.client.weights())

    def state(self, index: int) -> Mapping[str, Any]:
        """The server's state of optimiser number `index`, as the "state" of its `state_dict`."""
        return self._states()[index]["state"] if self._final is None else self._final[index]["state"]

    def close(self) -> None:
        """Fetch the states of the optimisers for good, and let go of the client's memory."""
        if self.defined:
            self._final = [{"state": {}} for _ in self._optimizers]
            with suppress(ServerError):
                self._final = self._states()
        self._gradient.clear()
        self._weights.clear()

    def _states(self) -> list[Any]:
        return to_torch(self.description, self.client.state())

    def _gather(self, index: int) -> tuple[np.ndarray, list[int]]:
        """The flat gradient (size,), and the optimiser's tensors that have none, by their numbers in it."""
        flat = self.client.gradient
        views, positions = self._gradient.of(flat), self._positions[index]
        into, gradients, absent = [], [], []
        for number, position in enumerate(positions):
            gradient = self.layout.parameters[position].grad
            if gradient is None:
                absent.append(number)
            else:
                into.append(views[position])
                gradients.append(gradient.to_dense() if gradient.is_sparse else gradient)
        if len(into) < len(views):
            flat.fill(0.0)
        if into:
            _copy(into, gradients)
        return flat, absent

    def _take(self, flat: np.ndarray) -> None:
        _copy(self.layout.parameters, self._weights.of(flat))

    def _refused(self, result: Result) -> None:
        if result.reason == "fenced":
            self._fenced()
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"the server has refused a gradient ({result.reason}); training goes on with the weights it has."
                " Further refusals are counted and not shown",
                stacklevel=2,
            )


class RemoteOptimizer(Optimizer):
    """Stands for an optimiser whose state lives on the server; made by `remote`.

    Groups of parameters are the optimiser's own, so that schedulers and callbacks that change them act.
    """

    _local: Optimizer
    _exchange: Exchange
    _index: int
    _loaded: Mapping[str, Any] | None

    def __getattr__(self, name: str) -> Any:
        if name == "_local":
            raise AttributeError(name)
        return getattr(self._local, name)

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The optimiser's own."""
        return self._local.param_groups

    @property
    def state(self) -> Mapping[Tensor, Any]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Empty: it is on the server."""
        return self._local.state

    @property
    def loaded(self) -> Mapping[str, Any] | None:
        """The `state_dict` that training is to go on from."""
        return self._loaded

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Run the closure (forward, backward, clipping), then push and pull."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._exchange.step(self._index)
        self._local._opt_called = True  # pyright: ignore[reportAttributeAccessIssue] (schedulers look at it)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """As the optimiser's own would be, with the state fetched from the server."""
        state = self._local.state_dict()
        if self._exchange.defined:
            state["state"] = self._exchange.state(self._index)
        elif self._loaded is not None:
            state["state"] = self._loaded["state"]
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Hyperparameters act at once; the state goes to the server when training begins."""
        if self._exchange.defined:
            raise Rejected("the state of an optimiser can be loaded before training only, not while it goes on")
        self._local.load_state_dict({"state": {}, "param_groups": state_dict["param_groups"]})
        self._loaded = state_dict

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        raise Rejected(
            "add_param_group is not possible while a parameter server trains: give the optimiser all parameters from"
            " the beginning (BaseFinetuning callbacks add them later)"
        )

    def __repr__(self) -> str:
        return f"on the parameter server: {self._local!r}"


def remote(optimizer: Optimizer, exchange: Exchange, index: int) -> RemoteOptimizer:
    """What stands for `optimizer`, number `index` of `exchange`; also an instance of its class."""
    kind = type(type(optimizer).__name__, (RemoteOptimizer, type(optimizer)), {})
    stand_in: RemoteOptimizer = kind.__new__(kind)
    stand_in.__dict__.update(_local=optimizer, _exchange=exchange, _index=index, _loaded=None)
    stand_in._patch_step_function()  # torch's hooks around step
    setattr(kind.step, "_wrapped_by_lr_sched", True)  # noqa: B010 (schedulers ask whether they would notice a step)
    return stand_in


class _Views:
    """The views of the last flat array: an engine hands out the same memory again and again."""

    def __init__(self, layout: FlatParameters) -> None:
        self._layout = layout
        self.clear()

    def of(self, flat: np.ndarray) -> list[Tensor]:
        address = flat.__array_interface__["data"][0]
        if address != self._address:
            self._address, self._views = address, self._layout.split(flat)
        return self._views

    def clear(self) -> None:
        self._address: int | None = None
        self._views: list[Tensor] = []


def _copy(into: list[Tensor], tensors: list[Tensor]) -> None:
    """Each to each, in one call."""
    torch._foreach_copy_(into, tensors)  # pyright: ignore[reportPrivateImportUsage]


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _check(name: str, parameter: Tensor) -> None:
    if type(parameter) not in (torch.nn.Parameter, Tensor):
        raise Rejected(f"parameter {name} is a {type(parameter).__name__}: must be a plain tensor, not a sharded one")
    if parameter.dtype != torch.float32:
        raise Rejected(f"parameter {name} is {parameter.dtype}: must be torch.float32 for a parameter server")
    if parameter.device.type != "cpu":
        raise Rejected(f"parameter {name} is on {parameter.device}: must be on the CPU for a parameter server")
