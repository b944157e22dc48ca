"""Order events from public data: the flow at the best quotes, and the flow behind them, as plain arrays.

Both are read from net changes, so they are lower bounds where a feed bundles changes: what comes and goes between two
messages is not seen, and several orders that arrive together are one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bitquote.calibration.hawkes import spread_ties
from bitquote.calibration.intensity import taker_orders
from bitquote.calibration.statistics import mid_at
from bitquote.errors import InputError, require, require_number
from bitquote.market.simulation import Tape
from bitquote.recorded.depth import DepthChanges

EVENTS = ("market_bid", "market_ask", "limit_bid", "limit_ask", "cancel_bid", "cancel_ask")
"""Types of events by their number: what hits, joins or leaves the bid and the ask."""
LIMIT, MARKET, CANCEL = 0, 1, 2
CLOCKS = (1e-3, 1e-6, 1e-9)
"""Seconds that an exchange's stamps may count in."""
PATIENCE = 0.02
"""Seconds between a trade's stamp and that of the change that it made, at most: spot quotes carry no exchange time."""


class BestQuoteFlow(NamedTuple):
    """Events that change a best quote; arrays of one length n, strictly in time order."""

    time: np.ndarray  # float64 s from the first quote
    kind: np.ndarray  # int64, the number in EVENTS
    seconds: float  # to the last event
    spread: int  # events of streams with equal stamps, whose time within the clock's step was drawn at random
    unmatched: int  # taker orders that no change of a quote follows: they count as market orders none the less


class OrderEvents(NamedTuple):
    """Limit orders, taker orders and cancellations within some reach of the mid; arrays of one length n."""

    time: np.ndarray  # float64 s from the start of the observation
    kind: np.ndarray  # int8, LIMIT, MARKET or CANCEL
    side: np.ndarray  # int8, +1 for what joins, leaves or hits the bid, -1 the ask
    distance: np.ndarray  # float64 price, behind the mid just before
    size: np.ndarray  # float64, base units
    resting: np.ndarray  # float64, orders that rest within reach, both sides, just before
    seconds: float


def best_quote_flow(tape: Tape, *, patience: float = PATIENCE, seed: int = 0) -> BestQuoteFlow:
    """The six types of events at the best quotes of a tape, recorded or simulated.

    A better price or more quantity at the same one is a limit order; the reverse is a cancellation, unless a taker
    order explains it: each takes away the nearest decrease of the side that it hits, within `patience` seconds.
    Streams that bundle several events in one stamp are spread over the clock's step (see `spread_ties`) with the random
    `seed`.
    """
    orders = taker_orders(tape)
    start = float(tape.quote_time[0])
    times, kinds = [orders.time], [np.where(orders.side < 0, 0, 1).astype(np.int64)]
    unmatched = 0
    best = (tape.bid, tape.bid_quantity, 1), (tape.ask, tape.ask_quantity, -1)
    for number, (price, quantity, side) in enumerate(best):
        better, more = side * np.diff(price), np.diff(quantity)
        up = (better > 0) | ((better == 0) & (more > 0))
        down = (better < 0) | ((better == 0) & (more < 0))
        fall = tape.quote_time[1:][down]
        taken = _matched(orders.time[orders.side == -side], fall, patience)
        unmatched += int(np.count_nonzero(orders.side == -side) - np.count_nonzero(taken))
        times += [tape.quote_time[1:][up], fall[~taken]]
        kinds += [np.full(np.count_nonzero(up), 2 + number), np.full(np.count_nonzero(~taken), 4 + number)]
    clock, random = clock_step(tape), np.random.default_rng(seed)
    streams = (times[0], kinds[0]), (np.concatenate(times[1:]), np.concatenate(kinds[1:]))
    parted = [_parted(time, kind, clock, random) for time, kind in streams]
    time, kind = (np.concatenate([stream[i] for stream in parted]) for i in (0, 1))
    time, kind, across = _parted(time, kind, clock, random)
    if not len(time):
        raise InputError("the tape has neither a trade nor a change of a quote: there is no flow at the best quotes")
    time = time - start
    spread = across or sum(count for *_, count in parted)
    return BestQuoteFlow(time, kind, float(time[-1]), spread, unmatched)


