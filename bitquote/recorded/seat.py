"""A maker's seat at a replay: its orders hold places in the recorded queues and are no part of the recorded book.

So the others' book is that of the plain replay whatever the maker does, and a taker meets both: first all whose
priority is higher, then the maker, for as much as it has left. Decisions are the simulator's own functions, on a view
of the book in the market's ticks. Accounts are in ticks and lots of the recording. `i` is a side, 0 the bid and 1 the
ask.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from bitquote.book.levels import link
from bitquote.book.matching import (
    NO_PRICE,
    BookState,
    allocate,
    best_price,
    crosses,
    level_quantity,
    next_price,
    reset,
)
from bitquote.book.state import acquire, rank_of
from bitquote.compilation import inlined, kernel
from bitquote.market.accounts import accrue, await_markout, settle_markouts
from bitquote.market.venue import (
    CANCEL,
    FIRST_MAKER,
    MAKER,
    MARKOUTS,
    NEW,
    NOTHING,
    PENDING_MARKOUT,
    QUOTE,
    REPLACE,
    update_mid,
)

PLACE = np.dtype(
    [
        ("price", np.int64),  # ticks of the recording
        ("left", np.int64),  # lots; 0 without an order
        ("arrival", np.int64),  # recorded orders of the price that arrived before it are ahead
        ("ahead", np.int64),  # lots of its price that trade before it
        ("traded", np.int64),  # lots that traded at its price since its level was last told
        ("hit", np.int64),  # lots that the present event takes
    ],
    align=True,
)
FILL = np.dtype(
    [
        ("episode", np.int64),
        ("time", np.int64),  # ns, as in the recording
        ("line", np.int64),  # of the file: what filled it
        ("side", np.int64),  # +1 bought
        ("price", np.int64),  # ticks of the recording
        ("quantity", np.int64),  # lots of the recording
        ("mid2", np.int64),  # best bid + best ask just before
    ],
    align=True,
)
NOW = np.dtype(
    [("episode", np.int64), ("origin", np.int64), ("next", np.int64), ("fills", np.int64), ("full", np.int64)],
    align=True,
)  # origin of the episode's clock (ns), the next event, rows of `fills` in use, whether the book was full
_SEEN = 5  # occupied ticks a side that an observation looks at
_ROOM = 128  # orders of a view: five levels and a maker's sixteen, each with what is before and behind, on two sides
_WINDOW = 256  # ticks


class View(NamedTuple):
    """What the simulator's functions read and write, in ticks of the market and lots of the recording."""

    book: BookState
    maker: np.ndarray  # MAKER[1]
    quotes: np.ndarray  # QUOTE (1, 2, levels)


class Account(NamedTuple):
    """The maker's accounts in ticks and lots of the recording."""

    maker: np.ndarray  # MAKER[1]
    markouts: np.ndarray  # PENDING_MARKOUT (1, MARKOUTS)


class Seat(NamedTuple):
    """Everything that a maker has at a replay."""

    seen: View
    account: Account
    places: np.ndarray  # PLACE (2, levels)
    fills: np.ndarray  # FILL (room,)
    now: np.ndarray  # NOW[1]
    scale: int  # ticks of the recording in one of the market


def take_seat(levels: int, room: int, scale: int) -> Seat:
    """A seat for a maker of `levels` quotes a side, with room for so many fills."""
    view = View(allocate(_WINDOW, _ROOM), np.zeros(1, MAKER), np.zeros((1, 2, levels), QUOTE))
    account = Account(np.zeros(1, MAKER), np.zeros((1, MARKOUTS), PENDING_MARKOUT))
    return Seat(view, account, np.zeros((2, levels), PLACE), np.zeros(room, FILL), np.zeros(1, NOW), scale)


@njit(cache=True)
def begin(seat):
    """Fresh accounts and statistics; the mid stays."""
    for maker in (seat.account.maker, seat.seen.maker):
        mid2 = maker[0].mid2
        maker[:] = np.zeros_like(maker)
        maker[0].mid2 = mid2
    seat.places[:] = np.zeros_like(seat.places)
    seat.seen.quotes[:] = np.zeros_like(seat.seen.quotes)
    for i in range(2):
        for level in range(seat.places.shape[1]):
            quote = seat.seen.quotes[0, i, level]
            quote.slot = -1
            quote.price = NO_PRICE
            quote.pending_price = NO_PRICE


@inlined
def pass_time(seat, time):
    """Carry the clock to `time` (s), settling on the way what is due."""
    if seat.account.maker[0].markout_count > 0:
        settle_markouts(seat.account, 0, time)
    seat.account.maker[0].clock = time


@inlined
def follow_mid(seat, bid, ask):
    """Let the mid follow the recorded best prices; an empty side leaves it where it was."""
    if bid != NO_PRICE and ask != NO_PRICE:
        seat.account.maker[0].mid2 = bid + ask


# ---- what the maker sees


@kernel
def see(seat, book):
    """Rebuild the view: the best occupied ticks of either side, and the maker's orders at their places among them."""
    view, account = seat.seen, seat.account.maker[0]
    reset(view.book)
    for i in range(2):
        _see_side(seat, book, i)
    update_mid(view, 0)
    maker = view.maker[0]
    maker.clock = account.clock
    maker.position = account.position
    maker.net_volume = account.net_volume
    maker.trades = account.trades
    maker.recent_markout = account.recent_markout / seat.scale
    account.net_volume = 0
    account.trades = 0


@inlined
def _whole(side, price, scale):
    """The market's tick at a price or, if it is none, the next one away from the mid."""
    return price // scale if side > 0 else -(-price // scale)


