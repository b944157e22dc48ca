"""Order events of a recording of single orders: nothing is inferred from net changes of levels.

An order lives from the event that lets it rest to the trade that fills it or the event that ends it; so the number of
resting orders, which cancellations are counted against, is exact, and so are arrivals that leave at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from bitquote.book.order_book import CANCEL as TO_CANCEL
from bitquote.book.order_book import LIMIT as TO_ENTER
from bitquote.book.order_book import REDUCE, REPLACE
from bitquote.calibration.intensity import taker_orders
from bitquote.calibration.order_flow import CANCEL, LIMIT, MARKET, OrderEvents
from bitquote.calibration.statistics import mid_at
from bitquote.errors import InputError, require_number
from bitquote.recorded.following import OUTCOMES
from bitquote.recorded.orders import EXECUTE, FILL
from bitquote.recorded.recording import Recording
from bitquote.recorded.replay import Replay

_ENTERED = {tuple(OUTCOMES).index(name) for name in ("rested", "traded", "crosses", "replaced", "ahead")}


class Lives(NamedTuple):
    """Orders while they rested; arrays of one length n. A replaced order ends, and another begins."""

    born: np.ndarray  # int64 ns; the first event's for the opening
    died: np.ndarray  # int64 ns; after the last event if it still rests
    side: np.ndarray  # int8
    price: np.ndarray  # int64 ticks
    size: np.ndarray  # int64 lots, when it began to rest
    left: np.ndarray  # int64 lots, when it ended
    cancelled: np.ndarray  # bool, or else filled or still resting
    opening: np.ndarray  # bool, whether it rested before the first event


def order_lives(replay: Replay) -> Lives:
    """The lives of all orders of a replayed recording. Reductions that leave something do not end an order."""
    recording = replay.recording
    first, last = (int(recording.events["time"][i]) for i in (0, -1))
    living: dict[int, list[int]] = {}  # born, side, price, size, opening, left
    lives: list[tuple[int, ...]] = []

    def end(order: int, now: int, cancelled: bool) -> None:
        born, side, price, size, opening, left = living.pop(order)
        lives.append((born, now, side, price, size, left, cancelled, opening))

    def shrink(order: int, now: int, quantity: int, cancelled: bool) -> None:
        if order in living:
            living[order][-1] -= quantity
            if living[order][-1] <= 0:
                end(order, now, cancelled)

    for _, _, side, order, price, quantity, _, _ in recording.opening.tolist():
        living[order] = [first, side, price, quantity, True, quantity]
    trades = replay.trades[["time", "maker_id", "taker_id", "quantity"]].tolist()
    at = 0
    for event, outcome in zip(recording.events.tolist(), replay.outcome.tolist(), strict=True):
        now, kind, side, order, price, quantity, _, _ = event
        enters = kind in (TO_ENTER, REPLACE) and outcome in _ENTERED
        if order in living and (kind == TO_CANCEL or (kind == REPLACE and enters)):
            end(order, now, True)
        taker = 0 if kind == EXECUTE else order
        while at < len(trades) and trades[at][0] == now and trades[at][2] == taker and (enters or kind == EXECUTE):
            _, maker, _, traded = trades[at]
            shrink(maker, now, traded, False)
            quantity -= traded
            at += 1
            if kind == EXECUTE:
                break
        if enters and quantity > 0:
            living[order] = [now, side, price, quantity, False, quantity]
        elif kind == REDUCE:
            shrink(order, now, quantity, True)
        elif kind == FILL and order in living and quantity < living[order][-1]:
            shrink(order, now, living[order][-1] - quantity, False)
    for order in tuple(living):
        end(order, last + 1, False)
    columns = np.array(lives, np.int64).reshape(-1, 8).T
    return Lives(columns[0], columns[1], columns[2].astype(np.int8), *columns[3:6], *columns[6:].astype(bool))


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
