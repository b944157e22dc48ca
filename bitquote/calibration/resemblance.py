"""Turn a flow's dials until the simulated market shows the recording's figures.

The flow is zero intelligence around an efficient price plus informed traders; no formula gives its volatility, fill
intensity or depth from its rates. But each figure is moved mostly by one dial, so a damped fixed-point iteration
(simulate, measure with the functions that measured the recording, scale each dial by the ratio that it missed by)
settles in a few rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bitquote.calibration.hawkes import HawkesFit, flow_excitation
from bitquote.calibration.intensity import fit_intensities, taker_orders
from bitquote.calibration.intervals import Estimate
from bitquote.calibration.statistics import NEAR, at_least, depth_profile, markout, mean_spread
from bitquote.calibration.volatility import fit_volatility
from bitquote.market.simulation import Tape

ROUNDS = 20
FULL_ROUNDS = 12
"""Rounds that correct the whole miss; later ones correct less and less of it, so that the noise averages out."""
FAR = 0.95
"""Of the taker orders that reach half a step, this share stays nearer than `Figures.reach`."""
NOISE = 0.5
"""Share of the market orders that know nothing. Fewer would leave k to the excursions of the efficient price alone;
more would weaken the adverse selection, of which arrivals that do not cluster show too little as it is."""


class Grid(NamedTuple):
    """Units of a simulated market."""

    step: float  # price
    lot: float  # base units
    levels: int  # steps on either side of the mid where orders are placed
    seconds: float = 1.0  # scale that sigma belongs to


class Figures(NamedTuple):
    """What is compared between recording and simulation, on the simulation's price step; the first six are matched."""

    sigma: float  # of the mid, price / sqrt(s)
    bid_rate: float  # taker orders per second that reach half a step below the mid
    ask_rate: float  # the same above the mid
    k: float  # 1/price, the two sides pooled
    reach: float  # price, how far one taker order in twenty reaches, see FAR
    depth: float  # base units within NEAR steps of the mid, per side
    far_depth: float  # the same within `Grid.levels` steps
    markout: float  # price, one second after the fill; negative is against the maker
    spread: float  # price


@dataclass(frozen=True)
class Dials:
    """Factors on the flow's first guess, and the largest market order in base units."""

    largest_order: float

    volatility: float = 1.0
    bid_rate: float = 1.0
    ask_rate: float = 1.0
    market_size: float = 1.0
    limit_size: float = 1.0


def volatility(tape: Tape, seconds: float) -> Estimate:
    """sigma at a scale of `seconds`, of a tape recorded or simulated."""
    return fit_volatility(tape, seconds / 100, seconds, 10 * seconds)


def measure(tape: Tape, grid: Grid, gap: float | None = None) -> Figures:
    """The figures of a tape, recorded or simulated; with a `gap` in seconds, of the bursts of taker orders."""
    intensities = fit_intensities(tape, grid.step, gap=gap, resamples=0)
    orders = taker_orders(tape, gap)
    depth = np.cumsum(depth_profile(tape, grid.step, max(NEAR, grid.levels)))
    return Figures(
        sigma=volatility(tape, grid.seconds).value,
        bid_rate=intensities.bid.at_touch.value,
        ask_rate=intensities.ask.at_touch.value,
        k=intensities.pooled.k.value,
        reach=float(np.quantile(orders.reach[at_least(orders, grid.step / 2)], FAR)),
        depth=float(depth[NEAR - 1]),
        far_depth=float(depth[-1]),
        markout=markout(tape, grid.step / 2, gap=gap),
        spread=mean_spread(tape),
    )


def turned(flow: dict[str, Any], dials: Dials, lot: float, takers: HawkesFit | None = None) -> dict[str, Any]:
    """The flow with its dials turned.

    The first guess's market rates are those of all taker orders: the share `NOISE` of them stays, the rest arrive as
    informed traders. With `takers`, all of them excite those that know nothing.
    """
    bid, ask = flow["market_rate_bid"] * dials.bid_rate, flow["market_rate_ask"] * dials.ask_rate
    flow = flow | {
        "volatility": flow["volatility"] * dials.volatility,
        "jump_size": flow["jump_size"] * dials.volatility,
        "market_rate_bid": bid * NOISE,
        "market_rate_ask": ask * NOISE,
        "informed_rate": (bid + ask) * (1 - NOISE),
        "limit_size": _scaled(flow["limit_size"], dials.limit_size),
        "market_size": _scaled(flow["market_size"], dials.market_size, round(dials.largest_order / lot)),
    }
    return flow if takers is None else clustered_flow(flow, takers)


def clustered_flow(flow: dict[str, Any], takers: HawkesFit) -> dict[str, Any]:
    """The flow with `hawkes`, market orders exciting each other as `takers` says.

    Their mean rates stay as they are, but for what trades of informed traders excite besides: a market does not see who
    sent an order.

    Args:
        flow: A mapping of market.flow.
        takers: A fit of two types, market sells and buys; stationary.
    """
    rates = np.array([flow["market_rate_bid"], flow["market_rate_ask"], 1.0, 1.0, 1.0, 1.0])  # the last four stay
    parts = flow_excitation(takers, rates, types=(0, 1))
    bid, ask = parts["baseline"][:2]
    return flow | {"market_rate_bid": bid, "market_rate_ask": ask, "hawkes": parts["hawkes"] | {"informed": True}}


def corrected(dials: Dials, target: Figures, found: Figures, gain: float) -> Dials:
    """Dials for the next round: each is scaled by the share `gain` (of the logarithm) of what its figure missed by."""

    def factor(name: str) -> float:
        return float(np.clip((getattr(target, name) / getattr(found, name)) ** gain, 0.5, 2.0))

    return Dials(
        # An order for more than the book holds would trade with a maker at any distance.
        largest_order=min(dials.largest_order * factor("reach"), found.far_depth),
        volatility=dials.volatility * factor("sigma"),
        bid_rate=dials.bid_rate * factor("bid_rate"),
        ask_rate=dials.ask_rate * factor("ask_rate"),
        market_size=dials.market_size / factor("k") ** 2,  # 1/k grows about as the square root of the size
        limit_size=dials.limit_size * factor("depth"),
    )


def match(
    target: Figures,
    flow: dict[str, Any],
    grid: Grid,
    simulate: Callable[[dict[str, Any], int], Tape],
    seed: int,
    progress: Callable[[int], None],
    gap: float | None = None,
    takers: HawkesFit | None = None,
) -> tuple[dict[str, Any], Dials]:
    """The flow whose simulated figures are the target's, and the dials that it took.

    Args:
        target: Figures of the recording.
        flow: First guess, a mapping of market.flow.
        grid: Of the simulation.
        simulate: (flow, seed) -> tape.
        seed: Of the first round; each round takes the next.
        progress: Called with the number of rounds done.
        gap: Seconds within which taker orders are one burst; None: each counts.
        takers: How market orders excite each other; None: they do not.
    """
    dials = Dials(target.far_depth)
    for done in range(ROUNDS):
        found = measure(simulate(turned(flow, dials, grid.lot, takers), seed + done), grid, gap)
        dials = corrected(dials, target, found, 1.0 / max(1, done - FULL_ROUNDS + 2))
        progress(done + 1)
    return turned(flow, dials, grid.lot, takers), dials


def _scaled(distribution: dict[str, list[float]], factor: float, largest: int = 2**31 - 1) -> dict[str, list[int]]:
    """Quantiles of a size times `factor`, from one lot to `largest` (at most what a market's configuration takes)."""
    return {"quantiles": [min(max(1, round(size * factor)), largest) for size in distribution["quantiles"]]}
