"""The public history of a simulated market, with or without makers, in the form that recordings are read into."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from bitquote.errors import require
from bitquote.market.history import write_depth
from bitquote.market.path import check_room, market_kernels, rekey, start_path
from bitquote.market.rollout import Quoter, ask_all
from bitquote.market.simulation import Tape
from bitquote.market.venue import allocate_path

if TYPE_CHECKING:
    from bitquote.market.order_book import OrderBookMarket

_ROOM = 65536  # rows of the buffers between two returns to Python
_TIE = 1e-9  # s: sums of fractions that differ in the last bits are one time


@njit(cache=True, nogil=True)
def _play(kernels, venue, flow, state, quoters, baseline, seed, path, seconds, times, depth, cursor):
    """Run to `seconds`, or until the tape's buffers need emptying.

    `cursor` (int64[2]) holds the latest decision and the number of snapshots taken, of those due at `times`.
    """
    shifts = np.zeros((len(quoters), 2))
    maker = state.maker[0]
    written = state.tape.written[0]
    while maker.clock < seconds - _TIE:
        if max(written.trades, written.quotes) > state.tape.trades.size // 2:
            return
        if maker.clock >= (cursor[0] + 1) * venue.decision_interval - _TIE:
            cursor[0] += 1
            rekey(state, seed, path, cursor[0])
            state.public[0].turn = (cursor[0] + path) % len(quoters)
            ask_all(venue, flow, state, quoters, baseline, min(cursor[0], venue.decisions - 1), shifts, True)
        until = min(seconds, (cursor[0] + 1) * venue.decision_interval)
        if cursor[1] < times.size:
            until = min(until, times[cursor[1]])
        kernels.advance(venue, flow, state, until)
        if maker.clock < until:
            ask_all(venue, flow, state, quoters, baseline, min(cursor[0], venue.decisions - 1), shifts, False)
        elif cursor[1] < times.size and maker.clock >= times[cursor[1]] - _TIE:
            write_depth(state.book, depth[cursor[1]])
            cursor[1] += 1


def record_tape(
    market: OrderBookMarket,
    quoters: tuple[Quoter, ...],
    seconds: float,
    seed: int,
    path: int = 0,
    levels: int = 20,
    snapshot_interval: float = 1.0,
    progress: Callable[[float], None] | None = None,
) -> Tape:
    """Trades, best quotes at every change, and depth every `snapshot_interval` s, of one path with these makers.

    After the horizon the makers go on quoting as in their last decision, without liquidating.
    """
    venue, flow = market.venue, market.flow
    state = allocate_path(
        market.window, market.capacity, len(quoters), venue.levels, flow.queues.limit.shape[0], _ROOM
    )
    kernels = market_kernels(venue, flow, state)
    start_path(kernels, venue, flow, state, seed, path, 0)
    baseline = market.baseline_features()
    written = state.tape.written[0]
    trade_parts, quote_parts = [state.tape.trades[:0].copy()], [state.tape.quotes[:0].copy()]
    times = np.arange(snapshot_interval, seconds + 1e-9, snapshot_interval)
    depth = np.full((times.size, 2, levels, 2), np.nan)
    cursor = np.array([-1, 0])
    written["trades"] = written["quotes"] = written["lost"] = 0  # those of the warm-up
    while state.maker["clock"][0] < seconds - _TIE:
        _play(kernels, venue, flow, state, quoters, baseline, seed, path, seconds, times, depth, cursor)
        require(written["lost"] == 0, "market.venue.decision_interval", venue.decision_interval, "shorter, for a tape")
        trade_parts.append(state.tape.trades[: written["trades"]].copy())
        quote_parts.append(state.tape.quotes[: written["quotes"]].copy())
        written["trades"] = written["quotes"] = 0
        if progress is not None:
            progress(float(state.maker["clock"][0]))
    check_room([state], market.capacity)
    trade, quote = np.concatenate(trade_parts), np.concatenate(quote_parts)
    depth *= np.array([market.tick, market.lot])
    return Tape(
        trade_time=trade["time"],
        trade_price=trade["price"] * market.tick,
        trade_quantity=trade["quantity"] * market.lot,
        trade_aggressor=trade["aggressor"],
        quote_time=quote["time"],
        bid=quote["bid"] * market.tick,
        ask=quote["ask"] * market.tick,
        bid_quantity=quote["bid_quantity"] * market.lot,
        ask_quantity=quote["ask_quantity"] * market.lot,
        snapshot_time=times,
        depth=depth,
    )
