"""How long the orders of a recording rested: from the event that lets one rest to what fills or ends it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bitquote.recorded.replay import Replay


class Lives(NamedTuple):
    """Orders while they rested; arrays of one length n. A replaced order ends, and another begins."""

    born: np.ndarray  # int64 ns; the first event's for the opening
    died: np.ndarray  # int64 ns; after the last event if it still rests
    side: np.ndarray  # int8
    price: np.ndarray  # int64 ticks
    size: np.ndarray  # int64 lots, when it began to rest
    left: np.ndarray  # int64 lots, when it was cancelled, or at the end if it still rests
    cancelled: np.ndarray  # bool, or else filled, lost to a crossing, or still resting
    opening: np.ndarray  # bool, whether it rested before the first event


def order_lives(replay: Replay) -> Lives:
    """The lives of all orders of a replayed recording. Reductions that leave something do not end an order."""
    order = np.argsort(replay.log["order_id"], kind="stable")  # in time within an order
    rows = replay.log[order]
    begins = np.flatnonzero(rows["by"] > 0)  # of each life: an order enters anew only when it is gone
    born, final = rows[begins], rows[np.append(begins, len(rows))[1:] - 1]
    left = np.add.reduceat(rows["by"], begins)
    ended = left == 0
    cancelled = ended & final["cancelled"]
    return Lives(
        born=born["time"],
        died=np.where(ended, final["time"], replay.recording.events["time"][-1] + 1),
        side=born["side"],
        price=born["price"],
        size=born["by"],
        left=np.where(cancelled, -final["by"], left),
        cancelled=cancelled,
        opening=order[begins] < replay.opened,
    )
