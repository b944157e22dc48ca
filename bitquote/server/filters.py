"""What a worker leaves out of its pushes and a shard out of its answers, and the guard that lets no bad gradient in.

Li, Andersen, Park, Smola, Ahmed, Josifovski, Long, Shekita and Su, "Scaling Distributed Machine Learning with the
Parameter Server", OSDI 2014 (significantly-modified, random skip, KKT, key caching); Wen, Xu, Yan, Wu, Wang, Chen and
Li, "TernGrad", NIPS 2017 (ternary gradients). There is no error feedback: it is right only with a contractive
quantiser, and the ternary one is unbiased instead.

On both ways the sender makes a `Packet` and the receiver calls `unpack`:

    worker  GradientPacker.pack(gradient, start)              -> Packet -> unpack, then refusal   shard
    shard   WeightPacker.pack(weights, start, stop, active)   -> Packet -> unpack                 worker
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np

from bitquote.server.config import ServerConfig
from bitquote.server.packing import HEADER_BYTES, Encoding, KeyCache, Packet, pack

FULL_EVERY = 10
"""Under the KKT filter every tenth push leaves nothing out, so that keys can come back."""


@cache
def _sum_of_products() -> Callable[[np.ndarray, np.ndarray], float]:
    """Of BLAS itself: numpy's looks for an overflow after every product, and to have it not warn costs as much again.

    Imported when a gradient first comes: it takes a quarter of a second, also of processes that see none.
    """
    from scipy.linalg.blas import sdot

    return sdot


def refusal(gradient: np.ndarray, largest: float) -> str | None:
    """Why float32 `gradient` (k,) must not be applied: "nonfinite", "too_large" (an entry beyond +-`largest`), or None.

    A sum of squares of at most largest^2 has no term beyond it: rounding is monotone, so this also holds for the sum
    that BLAS computes (the margin covers the rounding of the squares themselves). It proves most gradients legal in
    one fast pass; a larger sum, an overflow or NaN proves nothing, and every entry is looked at.
    """
    if not gradient.size or _sum_of_products()(gradient, gradient) <= 0.999 * largest * largest:
        return None
    worst = float(np.max(np.abs(gradient)))  # NaN if any is
    if not np.isfinite(worst):
        return "nonfinite"
    return "too_large" if worst > largest else None


class GradientPacker:
    """A worker's side of the push filters, one object a shard.

    Args:
        config: of the server.
        size: number of the shard's weights.
        rng: for random skip and ternary values; the same generator and gradients give the same packets.
        tensors: ascending positions at which tensors begin and end, each with a ternary scale of its own; 0 and `size`
            may be left out. `update.tensor_offsets` gives them. None: one scale.

    Attributes:
        keys: clear it after a refusal "keys" and over a new connection; the next push then sends its list again.
        active: bool (size,), the KKT filter's active set as the last answer brought it; None: all are active.
        plain: no filter is on, and `pack` gives the gradient back as it is.
    """

    def __init__(
        self, config: ServerConfig, size: int, rng: np.random.Generator, tensors: np.ndarray | None = None
    ) -> None:
        self.keys = KeyCache()
        self.active: np.ndarray | None = None
        self._ternary = config.ternary_gradients
        self._skip = config.random_skip
        self._kkt = config.kkt_slack is not None
        self.plain = not (self._ternary or self._skip < 1.0 or self._kkt)
        self._rng = rng
        self._edges = np.unique(np.append(np.array([] if tensors is None else tensors, np.int64), [0, size]))
        self._pushes = 0

    def pack(self, gradient: np.ndarray, start: int = 0) -> Packet:
        """Float32 `gradient` (k,) of keys [start, start + k); a plain packet holds `gradient` itself."""
        size = len(gradient)
        if self.plain:
            return Packet(Encoding.PLAIN, gradient)
        keys = self._wanted(start, size)
        values = gradient if keys is None else gradient.take(keys)
        mask = None
        if self._skip < 1.0:
            mask = self._rng.random(len(values), np.float32) < self._skip
            with np.errstate(over="ignore"):  # becomes infinite, and is refused
                values = values * np.float32(1.0 / self._skip)
        tensors = self._lengths(start, size, keys, mask) if self._ternary else None
        return pack(values, size, keys, mask, tensors, self._rng, self.keys)

    def _wanted(self, start: int, size: int) -> np.ndarray | None:
        """The keys that the KKT filter lets through, None for all."""
        full = not self._kkt or self._pushes % FULL_EVERY == 0
        self._pushes += 1
        if full or self.active is None:
            return None
        active = self.active[start : start + size]
        return None if active.all() else np.flatnonzero(active)

    def _lengths(self, start: int, size: int, keys: np.ndarray | None, mask: np.ndarray | None) -> np.ndarray:
        """How many of the values that are sent belong to each tensor."""
        edges = np.clip(self._edges - start, 0, size)
        if keys is not None:
            edges = np.searchsorted(keys, edges)
        if mask is not None:
            edges = np.searchsorted(np.flatnonzero(mask), edges)
        return np.diff(edges)


class WeightPacker:
    """A shard's side of the pull filters, one object a worker: knows which weights the worker has.

    Attributes:
        plain: no filter is on, and `pack` would give the weights back as they are.
    """

    def __init__(self, config: ServerConfig, size: int) -> None:
        self._significance = config.significance
        self._kkt = config.kkt_slack is not None
        self._pulls = 0
        self._synced = np.full(size if self._significance > 0.0 else 0, np.nan, np.float32)  # NaN: never sent
        self.plain = not (self._significance > 0.0 or self._kkt)

    def pack(self, weights: np.ndarray, start: int, stop: int, active: np.ndarray | None = None) -> Packet:
        """Keys [start, stop) of float32 `weights` (size,), without those that moved by at most significance / sqrt(t)
        since they were sent, t being the number of this pull.

        `active` (size,) bool travels along when all keys are pulled. A plain packet is a view of `weights`.
        """
        size, part = stop - start, weights[start:stop]
        if not self._kkt or size < len(weights):
            active = None
        if not self._significance:
            return pack(part, size, active=active)
        self._pulls += 1
        synced = self._synced[start:stop]
        moved = ~(np.abs(part - synced) <= self._significance / self._pulls**0.5)  # so that NaN has moved
        keys = np.flatnonzero(moved)
        synced[keys] = part[keys]
        if HEADER_BYTES + min(4 * len(keys), size // 8) + 4 * len(keys) < 4 * size:
            return pack(part[keys], size, keys, active=active)
        synced[:] = part
        return pack(part, size, active=active)

    def reset(self) -> None:
        """The worker may have missed an answer (it has a new connection, or asks again): the next one is complete."""
        self._synced.fill(np.nan)

    def state(self) -> dict[str, np.ndarray]:
        """For a snapshot; copies."""
        return {} if self.plain else {"synced": self._synced.copy(), "pulls": np.array(self._pulls)}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Put `state()` back; of one that does not fit (filters were changed) nothing is taken: that is safe."""
        synced, pulls = state.get("synced"), state.get("pulls")
        if synced is not None and pulls is not None and synced.shape == self._synced.shape:
            self._synced[:], self._pulls = synced, int(pulls)


def active_keys(weights: np.ndarray, gradient: np.ndarray, l1: float, slack: float) -> np.ndarray:
    """The KKT filter, bool (n,): False where a weight is zero and |gradient| <= l1 - slack, as it will then stay zero.

    `gradient` (n,) must be the *aggregated* one: one worker's share says nothing about the whole.
    """
    return (weights != 0.0) | ~(np.abs(gradient) <= l1 - slack)
