"""The number that ranks a quoter, for each of the two objectives.

`penalty`: mean of profit - phi * integral of q^2 dt. `cara`: the certainty equivalent -log E exp(-gamma W) / gamma.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitquote.evaluation import statistics
from bitquote.market.simulation import Simulation

OBJECTIVES = ("penalty", "cara")


def exact_score(evaluation, objective: str) -> float | None:
    """The objective out of a game's exact `Evaluation`; None where its certainty equivalent does not exist."""
    return evaluation.objective if objective == "penalty" else evaluation.certainty_equivalent


def sample_score(simulation: Simulation, objective: str, gamma: float) -> float | None:
    """The objective of a simulation; None for a certainty equivalent that the sample cannot tell."""
    if objective == "penalty":
        return float(np.mean(simulation.profit - simulation.penalty))
    return statistics.certainty_equivalent(simulation.profit, gamma)


def ranking_score(simulation: Simulation, objective: str, gamma: float) -> float | None:
    """The same for ranking tables on common random numbers: asks for moderate risk, not for 1e4 effective paths."""
    if objective == "penalty":
        return sample_score(simulation, objective, gamma)
    if not statistics.is_risk_moderate(simulation.profit, gamma):
        return None
    return statistics.sample_certainty_equivalent(simulation.profit, gamma)


def score_by_path(simulation: Simulation, objective: str, gamma: float) -> NDArray[np.float64]:
    """One value a path, shape (paths,), whose mean is the objective: what paired intervals are made of."""
    if objective == "penalty":
        return simulation.profit - simulation.penalty
    return statistics.certainty_equivalent_by_path(simulation.profit, gamma)
