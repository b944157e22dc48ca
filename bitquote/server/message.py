"""What travels between a worker and one shard. Engines carry these; only `ShardState` gives them meaning."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

NOTHING: Mapping[str, Any] = {}


class Kind(IntEnum):
    """What a message asks for. PUSH is first: it is the one that counts."""

    PUSH = 1
    PULL = 2
    BEAT = 3  # a sign of life; answered, so that the worker hears one too
    JOIN = 4
    LEAVE = 5
    DEFINE = 6  # the first worker brings the model: weights and update rule
    SAVE = 7  # the state of the update rule, for a checkpoint
    LOAD = 8  # puts it back; only before the first push
    CONFIGURE = 9  # changes consistency while running
    STATISTICS = 10
    SNAPSHOT = 11  # asks the engine for a snapshot now
    COLLECT = 12  # barrier, broadcast, reduce, gather: answered when every live worker has come
    DRAW = 13  # the next piece of shared work

    __hash__ = int.__hash__  # an enumeration's own is slow, and every push is looked up by its kind


class Status(IntEnum):
    """How a message was answered."""

    DONE = 0
    APPLIED = 1
    DUPLICATE = 2  # a repeated push that had been accounted for already
    REFUSED = 3  # a push that was counted and not applied; body["reason"] says why
    FENCED = 4
    FAILED = 5  # body["error"] says what is wrong with the request


class Flag(IntEnum):
    """Bits of `Message.flags`."""

    PULL = 1  # answer a push with the weights too


class Message(NamedTuple):
    """One request of a worker.

    A push is known by (worker, epoch, sequence): an epoch is one stay of a worker at the server, sequences count its
    pushes from 1. Other kinds number their requests in `sequence` so that the answer can be told.
    `version` is the number of pushes that the weights had seen on which the gradient was computed.
    Keys [start, stop) are positions in the shard's own weights.
    `values` is what is bulky: a float32 gradient, a packed one (see filters), or the bytes of a state (uint8).
    """

    kind: Kind
    worker: int = -1
    epoch: int = 0
    sequence: int = 0
    version: int = 0
    start: int = 0
    stop: int = 0
    flags: int = 0
    encoding: int = 0  # how `values` is packed; 0: plain float32
    values: np.ndarray | None = None
    body: Mapping[str, Any] = NOTHING  # what JSON can hold


class Reply(NamedTuple):
    """The answer to one message; `kind`, `worker`, `epoch` and `sequence` are the message's own.

    `version` is the number of pushes applied so far, `delay` that of an applied push: how many others were applied
    between the weights it was computed on and itself. `values` may be a view of the shard's weights: an engine copies
    it before the next message is applied.
    """

    kind: Kind
    status: Status
    worker: int = -1
    epoch: int = 0
    sequence: int = 0
    version: int = 0
    delay: int = 0
    start: int = 0
    stop: int = 0
    encoding: int = 0
    values: np.ndarray | None = None
    body: Mapping[str, Any] = NOTHING
