"""The stylised facts of a market's order flow, out of a tape: the same numbers of a recording and of its simulation.

Sources: Cont, Quant. Finance 1, 2001 (returns); Bouchaud, Farmer & Lillo, "How markets slowly digest changes in supply
and demand", 2009 (signs of orders, spread, depth); Andersen, Bollerslev, Diebold & Labys, Risk 13, 2000 (signature).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bitquote.calibration.goodness import autocorrelation
from bitquote.calibration.intensity import taker_orders
from bitquote.calibration.statistics import NEAR
from bitquote.calibration.volatility import sampled_mid, signature
from bitquote.errors import InputError, require_number
from bitquote.market.simulation import Tape

LAGS = 50
RETURN_SECONDS = 0.2
"""Of the returns whose autocorrelation is taken."""
INTERVALS = np.geomspace(0.02, 20.0, 13)
"""Seconds at which the signature is taken."""
FEWEST = 2 * LAGS
"""Taker orders, and returns, below which there is no autocorrelation worth the name."""


class Distribution(NamedTuple):
    """A sample with weights, ascending."""

    value: np.ndarray  # float64 (n,)
    share: np.ndarray  # float64 (n,), of the weight at or below each value; ends at 1


class StylisedFacts(NamedTuple):
    """Facts of one tape; autocorrelations at lags 1 to `LAGS`."""

    spread: Distribution  # price, weighted by time
    depth: Distribution  # base units within `NEAR` steps of the mid, of each side and picture of the depth
    taker_wait: Distribution  # s between consecutive taker orders
    quote_wait: Distribution  # s between consecutive changes of the best quotes
    taker_size: Distribution  # base units
    sign_autocorrelation: np.ndarray  # of the sides of consecutive taker orders
    return_autocorrelation: np.ndarray  # of the mid's returns over RETURN_SECONDS
    size_autocorrelation: np.ndarray  # of the absolute returns
    signature: np.ndarray  # price per sqrt(s) at INTERVALS
    takers: int  # taker orders
    returns: int



def stylised_facts(tape: Tape, step: float) -> StylisedFacts:
    """The facts of a tape, recorded or simulated.

    Args:
        tape: With depth pictures that reach `NEAR` steps.
        step: Price units of the depth's distances.

    Raises:
        InputError: the tape is too short.
    """
    step = require_number("step", step, 0.0, above=True)
    orders = taker_orders(tape)
    returns = np.diff(sampled_mid(tape, RETURN_SECONDS))
    if min(len(orders.time), len(returns)) < FEWEST:
        raise InputError(
            f"the tape has {len(orders.time)} taker orders and {len(returns)} returns of {RETURN_SECONDS:g} s: "
            f"stylised facts need {FEWEST} of each"
        )
    return StylisedFacts(
        spread=_distribution((tape.ask - tape.bid)[:-1], np.diff(tape.quote_time)),
        depth=_distribution(_near_depth(tape, step)),
        taker_wait=_distribution(np.diff(orders.time)),
        quote_wait=_distribution(np.diff(tape.quote_time)),
        taker_size=_distribution(orders.quantity),
        sign_autocorrelation=autocorrelation(orders.side, LAGS),
        return_autocorrelation=autocorrelation(returns, LAGS),
        size_autocorrelation=autocorrelation(np.abs(returns), LAGS),
        signature=signature(tape, INTERVALS),
        takers=len(orders.time),
        returns=len(returns),
    )


def ks_distances(recorded: StylisedFacts, simulated: StylisedFacts) -> dict[str, float]:
    """Kolmogorov-Smirnov distances between the distributions of two tapes, by name: 0 the same, 1 disjoint."""
    pairs = zip(recorded._fields, recorded, simulated, strict=True)
    both = ((name, a, b) for name, a, b in pairs if isinstance(a, Distribution) and isinstance(b, Distribution))
    return {name: ks_distance(a, b) for name, a, b in both}


def ks_distance(a: Distribution, b: Distribution) -> float:
    """The largest difference of two (weighted) distribution functions."""
    points = np.concatenate((a.value, b.value))
    return float(np.max(np.abs(_at(a, points) - _at(b, points))))


def _at(distribution: Distribution, points: np.ndarray) -> np.ndarray:
    share = np.r_[0.0, distribution.share]
    return share[np.searchsorted(distribution.value, points, side="right")]


def _distribution(values: np.ndarray, weights: np.ndarray | None = None) -> Distribution:
    order = np.argsort(values, kind="stable")
    share = np.cumsum(np.ones(len(values)) if weights is None else weights[order])
    return Distribution(values[order].astype(float), share / share[-1])


def _near_depth(tape: Tape, step: float) -> np.ndarray:
    """(2 pictures,) the quantity within `NEAR` steps of the mid, of each side."""
    price, quantity = tape.depth[..., 0], tape.depth[..., 1]
    mid = 0.5 * (price[:, :1, :1] + price[:, 1:, :1])
    whole = np.isfinite(mid[:, 0, 0])
    if not whole.any():
        raise InputError("no picture of the depth has both a bid and an ask")
    near = np.abs(price - mid)[whole] <= NEAR * step * (1.0 + 1e-9)
    return np.where(near, quantity[whole], 0.0).sum(axis=2).ravel()
