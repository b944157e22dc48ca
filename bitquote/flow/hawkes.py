"""Multivariate Hawkes flow: events that make events more likely, for a while.

intensity_i(t) = base_i(t) + sum_p S_pi(t), where an event of kind j adds jump[p, i, j] to S_pi, which decays at the
rate decay[p]: a kernel of sums of exponentials, whose state is updated in O(1) an event (Bacry, Mastromatteo & Muzy
2015, Hawkes processes in finance; Gasperov & Kostanjcar 2022 for market making). The base is the Poisson flow, whose
events excite as well, and trades of informed traders if they are said to (who sent an order is not seen), which
nothing excites. Simulated by thinning (Ogata 1981): excitations only fall between events, so that their last
value bounds them.
"""

import math
from typing import NamedTuple

import numpy as np

from bitquote.compilation import inlined, kernel
from bitquote.flow.state import KINDS


class Hawkes(NamedTuple):
    """Parameters, in 1/s; no terms, no excitation."""

    decay: np.ndarray  # float64 (terms,)
    jump: np.ndarray  # float64 (terms, 6, 6): what an event of kind j (last axis) adds to kind i
    start: np.ndarray  # float64 (terms, 6): stationary mean of the excitations, which a path begins with
    informed: bool = False  # whether trades of informed traders excite as market orders do


def branching_matrix(decay: np.ndarray, jump: np.ndarray) -> np.ndarray:
    """Expected direct offspring (6, 6): entry i, j counts events of kind i that one of kind j sets off."""
    return np.einsum("pij,p->ij", jump, 1.0 / decay) if decay.size else np.zeros((len(KINDS), len(KINDS)))


def branching_ratio(decay: np.ndarray, jump: np.ndarray) -> float:
    """Spectral radius of the branching matrix: the process is stationary if and only if it is below one."""
    return float(np.abs(np.linalg.eigvals(branching_matrix(decay, jump))).max())


def mean_rates(decay: np.ndarray, jump: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Stationary events per second of each kind, (I - G)^-1 base, of a stationary process."""
    return np.linalg.solve(np.eye(len(KINDS)) - branching_matrix(decay, jump), base)


def stationary_excitation(decay: np.ndarray, jump: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Mean of the excitations S (terms, 6) of a stationary process."""
    return np.einsum("pij,p,j->pi", jump, 1.0 / decay, mean_rates(decay, jump, base)) if decay.size else jump[:, 0]


@inlined
def decay_to(hawkes, state, time):
    """Bring the excitations down to what they are at `time` (s)."""
    now = state.now[0]
    elapsed = time - now.decayed
    now.decayed = time
    total = 0.0
    for p in range(hawkes.decay.size):
        factor = math.exp(-hawkes.decay[p] * elapsed)
        for i in range(len(KINDS)):
            state.excitation[p, i] *= factor
            total += state.excitation[p, i]
    now.excited = total


@inlined
def excite(hawkes, state, kind):
    """An event of `kind` happened at the time that the excitations stand at."""
    total = 0.0
    for p in range(hawkes.decay.size):
        for i in range(len(KINDS)):
            state.excitation[p, i] += hawkes.jump[p, i, kind]
            total += state.excitation[p, i]
    state.now[0].excited = total


@kernel
def excited_kind(hawkes, state, pick):
    """The kind whose excitation holds `pick` in [0, their sum), or -1 above it: a point that thinning removes."""
    for i in range(len(KINDS)):
        for p in range(hawkes.decay.size):
            pick -= state.excitation[p, i]
            if pick < 0.0:
                return i
    return -1


@kernel
def begin_excitation(hawkes, state, time):
    """Start from the stationary mean."""
    now = state.now[0]
    now.decayed = time
    now.excited = 0.0
    for p in range(hawkes.decay.size):
        for i in range(len(KINDS)):
            state.excitation[p, i] = hawkes.start[p, i]
            now.excited += hawkes.start[p, i]
