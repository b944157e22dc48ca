"""Queue-reactive intensities: rates of limit orders, cancellations and taker orders by queue size and distance.

Model I of Huang, Lehalle & Rosenbaum, "Simulating and analyzing order book data: the queue-reactive model", JASA 110,
2015: while the reference price stays, the queue at each distance from it is a birth-death process of its own, whose
intensities depend on its size, counted in average orders. The estimate is theirs: events of a kind at a size, over the
time spent at that size. Its goodness of fit is the invariant distribution beside the time that was really spent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bitquote.calibration.intervals import Estimates, poisson_interval
from bitquote.calibration.order_flow import CANCEL, LIMIT, MARKET, taken_by_trades
from bitquote.calibration.statistics import mid_at
from bitquote.errors import require, require_integer, require_number
from bitquote.market.simulation import Tape
from bitquote.recorded.depth import DepthChanges

CENSORED = -1
"""End of a spell whose queue was renamed by a move of the reference price, or that the observation cut off."""


class Spells(NamedTuple):
    """Times that queues spent unchanged; arrays of one length n."""

    distance: np.ndarray  # int64, steps from the best that the reference price allows
    size: np.ndarray  # int64, orders of average size, rounded up
    duration: np.ndarray  # float64 s
    end: np.ndarray  # int8, LIMIT, MARKET, CANCEL or CENSORED: what ended it


@dataclass(frozen=True)
class QueueReactive:
    """Tables (distances, sizes); the last size stands for all larger ones.

    Attributes:
        limit, cancel, market: Intensities, 1/s, with exact Poisson intervals; NaN where a size was never seen.
        exposure: Seconds spent at each size.
        observed: Share of time at each size.
        invariant: The birth-death process's own distribution; NaN where a size that it reaches was never seen to fall.
        distance: (distances,) total variation between the two: 0 the same, 1 disjoint.
    """

    limit: Estimates
    cancel: Estimates
    market: Estimates
    exposure: np.ndarray
    observed: np.ndarray
    invariant: np.ndarray
    distance: np.ndarray


def fit_queue_reactive(spells: Spells, distances: int, sizes: int) -> QueueReactive:
    """Tables of intensities from spells.

    Args:
        spells: From an order-level recording, or `queue_spells` of level changes (lower bounds).
        distances: Rows; spells further away are not used.
        sizes: Columns, at least 2.

    Raises:
        InputError: an array is no such thing, or a distance has no spell.
    """
    distances, sizes = require_integer("distances", distances, 1, 1000), require_integer("sizes", sizes, 2, 100_000)
    _check(spells)
    near = spells.distance < distances
    cell = spells.distance[near] * sizes + np.minimum(spells.size[near], sizes - 1)
    shape = distances, sizes
    exposure = np.bincount(cell, spells.duration[near], distances * sizes).reshape(shape)
    for i, seconds in enumerate(exposure.sum(axis=1)):
        require(seconds > 0.0, f"the time seen at distance {i}", float(seconds), "above 0 s")

    seen = np.where(exposure > 0.0, exposure, np.nan)

    def table(kind: int) -> Estimates:
        count = np.bincount(cell[spells.end[near] == kind], minlength=distances * sizes).reshape(shape)
        low, high = poisson_interval(count)
        return Estimates(count / seen, low / seen, high / seen)

    limit, cancel, market = table(LIMIT), table(CANCEL), table(MARKET)
    invariant = invariant_distribution(limit.value, cancel.value + market.value)
    observed = exposure / exposure.sum(axis=1, keepdims=True)
    variation = 0.5 * np.abs(invariant - observed).sum(axis=1)
    return QueueReactive(limit, cancel, market, exposure, observed, invariant, variation)


def invariant_distribution(birth: np.ndarray, death: np.ndarray) -> np.ndarray:
    """Of birth-death processes on 0..n-1: pi(k) proportional to the product of birth(j-1)/death(j), j = 1..k.

    Args:
        birth, death: (m, n) intensities; births at n - 1 and deaths at 0 do nothing.

    Returns:
        float64 (m, n), rows that add up to one, or NaN where a size is reached that nothing leaves or was never seen.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(birth[:, :-1] == 0.0, 0.0, birth[:, :-1] / death[:, 1:])
        odds = np.concatenate((np.zeros((len(birth), 1)), np.cumsum(np.log(ratio), axis=1)), axis=1)
        odds = np.where(np.isnan(odds) & (np.minimum.accumulate(odds, axis=1) == -np.inf), -np.inf, odds)
        weight = np.exp(odds - odds.max(axis=1, keepdims=True))
        share = weight / weight.sum(axis=1, keepdims=True)
    return share


