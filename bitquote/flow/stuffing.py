"""Quote stuffing: bursts of orders that nobody means, placed behind the best quote and withdrawn at once.

In a burst one side of the book is flooded; every order lives an exponential time of mean `life`. The flood distorts
imbalances and, as it is meant to, slows everybody else: makers' messages sent in a burst take `delay` seconds longer
(Biais & Woolley 2011; Egginton, Van Ness & Van Ness 2016). With a large size and few orders it is layering.
"""

import math
from typing import NamedTuple

import numpy as np

from bitquote.book.matching import BOOK_FULL, NO_PRICE, POST_ONLY, best_price, cancel_order, live_count
from bitquote.compilation import kernel
from bitquote.flow.orders import send
from bitquote.flow.random import next_word, uniform
from bitquote.flow.state import MOST_STUFFED, STUFFER


class Stuffing(NamedTuple):
    """Parameters; a rate of zero, none."""

    rate: float  # bursts per second
    duration: float  # s of a burst
    orders: float  # orders per second within it
    life: float  # s, mean
    size: int  # lots
    distance: int  # ticks behind the best quote
    delay: float  # s that a maker's message takes longer


@kernel
def begin_burst(stuffing, state, time, seconds):
    """Whether a burst begins in the price step that ends at `time`; takes two words, whatever happens."""
    now = state.now[0]
    arrives = uniform(state.price_generator) < -math.expm1(-stuffing.rate * seconds)
    word = next_word(state.price_generator)
    if arrives and time >= now.burst_end:
        now.burst_end = time + stuffing.duration
        now.burst_side = 1 if word >> np.uint64(63) else -1


@kernel
def message_delay(stuffing, state, time):
    """Seconds that a message sent at `time` takes longer."""
    return stuffing.delay if time < state.now[0].burst_end else 0.0


@kernel
def stuff(stuffing, state, book, time):
    """Place one order of a burst."""
    now = state.now[0]
    best = best_price(book, now.burst_side)
    if best == NO_PRICE or now.stuffed == MOST_STUFFED:
        return
    now.serial += 1
    price = best - now.burst_side * stuffing.distance
    slot = send(book, time, now.burst_side, price, stuffing.size, -now.serial, STUFFER, POST_ONLY)
    if slot == BOOK_FULL:
        now.refused += 1
    elif slot >= 0:
        state.stuffed[now.stuffed, 0] = slot
        state.stuffed[now.stuffed, 1] = -now.serial
        now.stuffed += 1


@kernel
def unstuff(state, book, word):
    """Withdraw one order of the stuffer, drawn uniformly; one that was traded meanwhile is forgotten."""
    now = state.now[0]
    place = np.int64(((word >> np.uint64(32)) * np.uint64(now.stuffed)) >> np.uint64(32))
    slot = state.stuffed[place, 0]
    order_id = state.stuffed[place, 1]
    now.stuffed -= 1
    state.stuffed[place, 0] = state.stuffed[now.stuffed, 0]
    state.stuffed[place, 1] = state.stuffed[now.stuffed, 1]
    order = book.orders[slot]
    lives = order.live < live_count(book) and book.live[order.live] == slot
    if lives and order.owner == STUFFER and order.order_id == order_id:
        cancel_order(book, slot)
