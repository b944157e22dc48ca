"""A recording of orders that is played beside a maker, whose place in a queue is that of its arrival."""

from typing import NamedTuple

import numpy as np

from bitquote.book.matching import NO_PRICE, best_price, level_quantity, next_price, order_quantity, quantity_before
from bitquote.book.order_book import LIMIT, REPLACE
from bitquote.compilation import kernel
from bitquote.recorded.following import OUTCOMES, Following, follow
from bitquote.recorded.orders import EXECUTE
from bitquote.recorded.seat import fill, follow_mid, pass_time

_MET = np.array(
    [
        name
        in ("rested", "traded", "crosses", "replaced", "ahead", "raised",
            "executed", "not_first", "opening", "too_much", "other_price")
        for name in OUTCOMES
    ]
)
"""Outcomes of an order that enters, moves or is executed, after which it has met whoever it reached."""


class OrderFeed(NamedTuple):
    """A recording of orders as `follow` takes it."""

    following: Following
    events: np.ndarray  # EVENT (n,)
    number: np.ndarray  # int64 (n,)
    fallback: np.ndarray  # int64 (n,)
    outcome: np.ndarray  # int8 (n,), written
    best: np.ndarray  # BEST (n,), written


@kernel
def play_orders(feed, venue, seat, stop):
    """Apply the events before `stop` (s); what they take from the maker is booked."""
    book = feed.following.book
    now = seat.now[0]
    while now.next < feed.events.size:
        i = now.next
        event = feed.events[i]
        time = (event.time - now.origin) * 1e-9
        if time >= stop:
            break
        pass_time(seat, time)
        hits = _meets(feed, seat, event, feed.number[i])
        traded = feed.following.written[0]
        if follow(feed.following, feed.events, feed.number, feed.fallback, feed.outcome, feed.best, i, i + 1) == i:
            now.full = 1
            return
        now.next = i + 1
        if hits and _MET[feed.outcome[i]]:
            fill(venue, seat, event.time, event.line)
        elif hits:
            _let_go(seat)
        for k in range(traded, feed.following.written[0]):
            trade = feed.following.trades[k]
            seat.account.maker[0].net_volume += trade.aggressor * trade.quantity
            seat.account.maker[0].trades += 1
        follow_mid(seat, feed.best[i].bid, feed.best[i].ask)
    for i in range(2):
        for level in range(seat.places.shape[1]):
            place = seat.places[i, level]
            if place.left > 0:
                place.ahead = quantity_before(book, 1 - 2 * i, place.price, place.arrival)


@kernel
def _meets(feed, seat, event, order):
    """Mark what an event is about to take from the maker; whether it is anything.

    The taker is an order that enters or moves, or the one that a recorded execution tells of.
    """
    kind = event.kind
    side, quantity = np.int64(event.side), event.quantity
    if kind == EXECUTE:
        side = -side
    elif kind == REPLACE:
        slot = feed.following.slots[order]
        quantity = min(quantity, order_quantity(feed.following.book, slot)) if slot >= 0 else 0
    elif kind != LIMIT:
        return False
    i = 0 if side < 0 else 1
    used = 0
    for level in range(seat.places.shape[1]):
        place = seat.places[i, level]
        if place.left > 0 and side * (event.price - place.price) >= 0:
            ahead = _before(feed.following.book, -side, place)
            place.hit = max(min(place.left, quantity - ahead - used), 0)
            used += place.hit
    return used > 0


@kernel
def _before(book, side, place):
    """Lots of all recorded orders that trade before the maker's."""
    lots = quantity_before(book, side, place.price, place.arrival)
    price = best_price(book, side)
    while price != NO_PRICE and side * (price - place.price) > 0:
        lots += level_quantity(book, side, price)
        price = next_price(book, side, price)
    return lots


@kernel
def _let_go(seat):
    for i in range(2):
        for level in range(seat.places.shape[1]):
            seat.places[i, level].hit = 0
