"""A feed of levels and trades that is played beside a maker, whose place in a queue is an estimate.

What is ahead of an order is at first all that its level holds. Trades at its price come off the front. Of a decrease
of the level that trades do not explain, nothing comes off ahead ("conservative") or its share of the queue
("proportional", rounded in the others' favour); and never is more ahead than the level holds. Only trades fill: at the
price once nothing is ahead, and beyond the price, where the maker was to be preferred, at once; never for more than the
trade's quantity. Compare hftbacktest's RiskAdverseQueueModel and ProbQueueModel.
"""

from typing import NamedTuple

import numpy as np

from bitquote.book.matching import BookState, best_price, level_quantity
from bitquote.compilation import kernel
from bitquote.recorded.levels import TRADE, set_level
from bitquote.recorded.seat import fill, follow_mid, pass_time

QUEUE_MODELS = ("proportional", "conservative")


class LevelFeed(NamedTuple):
    """A feed in the order of the exchange's clock."""

    book: BookState
    updates: np.ndarray  # UPDATE (n,)
    proportional: bool
    outcomes: np.ndarray  # int64, by levels.OUTCOMES, written


@kernel
def play_levels(feed, venue, seat, stop):
    """Apply the updates before `stop` (s); what the trades take from the maker is booked."""
    now = seat.now[0]
    while now.next < feed.updates.size:
        update = feed.updates[now.next]
        time = (update.time - now.origin) * 1e-9
        if time >= stop:
            break
        now.next += 1
        pass_time(seat, time)
        side = np.int64(update.side)
        if update.kind == TRADE:
            if _hit(seat, side, update.price, update.quantity):
                fill(venue, seat, update.time, update.line)
            seat.account.maker[0].net_volume += side * update.quantity
            seat.account.maker[0].trades += 1
            continue
        _move_up(feed, seat, side, update.price, update.quantity)
        feed.outcomes[set_level(feed.book, update)] += 1
        follow_mid(seat, best_price(feed.book, 1), best_price(feed.book, -1))


@kernel
def _hit(seat, side, price, quantity):
    """Mark what a trade takes from the maker; whether it is anything. `side` is the taker's."""
    i = 0 if side < 0 else 1
    used = 0
    for level in range(seat.places.shape[1]):
        place = seat.places[i, level]
        if place.left == 0 or side * (price - place.price) < 0:
            continue
        if price != place.price:
            place.ahead = 0  # all that the price held has gone
        before = min(place.ahead, quantity)
        place.ahead -= before
        if price == place.price:
            place.traded += quantity
        place.hit = max(min(place.left, quantity - before - used), 0)
        used += place.hit
    return used > 0


@kernel
def _move_up(feed, seat, side, price, quantity):
    """The level of a maker's order is to hold `quantity`: what of a decrease was ahead of it?"""
    i = 0 if side > 0 else 1
    for level in range(seat.places.shape[1]):
        place = seat.places[i, level]
        if place.left == 0 or place.price != price:
            continue
        queue = level_quantity(feed.book, side, price) - place.traded
        cancelled = queue - quantity
        if feed.proportional and cancelled > 0:
            place.ahead -= np.int64(float(cancelled) * float(place.ahead) / float(queue))
        place.ahead = min(place.ahead, quantity)
        place.traded = 0
