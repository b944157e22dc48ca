"""The score that training watches: exact in the game, a paired simulation on a validation seed in the order book."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from bitquote.errors import InputError
from bitquote.market.game import Evaluation, Game
from bitquote.market.order_book import OrderBookMarket
from bitquote.market.simulation import Simulation
from bitquote.quoting import QuoteTable, avellaneda_stoikov, dynamic_program, glft, symmetric_constant
from bitquote.ternary.policy import Policy

NORMALISED = {"N95": 0.05, "N99": 0.01}
"""Levels of the normalised gap that are usually reported."""
VALIDATION_PATHS = 64
NORMAL_95 = 1.96
"""Standard errors on either side of a mean that hold 95 %."""
VALIDATION_SEED = 1_000_003
"""Apart from every training seed (see `learner.iteration_seed`) and from the benchmark's."""


class Scorer(ABC):
    """Judges a policy.

    Attributes:
        metric: what the score is.
        lower_is_better: of the score.
        references: scores of the baselines.
        milestones: scores whose passing is worth recording.
    """

    metric: str
    lower_is_better: bool
    references: Mapping[str, float]
    milestones: Mapping[str, float]

    @abstractmethod
    def score(self, policy: Policy) -> dict[str, float]:
        """Figures to log, among them "score"."""


def make_scorer(
    market: Game | OrderBookMarket, objective: str, threads: int, paths: int = VALIDATION_PATHS
) -> Scorer:
    """The scorer for this kind of market; in the order book the market's own baseline is the reference."""
    if isinstance(market, Game):
        return GameScorer(market, objective)
    return OrderBookScorer(market, objective, threads, paths)


class GameScorer(Scorer):
    """The normalised gap (J* - J) / (J* - J of the best constant symmetric quote), all by exact recursion.

    J* is the dynamic program of the same objective.
    """

    metric = "normalised_gap"
    lower_is_better = True

    def __init__(self, game: Game, objective: str) -> None:
        self._game = game
        self._objective = objective
        self._optimum = self._value(dynamic_program(game.parameters, objective=objective))
        self._span = self._optimum - self._value(symmetric_constant(game.parameters))
        baselines = {"avellaneda_stoikov": avellaneda_stoikov, "glft": glft}
        self.references = {name: self._gap(self._value(quoter(game.parameters))) for name, quoter in baselines.items()}
        self.milestones = self.references | NORMALISED

    def score(self, policy: Policy) -> dict[str, float]:
        """Exact evaluation of the policy's own integers, tabulated over (step, inventory)."""
        evaluation = self._game.evaluate(self._game.tabulate(policy))
        value = _objective(evaluation, self._objective)
        figures = {
            "score": self._gap(value),
            "objective": value,
            "profit/mean": evaluation.mean_profit,
            "profit/std": evaluation.std_profit,
            "inventory/terminal_std": evaluation.std_terminal_inventory,
            "fills": evaluation.fills,
        }
        return figures | _if_quoted(evaluation.mean_spread)

    def _value(self, table: QuoteTable) -> float:
        return _objective(self._game.evaluate(table), self._objective)

    def _gap(self, value: float) -> float:
        return (self._optimum - value) / self._span


class OrderBookScorer(Scorer):
    """The objective over paths of a validation seed that neither training nor the benchmark uses.

    The reference is the market's own baseline, the tuned GLFT, on the same paths.
    """

    metric = "objective"
    lower_is_better = False

    def __init__(
        self, market: OrderBookMarket, objective: str, threads: int, paths: int = VALIDATION_PATHS
    ) -> None:
        self._market = market
        self._objective = objective
        self._threads = threads
        self._paths = paths
        self._baseline = self._by_path(self._simulate(market.baseline))
        self.references = {"glft_tuned": float(np.mean(self._baseline)), "no_quote": 0.0}
        self.milestones = self.references

    def score(self, policy: Policy) -> dict[str, float]:
        """Figures of the policy and its paired difference to the baseline on common random numbers."""
        simulation = self._simulate(policy)
        by_path = self._by_path(simulation)
        difference = by_path - self._baseline
        mean, error = float(np.mean(difference)), float(np.std(difference) / np.sqrt(len(difference)))
        quoted = simulation.mean_spread[np.isfinite(simulation.mean_spread)]
        figures = {
            "score": float(np.mean(by_path)),
            "difference": mean,
            "difference_error": error,
            "difference_low": mean - NORMAL_95 * error,
            "difference_high": mean + NORMAL_95 * error,
            "profit/mean": float(np.mean(simulation.profit)),
            "profit/std": float(np.std(simulation.profit)),
            "inventory/terminal_std": float(np.std(simulation.terminal_inventory)),
            "fills": float(np.mean(simulation.fills)),
        }
        return figures | _if_quoted(float(np.mean(quoted)) if len(quoted) else None)

    def _simulate(self, quoter: Policy | QuoteTable) -> Simulation:
        return self._market.simulate(quoter, self._paths, VALIDATION_SEED, threads=self._threads)

    def _by_path(self, simulation: Simulation) -> np.ndarray:
        return objective_by_path(simulation, self._objective, self._market.game.gamma)


def objective_by_path(simulation: Simulation, objective: str, gamma: float) -> np.ndarray:
    """One value a path, (paths,), whose mean is the objective: for `cara` the certainty equivalent's linearisation."""
    if objective == "penalty":
        return simulation.profit - simulation.penalty
    worst = simulation.profit.min()
    weights = np.exp(-gamma * (simulation.profit - worst))
    mean = weights.mean()
    return worst - np.log(mean) / gamma + (1.0 - weights / mean) / gamma


def _objective(evaluation: Evaluation, objective: str) -> float:
    """The objective of an exact evaluation; an InputError where it does not exist."""
    value = evaluation.objective if objective == "penalty" else evaluation.certainty_equivalent
    if value is None:
        raise InputError("objective is 'cara': a certainty equivalent overflows in this game; lower market.gamma")
    return value


def _if_quoted(mean_spread: float | None) -> dict[str, float]:
    return {} if mean_spread is None else {"spread/mean": mean_spread}
