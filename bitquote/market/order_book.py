"""The order-book market: the face over venue, flow and rollout, and the configuration it is built from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numba import njit

from bitquote.errors import require, require_integer, require_number
from bitquote.flow.crowd import Crowd
from bitquote.market import observation
from bitquote.market.function_pointer import FunctionPointer, function_and_arguments
from bitquote.market.rollout import Exploration, Quoter, allocate_rollout, run_paths
from bitquote.market.simulation import Rollout, Simulation, Tape
from bitquote.market.tape import record_tape
from bitquote.market.venue import MOST_MAKERS, Venue
from bitquote.quoting.parameters import GameParameters
from bitquote.quoting.table import QuoteTable, check, no_quote

SIMULATION_FIELDS = (
    "profit", "terminal_inventory", "fills", "turnover", "max_drawdown", "mean_spread", "penalty",
    "spread", "adverse_selection", "inventory", "fees", "liquidation",
)  # fmt: skip


@dataclass(frozen=True)
class OrderBookMarket:
    """A market with a price-time-priority book, a crowd, and one maker or several.

    Attributes:
        name: Its name, written into every result.
        source: Where its numbers come from.
        units: Unit of all money: price x order size.
        game: What the closed forms are computed from: A (1/s and side), k (1/price), sigma (price/sqrt s), steps
            = decisions, max_inventory (orders).
        tick: Price of one tick.
        lot: Quantity of one lot, base units.
        venue: Rules of the market, compiled form.
        flow: Background flow, compiled form.
        window: Ticks of the book's dense window.
        capacity: Live orders that a book holds.
        recording: Figures of the recording that the market was calibrated from; empty without one.
        rivals: Other makers in the same book, tables or policies; None is the very quoter that is run. Policies among
            them observe this market's `baseline`, whichever they were trained with.
        baseline: GLFT-like table that observations carry as `glft_half_spread` and `glft_skew`.
    """

    name: str
    source: str
    units: str
    game: GameParameters
    tick: float
    lot: float
    venue: Venue
    flow: Crowd
    window: int
    capacity: int
    recording: dict[str, Any]
    baseline: QuoteTable
    rivals: tuple[Any, ...] = ()

    kind = "order_book"
    observation_names = observation.NAMES

    @property
    def observation_size(self) -> int:
        """Length of an observation."""
        return observation.SIZE

    @property
    def observation_ranges(self) -> tuple[float, ...]:
        """The range of each observation that a policy's input quantiser covers."""
        features = self.baseline_features()
        ranges = list(observation.RANGES)
        ranges[observation.INVENTORY] = ranges[observation.INVENTORY_TIME_LEFT] = float(self.game.max_inventory)
        ranges[observation.GLFT_HALF_SPREAD] = float(np.abs(features[0]).max())
        ranges[observation.GLFT_SKEW] = float(np.abs(features[1]).max())
        return tuple(ranges)

    def with_baseline(self, table: QuoteTable) -> OrderBookMarket:
        """The same market whose observations carry `table`'s quotes: what a residual policy is added to."""
        return replace(self, baseline=check(table, self.game))

    def baseline_features(self) -> np.ndarray:
        """(half-spread, skew) of the baseline in ticks, (2, decisions, 2Q+1), extended over the one-sided bounds."""
        bid, ask = (side.copy() for side in self.baseline)
        if bid.shape[1] >= 5:  # beyond the bound one side has no quote: go on linearly
            bid[:, -1] = 2.0 * bid[:, -2] - bid[:, -3]
            ask[:, 0] = 2.0 * ask[:, 1] - ask[:, 2]
        else:
            bid[:, -1], ask[:, 0] = bid[:, -2], ask[:, 1]
        features = np.stack([0.5 * (bid + ask), 0.5 * (bid - ask)]) / self.tick
        require(bool(np.isfinite(features).all()), "the baseline table", "inf", "finite inside the inventory bound")
        return features

    def compiled(self, quoter: Any) -> Quoter:
        """A table, a policy, an njit function or (njit function, arguments) as the kernel takes it.

        A distance of `no_quote` or more is no quote, from a table as from a network.
        """
        if isinstance(quoter, QuoteTable):
            table = np.stack(check(quoter, self.game)) / self.tick
            table[table >= self.venue.no_quote] = np.inf
            return Quoter(table, _NO_FUNCTION, _NO_ARGUMENTS)
        function, arguments = function_and_arguments(quoter, self.observation_size)
        return Quoter(np.zeros((2, 0, 1)), FunctionPointer(function, arguments), arguments)

    def _together(self, quoters: Sequence[Any]) -> tuple[Quoter, ...]:
        """Several quoters for one book, of one type: a table takes the others' function, which is never called."""
        ready = [self.compiled(quoter) for quoter in quoters]
        functions = [quoter for quoter in ready if quoter.table.shape[1] == 0]
        for other in functions[1:]:
            require(
                other.function.signature() == functions[0].function.signature(), "the quoters", "of several kinds",
                "tables and functions of one kind: policies, or njit functions with arguments of the same types",
            )  # fmt: skip
        if functions:
            kind = functions[0]
            ready = [q if q.table.shape[1] == 0 else Quoter(q.table, kind.function, kind.arguments) for q in ready]
        return tuple(ready)

    def _run(
        self,
        quoters: Sequence[Any],
        paths: int,
        seed: int,
        exploration: Exploration,
        threads: int | None,
        record: Rollout | None = None,
        progress: Callable[[int], None] | None = None,
        first: int = 0,
    ) -> np.ndarray:
        paths = require_integer("paths", paths, 1)
        seed = require_integer("seed", seed, 0, 2**63 - 1)
        return run_paths(
            self.venue, self.flow, (self.window, self.capacity), self._together(quoters), self.baseline_features(),
            exploration, paths=paths, seed=seed, first=first, threads=threads, record=record, progress=progress,
        )  # fmt: skip

    def rival_quoters(self) -> tuple[tuple[Quoter, ...], np.ndarray]:
        """The makers of a book whose first is driven from outside, and which of them mirror it: bool (makers,)."""
        mirrors = np.array([True, *(rival is None for rival in self.rivals)])
        table = no_quote(self.game)
        return self._together([table, *(table if rival is None else rival for rival in self.rivals)]), mirrors

    def makers(self, quoter: Any) -> list[Any]:
        """`quoter` and the market's rivals, in the order of their accounts."""
        return [quoter, *(quoter if rival is None else rival for rival in self.rivals)]

    def summaries(
        self,
        quoter: Any,
        paths: int,
        seed: int,
        threads: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Everything a path is summed up in, a structured array `SUMMARY` (paths,); money in `units`."""
        return self.compete(self.makers(quoter), paths, seed, threads, progress)[:, 0]

    def compete(
        self,
        quoters: Sequence[Any],
        paths: int,
        seed: int,
        threads: int | None = None,
        progress: Callable[[int], None] | None = None,
        first: int = 0,
    ) -> np.ndarray:
        """Several makers in one book, instead of the market's rivals: `SUMMARY` (paths, makers).

        Whose message comes first of those that arrive together goes round from decision to decision. The paths are
        those from number `first` on, and each is the same whichever others are asked for.
        """
        require(1 <= len(quoters) <= MOST_MAKERS, "quoters", len(quoters), f"1 to {MOST_MAKERS} of them")
        first = require_integer("first", first, 0)
        return self._run(quoters, paths, seed, Exploration(), threads, None, progress, first)

    def simulate(
        self,
        quoter: Any,
        paths: int,
        seed: int,
        threads: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Simulation:
        """Episodes of `quoter` on the random numbers of (seed, path), the same for every quoter."""
        rows = self.summaries(quoter, paths, seed, threads, progress)
        columns = {name: np.ascontiguousarray(rows[name]) for name in SIMULATION_FIELDS}
        columns["mean_spread"] *= self.tick
        return Simulation(**columns)

    def rollout(
        self,
        quoter: Any,
        paths: int,
        seed: int,
        *,
        exploration: tuple[float, float] = (0.0, 0.0),
        start_inventory: int = 0,
        dither: bool = False,
        threads: int | None = None,
    ) -> Rollout:
        """Episodes with everything a learner needs; mids, distances and actions are in ticks.

        `exploration` is the standard deviation of the noise on (half-spread, skew) in ticks, `start_inventory` the
        bound in orders of a uniform first inventory, `dither` rounds to ticks at random as it does not in evaluation.
        """
        record = allocate_rollout(require_integer("paths", paths, 1), self.venue.decisions)
        noise = Exploration(float(exploration[0]), float(exploration[1]), int(start_inventory), bool(dither))
        self._run(self.makers(quoter), paths, seed, noise, threads, record)
        return record

    def tape(
        self,
        seconds: float,
        seed: int,
        levels: int = 20,
        snapshot_interval: float = 1.0,
        *,
        quoters: Sequence[Any] = (),
        path: int = 0,
    ) -> Tape:
        """The market's public history: what calibration and pictures read. Without `quoters`, without any maker.

        The same seed and path give the crowd the same random numbers, whoever quotes.
        """
        require_number("seconds", seconds, 0.0, above=True)
        require_integer("levels", levels, 0)
        require_number("snapshot_interval", snapshot_interval, 0.0, above=True)
        makers = self._together(quoters or [no_quote(self.game)])
        return record_tape(
            self, makers, float(seconds), require_integer("seed", seed, 0), path, levels, snapshot_interval
        )


@njit(cache=True)
def _no_quoter(observed, weights, scales, shape):
    """The function of a quoter that is a table: never called, of the signature that all our policies share."""
    return np.inf, 0.0


_NO_ARGUMENTS = (np.zeros(0, np.int8), np.zeros(0, np.float32), np.zeros(0, np.int64))


_NO_FUNCTION = FunctionPointer(_no_quoter, _NO_ARGUMENTS)