def clock_step(tape: Tape) -> float:
    """Seconds that a tape's stamps count in: the coarsest of `CLOCKS` whose steps lead from each trade to the next."""
    elapsed = np.rint((tape.trade_time - tape.trade_time[:1]) * 1e9).astype(np.int64)
    return next(step for step in CLOCKS if not (elapsed % round(step * 1e9)).any())


def order_events(tape: Tape, changes: DepthChanges, reach: float) -> OrderEvents:
    """Events within `reach` (price units) of the mid, a level counting as one order.

    An increase of a level is a limit order, a decrease a cancellation unless a taker order explains it (see
    `taken_by_trades`).
    """
    reach = require_number("reach", reach, 0.0, above=True)
    require(len(tape.snapshot_time) > 0, "the tape", "without pictures of the depth", "one that has some")
    orders = taker_orders(tape)
    change = changes.after - changes.before
    distance = changes.side * (mid_at(tape, changes.time) - changes.price)
    near = (distance > 0) & (distance <= reach) & (change != 0)
    near &= ~taken_by_trades(tape, changes, near)
    start = float(tape.quote_time[0])
    inside = (orders.reach > 0) & (orders.reach <= reach)
    time = np.r_[changes.time[near], orders.time[inside]]
    kind = np.r_[np.where(change[near] > 0, LIMIT, CANCEL), np.full(np.count_nonzero(inside), MARKET)]
    side = np.r_[changes.side[near], -orders.side[inside]]
    order = np.argsort(time, kind="stable")
    return OrderEvents(
        time=time[order] - start,
        kind=kind[order].astype(np.int8),
        side=side[order].astype(np.int8),
        distance=np.r_[distance[near], orders.reach[inside]][order],
        size=np.r_[np.abs(change[near]), orders.quantity[inside]][order],
        resting=_levels_within(tape, reach, time[order]),
        seconds=max(float(tape.quote_time[-1]), float(time.max(initial=start))) - start,
    )


def taken_by_trades(tape: Tape, changes: DepthChanges, near: np.ndarray) -> np.ndarray:
    """Which of the decreases among `near` (n,) a taker order explains: each takes the nearest in time of its side."""
    orders = taker_orders(tape)
    taken = np.zeros(len(changes.time), bool)
    diffs = np.unique(changes.time)
    patience = PATIENCE + (2.0 * float(np.median(np.diff(diffs))) if len(diffs) > 1 else 0.0)
    for side in (1, -1):
        fall = np.flatnonzero(near & (changes.side == side) & (changes.after < changes.before))
        taken[fall[_matched(orders.time[orders.side == -side], changes.time[fall], patience)]] = True
    return taken


def _parted(
    time: np.ndarray, kind: np.ndarray, clock: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, int]:
    """A stream in time order, spread where stamps are equal, and how many events were spread."""
    order = np.argsort(time, kind="stable")
    time, kind = time[order], kind[order]
    tied = bool((np.diff(time) == 0.0).any())
    return spread_ties(time, clock, random) if tied else time, kind, tied * len(time)


def _matched(orders: np.ndarray, falls: np.ndarray, patience: float) -> np.ndarray:
    """Which decreases (m,) are explained by taker orders (n,), ascending times: each takes the nearest free one."""
    taken = np.zeros(len(falls), bool)
    first = np.searchsorted(falls, orders - patience)
    last = np.searchsorted(falls, orders + patience, side="right")
    for order, begin, end in zip(orders, first, last, strict=True):
        free = begin + np.flatnonzero(~taken[begin:end])
        if len(free):
            taken[free[np.argmin(np.abs(falls[free] - order))]] = True
    return taken


def _levels_within(tape: Tape, reach: float, time: np.ndarray) -> np.ndarray:
    """Levels within `reach` of the mid at each time, both sides together, from the latest picture of the depth."""
    price = tape.depth[..., 0]
    mid = 0.5 * (price[:, :1, :1] + price[:, 1:, :1])
    levels = np.count_nonzero(np.abs(price - mid) <= reach, axis=(1, 2)).astype(float)
    return levels[np.maximum(np.searchsorted(tape.snapshot_time, time, side="right") - 1, 0)]
