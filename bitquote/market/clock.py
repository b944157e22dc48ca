"""The market in time: makers' messages with their latency, the crowd's events, and what goes by the clock.

A quote that keeps its price and size keeps its order, and with it its place in the queue; a changed one is one
`replace` message, a withdrawn one a `cancel`. Messages arrive after their latency, and the exchange applies them to
whatever is there by then.
"""

import numpy as np

from bitquote.book.matching import (
    BOOK_FULL,
    NO_PRICE,
    POST_ONLY,
    best_price,
    best_quantity,
    cancel_order,
    order_quantity,
    replace_order,
    trade_count,
)
from bitquote.compilation import inlined, kernel
from bitquote.flow.crowd import constant_rate, flow_event, price_step, total_rate
from bitquote.flow.orders import send
from bitquote.flow.random import exponential
from bitquote.flow.stuffing import message_delay
from bitquote.market.accounts import absorb_trades, accrue, nanoseconds, settle_markouts
from bitquote.market.history import record_quote, record_trades
from bitquote.market.venue import (
    CANCEL,
    FIRST_MAKER,
    NEW,
    NOTHING,
    ON_BEST,
    ON_FILL,
    REPLACE,
    update_mid,
)

PRICE_STEPS = 16  # steps of the clock between two decisions


@kernel
def send_quotes(venue, state, n, prices, size, delay):
    """Send what turns the resting ladder of maker `n` into one of `size` lots a level that begins at `prices`.

    `prices` is int64[2], bid and ask, NO_PRICE for no quote; `delay` (s) is added to the latency. A quote whose last
    message is still under way is left alone.
    """
    maker = state.maker[n]
    for i in range(2):
        side = 1 - 2 * i
        for level in range(state.quotes.shape[2]):
            quote = state.quotes[n, i, level]
            if quote.pending != NOTHING:
                continue
            wanted = prices[i]
            if size <= 0 or side * maker.position + (level + 1) * size > venue.max_position:
                wanted = NO_PRICE
            if wanted != NO_PRICE:
                wanted -= side * level * venue.level_spacing
            if quote.slot < 0:
                kind = NEW if wanted != NO_PRICE else NOTHING
            elif wanted == NO_PRICE:
                kind = CANCEL
            else:
                kind = REPLACE if wanted != quote.price or size != quote.size else NOTHING
            quote.pending = kind
            quote.pending_price = wanted
            quote.pending_size = size
            latency = venue.latency_cancel if kind == CANCEL else venue.latency_new
            quote.pending_time = maker.clock + delay + latency


@inlined
def _resting_beside(state, n, i, level):
    """Lots of the maker's other orders on a side."""
    lots = 0
    for other in range(state.quotes.shape[2]):
        if other != level and state.quotes[n, i, other].slot >= 0:
            lots += order_quantity(state.book, state.quotes[n, i, other].slot)
    return lots


