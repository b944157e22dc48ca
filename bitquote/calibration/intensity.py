"""Fill intensity lambda(delta) = A exp(-k delta) of a quote at distance delta from the mid, bid and ask apart.

A taker order that trades down to a distance r from the mid just before it fills every quote nearer than r, so
lambda(delta) is the rate of taker orders with reach r >= delta. Quotes stand on a price grid, so reaches are counted at
the distances (j + 1/2) step, j = 0, 1, ..., where a quote may stand around the mid of a spread of one step. The
exponential law makes the number of steps beyond the first distance geometric, whose likelihood has its maximum in
closed form. Reaches nearer than half a step never meet a quote on the grid and are left out (and counted).

Source of the law: Avellaneda & Stoikov 2008, section 2.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bitquote.calibration.intervals import Estimate, block_index, jackknife, poisson_interval
from bitquote.errors import InputError, require_number
from bitquote.market.simulation import Tape

FEWEST = 20
"""Taker orders a side below which no intensity is fitted."""


class TakerOrders(NamedTuple):
    """Arrays of one length n, in time order: the trades of one taker order taken together."""

    time: np.ndarray  # float64 s
    side: np.ndarray  # int8, +1 bought (fills asks), -1 sold (fills bids)
    reach: np.ndarray  # float64, deepest traded price against the mid just before, price units
    quantity: np.ndarray  # float64, base units
    mid: np.ndarray  # float64, just before
    price: np.ndarray  # float64, the deepest


@dataclass(frozen=True)
class Intensity:
    """One side's lambda(delta).

    Attributes:
        A: Fills per second at distance zero (extrapolated), with its interval.
        k: 1 / price.
        at_touch: lambda at the first distance, half a step.
        count: Taker orders that reach the first distance.
        distance: (n,) distances (j + 1/2) step.
        rate, low, high: (n,) the non-parametric lambda, per second, with exact Poisson intervals.
        ks: Kolmogorov-Smirnov distance between the fitted and the observed law of the reach.
        p_value: Share of samples from the fitted law, fitted again, whose distance is at least `ks`. It takes orders as
            independent; clustering makes it smaller than it should be.
    """

    A: Estimate
    k: Estimate
    at_touch: Estimate
    count: int
    distance: np.ndarray
    rate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    ks: float
    p_value: float

    def fitted(self, distance: np.ndarray) -> np.ndarray:
        """A exp(-k delta)."""
        return self.A.value * np.exp(-self.k.value * distance)


@dataclass(frozen=True)
class Intensities:
    """lambda(delta) of bids, of asks, and of one side of the two pooled (the average)."""

    bid: Intensity
    ask: Intensity
    pooled: Intensity
    step: float
    nearer: int  # taker orders left out because they reach less than half a step


def taker_orders(tape: Tape, gap: float | None = None) -> TakerOrders:
    """Group trades of the same time and aggressor into taker orders; those before the first quote are left out.

    With a `gap` in seconds, orders of one side are further grouped into `bursts`.
    """
    cut = (np.diff(tape.trade_time) != 0) | (np.diff(tape.trade_aggressor) != 0)
    first = np.flatnonzero(np.r_[True, cut]) if len(tape.trade_time) else np.zeros(0, np.int64)
    quote = np.searchsorted(tape.quote_time, tape.trade_time[first], side="left") - 1  # strictly before
    side = tape.trade_aggressor[first]
    if len(first):
        deepest = np.maximum.reduceat(tape.trade_price * np.repeat(side, np.diff(np.r_[first, len(cut) + 1])), first)
        quantity = np.add.reduceat(tape.trade_quantity, first)
    else:
        deepest = quantity = np.zeros(0)
    mid = 0.5 * (tape.bid[quote] + tape.ask[quote])
    orders = TakerOrders(tape.trade_time[first], side, deepest - side * mid, quantity, mid, side * deepest)
    orders = TakerOrders(*(field[quote >= 0] for field in orders))
    return orders if gap is None else bursts(orders, require_number("gap", gap, 0.0))


def bursts(orders: TakerOrders, gap: float) -> TakerOrders:
    """Orders of one side that follow each other within `gap` seconds taken together, as a quote that rests meets them.

    A quote is filled once by a burst, however many orders it has. The reach is that of the deepest price from the mid
    before the first order; the quantity is the sum.
    """
    parts = []
    for side in (-1, 1):
        own = TakerOrders(*(field[orders.side == side] for field in orders))
        if len(own.time):
            first = np.flatnonzero(np.r_[True, np.diff(own.time) > gap])
            price = side * np.maximum.reduceat(side * own.price, first)
            quantity, mid = np.add.reduceat(own.quantity, first), own.mid[first]
            parts.append(TakerOrders(own.time[first], own.side[first], side * (price - mid), quantity, mid, price))
    if not parts:
        return orders
    order = np.argsort(np.concatenate([part.time for part in parts]), kind="stable")
    return TakerOrders(*(np.concatenate(column)[order] for column in zip(*parts, strict=True)))


def fit_intensities(
    tape: Tape,
    step: float,
    *,
    distances: int = 30,
    block: float = 10.0,
    gap: float | None = None,
    resamples: int = 999,
    seed: int = 0,
) -> Intensities:
    """Fit lambda(delta) on a price grid.

    Args:
        tape: Recorded or simulated.
        step: Price grid of the quotes, price units: the tick, or a simulation's coarser step.
        distances: How many distances the non-parametric lambda is given at.
        block: Seconds of a block of the jackknife.
        gap: Seconds within which taker orders of one side are one burst, see `bursts`; without it each one counts.
        resamples, seed: Of the goodness of fit's p value.
    """
    step = require_number("step", step, 0.0, above=True)
    orders = taker_orders(tape, gap)
    start = float(tape.quote_time[0])
    seconds = max(float(tape.quote_time[-1]), float(orders.time[-1]) if len(orders.time) else 0.0) - start
    beyond = np.floor(orders.reach / step - 0.5 + 1e-6).astype(np.int64)  # 1e-6 step: prices are decimal fractions
    generator = np.random.default_rng(seed)
    fits = []
    for name, chosen, sides in (
        ("bid", orders.side < 0, 1),
        ("ask", orders.side > 0, 1),
        ("pooled", orders.side != 0, 2),
    ):
        chosen = chosen & (beyond >= 0)
        if np.count_nonzero(chosen) < FEWEST * sides or not beyond[chosen].any():
            raise InputError(
                f"{np.count_nonzero(chosen)} taker orders ({name}) reach half a step of {step:g}: "
                "too few, or none deeper, to fit A and k"
            )
        index, blocks = block_index(orders.time[chosen], start, seconds, block)
        fits.append(_fit(beyond[chosen], index, blocks, sides * seconds, step, distances, generator, resamples))
    return Intensities(*fits, step=step, nearer=int(np.count_nonzero(beyond < 0)))


def _fit(
    beyond: np.ndarray,
    index: np.ndarray,
    blocks: int,
    seconds: float,
    step: float,
    distances: int,
    generator: np.random.Generator,
    resamples: int,
) -> Intensity:
    """Fit one side: `beyond` (n,) int64 steps beyond the first distance, `index` the block of each order."""
    sums = np.stack(
        (
            np.bincount(index, minlength=blocks),
            np.bincount(index, beyond, blocks),
            np.full(blocks, seconds / blocks),
        ),
        axis=1,
    )

    def at_touch(s: np.ndarray) -> np.ndarray:
        return s[..., 0] / s[..., 2]

    def k(s: np.ndarray) -> np.ndarray:
        return np.log1p(s[..., 0] / s[..., 1]) / step

    def A(s: np.ndarray) -> np.ndarray:
        return at_touch(s) * np.exp(k(s) * step / 2)

    count = len(beyond)
    reached = np.array([np.count_nonzero(beyond >= j) for j in range(distances)])
    low, high = poisson_interval(reached)
    ks, p_value = _goodness(beyond, generator, resamples)
    return Intensity(
        A=jackknife(A, sums),
        k=jackknife(k, sums),
        at_touch=jackknife(at_touch, sums),
        count=count,
        distance=(np.arange(distances) + 0.5) * step,
        rate=reached / seconds,
        low=low / seconds,
        high=high / seconds,
        ks=ks,
        p_value=p_value,
    )


def _distance_to_fit(beyond: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of counts from the geometric law of the same mean."""
    survival = 1.0 - np.cumsum(np.bincount(beyond)) / len(beyond)  # P(beyond > j)
    ratio = beyond.mean() / (1.0 + beyond.mean())
    return float(np.max(np.abs(survival - ratio ** np.arange(1, len(survival) + 1))))


def _goodness(beyond: np.ndarray, generator: np.random.Generator, resamples: int) -> tuple[float, float]:
    """The distance, and its p value by the parametric bootstrap with the mean fitted again."""
    ks = _distance_to_fit(beyond)
    stop = 1.0 / (1.0 + beyond.mean())
    worse = sum(_distance_to_fit(generator.geometric(stop, len(beyond)) - 1) >= ks for _ in range(resamples))
    return ks, (worse + 1) / (resamples + 1)
