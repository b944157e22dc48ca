"""Two sets of policies on the same paths: what one choice of network or learner is worth against another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bitquote.errors import require
from bitquote.evaluation.scoring import exact_score, sample_score, score_by_path
from bitquote.evaluation.statistics import two_level_interval, two_level_p_value
from bitquote.evaluation.tuning import Progress
from bitquote.market import Game, OrderBookMarket


def paired_policies(
    market: Game | OrderBookMarket,
    ones: Sequence[Any],
    others: Sequence[Any],
    *,
    objective: str,
    paths: int,
    seed: int,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, float] | None:
    """The objective of `ones` less that of `others`: mean, low and high of its 95 % interval, p_value.

    Policies of one training seed stand at one place of the two lists. The interval is over training seeds, and in an
    order book over `paths` common paths of `seed` too. None where an objective is not estimable.
    """
    sizes = len(ones), len(others)
    require(sizes[0] == sizes[1] >= 2, "the policies", sizes, "as many in both lists, two at least")
    scores = []
    for done, policy in enumerate([*ones, *others]):
        if progress is not None:
            progress("", done, 2 * len(ones))
        scores.append(_scores(market, policy, objective, paths, seed, threads))
    if any(score is None for score in scores):
        return None
    table = np.array(scores, np.float64)  # (policies, paths), in the game (policies, 1)
    difference = table[: len(ones)] - table[len(ones) :]
    return two_level_interval(difference)._asdict() | {"p_value": two_level_p_value(difference)}


def _scores(
    market: Game | OrderBookMarket, policy: Any, objective: str, paths: int, seed: int, threads: int | None
) -> np.ndarray | None:
    """One value a path whose mean is the score; in the game the exact score alone."""
    if isinstance(market, Game):
        score = exact_score(market.evaluate(market.tabulate(policy)), objective)
        return None if score is None else np.array([score])
    simulation = market.simulate(policy, paths, seed, threads=threads)
    estimable = sample_score(simulation, objective, market.game.gamma) is not None
    return score_by_path(simulation, objective, market.game.gamma) if estimable else None