@kernel
def _deliver(venue, state, message):
    """The exchange receives the message under way for the quote of this index among all."""
    levels = state.quotes.shape[2]
    level = message % levels
    i = (message // levels) % 2
    n = message // (2 * levels)
    maker = state.maker[n]
    quote = state.quotes[n, i, level]
    side = 1 - 2 * i
    time = nanoseconds(maker.clock)
    kind = quote.pending
    quote.pending = NOTHING
    # The gateway's position check: no message may make it possible to leave the limit.
    beyond = side * maker.position + _resting_beside(state, n, i, level) + quote.pending_size > venue.max_position
    if kind == REPLACE and beyond:
        kind = CANCEL
    slot = -2
    if kind == NEW:
        if not beyond:
            slot = send(
                state.book, time, side, quote.pending_price, quote.pending_size, 0, FIRST_MAKER + n, POST_ONLY
            )
    elif quote.slot < 0:
        maker.rejected += 1  # filled in the meantime
        return
    elif kind == CANCEL:
        cancel_order(state.book, quote.slot)
        quote.slot = -1
        return
    else:
        slot = replace_order(state.book, time, quote.slot, quote.pending_price, quote.pending_size, POST_ONLY)
    if slot < 0:
        maker.rejected += 1
        if slot == BOOK_FULL:
            state.flow.now[0].refused += 1
        return
    quote.slot = slot
    quote.price = quote.pending_price
    quote.size = quote.pending_size
    quote.since = maker.clock


@inlined
def _next_message(state):
    """(arrival time, index among all quotes) of the next message under way; an infinite time without one."""
    time = np.inf
    index = -1
    makers = state.maker.size
    levels = state.quotes.shape[2]
    for k in range(makers):
        n = (state.public[0].turn + k) % makers
        # Of two that arrive together the one that makes room comes first, lest the maker cross itself.
        first = 1 if state.quotes[n, 0, 0].pending_price > state.quotes[n, 0, 0].price else 0
        for j in range(2):
            i = first ^ j
            for level in range(levels):
                quote = state.quotes[n, i, level]
                if quote.pending != NOTHING and quote.pending_time < time:
                    time = quote.pending_time
                    index = (2 * n + i) * levels + level
    return time, index


@inlined
def _carry(public, time):
    """Carry the integrals over spread and depth up to `time`."""
    if public.bid != NO_PRICE and public.ask != NO_PRICE:
        seconds = time - public.clock
        public.two_sided_time += seconds
        public.spread_time += (public.ask - public.bid) * seconds
        public.depth_time += public.depth * seconds
    public.clock = time


@inlined
def _price_step(crowd, state, time, seconds):
    """A step of the clock, and the mid's move over it."""
    price_step(crowd, state.flow, state.book, time, seconds)
    public = state.public[0]
    if public.bid != NO_PRICE and public.ask != NO_PRICE:
        mid2 = public.bid + public.ask
        if public.step_mid2 != 0:
            move = float(mid2 - public.step_mid2)
            public.squared_moves += move * move
        public.step_mid2 = mid2


@kernel
def advance(venue, crowd, state, until):
    """Run the market to the time `until` (s), or to the moment at which the makers are asked again. Returns the number
    of events.

    The next event comes when its hazard, an exponential draw, is used up; messages, steps of the clock and the end
    only use part of it. So the n-th event takes the n-th draw whatever the makers do.
    """
    maker = state.maker[0]
    public = state.public[0]
    now = state.flow.now[0]
    constant = constant_rate(crowd)
    price_seconds = venue.decision_interval / PRICE_STEPS
    price_index = public.step
    message_time, message = _next_message(state)
    if now.hazard <= 0.0:
        now.hazard = exponential(state.flow.generator)
    hazard = now.hazard
    events = 0
    ends = False
    while not ends:
        rate = total_rate(crowd, state.flow, state.book, constant)
        time = maker.clock + hazard / rate
        stop = min(message_time, until, price_index * price_seconds, public.wake)
        arrived = time < stop
        if not arrived:
            hazard -= (stop - maker.clock) * rate
            time = stop
        for n in range(state.maker.size):
            if state.maker[n].markout_count > 0:
                settle_markouts(state, n, time)
            state.maker[n].clock = time
        if arrived:
            flow_event(crowd, state.flow, state.book, time, rate)
            hazard = exponential(state.flow.generator)
        elif message_time <= time:
            _deliver(venue, state, message)
            message_time, message = _next_message(state)
        else:
            if price_index * price_seconds <= time:
                _price_step(crowd, state, time, price_seconds)
                price_index += 1
            ends = time >= until
            if trade_count(state.book) == 0:
                ends = ends or time >= public.wake
                continue
        events += 1
        _settle_event(venue, state, time)
        ends = ends or time >= public.wake
    now.hazard = hazard
    public.step = price_index
    _carry(public, maker.clock)
    for n in range(state.maker.size):
        accrue(state.maker[n])
    return events


@inlined
def _settle_event(venue, state, time):
    """Book what the last event has done to makers and market."""
    public = state.public[0]
    if state.tape.trades.size > 0:
        record_trades(state.tape, state.book, time)
    fills = 0
    if trade_count(state.book) > 0:
        fills = absorb_trades(venue, state)
    bid = public.bid
    ask = public.ask
    _carry(public, time)
    public.bid = best_price(state.book, 1)
    public.ask = best_price(state.book, -1)
    public.depth = best_quantity(state.book, 1) + best_quantity(state.book, -1)
    if state.tape.trades.size > 0:
        record_quote(state.tape, state.book, time)
    for n in range(state.maker.size):
        update_mid(state, n)
    if venue.requote != 0:
        filled = fills > 0 and venue.requote & ON_FILL != 0
        moved = (bid != public.bid or ask != public.ask) and venue.requote & ON_BEST != 0
        if filled or moved:
            public.wake = min(public.wake, max(time, public.asked + venue.requote_gap))


@inlined
def quote_delay(crowd, state):
    """Seconds that a maker's message takes longer now."""
    return message_delay(crowd.stuffing, state.flow, state.maker[0].clock)
