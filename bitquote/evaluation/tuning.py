"""`glft_tuned`: the best member of the family (GLFT half-spread + shift, GLFT skew x scale) on a published grid.

An optimum on the edge of the grid says nothing about the family, so the grid widens itself on that edge a bounded
number of times; then its optimum is refined between its neighbours. Every point that was tried is in the record.
"""

from __future__ import annotations

import math
import statistics
from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from bitquote.errors import InputError, require, require_choice, require_integer, require_number
from bitquote.evaluation.scoring import OBJECTIVES, exact_score, ranking_score
from bitquote.evaluation.statistics import sharpe_ratio
from bitquote.market import Game, OrderBookMarket
from bitquote.quoting import QuoteTable, glft_shifted

SHIFTS = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0)
"""Default shifts of the half-spread, in units of 1/k, the distance over which fills fade by a factor e."""
SCALES = (0.25, 0.5, 1.0, 1.5, 2.0)
"""Default factors of the skew."""
WIDENINGS = 7
REFINEMENTS = 2
"""Halvings of the grid's spacing around the optimum where scores are simulated; twice as many where they are exact."""

Progress = Callable[[str, int, int], None]
"""Called as progress(what, done, total) before each piece of work."""
Point = tuple[float, float]
"""A shift in units of 1/k and a scale."""


class EdgeOptimum(InputError):
    """The grid ends before the family's optimum."""


@dataclass(frozen=True)
class Tuned:
    """The tuned table; `shift` in price, `scale` a factor; `record` is the `tuning` entry of benchmark.json."""

    table: QuoteTable
    shift: float
    scale: float
    record: dict[str, Any]