def queue_spells(tape: Tape, changes: DepthChanges, step: float, distances: int, unit: float) -> Spells:
    """Spells of the queues within `distances` steps, both sides alike, from the changes of levels.

    Queue i of the bids holds what rests in [(r - i) step, (r - i + 1) step), r being the step that holds the mid, and
    of the asks in ((r + i) step, (r + i + 1) step]. When r changes, and at the last change, all spells are censored.

    Args:
        tape: Its first picture of the depth is where the queues begin.
        changes: Each counts as one event, so what a diff nets out is not seen.
        step: Price units.
        distances: Queues a side.
        unit: Average size of an order, base units.
    """
    step, unit = require_number("step", step, 0.0, above=True), require_number("unit", unit, 0.0, above=True)
    distances = require_integer("distances", distances, 1, 1000)
    require(len(tape.snapshot_time) > 0, "the tape", "without pictures of the depth", "one that has some")
    later = changes.time > tape.snapshot_time[0]
    require(bool(later.any()), "the log of changes", "empty after the first picture", "one with changes")
    changes = DepthChanges(*(field[later] for field in changes))
    reference = np.floor(mid_at(tape, changes.time) / step).astype(np.int64)
    first = int(np.floor(mid_at(tape, tape.snapshot_time[:1])[0] / step))
    place = _step_of(changes.price, changes.side, step)
    distance = changes.side * (reference - place)
    near = (distance >= 0) & (distance < distances)
    taken = taken_by_trades(tape, changes, near)
    change = changes.after - changes.before
    end = np.where(change > 0, LIMIT, np.where(taken, MARKET, CANCEL))

    held = [_initial(tape.depth[0, row], changes, side, step) for row, side in enumerate((1, -1))]
    since = np.full((2, distances), tape.snapshot_time[0])
    rows: list[tuple[int, int, float, int]] = []

    def close(row: int, i: int, now: float, kind: int) -> None:
        quantity = held[row].get(base + (i if row else -i), 0.0)
        rows.append((i, int(np.ceil(quantity / unit - 1e-9)), now - since[row, i], kind))
        since[row, i] = now

    def close_all(now: float) -> None:
        for row in (0, 1):
            for i in range(distances):
                close(row, i, now, CENSORED)

    base = first
    for now, side, where, delta, kind, here in zip(
        changes.time, changes.side, place, change, end, reference, strict=True
    ):
        if here != base:
            close_all(now)
            base = here
        row, i = int(side < 0), side * (base - where)
        if 0 <= i < distances and delta != 0.0:
            close(row, int(i), now, int(kind))
        held[row][where] = held[row].get(where, 0.0) + delta
    close_all(changes.time[-1])
    return Spells(*(np.array(column, kind) for column, kind in zip(
        zip(*rows, strict=True), (np.int64, np.int64, np.float64, np.int8), strict=True)))  # fmt: skip


def flow_tables(fit: QueueReactive, unit: int) -> dict[str, Any]:
    """What a market's `flow.queue_reactive` takes; `unit` is the average order in lots.

    A size that was never seen takes the intensities of the nearest smaller one that was. Taker orders are those at
    distance 0.
    """
    limit, cancel, market = (_filled(table.value, fit.exposure) for table in (fit.limit, fit.cancel, fit.market))
    return {
        "limit": limit.tolist(),
        "cancel": cancel.tolist(),
        "market": market[0].tolist(),
        "unit": require_integer("unit", unit, 1),
    }


def _filled(table: np.ndarray, exposure: np.ndarray) -> np.ndarray:
    seen = exposure > 0.0
    latest = np.maximum.accumulate(np.where(seen, np.arange(table.shape[1]), -1), axis=1)
    latest = np.where(latest < 0, np.argmax(seen, axis=1)[:, None], latest)
    return np.take_along_axis(table, latest, axis=1)


def _step_of(price: np.ndarray, side: np.ndarray, step: float) -> np.ndarray:
    """The step that holds each price: closed below for bids, above for asks."""
    scaled = price / step
    return np.where(side > 0, np.floor(scaled + 1e-6), np.ceil(scaled - 1e-6) - 1).astype(np.int64)


def _initial(picture: np.ndarray, changes: DepthChanges, side: int, step: float) -> dict[int, float]:
    """Quantity of one side by step before the changes: of the levels (n, 2) pictured and of all that change later."""
    level = dict(picture[np.isfinite(picture[:, 0])].tolist())
    own = changes.side == side
    price, first = np.unique(changes.price[own], return_index=True)
    level |= dict(zip(price.tolist(), changes.before[own][first].tolist(), strict=True))
    held: dict[int, float] = {}
    prices = np.array(list(level))
    for where, quantity in zip(_step_of(prices, np.full(len(prices), side), step), level.values(), strict=True):
        held[int(where)] = held.get(int(where), 0.0) + quantity
    return held


def _check(spells: Spells) -> None:
    n = len(spells.duration)
    for name, values in zip(Spells._fields, spells, strict=True):
        require(np.shape(values) == (n,), name, np.shape(values), f"of the shape of duration, ({n},)")
        require(name == "duration" or values.dtype.kind in "iu", name, str(values.dtype), "integers")
    require(n > 0, "the number of spells", n, "at least 1")
    sound = bool(np.isfinite(spells.duration).all() and (spells.duration >= 0.0).all())
    require(sound, "duration", "negative or not finite somewhere", "seconds from 0")
    for name, values in (("distance", spells.distance), ("size", spells.size)):
        require(int(values.min()) >= 0, name, int(values.min()), "0 or more")
    known = bool(np.isin(spells.end, (LIMIT, MARKET, CANCEL, CENSORED)).all())
    require(known, "end", np.unique(spells.end).tolist(), "0 (limit), 1 (market), 2 (cancel) or -1 (censored)")