@kernel
def _see_side(seat, book, i):
    side = 1 - 2 * i
    for level in range(seat.places.shape[1]):
        seat.seen.quotes[0, i, level].slot = -1
    price = best_price(book, side)
    for _ in range(_SEEN):
        if price == NO_PRICE:
            break
        price = _see_tick(seat, book, i, _whole(side, price, seat.scale), price)
    for level in range(seat.places.shape[1]):
        quote = seat.seen.quotes[0, i, level]
        if quote.slot < 0 and seat.places[i, level].left > 0:
            _see_tick(seat, book, i, quote.price, quote.price * seat.scale + side * (seat.scale - 1))


@kernel
def _see_tick(seat, book, i, tick, price):
    """Put one tick of the market, from the recorded `price` on, into the view; the recorded price that follows."""
    side = 1 - 2 * i
    quantity = 0
    while price != NO_PRICE and _whole(side, price, seat.scale) == tick:
        quantity += level_quantity(book, side, price)
        price = next_price(book, side, price)
    shown = 0
    for level in range(seat.places.shape[1]):
        quote, place = seat.seen.quotes[0, i, level], seat.places[i, level]
        if place.left > 0 and quote.slot < 0 and quote.price == tick:
            # The maker stands on a whole tick, the last of the recorded prices that count for it.
            before = max(quantity - level_quantity(book, side, place.price) + place.ahead, shown)
            _stand(seat.seen.book, side, tick, before - shown, 0)
            quote.slot = _stand(seat.seen.book, side, tick, place.left, FIRST_MAKER)
            shown = before
    _stand(seat.seen.book, side, tick, quantity - shown, 0)
    return price


@kernel
def _stand(book, side, price, quantity, owner):
    """Put an order into the view, unmatched: a recorded price may have passed the maker's."""
    if quantity <= 0:
        return -1
    slot = acquire(book)
    order = book.orders[slot]
    order.order_id = 0
    order.owner = owner
    order.side = side
    order.rank = rank_of(side, price)
    order.quantity = quantity
    order.time = 0
    link(book, slot)
    return slot


# ---- what becomes of its orders


@kernel
def next_message(seat):
    """(arrival time, index among the quotes) of the next message under way; an infinite time without one."""
    time = np.inf
    index = -1
    levels = seat.places.shape[1]
    for k in range(2 * levels):
        quote = seat.seen.quotes[0, k // levels, k % levels]
        if quote.pending != NOTHING and quote.pending_time < time:
            time = quote.pending_time
            index = k
    return time, index


@kernel
def deliver(venue, seat, book, message):
    """The exchange receives a message, under the simulator's rules: post-only, and within the position limit."""
    levels = seat.places.shape[1]
    i = message // levels
    quote, place = seat.seen.quotes[0, i, message % levels], seat.places[i, message % levels]
    side = 1 - 2 * i
    maker = seat.account.maker[0]
    kind = quote.pending
    quote.pending = NOTHING
    price, size = quote.pending_price * seat.scale, quote.pending_size
    beside = -place.left
    for level in range(levels):
        beside += seat.places[i, level].left
    beyond = side * maker.position + beside + size > venue.max_position
    if kind == REPLACE and beyond:
        kind = CANCEL
    if kind != NEW and place.left == 0:
        maker.rejected += 1  # filled in the meantime
        return
    if kind == CANCEL:
        place.left = 0
        return
    keeps = kind == REPLACE and price == place.price and size <= place.left
    if (kind == NEW and beyond) or (not keeps and crosses(book, side, price)):
        maker.rejected += 1
        return
    if not keeps:
        place.price = price
        place.arrival = book.counters[0].arrivals
        place.ahead = level_quantity(book, side, price)
        place.traded = 0
    place.left = size
    quote.price = quote.pending_price
    quote.size = size
    quote.since = maker.clock


@kernel
def fill(venue, seat, time, line):
    """Book what an event of that time (ns) and line has hit."""
    maker, now = seat.account.maker[0], seat.now[0]
    for i in range(2):
        side = 1 - 2 * i
        for level in range(seat.places.shape[1]):
            place = seat.places[i, level]
            lots = place.hit
            if lots == 0:
                continue
            accrue(maker)
            place.hit = 0
            place.left -= lots
            maker.position += side * lots
            maker.cash -= side * place.price * lots
            maker.maker_notional += place.price * lots
            maker.edge2 += side * (maker.mid2 - 2 * place.price) * lots
            maker.lots += lots
            maker.fills += 1
            await_markout(seat.account, 0, maker.clock + venue.markout, side * lots, maker.mid2)
            row = seat.fills[now.fills]
            now.fills += 1
            row.episode = now.episode
            row.time = time
            row.line = line
            row.side = side
            row.price = place.price
            row.quantity = lots
            row.mid2 = maker.mid2


@kernel
def sell_out(seat, book):
    """Settle all markouts at the last mid and take the position through the recorded book, which is left as it is.

    Returns (position before, proceeds against the mid in half ticks x lots, lots that found no counterpart).
    """
    maker = seat.account.maker[0]
    settle_markouts(seat.account, 0, np.inf)
    before = maker.position
    side = -1 if before > 0 else 1
    price = best_price(book, -side)
    cost2 = 0
    while maker.position != 0 and price != NO_PRICE:
        lots = min(abs(maker.position), level_quantity(book, -side, price))
        maker.position += side * lots
        maker.cash -= side * price * lots
        maker.taker_notional += price * lots
        cost2 += side * (maker.mid2 - 2 * price) * lots
        price = next_price(book, -side, price)
    return before, cost2, abs(maker.position)
