"""The public history of a simulated market without a maker, in the form that recordings are read into."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from bitquote.book.matching import NO_PRICE, best_price, clear_trades, level_quantity, next_price, trade_count
from bitquote.flow.poisson import constant_rate, flow_event, move_price, total_rate
from bitquote.flow.random import exponential
from bitquote.market.rollout import start_path
from bitquote.market.simulation import Tape
from bitquote.market.venue import PRICE_STEPS, allocate_path

if TYPE_CHECKING:
    from bitquote.market.order_book import OrderBookMarket

TAPE_TRADE = np.dtype(
    [("time", np.float64), ("price", np.int64), ("quantity", np.int64), ("aggressor", np.int8)], align=True
)
TAPE_QUOTE = np.dtype(
    [
        ("time", np.float64),
        ("bid", np.int64),
        ("ask", np.int64),
        ("bid_quantity", np.int64),
        ("ask_quantity", np.int64),
    ],
    align=True,
)
_BUFFER = 65536  # rows of the buffers between two returns to Python


@njit(cache=True)
def _run(flow, state, price_step, until, trades, quotes, last):
    """Run the flow to `until` or until a buffer is nearly full; returns (time, trades, quotes written)."""
    constant = constant_rate(flow)
    maker = state.maker[0]
    book = state.book
    price_index = math.floor(maker.clock / price_step + 1e-6) + 1
    n_trades = 0
    n_quotes = 0
    while n_trades + 4096 < trades.size and n_quotes + 1 < quotes.size:
        now = maker.clock + exponential(state.flow.generator) / total_rate(flow, book, constant)
        stop = min(until, price_index * price_step)
        arrived = now < stop  # waiting times have no memory: what is left of one may be drawn anew
        maker.clock = now if arrived else stop
        if not arrived:
            if price_index * price_step <= stop:
                move_price(flow, state.flow, price_step)
                price_index += 1
            if stop >= until:
                break
            continue
        flow_event(flow, state.flow, book, np.int64(now * 1e9), constant)
        for i in range(trade_count(book)):
            trade = book.trades[i]
            row = trades[n_trades]
            row.time = now
            row.price = trade.price
            row.quantity = trade.quantity
            row.aggressor = trade.aggressor
            n_trades += 1
        clear_trades(book)
        bid = best_price(book, 1)
        ask = best_price(book, -1)
        if bid == NO_PRICE or ask == NO_PRICE:
            continue
        bid_quantity = level_quantity(book, 1, bid)
        ask_quantity = level_quantity(book, -1, ask)
        if bid != last.bid or ask != last.ask or bid_quantity != last.bid_quantity or ask_quantity != last.ask_quantity:
            last.time = now
            last.bid = bid
            last.ask = ask
            last.bid_quantity = bid_quantity
            last.ask_quantity = ask_quantity
            quotes[n_quotes] = last
            n_quotes += 1
    return maker.clock, n_trades, n_quotes


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


def record_tape(
    market: OrderBookMarket,
    seconds: float,
    seed: int,
    levels: int = 20,
    snapshot_interval: float = 1.0,
    progress: Callable[[float], None] | None = None,
) -> Tape:
    """Trades, best quotes at every change, and depth every `snapshot_interval` s, of one path without a maker."""
    state = allocate_path(market.window, market.capacity)
    start_path(market.venue, market.flow, state, seed, 0, 0)
    trades, quotes = np.zeros(_BUFFER, TAPE_TRADE), np.zeros(_BUFFER, TAPE_QUOTE)
    last = np.zeros(1, TAPE_QUOTE)
    price_step = market.venue.decision_interval / PRICE_STEPS
    trade_parts: list[np.ndarray] = []
    quote_parts: list[np.ndarray] = []
    times = np.arange(snapshot_interval, seconds + 1e-9, snapshot_interval)
    depth = np.full((times.size, 2, levels, 2), np.nan)
    for i, until in enumerate([*times, seconds]):
        clock = -1.0
        while clock < until:
            clock, n_trades, n_quotes = _run(market.flow, state, price_step, until, trades, quotes, last[0])
            trade_parts.append(trades[:n_trades].copy())
            quote_parts.append(quotes[:n_quotes].copy())
        if i < times.size:
            _snapshot(state.book, depth[i])
        if progress is not None:
            progress(min(until, seconds))
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
