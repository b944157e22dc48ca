"""What every learner is: a way to turn the experience of one iteration into a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from bitquote.ternary.network import QuoteNetwork


class Learner(nn.Module, ABC):
    """An iteration is one compiled rollout followed by `updates_per_iteration` updates of the optimiser.

    A learner draws no hidden random number: the experience of iteration i is a function of (seed, i, weights),
    which makes a resumed run equal to an uninterrupted one, and lets several workers share the iterations. What must
    survive between iterations is a parameter or a buffer; everything else is rebuilt.
    """

    iterations: int
    updates_per_iteration: int = 1
    steps_per_iteration: int = 0
    """Environment steps that one iteration simulates."""

    @property
    def updates(self) -> int:
        """Updates of the optimiser in the whole run."""
        return self.iterations * self.updates_per_iteration

    @abstractmethod
    def loss(self, network: QuoteNetwork, update: int, version: int) -> tuple[Tensor, Mapping[str, float]]:
        """The scalar loss of update number `update`, and figures to log beside it.

        `version` is the number of updates that made the network's weights: `update` in a single process; at a
        parameter server more or less by what other workers are doing at the moment.
        """


def iteration_seed(seed: int, iteration: int) -> int:
    """The seed of an iteration's rollout: 53 bits, far apart for neighbouring (seed, iteration)."""
    return int(np.random.SeedSequence((seed, iteration)).generate_state(1, np.uint64)[0] >> 11)
