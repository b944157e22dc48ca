"""Queue-reactive flow: intensities that depend on the size of each queue.

Limit orders join, and cancellations leave, the queue at each distance from the efficient price with an intensity that
is a table of that queue's size; market orders hit the best queue at one that depends on its size. When the mid has
moved since the last event, whoever moved it, the efficient price follows it by a tick with probability `follow`.
Source: Huang, Lehalle & Rosenbaum 2015, Simulating and analyzing order book data: the queue-reactive model (model I,
theta). With the price held, every queue is a birth-and-death process: `invariant_sizes` is its law.
"""

import math
from typing import NamedTuple

import numpy as np

from bitquote.book.matching import (
    NO_PRICE,
    best_price,
    cancel_order,
    level_quantity,
    order_owner,
)
from bitquote.book.state import NONE, in_window, level_at, rank_of, side_index
from bitquote.compilation import inlined, kernel, merged
from bitquote.flow.orders import rest_called, take_called
from bitquote.flow.random import unit
from bitquote.flow.state import BACKGROUND


class QueueReactive(NamedTuple):
    """Parameters; rates in 1/s and side, queue sizes in orders of `unit` lots. Without distances, no such flow."""

    unit: int  # lots of every order
    follow: float  # probability that the efficient price follows a move of the mid
    limit: np.ndarray  # float64 (distances, sizes): arrivals at a queue; the last size stands for all above
    cancel: np.ndarray  # float64 (distances, sizes); 0 at size 0
    market: np.ndarray  # float64 (sizes,): orders that take from the best queue
    start: np.ndarray  # int64 (distances,): orders in each queue when a path begins, the invariant mean


def invariant_sizes(limit: np.ndarray, leave: np.ndarray) -> np.ndarray:
    """Stationary law (sizes,) of a queue with these arrival and departure rates by size; its last size is absorbing
    for arrivals, as queue sizes above the table's do not occur in it."""
    with np.errstate(divide="ignore"):  # an arrival rate of zero
        logs = np.concatenate(([0.0], np.cumsum(np.log(limit[:-1] / leave[1:]))))
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


@inlined
def _queue_size(queues, book, side, price):
    """Orders of `unit` lots at a price, at most what the tables know."""
    return min((level_quantity(book, side, price) + queues.unit - 1) // queues.unit, queues.limit.shape[1] - 1)


@inlined
def _price_at(state, side, distance):
    below = np.int64(math.floor(state.now[0].efficient))
    return below - distance if side > 0 else below + 1 + distance


@kernel
def queue_rate(queues, state, book):
    """Events per second of the whole flow as the queues stand; fills `state.rates` with their running sum."""
    total = 0.0
    at = 0
    for i in range(2):
        side = 1 - 2 * i
        for distance in range(queues.limit.shape[0]):
            size = _queue_size(queues, book, side, _price_at(state, side, distance))
            total += queues.limit[distance, size]
            state.rates[at] = total
            total += queues.cancel[distance, size]
            state.rates[at + 1] = total
            at += 2
    for i in range(2):
        best = best_price(book, 1 - 2 * i)
        if best != NO_PRICE:
            total += queues.market[_queue_size(queues, book, 1 - 2 * i, best)]
        state.rates[at] = total
        at += 1
    return total


@kernel
def queue_event(queues, state, book, time, pick):
    """The event whose share of `state.rates` holds `pick`."""
    distances = queues.limit.shape[0]
    at = 0
    while at < state.rates.size - 1 and pick >= state.rates[at]:
        at += 1
    if at >= 4 * distances:
        take_called(book, time, -1 if at == 4 * distances else 1, queues.unit, 0, BACKGROUND)
        return
    side = 1 if at < 2 * distances else -1
    distance = (at >> 1) % distances
    if at & 1:
        _leave(book, side, _price_at(state, side, distance))
    else:
        rest_called(state, book, time, side, distance, queues.unit)


@kernel
def _leave(book, side, price):
    """Cancel the last background order of a queue."""
    index = side_index(side)
    rank = rank_of(side, price)
    if not in_window(book, index, rank):
        return
    slot = np.int64(book.levels[level_at(book, index, rank)].tail)
    while slot != NONE and order_owner(book, slot) != BACKGROUND:
        slot = np.int64(book.orders[slot].previous)
    if slot != NONE:
        cancel_order(book, slot)


@kernel
def follow_mid(queues, state, book, word):
    """With probability `follow`, drawn with the event's `word`, the efficient price moves a tick after the mid."""
    now = state.now[0]
    bid = best_price(book, 1)
    ask = best_price(book, -1)
    if bid == NO_PRICE or ask == NO_PRICE:
        return
    move = bid + ask - now.queue_mid2
    if move != 0 and now.queue_mid2 != 0 and unit(word) < queues.follow:
        now.efficient += 1.0 if move > 0 else -1.0
    now.queue_mid2 = bid + ask


@merged
def fill_queues(queues, state, book):
    """Begin with each queue at its invariant mean."""
    for distance in range(queues.start.size):
        for _ in range(queues.start[distance]):
            rest_called(state, book, 0, 1, distance, queues.unit)
            rest_called(state, book, 0, -1, distance, queues.unit)
    state.now[0].queue_mid2 = 0