def tune_glft(
    market: Game | OrderBookMarket,
    *,
    objective: str = "penalty",
    paths: int = 256,
    seed: int,
    shifts: Sequence[float] = SHIFTS,
    scales: Sequence[float] = SCALES,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Tune GLFT for `market`: exactly in the game, on `paths` common paths of `seed` in the order book.

    `shifts` (units of 1/k) and `scales` are the two axes of the grid, at least three values each. Raises
    EdgeOptimum when the optimum still lies on the grid's edge after `WIDENINGS` widenings.
    """
    require_choice("objective", objective, OBJECTIVES)
    paths, seed = require_integer("tuning.paths", paths, 2), require_integer("tuning.seed", seed, 0)
    unit = 1.0 / market.game.k
    ratios: list[float] = []

    def score(point: Point) -> float:
        table = glft_shifted(market.game, point[0] * unit, point[1])
        if isinstance(market, Game):
            value = exact_score(market.evaluate(table), objective)
        else:
            simulation = market.simulate(table, paths, seed, threads=threads)
            value = ranking_score(simulation, objective, market.game.gamma)
            ratios.append(sharpe_ratio(simulation.profit) or 0.0)
        return -math.inf if value is None else value

    search = _Search(score, _axis("shifts", shifts), _axis("scales", scales), progress)
    search.widen_until_inside()
    grid = search.grid()
    search.refine(2 * REFINEMENTS if isinstance(market, Game) else REFINEMENTS)
    shift, scale = search.best()
    record = {
        "seed": seed,
        "paths": paths,
        "exact": isinstance(market, Game),
        "objective": objective,
        "shift_unit": unit,
        **grid,
        "refined": [[*point, _null(search.scores[point])] for point in search.refined],
        "shift": shift * unit,
        "scale": scale,
        "score": search.scores[shift, scale],
        "trials": len(search.scores),
        "sharpe_spread": statistics.stdev(ratios) if ratios else None,  # of the trials
    }
    return Tuned(glft_shifted(market.game, shift * unit, scale), shift * unit, scale, record)


@dataclass
class _Search:
    """A grid search whose axes may grow; `scores` remembers every point that was tried."""

    score: Callable[[Point], float]
    shifts: list[float]
    scales: list[float]
    progress: Progress | None
    scores: dict[Point, float] = field(default_factory=dict)
    refined: list[Point] = field(default_factory=list)

    def widen_until_inside(self) -> None:
        """Score the whole grid, extending the axes whose edge holds the optimum until none does."""
        self._try(product(self.shifts, self.scales))
        for _ in range(WIDENINGS):
            outside = self._axes_with_optimum_on_edge()
            if not outside:
                return
            for axis, edge in outside.values():
                _extend(axis, edge)
            self._try(product(self.shifts, self.scales))
        for name, (axis, edge) in self._axes_with_optimum_on_edge().items():
            raise EdgeOptimum(
                f"tuning.{name} widened {WIDENINGS} times to [{axis[0]:g}, {axis[-1]:g}] still has its optimum on the "
                f"edge {edge:g}: give tuning.{name} around or beyond it"
            )

    def _axes_with_optimum_on_edge(self) -> dict[str, tuple[list[float], float]]:
        axes = {"shifts": (self.shifts, self.best()[0]), "scales": (self.scales, self.best()[1])}
        return {name: (axis, value) for name, (axis, value) in axes.items() if value in (axis[0], axis[-1])}

    def refine(self, times: int) -> None:
        """Halve the spacing around the optimum `times` times."""
        for _ in range(times):
            shift, scale = self.best()
            new = list(product(_between(self.shifts, shift), _between(self.scales, scale)))
            self.refined += [point for point in new if point not in self.scores]
            self._try(new)
            for axis, values in zip((self.shifts, self.scales), zip(*new, strict=True), strict=True):
                for value in set(values) - set(axis):
                    insort(axis, value)

    def best(self) -> Point:
        """The optimum. A tie (a plateau without fills, say) goes to the smallest shift, then to the scale nearest 1."""
        return max(self.scores, key=lambda point: (self.scores[point], -point[0], -abs(point[1] - 1.0)))

    def grid(self) -> dict[str, Any]:
        """The two axes as they stand and the scores over them, shape (shifts, scales); None where not estimable."""
        scores = [[_null(self.scores[shift, scale]) for scale in self.scales] for shift in self.shifts]
        return {"shifts": list(self.shifts), "scales": list(self.scales), "scores": scores}

    def _try(self, points: Iterable[Point]) -> None:
        new = [point for point in points if point not in self.scores]
        total = len(self.scores) + len(new)
        for point in new:
            if self.progress is not None:
                best = f"best {max(self.scores.values()):.5g}" if self.scores else ""
                self.progress(best, len(self.scores), total)
            self.scores[point] = self.score(point)
        if all(value == -math.inf for value in self.scores.values()):
            raise InputError(
                "objective is 'cara': not estimable for any GLFT of the grid: lower market.gamma or use penalty"
            )


def _axis(name: str, values: Sequence[float]) -> list[float]:
    """An ascending axis of at least three distinct finite numbers."""
    sequence = isinstance(values, Sequence) and not isinstance(values, str)
    require(sequence and len(values) >= 3, f"tuning.{name}", values, "a list of at least three numbers")
    axis = sorted({require_number(f"tuning.{name}", value) for value in values})
    require(len(axis) == len(values), f"tuning.{name}", values, "a list of distinct numbers")
    return axis


def _extend(axis: list[float], edge: float) -> None:
    """Double the span of `axis` beyond `edge` by two points, in place."""
    span = axis[-1] - axis[0]
    for step in (0.5, 1.0):
        insort(axis, edge + math.copysign(span * step, edge - 0.5 * (axis[0] + axis[-1])))


def _between(axis: list[float], value: float) -> tuple[float, float, float]:
    """`value` and the midpoints towards its two neighbours on `axis`."""
    index = axis.index(value)
    return 0.5 * (axis[index - 1] + value), value, 0.5 * (value + axis[index + 1])


def _null(score: float) -> float | None:
    return score if math.isfinite(score) else None
