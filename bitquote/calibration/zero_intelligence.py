"""Rates of the zero-intelligence book: Poisson limit orders by distance, taker orders a side, cancellation per order.

Sources: Smith, Farmer, Gillemot & Krishnamurthy, Quant. Finance 3, 2003; Cont, Stoikov & Talreja, Operations Research
58, 2010, section 3. Every figure is a ratio of sums over blocks of time, so the block jackknife gives intervals that
stay honest where orders cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitquote.calibration.intervals import Estimate, Estimates, block_index, jackknife
from bitquote.calibration.order_flow import CANCEL, LIMIT, MARKET, OrderEvents
from bitquote.errors import InputError, require, require_integer, require_number

FEWEST = 20
"""Events of a kind below which nothing is fitted."""


@dataclass(frozen=True)
class ZeroIntelligence:
    """Rates per second with 95 % intervals by the block jackknife; sizes in the events' units.

    Attributes:
        limit_rate: Limit orders a side.
        by_distance: (distances,) limit orders a side at distances [j step, (j + 1) step) behind the mid; the first
            holds those beyond the mid, inside the spread, too.
        beyond: Limit orders at or beyond the last of these distances, counted in `limit_rate` alone.
        cancel_rate: Cancellations per resting order.
        market_bid, market_ask: Taker orders that hit the bid, the ask.
        limit_size, market_size: Mean sizes.
        step: Width of a distance, price units.
    """

    limit_rate: Estimate
    by_distance: Estimates
    beyond: int
    cancel_rate: Estimate
    market_bid: Estimate
    market_ask: Estimate
    limit_size: Estimate
    market_size: Estimate
    step: float


def fit_zero_intelligence(
    events: OrderEvents, step: float, *, distances: int = 30, block: float = 10.0
) -> ZeroIntelligence:
    """Estimate the rates from order events.

    Args:
        events: In time order; from an order-level recording, or `order_events` of level changes (lower bounds).
        step: Width of a distance, price units.
        distances: How many distances get a rate of their own.
        block: Seconds of a block of the jackknife.

    Raises:
        InputError: an array is no such thing, or a kind has too few events.
    """
    step = require_number("step", step, 0.0, above=True)
    distances = require_integer("distances", distances, 1, 10_000)
    _check(events)
    index, blocks = block_index(events.time, 0.0, events.seconds, block)
    clock = np.full(blocks, events.seconds / blocks)
    limit, cancel = events.kind == LIMIT, events.kind == CANCEL
    bid, ask = ((events.kind == MARKET) & (events.side == side) for side in (1, -1))
    far = np.maximum(np.floor(events.distance / step + 1e-9).astype(np.int64), 0)  # beyond the mid: nearest

    def ratio(chosen: np.ndarray, exposure: np.ndarray, weight: np.ndarray | None = None) -> Estimate:
        """Events (or their weights) over the exposure, both by block."""
        sums = np.bincount(index[chosen], None if weight is None else weight[chosen], blocks)
        return jackknife(lambda s: s[..., 0] / s[..., 1], np.stack((sums, exposure), axis=1))

    def count(chosen: np.ndarray) -> np.ndarray:
        return np.bincount(index[chosen], minlength=blocks)

    rates = [ratio(limit & (far == j), 2.0 * clock) for j in range(distances)]
    return ZeroIntelligence(
        limit_rate=ratio(limit, 2.0 * clock),
        by_distance=Estimates(*np.array(rates).T),
        beyond=int(np.count_nonzero(limit & (far >= distances))),
        cancel_rate=ratio(cancel, _order_seconds(events, blocks)),
        market_bid=ratio(bid, clock),
        market_ask=ratio(ask, clock),
        limit_size=ratio(limit, count(limit), events.size),
        market_size=ratio(bid | ask, count(bid | ask), events.size),
        step=step,
    )


def _order_seconds(events: OrderEvents, blocks: int) -> np.ndarray:
    """(blocks,) the integral of the number of resting orders over each block."""
    time = np.r_[0.0, events.time, events.seconds]
    resting = np.r_[events.resting, events.resting[-1]]  # before each event, and after the last
    integral = np.r_[0.0, np.cumsum(np.diff(time) * resting)]
    return np.diff(np.interp(np.linspace(0.0, events.seconds, blocks + 1), time, integral))


def _check(events: OrderEvents) -> None:
    seconds = require_number("seconds", events.seconds, 0.0, above=True)
    n = len(events.time)
    for name, values in zip(OrderEvents._fields[:-1], events[:-1], strict=True):
        require(np.shape(values) == (n,), name, np.shape(values), f"of the shape of time, ({n},)")
        if not np.isfinite(values).all():
            raise InputError(f"{name}[{int(np.argmin(np.isfinite(values)))}] is not finite: must be a number")
    late = np.flatnonzero(np.diff(events.time) < 0.0)
    require(late.size == 0, "time", f"falling at event {late[0] + 1 if late.size else 0}", "in ascending order")
    outside = n > 0 and (events.time[0] < 0.0 or events.time[-1] > seconds)
    require(not outside, "time", [float(t) for t in events.time[[0, -1]]] if outside else [], f"from 0 to {seconds:g}")
    require(bool(np.isin(events.side, (1, -1)).all()), "side", np.unique(events.side).tolist(), "+1 or -1")
    known = bool(np.isin(events.kind, (LIMIT, MARKET, CANCEL)).all())
    require(known, "kind", np.unique(events.kind).tolist(), "0 (limit), 1 (market) or 2 (cancel)")
    require(bool((events.size > 0).all()), "size", float(np.min(events.size, initial=1.0)), "above 0")
    require(bool((events.resting >= 0).all()), "resting", float(np.min(events.resting, initial=0.0)), "0 or more")
    for name, kind in (("limit", LIMIT), ("market", MARKET), ("cancel", CANCEL)):
        count = int(np.count_nonzero(events.kind == kind))
        require(count >= FEWEST, f"the number of {name} orders", count, f"at least {FEWEST}")
