"""What makers do to a market: spreads, depth, volatility, the cost of large orders, with and without them.

All comparisons are paired: the crowd's random numbers are those of (seed, path, decision), whoever quotes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bitquote.errors import require
from bitquote.evaluation.statistics import CONFIDENCE, Interval, student_interval
from bitquote.market import OrderBookMarket
from bitquote.quoting import no_quote

FIGURES = (
    "quoted_spread", "effective_spread", "depth", "two_sided", "realised_volatility", "volume", "metaorder_cost",
)  # fmt: skip
"""Fields of SUMMARY that describe the market and not a maker."""


def quality(
    market: OrderBookMarket, quoters: Sequence[Any], paths: int, seed: int, threads: int | None = None
) -> dict[str, NDArray[np.float64]]:
    """The market's `FIGURES` with `quoters` as its makers, or with none: float64 (paths,), NaN where undefined."""
    rows = market.compete(quoters or [no_quote(market.game)], paths, seed, threads)
    return {name: np.ascontiguousarray(rows[name][:, 0]) for name in FIGURES}


def change(before: Mapping[str, NDArray], after: Mapping[str, NDArray], name: str) -> Interval:
    """Mean of `after - before` in a figure over the paths where both have it, with its paired 95 % interval."""
    difference = after[name] - before[name]
    difference = difference[np.isfinite(difference)]
    require(difference.size > 1, name, "undefined on all paths but one", "a figure of this market")
    return student_interval(difference)


def without_metaorder(market: OrderBookMarket) -> OrderBookMarket:
    """The same market on the same random numbers, in which the institution never comes."""
    silent = market.flow.metaorders._replace(start=math.inf, rate=0.0)
    return dataclasses.replace(market, flow=market.flow._replace(metaorders=silent))


def drift(market: OrderBookMarket, paths: int, seed: int) -> NDArray[np.float64]:
    """What the price itself did to a metaorder's cost, ticks a lot, float64 (paths,): a control variate of mean zero.

    The mean over the slices of the mid's move since the first, on the same paths without metaorder and makers.
    """
    meta = market.flow.metaorders
    last = meta.start + meta.interval * (meta.slices - 1)
    fits = meta.size > 0 and meta.side != 0 and last <= market.game.horizon
    require(fits, "market.flow.metaorder", meta, "one with a side, and all its slices at set times before the horizon")
    silent = dataclasses.replace(without_metaorder(market), rivals=())
    mid = silent.rollout(no_quote(market.game), paths, seed).mid
    steps = np.rint((meta.start + meta.interval * np.arange(meta.slices)) / market.venue.decision_interval).astype(int)
    return meta.side * (mid[:, steps].mean(axis=1) - mid[:, steps[0]])


class Impact(NamedTuple):
    """The mid after a metaorder against the mid without it, signed by its side, ticks."""

    time: NDArray[np.float64]  # s since its start
    mean: NDArray[np.float64]
    low: NDArray[np.float64]  # 95 %
    high: NDArray[np.float64]
    resilience: Interval  # the share of the peak that has gone by the end


def impact_of_metaorder(market: OrderBookMarket, quoter: Any | None, paths: int, seed: int, horizon: float) -> Impact:
    """How a metaorder that starts at a set time moves the mid over the next `horizon` seconds.

    The mid is that of all orders but the maker's, at the times of decisions, against the mid at the same time of the
    same path on which the institution never comes.
    """
    meta, interval = market.flow.metaorders, market.venue.decision_interval
    start = meta.start / interval
    last = start + horizon / interval
    fits = meta.size > 0 and meta.side != 0 and start >= 1 and last <= market.venue.decisions
    require(fits, "market.flow.metaorder", meta, f"one with a side, a start, and {horizon:g} s before the horizon")
    quoter = no_quote(market.game) if quoter is None else quoter
    with_it, without = (each.rollout(quoter, paths, seed).mid for each in (market, without_metaorder(market)))
    steps = np.arange(int(start), int(last) + 1)
    moves = meta.side * (with_it - without)[:, steps]
    intervals = [student_interval(column) for column in moves.T]
    mean, low, high = (np.array(values) for values in zip(*intervals, strict=True))
    return Impact(np.asarray((steps - start) * interval, np.float64), mean, low, high, _resilience(moves))


def _resilience(moves: NDArray[np.float64]) -> Interval:
    """1 - last / peak of the mean of `moves` (paths, steps), the peak where that mean has it; the interval is the
    jackknife's over paths (Efron & Tibshirani 1993)."""
    paths = moves.shape[0]
    total = moves.sum(axis=0)
    peak = int(total.argmax())
    whole, rest = (1.0 - sums[..., -1] / sums[..., peak] for sums in (total, total - moves))
    return student_interval(paths * whole - (paths - 1) * rest)


class Response(NamedTuple):
    """Mean quotes by inventory: one entry an inventory, orders and ticks; margins are halves of 95 % intervals."""

    inventory: NDArray[np.int64]
    half_spread: NDArray[np.float64]
    skew: NDArray[np.float64]
    half_spread_margin: NDArray[np.float64]
    skew_margin: NDArray[np.float64]
    decisions: NDArray[np.int64]


def response_to_inventory(market: OrderBookMarket, quoter: Any, paths: int, seed: int, fewest: int = 50) -> Response:
    """How a quoter's half-spread and skew go with its inventory, over decisions at which it quoted both sides.

    Every path begins with a random inventory, so that all inventories occur; those of fewer than `fewest` decisions
    are left out.
    """
    rollout = market.rollout(quoter, paths, seed, start_inventory=market.game.max_inventory)
    held = np.rint(rollout.inventory[:, :-1]).astype(np.int64)
    bid, ask = rollout.distance[..., 0], rollout.distance[..., 1]
    both = np.isfinite(bid) & np.isfinite(ask)
    inventory, index = np.unique(held[both], return_inverse=True)
    cell = np.nonzero(both)[0] * inventory.size + index  # (path, inventory)
    number = _sums(cell, np.ones(cell.size), paths, inventory.size)
    kept = number.sum(axis=0) >= fewest
    means = [
        clustered_mean(_sums(cell, value[both].astype(np.float64), paths, inventory.size)[:, kept], number[:, kept])
        for value in (0.5 * (bid + ask), 0.5 * (bid - ask))
    ]
    (half_spread, half_spread_margin), (skew, skew_margin) = means
    decisions = number.sum(axis=0)[kept].astype(np.int64)
    return Response(inventory[kept], half_spread, skew, half_spread_margin, skew_margin, decisions)


def _sums(cell: NDArray[np.int64], value: NDArray[np.float64], rows: int, columns: int) -> NDArray[np.float64]:
    return np.bincount(cell, value, rows * columns).astype(np.float64).reshape(rows, columns)


def clustered_mean(
    total: NDArray[np.float64], number: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and 95 % margin by column of (paths, columns) sums: a path is one draw, however often it was there."""
    mean = total.sum(axis=0) / number.sum(axis=0)
    paths = (number > 0).sum(axis=0)
    rest = total - mean * number
    error = np.sqrt((rest * rest).sum(axis=0) * paths / np.maximum(paths - 1, 1)) / number.sum(axis=0)
    return mean, stats.t.ppf(0.5 + 0.5 * CONFIDENCE, np.maximum(paths - 1, 1)) * error
