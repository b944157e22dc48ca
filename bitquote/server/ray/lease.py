"""Leases: the right of a shard on a Ray cluster to acknowledge, for a time. Pure; the caller says what time it is.

The keeper makes a successor only when the lease of a shard has certainly run out. So a shard on a node that Ray has
given up, but that workers still reach, cannot acknowledge pushes that its successor does not know of. Nobody's clock is
set: the shard counts from before it asked, the keeper from after it was asked, each by its own monotone clock, and the
keeper adds a margin for clocks that do not run at one speed. (Gray and Cheriton, "Leases", SOSP 1989.)
"""

from __future__ import annotations

import math

from bitquote.server.config import ServerConfig

MARGIN = 0.1
"""Of a lease: how much longer than the shard the keeper thinks it lasts."""


def lease_of(config: ServerConfig) -> float:
    """Seconds that a lease lasts: a shard that dies is missed for about as long as a worker that is silent."""
    return config.heartbeat / 2.0


class Lease:
    """The right to acknowledge, as its holder sees it. Times are seconds of the holder's monotone clock."""

    def __init__(self, length: float) -> None:
        self.length = length
        self._until = -math.inf

    def renewed(self, asked: float) -> None:
        """The keeper has granted what was asked for at time `asked`."""
        self._until = max(self._until, asked + self.length)

    def holds(self, now: float) -> bool:
        """Whether the right still stands."""
        return now < self._until


class Leases:
    """All shards' terms and leases, as the keeper sees them. Times are seconds of the keeper's monotone clock."""

    def __init__(self, terms: list[int], length: float) -> None:
        self.terms = terms
        self.length = length
        self._until = [math.inf] * len(terms)

    def renew(self, shard: int, term: int, now: float) -> bool:
        """Whether the lease is granted: only to the shard's present term."""
        if term != self.terms[shard]:
            return False
        self._until[shard] = now + self.length * (1.0 + MARGIN)
        return True

    def expired(self, now: float) -> list[int]:
        """The shards whose lease has run out, by any clock that is not too fast or slow."""
        return [shard for shard, until in enumerate(self._until) if now >= until]

    def begin(self, shard: int, term: int, until: float) -> None:
        """A term begins; it has until then to come into service."""
        self.terms[shard] = term
        self._until[shard] = until
