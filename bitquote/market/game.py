"""The Avellaneda-Stoikov game: exact evaluation, simulation, and what the learners need of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numba import njit

from bitquote.errors import InputError, require, require_integer, require_number
from bitquote.market.function_pointer import FunctionPointer, function_and_arguments
from bitquote.market.game_adjoint import adjoint_block, compile_adjoint, path_weights, weigh_block
from bitquote.market.game_paths import (
    SIMULATION_FIELDS,
    Starts,
    allocate_rollout,
    compile_rules,
    compile_table,
    rollout_block,
    simulate_block,
)
from bitquote.market.simulation import Rollout, Simulation, for_each_block
from bitquote.quoting.glft import glft
from bitquote.quoting.parameters import GameParameters
from bitquote.quoting.recursion import (
    edges,
    occupancy,
    outcome_probabilities,
    profit_variance,
    start_distribution,
    values,
)
from bitquote.quoting.table import QuoteTable, bounded, check, inventories, times_left

OBSERVATION_NAMES = ("inventory", "time_left", "inventory_time_left", "constant", "glft_half_spread", "glft_skew")
_ADJOINT_BLOCK = 1024  # paths: enough for the adjoint's least-squares line
_ADJOINT_BLOCKS = 32  # at most, each with its own sums over the table
_TYPICAL_INVENTORY = 20  # lots: a network's input is linear up to here


@dataclass(frozen=True)
class Evaluation:
    """Exact figures of a table, from inventory 0. Money is in price x lots.

    Attributes:
        mean_profit: Expected terminal wealth.
        std_profit: Its standard deviation.
        mean_terminal_inventory: Expected inventory at the horizon, lots.
        std_terminal_inventory: Its standard deviation, lots.
        mean_spread: Occupancy-weighted bid + ask distance where both are quoted, price; None if never.
        certainty_equivalent: -ln E[exp(-gamma wealth)] / gamma; None when a double cannot hold it.
        objective: The penalised objective, expected wealth less phi times the expected integral of inventory^2.
        fills: Expected number of fills.
    """

    mean_profit: float
    std_profit: float
    mean_terminal_inventory: float
    std_terminal_inventory: float
    mean_spread: float | None
    certainty_equivalent: float | None
    objective: float
    fills: float


@dataclass(frozen=True)
class Game:
    """The game of `parameters`; all results depend on their arguments alone, never on the number of threads.

    A quoter is a QuoteTable; or a policy (`kernel`, `arguments`, `no_quote`), an njit function of an observation
    that returns (half_spread, skew) in price, or such a function with a tuple of further arguments. All but the
    first are tabulated over (step, inventory).
    """

    parameters: GameParameters
    name: str = "game"

    def __post_init__(self) -> None:
        require(isinstance(self.parameters, GameParameters), "parameters", self.parameters, "GameParameters")

    @property
    def game(self) -> GameParameters:
        """What the closed forms are computed from."""
        return self.parameters

    @property
    def units(self) -> str:
        """Unit of all money."""
        return "price x lots"

    @property
    def no_quote(self) -> float:
        """A half-spread, in price, at or above which a policy need not quote at all."""
        return self.parameters.no_quote

    @property
    def observation_names(self) -> tuple[str, ...]:
        """Names of an observation's features, in order: lots, shares of the horizon, and price for `glft_*`."""
        return OBSERVATION_NAMES

    @cached_property
    def observation_ranges(self) -> tuple[float, ...]:
        """Largest typical size of each feature, by which a network scales its inputs."""
        typical = min(_TYPICAL_INVENTORY, self.parameters.max_inventory)
        near = np.abs(inventories(self.parameters)) <= typical
        spans = [float(np.abs(self._glft[:, near, i]).max()) for i in range(2)]
        return (float(typical), 1.0, float(typical), 1.0, *spans)

    @cached_property
    def _glft(self) -> np.ndarray:
        """GLFT's (half_spread, skew), float64 (steps, inventories, 2); a missing side continues in a line."""
        bid, ask = glft(self.parameters)
        bid[:, -1] = 2.0 * bid[:, -2] - bid[:, -3]
        ask[:, 0] = 2.0 * ask[:, 1] - ask[:, 2]
        return np.stack([0.5 * (bid + ask), 0.5 * (bid - ask)], axis=-1)

    def observations(self) -> np.ndarray:
        """What a policy sees in every cell, float32 (steps, inventories, features), read-only."""
        return self._observations

    @cached_property
    def _observations(self) -> np.ndarray:
        inventory = inventories(self.parameters)
        time_left = times_left(self.parameters)[:, None] / self.parameters.horizon
        features = (inventory, time_left, inventory * time_left, 1.0, self._glft[..., 0], self._glft[..., 1])
        shape = self.parameters.shape
        result = np.stack([np.broadcast_to(feature, shape) for feature in features], axis=-1).astype(np.float32)
        result.flags.writeable = False
        return result

    def tabulate(self, policy: Any) -> QuoteTable:
        """The table of a policy or of a user's njit quoter: its quotes in every cell, the bound applied."""
        half_spread, skew = np.moveaxis(self._actions(policy), -1, 0)
        quiet = half_spread >= _no_quote(policy, self)
        bid, ask = (np.where(quiet, np.inf, side) for side in (half_spread + skew, half_spread - skew))
        return bounded(bid, ask, self.parameters)

    def _actions(self, policy: Any) -> np.ndarray:
        """The policy's (half_spread, skew) in every cell, float64 (steps, inventories, 2)."""
        observations = self.observations()
        function, arguments = function_and_arguments(policy, observations.shape[-1])
        actions = np.empty((*self.parameters.shape, 2))
        _quote_cells(FunctionPointer(function, arguments), arguments, observations, actions)
        return actions

    def _table(self, quoter: Any) -> QuoteTable:
        return check(quoter, self.parameters) if isinstance(quoter, QuoteTable) else self.tabulate(quoter)

    def evaluate(self, table: QuoteTable) -> Evaluation:
        """Exact figures of `table` by recursion over (step, inventory), from inventory 0."""
        parameters = self.parameters
        table = check(table, parameters)
        chances = outcome_probabilities(table, parameters)
        visits = occupancy(chances, start_distribution(parameters))
        inventory = inventories(parameters)
        bid, ask = edges(table)
        bid_fills, ask_fills = visits[:-1] * (chances[1] + chances[3]), visits[:-1] * (chances[2] + chances[3])
        both = visits[:-1] * (np.isfinite(table.bid) & np.isfinite(table.ask))
        with np.errstate(over="ignore", invalid="ignore"):  # reported below, or as None
            mean_profit = float((bid_fills * bid + ask_fills * ask).sum())
            variance = profit_variance(table, parameters, chances, visits)
            certainty = float(values(table, parameters, "cara")[0, parameters.max_inventory])
        if not (math.isfinite(mean_profit) and math.isfinite(variance)):
            raise InputError("the table's distances are too large for its profit to be a number")
        mean_terminal = float(visits[-1] @ inventory)
        squares = float((visits[1:] @ inventory**2).sum())
        return Evaluation(
            mean_profit=mean_profit,
            std_profit=math.sqrt(variance),
            mean_terminal_inventory=mean_terminal,
            std_terminal_inventory=math.sqrt(visits[-1] @ (inventory - mean_terminal) ** 2),
            mean_spread=float((both * (bid + ask)).sum() / both.sum()) if both.any() else None,
            certainty_equivalent=certainty if math.isfinite(certainty) else None,
            objective=mean_profit - parameters.penalty * parameters.dt * squares,
            fills=float((bid_fills + ask_fills).sum()),
        )

    def simulate(
        self,
        quoter: Any,
        paths: int,
        seed: int,
        threads: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Simulation:
        """Results of `paths` paths from inventory 0; the same seed pairs quoters path by path.

        Args:
            quoter: See the class.
            paths: Number of paths.
            seed: Key of the random numbers, >= 0.
            threads: Threads; all cores by default.
            progress: Called with the number of paths done.
        """
        paths, seed = _count(paths), _seed(seed)
        table = compile_table(self._table(quoter), self.parameters)
        rules = compile_rules(self.parameters)
        results = np.empty((len(SIMULATION_FIELDS), paths))

        def run(first: int, last: int) -> None:
            simulate_block(table, rules, seed, first, last, results)

        for_each_block(run, paths, threads, progress=progress)
        found = dict(zip(SIMULATION_FIELDS, results, strict=True))
        nothing = np.zeros(paths)
        return Simulation(
            **found,
            turnover=found["fills"],
            inventory=found["profit"] - found["spread"],
            adverse_selection=nothing,
            fees=nothing,
            liquidation=nothing,
        )

    def rollout(
        self,
        quoter: Any,
        paths: int,
        seed: int,
        exploration: tuple[float, float] = (0.0, 0.0),
        exploring_starts: int = 0,
        threads: int | None = None,
    ) -> Rollout:
        """Paths for a learner, with exploration.

        Without exploration and exploring starts these are the paths of `simulate`. A table's cell that quotes one
        side only has that side's distance as its half-spread, and no skew. The mid starts at 0.

        Args:
            quoter: See the class.
            paths: Number of paths.
            seed: Key of the random numbers, >= 0.
            exploration: Standard deviations of the Gaussian noise on (half_spread, skew), price.
            exploring_starts: n > 0 draws the first inventory from -n .. n and the first step uniformly.
            threads: Threads; all cores by default.
        """
        paths, seed = _count(paths), _seed(seed)
        half_spread, skew = (require_number("exploration", noise, 0.0) for noise in exploration)
        starts = Starts(self._start_spread(exploring_starts), half_spread, skew)
        if isinstance(quoter, QuoteTable):
            means, quoted = _means(check(quoter, self.parameters))
            no_quote = math.inf
        else:
            means, no_quote = self._actions(quoter), _no_quote(quoter, self)
            quoted = np.ones(means.shape, np.bool_)
            quoted[:, -1, 0] = quoted[:, 0, 1] = False
        observations, rules = self.observations(), compile_rules(self.parameters)
        result = allocate_rollout(paths, self.parameters.steps, observations.shape[-1])

        def run(first: int, last: int) -> None:
            rollout_block(observations, means, quoted, no_quote, rules, starts, seed, first, last, result)

        for_each_block(run, paths, threads, block=64)
        return result

    def adjoint(
        self,
        table: QuoteTable,
        paths: int,
        seed: int,
        objective: str = "penalty",
        exploring_starts: int = 0,
        threads: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sampled gradient of the objective with respect to every cell of `table`: the pathwise method.

        Its expectation is `quoting.recursion.exact_gradient`, up to the curvature of the costate.

        Args:
            table: The quotes.
            paths: Number of sampled paths.
            seed: Key of the random numbers, >= 0.
            objective: `penalty` or `cara`.
            exploring_starts: n > 0 draws the first inventory uniformly from -n .. n; the objective is then the
                mean over first inventories.
            threads: Threads; all cores by default.

        Returns:
            Bid gradient, ask gradient, and the share of paths in each cell (under `cara` of weighted paths), float64
            (steps, inventories) each.
        """
        paths, seed, spread = _count(paths), _seed(seed), self._start_spread(exploring_starts)
        half_spread, skew = np.moveaxis(self._glft, -1, 0)
        reference = np.stack([half_spread + skew, half_spread - skew], axis=-1)
        compiled = compile_adjoint(check(table, self.parameters), self.parameters, objective, reference)
        weights = np.full(paths, 1.0 / paths)
        if compiled.gamma > 0.0:
            log_weights, starts = np.empty(paths), np.empty(paths, np.int64)

            def weigh(first: int, last: int) -> None:
                weigh_block(compiled, spread, seed, first, last, log_weights, starts)

            for_each_block(weigh, paths, threads)
            weights = path_weights(log_weights, starts)
        sums: dict[int, tuple[np.ndarray, np.ndarray]] = {}

        def run(first: int, last: int) -> None:
            sums[first] = np.zeros((*self.parameters.shape, 2)), np.zeros(self.parameters.shape)
            adjoint_block(compiled, spread, seed, first, weights[first:last], *sums[first])

        for_each_block(run, paths, threads, block=max(_ADJOINT_BLOCK, -(-paths // _ADJOINT_BLOCKS)))
        ordered = [sums[first] for first in sorted(sums)]  # floating-point sums in the order of the paths
        gradient, visits = (np.sum(parts, axis=0) for parts in zip(*ordered, strict=True))
        return gradient[..., 0], gradient[..., 1], visits

    def _start_spread(self, exploring_starts: int) -> int:
        return min(require_integer("exploring_starts", exploring_starts, 0), self.parameters.max_inventory)


@njit(cache=True, nogil=True)
def _quote_cells(function, arguments, observations, actions):
    """The quotes of a first-class function in every cell: float32 (s, n, features) -> float64 (s, n, 2)."""
    observation = np.empty(observations.shape[2])
    for step in range(observations.shape[0]):
        for column in range(observations.shape[1]):
            observation[:] = observations[step, column]
            half_spread, skew = function(observation, *arguments)
            actions[step, column, 0] = half_spread
            actions[step, column, 1] = skew


def _means(table: QuoteTable) -> tuple[np.ndarray, np.ndarray]:
    """(half_spread, skew) of a table, float64, and where each side is quoted, bool; (steps, inventories, 2) each."""
    quoted = np.isfinite(np.stack(table, axis=-1))
    bid, ask = edges(table)
    both = quoted.all(axis=-1)
    half_spread = np.where(both, 0.5 * (bid + ask), bid + ask)  # a missing side's edge is 0
    return np.stack([half_spread, np.where(both, 0.5 * (bid - ask), 0.0)], axis=-1), quoted


def _no_quote(policy: Any, game: Game) -> float:
    return float(getattr(policy, "no_quote", game.no_quote))


def _count(paths: int) -> int:
    return require_integer("paths", paths, 1)


def _seed(seed: int) -> int:
    return require_integer("seed", seed, 0)
