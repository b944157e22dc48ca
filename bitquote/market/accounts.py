"""A maker's accounts: fills, cash, fees, markouts, liquidation."""

import numpy as np

from bitquote.book.matching import NO_PRICE, cancel_order, clear_trades, market_order, trade_count
from bitquote.compilation import inlined, kernel
from bitquote.market.venue import FIRST_MAKER, MARKOUTS, NOTHING


@inlined
def nanoseconds(seconds):
    """A time as the book takes it."""
    return np.int64(seconds * 1e9)


@inlined
def accrue(maker):
    """Bring the integral of the squared position up to the clock."""
    maker.squared += float(maker.position) * float(maker.position) * (maker.clock - maker.squared_clock)
    maker.squared_clock = maker.clock


@kernel
def settle_markouts(state, n, now):
    """Settle the markouts of maker `n` that are due by `now` at the present mid."""
    maker = state.maker[n]
    while maker.markout_count > 0:
        pending = state.markouts[n, maker.markout_head]
        if pending.due > now:
            return
        move = maker.mid2 - pending.mid2
        maker.markout2 += pending.signed_lots * move
        maker.markout_lots += abs(pending.signed_lots)
        signed_move = 0.5 * move if pending.signed_lots > 0 else -0.5 * move
        maker.recent_markout += 0.1 * (signed_move - maker.recent_markout)
        maker.markout_head = (maker.markout_head + 1) & (MARKOUTS - 1)
        maker.markout_count -= 1


@kernel
def await_markout(state, n, due, signed_lots, mid2):
    """Remember a fill until its markout is due; one that finds the ring full is counted as lost."""
    maker = state.maker[n]
    if maker.markout_count == MARKOUTS:
        maker.markout_lost += 1
        return
    pending = state.markouts[n, (maker.markout_head + maker.markout_count) & (MARKOUTS - 1)]
    pending.due = due
    pending.signed_lots = signed_lots
    pending.mid2 = mid2
    maker.markout_count += 1


@kernel
def _fill(venue, state, n, side, slot, price, lots, remaining):
    """Book a passive fill of the quote on `side` of maker `n` that rests in `slot`."""
    maker = state.maker[n]
    i = 0 if side > 0 else 1
    level = 0
    while level < state.quotes.shape[2] - 1 and state.quotes[n, i, level].slot != slot:
        level += 1
    quote = state.quotes[n, i, level]
    accrue(maker)
    maker.position += side * lots
    maker.cash -= side * price * lots
    maker.maker_notional += price * lots
    maker.edge2 += side * (maker.mid2 - 2 * price) * lots
    maker.lots += lots
    maker.fills += 1
    quote.filled += lots
    if remaining == 0:
        quote.slot = -1
    await_markout(state, n, maker.clock + venue.markout, side * lots, maker.mid2)


@kernel
def absorb_trades(venue, state):
    """Book the makers' fills among the trades of the last event, and the statistics of all; how many were makers'."""
    public = state.public[0]
    fills = 0
    for i in range(trade_count(state.book)):
        trade = state.book.trades[i]
        for n in range(state.maker.size):
            state.maker[n].net_volume += trade.aggressor * trade.quantity
            state.maker[n].trades += 1
        if public.bid != NO_PRICE and public.ask != NO_PRICE:
            public.effective2 += abs(2 * trade.price - (public.bid + public.ask)) * trade.quantity
            public.effective_lots += trade.quantity
        public.lots += trade.quantity
        n = trade.maker_owner - FIRST_MAKER
        if 0 <= n < state.maker.size:
            side = -np.int64(trade.aggressor)
            _fill(venue, state, n, side, trade.maker_slot, trade.price, trade.quantity, trade.remaining)
            fills += 1
    clear_trades(state.book)
    return fills


@kernel
def withdraw_all(state):
    """Take every maker's quotes out of the book, and the messages under way with them."""
    for n in range(state.maker.size):
        for i in range(2):
            for level in range(state.quotes.shape[2]):
                quote = state.quotes[n, i, level]
                if quote.slot >= 0:
                    cancel_order(state.book, quote.slot)
                    quote.slot = -1
                quote.pending = NOTHING


@kernel
def liquidate(venue, state, n):
    """Settle every markout of maker `n` at the last mid, and sell or cover its position at the market.

    To be called once nobody's quotes rest any more: makers do not trade with each other at the end. Returns (position
    before, proceeds against the mid in half ticks x lots, lots that found no counterpart and stay marked at the mid).
    """
    maker = state.maker[n]
    settle_markouts(state, n, np.inf)
    before = maker.position
    cost2 = 0
    if before != 0:
        side = -1 if before > 0 else 1
        market_order(state.book, nanoseconds(maker.clock), side, abs(before), 0, FIRST_MAKER + n)
        for k in range(trade_count(state.book)):
            trade = state.book.trades[k]
            maker.position += side * trade.quantity
            maker.cash -= side * trade.price * trade.quantity
            maker.taker_notional += trade.price * trade.quantity
            cost2 += side * (maker.mid2 - 2 * trade.price) * trade.quantity
        clear_trades(state.book)
    return before, cost2, abs(maker.position)


@kernel
def wealth(venue, maker):
    """Mark-to-mid wealth after fees, price x order size."""
    marked2 = 2 * maker.cash + maker.position * maker.mid2
    fees = venue.maker_fee * maker.maker_notional + venue.taker_fee * maker.taker_notional
    return venue.price_unit * (0.5 * marked2 - fees)
