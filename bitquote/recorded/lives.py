"""How long the orders of a recording rested: from the event that lets one rest to what fills or ends it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bitquote.book.order_book import CANCEL, LIMIT, REDUCE, REPLACE
from bitquote.recorded.following import OUTCOMES
from bitquote.recorded.orders import EXECUTE, FILL
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
        enters = kind in (LIMIT, REPLACE) and outcome in _ENTERED
        if order in living and (kind == CANCEL or (kind == REPLACE and enters)):
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
