"""What Lightning asks of all workers together: barrier, broadcast, reduce, gather; and who leads them."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitquote.server.client import Client
from bitquote.server.errors import Rejected

REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda stacked: stacked.sum(0),
    "mean": lambda stacked: stacked.sum(0) / len(stacked),
    "avg": lambda stacked: stacked.sum(0) / len(stacked),
    "min": lambda stacked: stacked.amin(0),
    "max": lambda stacked: stacked.amax(0),
    "product": lambda stacked: stacked.prod(0),
}
"""By the names of Lightning and torch.distributed; of tensors stacked along a first axis, in the order of workers."""


class Collectives:
    """Meetings of the workers that live: whoever is gone is not waited for, and what it brought does not count.

    One worker leads (writes checkpoints and logs). Everybody brings to every meeting whom it takes for the leader, so
    that all agree: it stays who it was while it lives, then the lowest of those that do takes over.

    Args:
        deadline: seconds after which a meeting to which somebody fails to come raises `ServerUnavailable`.
        led: called with the old leader when another one takes over.
    """

    def __init__(self, client: Client, deadline: float, led: Callable[[int], None]) -> None:
        self.client = client
        self.leader = 0
        self.apart = False
        """Workers that draw shared work do unequal numbers of steps: while they do, nobody waits for anybody, and
        everyone decides for itself."""
        self._deadline = deadline
        self._led = led

    @property
    def leads(self) -> bool:
        """Whether this worker is the leader."""
        return self.leader == self.client.worker

    def depose(self) -> None:
        """This worker was thrown out for a while: until the next meeting somebody else may be the leader."""
        if self.leads:
            self.leader = -1
            self._led(self.client.worker)

    def meet(self, name: str, value: Any = None) -> dict[int, Any]:
        """Wait until every live worker is here; what each has brought (what JSON holds), by worker."""
        if self.apart:
            return {self.client.worker: value}
        brought = self.client.collect(name, [self.leader, value], deadline=self._deadline)
        claims = [leader for leader, _ in brought.values() if leader in brought]
        before, self.leader = self.leader, min(claims or brought)
        if self.leader != before:
            self._led(before)
        return {worker: brought[worker][1] for worker in sorted(brought)}

    def broadcast(self, value: Any) -> Any:
        """The leader's value, for everybody; raises `Rejected` for a type that does not travel."""
        brought = self.meet("broadcast", encode(value))
        return decode(brought.get(self.leader, next(iter(brought.values()))))

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all live workers, shape (workers, ...)."""
        tensors = [decode(value) for value in self.meet("gather", encode(tensor.detach())).values()]
        if len({other.shape for other in tensors}) > 1:
            shapes = ", ".join(str(tuple(other.shape)) for other in tensors)
            raise Rejected(f"workers gather tensors of different shapes: {shapes}")
        return torch.stack(tensors).to(tensor.device)

    def reduce(self, tensor: Tensor, operation: Any) -> Tensor:
        """One tensor of all live workers' tensors; `operation` as in torch.distributed or by name."""
        name = str(operation or "sum").rpartition(".")[2].lower()
        if name not in REDUCTIONS:
            raise Rejected(f"reduce_op is {operation!r}: must be one of {', '.join(REDUCTIONS)}")
        return REDUCTIONS[name](self.gather(tensor)).to(tensor.dtype)

    def decide(self, decision: bool, all_: bool) -> bool:
        """Whether all workers (or any of them) have decided for it."""
        decisions = self.meet("decision", bool(decision)).values()
        return all(decisions) if all_ else any(decisions)


def encode(value: Any) -> Any:
    """`value` as JSON holds it; every object in it has one key that says what it stands for."""
    if value is None or isinstance(value, bool | str) or type(value) is int:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, tuple) and type(value) is tuple:
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, Tensor) and not value.is_sparse and not value.is_quantized:
        flat = value.detach().cpu().contiguous().reshape(-1)
        data = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
        return {"tensor": [str(value.dtype).removeprefix("torch."), list(value.shape), base64.b64encode(data).decode()]}
    raise Rejected(
        f"a {type(value).__name__} cannot be sent to the other workers: must be None, a number, text, path or tensor,"
        " or a list, tuple or dict of them"
    )


def decode(value: Any) -> Any:
    """The inverse of `encode`."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "float":
        return float(content)
    if kind == "path":
        return Path(content)
    if kind == "tuple":
        return tuple(decode(item) for item in content)
    if kind == "dict":
        return {decode(key): decode(item) for key, item in content}
    dtype, shape, data = content
    if not data:
        return torch.empty(shape, dtype=getattr(torch, dtype))
    return torch.frombuffer(bytearray(base64.b64decode(data)), dtype=getattr(torch, dtype)).reshape(shape)
