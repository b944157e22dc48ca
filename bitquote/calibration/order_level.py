"""Order events of a recording of single orders: nothing is inferred from net changes of levels.

The number of resting orders, which cancellations are counted against, is exact, and so are arrivals that leave at once;
but a level that stood before a LOBSTER file counts as one order.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bitquote.calibration.intensity import taker_orders
from bitquote.calibration.order_flow import CANCEL, LIMIT, MARKET, OrderEvents
from bitquote.calibration.statistics import mid_at
from bitquote.errors import InputError, require_number
from bitquote.recorded.lives import Lives, order_lives
from bitquote.recorded.recording import Recording


def order_level_events(recording: Recording, reach: float) -> OrderEvents:
    """Limit orders, taker orders and cancellations within `reach` (price units) of the mid, of single orders.

    What of a taker order is left to rest counts as a limit order too. The distance of an order that rests inside the
    spread beyond the mid is negative.

    Raises:
        InputError: the recording is not made of single orders.
    """
    reach = require_number("reach", reach, 0.0, above=True)
    if recording.orders is None:
        raise InputError(f"{recording.path} is not made of single orders: order_events reads it")
    tape, unit = recording.tape, recording.orders.recording
    lives = order_lives(recording.orders)
    born, died = ((time - recording.start) * 1e-9 for time in (lives.born, lives.died))
    start = float(tape.quote_time[0])
    end = max(float(tape.quote_time[-1]), float(tape.trade_time[-1]))
    orders = taker_orders(tape)
    inside = (orders.reach > 0.0) & (orders.reach <= reach)
    enters, leaves = ~lives.opening, lives.cancelled
    time = np.r_[born[enters], died[leaves], orders.time[inside]]
    kind = np.repeat((LIMIT, CANCEL, MARKET), (enters.sum(), leaves.sum(), inside.sum()))
    side = np.r_[lives.side[enters], lives.side[leaves], -orders.side[inside]]
    price = np.r_[lives.price[enters], lives.price[leaves]] * unit.tick
    before = mid_at(tape, np.nextafter(time, -np.inf))
    distance = np.r_[side[: len(price)] * (before[: len(price)] - price), orders.reach[inside]]
    size = np.r_[lives.size[enters] * unit.lot, lives.left[leaves] * unit.lot, orders.quantity[inside]]
    chosen = (np.abs(distance) <= reach * (1.0 + 1e-9)) & (time > start) & (time <= end)
    order = np.flatnonzero(chosen)[np.argsort(time[chosen], kind="stable")]
    return OrderEvents(
        time=time[order] - start,
        kind=kind[order].astype(np.int8),
        side=side[order].astype(np.int8),
        distance=distance[order],
        size=size[order],
        resting=_resting(lives, born, died, time[order], before[order] / unit.tick, reach / unit.tick),
        seconds=end - start,
    )


def _resting(
    lives: Lives, born: np.ndarray, died: np.ndarray, time: np.ndarray, mid: np.ndarray, reach: float
) -> np.ndarray:
    """(n,) orders that rest within `reach` ticks of each `mid` (n,) just before each `time` (n,), ascending."""
    if not len(time) or not len(lives.price):
        return np.zeros(len(time))
    bounds = int(lives.price.min()), int(lives.price.max()) + 1
    low = np.clip(np.ceil(mid - reach - 1e-6), *bounds).astype(np.int64)
    high = np.clip(np.floor(mid + reach + 1e-6) + 1.0, *bounds).astype(np.int64)
    first, last = int(low.min()), int(high.max())
    near = (lives.price >= first) & (lives.price < last)
    when = np.r_[born[near], died[near]]
    place = np.tile(lives.price[near] - first, 2)
    by = np.repeat((1, -1), near.sum())
    order = np.argsort(when, kind="stable")
    return _counted(time, low - first, high - first, when[order], place[order], by[order], last - first)


@njit(cache=True)
def _counted(time, low, high, when, place, by, places):
    count = np.zeros(places, np.int64)
    resting = np.zeros(time.size)
    at = 0
    for i in range(time.size):
        while at < when.size and when[at] < time[i]:
            count[place[at]] += by[at]
            at += 1
        resting[i] = count[low[i] : high[i]].sum()
    return resting
