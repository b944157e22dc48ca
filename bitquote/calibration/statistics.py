"""What a market looks like from outside: spread, depth and markouts of a tape, and its jumps."""

from __future__ import annotations

import numpy as np

from bitquote.calibration.intensity import TakerOrders, taker_orders
from bitquote.calibration.volatility import sampled_mid
from bitquote.errors import InputError
from bitquote.market.simulation import Tape

NEAR = 10
"""Steps on either side of the mid whose depth is compared and matched."""


def mid_at(tape: Tape, time: np.ndarray) -> np.ndarray:
    """The mid in force at each time (the first one before the first quote)."""
    latest = np.maximum(np.searchsorted(tape.quote_time, time, side="right") - 1, 0)
    return 0.5 * (tape.bid[latest] + tape.ask[latest])


def mean_spread(tape: Tape) -> float:
    """Time average of ask - bid, price units."""
    duration = np.diff(tape.quote_time)
    return float(np.average((tape.ask - tape.bid)[:-1], weights=duration))


def at_least(orders: TakerOrders, distance: float) -> np.ndarray:
    """Which taker orders reach a quote at `distance` from the mid."""
    return orders.reach >= distance * (1.0 - 1e-6)


def markout(tape: Tape, distance: float, horizon: float = 1.0, gap: float | None = None) -> float:
    """Mean move of the mid against a maker's fill over `horizon` seconds, price units; negative is against the maker.

    Over the taker orders (with a `gap` in seconds, their bursts) that reach `distance`, from the mid just before; the
    edge at the fill is not in it.
    """
    orders = taker_orders(tape, gap)
    chosen = at_least(orders, distance) & (orders.time + horizon <= tape.quote_time[-1])
    if not chosen.any():
        raise InputError(f"no taker order reaches {distance:g}, so there is no markout")
    move = mid_at(tape, orders.time[chosen] + horizon) - orders.mid[chosen]
    return -float(np.mean(orders.side[chosen] * move))


def depth_profile(tape: Tape, step: float, steps: int = 3 * NEAR) -> np.ndarray:
    """Mean quantity at distances (j step, (j + 1) step] from the mid, the two sides averaged, float64 (steps,)."""
    price, quantity = tape.depth[..., 0], tape.depth[..., 1]
    mid = 0.5 * (price[:, :1, :1] + price[:, 1:, :1])
    whole = np.isfinite(mid[:, 0, 0])
    if not whole.any():
        raise InputError("no picture of the depth has both a bid and an ask")
    distance = np.abs(price - mid)[whole]
    bin_of = np.ceil(distance / step - 1e-6) - 1
    inside = (bin_of >= 0) & (bin_of < steps)  # NaN, the padding, is not
    sums = np.bincount(bin_of[inside].astype(np.int64), quantity[whole][inside], steps)
    return sums / (2 * np.count_nonzero(whole))


def jump_share(tape: Tape, interval: float) -> tuple[float, float]:
    """(share of the mid's variance that is jumps, jumps per second).

    One less the ratio of bipower to realised variance (Barndorff-Nielsen & Shephard, J. Financial Econometrics 2,
    2004), of returns over `interval` seconds; one that exceeds four standard deviations of the continuous part counts
    as a jump.
    """
    returns = np.diff(sampled_mid(tape, interval))
    realised = float(np.mean(returns**2))
    continuous = float(np.pi / 2 * np.mean(np.abs(returns[1:] * returns[:-1])))
    jumps = np.count_nonzero(np.abs(returns) > 4 * np.sqrt(continuous))
    if jumps == 0 or continuous >= realised:
        return 0.0, 0.0
    return 1.0 - continuous / realised, jumps / (len(returns) * interval)
