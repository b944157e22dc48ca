"""The public history of a simulated market, with or without makers, in the form that recordings are read into."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from bitquote.book.matching import NO_PRICE, best_price, level_quantity, next_price
from bitquote.errors import require
from bitquote.market.rollout import Quoter, ask_all, check_room, market_kernels, rekey, start_path
from bitquote.market.simulation import Tape
from bitquote.market.venue import allocate_path

if TYPE_CHECKING:
    from bitquote.market.order_book import OrderBookMarket

_ROOM = 65536  # rows of the buffers between two returns to Python


@njit(cache=True)
def _snapshot(book, depth):
    """Write the best levels (2, levels, 2) of (price, quantity); absent levels stay NaN."""
    for i in range(2):
        side = 1 - 2 * i
        price = best_price(book, side)
        for level in range(depth.shape[1]):
            if price == NO_PRICE:
                break
            depth[i, level, 0] = price
            depth[i, level, 1] = level_quantity(book, side, price)
            price = next_price(book, side, price)


@njit(cache=True, nogil=True)
def _play(kernels, venue, flow, state, quoters, baseline, seed, path, step, decides, until):
    """Let the makers decide if a decision begins here, and run to `until` (s)."""
    shifts = np.zeros((len(quoters), 2))
    last = min(step, venue.decisions - 1)
    if decides:
        rekey(state, seed, path, step)
        state.public[0].turn = (step + path) % len(quoters)
        ask_all(venue, flow, state, quoters, baseline, last, shifts, True)
    while True:
        kernels.advance(venue, flow, state, until)
        if state.maker[0].clock >= until:
            return
        ask_all(venue, flow, state, quoters, baseline, last, shifts, False)


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
    decisions = np.arange(1, int(np.ceil(seconds / venue.decision_interval))) * venue.decision_interval
    stops = np.sort(np.concatenate((times, decisions, [seconds])))
    stops = stops[np.r_[True, np.diff(stops) > 1e-9]]  # sums of fractions that differ in the last bits are one time
    depth = np.full((times.size, 2, levels, 2), np.nan)
    written["trades"] = written["quotes"] = 0
    taken, decided = 0, -1
    for until in stops:
        step = int(state.maker["clock"][0] / venue.decision_interval + 1e-6)
        _play(kernels, venue, flow, state, quoters, baseline, seed, path, step, step > decided, until)
        decided = step
        require(written["lost"] == 0, "market.venue.decision_interval", venue.decision_interval, "shorter, for a tape")
        trade_parts.append(state.tape.trades[: written["trades"]].copy())
        quote_parts.append(state.tape.quotes[: written["quotes"]].copy())
        written["trades"] = written["quotes"] = 0
        if taken < times.size and until >= times[taken] - 1e-9:
            _snapshot(state.book, depth[taken])
            taken += 1
        if progress is not None:
            progress(until)
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
