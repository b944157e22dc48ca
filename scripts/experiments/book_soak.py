"""A soak of the order book: random events of every kind, and the invariants of the book after them.

    python scripts/experiments/book_soak.py --events 1e9

The events are made in the kernel that applies them: limit orders (plain, post-only, immediate-or-cancel, fill-or-kill),
market orders, cancels, reductions and replacements around a mid that wanders and jumps, so that the window moves and
the overflow is in use. After every event the cheap invariants hold (BY_EVENT), after every `--interval` all of them
(BY_STRUCTURE), for the whole book. Prints the number of violations of each, and ends with 1 if there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import NamedTuple

import numpy as np

from bitquote.book.matching import (
    FILL_OR_KILL,
    IMMEDIATE,
    NO_PRICE,
    POST_ONLY,
    BookState,
    allocate,
    best_price,
    cancel_order,
    clear_trades,
    limit_order,
    live_count,
    live_slot,
    market_order,
    order_price,
    order_quantity,
    order_side,
    reduce_order,
    replace_order,
    trade_count,
)
from bitquote.book.state import NONE
from bitquote.compilation import kernel
from bitquote.flow.random import exponential, normal, seed_generator, uniform

BY_EVENT = (
    "best bid below best ask",
    "trades within the limit, best price first",
    "every trade positive, its maker's rest not negative",
    "live orders within the capacity",
)
BY_STRUCTURE = (
    "live list a permutation that orders know",
    "level quantity the sum of its orders",
    "links of a level whole",
    "first in, first out",
    "bitmaps and number of levels",
    "best the first level",
    "heap ordered and beyond the window",
    "every order on its side, positive",
    "quantity conserved",
)
CROSSED, DISORDER, NEGATIVE, OVERFULL = range(4)
LIVE, LEVEL, LINKS, ARRIVAL, BITMAP, BEST, HEAP, ORDERS, CONSERVED = range(4, 13)

LIMIT_SHARE, CANCEL_SHARE, REPLACE_SHARE, REDUCE_SHARE = 0.70, 0.80, 0.90, 0.95  # of events, cumulative


class Soak(NamedTuple):
    """What of the soak evolves, beside the book."""

    generator: np.ndarray  # uint64[2]
    mid: np.ndarray  # int64[1], ticks
    clock: np.ndarray  # int64[1], events so far
    account: np.ndarray  # int64[3]: quantity that entered, that was traded (once a trade), that left otherwise
    violations: np.ndarray  # int64[13], in the order of BY_EVENT and BY_STRUCTURE


def allocate_soak(seed: int) -> Soak:
    """The start of a soak."""
    soak = Soak(np.zeros(2, np.uint64), np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(3, np.int64),
                np.zeros(len(BY_EVENT) + len(BY_STRUCTURE), np.int64))  # fmt: skip
    seed_generator(soak.generator, seed, 0, 0, 0)
    return soak


@kernel
def settle_trades(book, soak, side, limit):
    """Check and count the trades of the latest event, whose taker would not trade beyond `limit`; their quantity."""
    traded = 0
    previous = NO_PRICE
    for i in range(trade_count(book)):
        trade = book.trades[i]
        traded += trade.quantity
        worse = previous != NO_PRICE and side * (trade.price - previous) < 0
        if worse or side * (limit - trade.price) < 0 or trade.aggressor != side:
            soak.violations[DISORDER] += 1
        if trade.quantity <= 0 or trade.remaining < 0:
            soak.violations[NEGATIVE] += 1
        previous = trade.price
    clear_trades(book)
    soak.account[1] += traded
    return traded


@kernel
def one_event(book, soak, live):
    """Draw and apply one event, keeping the account of quantity."""
    generator = soak.generator
    soak.clock[0] += 1
    pick = uniform(generator)
    if uniform(generator) < 0.05:
        soak.mid[0] += int(3 * uniform(generator)) - 1
        if uniform(generator) < 1e-3:
            soak.mid[0] += int(200 * normal(generator))
    side = 1 if uniform(generator) < 0.5 else -1
    quantity = 1 + int(10 * exponential(generator))
    reach = 20.0 if uniform(generator) < 0.95 else 2000.0
    distance = int(reach * exponential(generator)) - 2
    price = soak.mid[0] - side * distance
    time = soak.clock[0]
    count = live_count(book)
    account = soak.account
    if pick < LIMIT_SHARE and count < 2 * live * uniform(generator):
        choice = uniform(generator)
        flags = POST_ONLY if choice < 0.2 else IMMEDIATE if choice < 0.3 else FILL_OR_KILL if choice < 0.4 else 0
        slot = limit_order(book, time, side, price, quantity, time, 0, flags)
        if slot < -1:  # refused: nothing entered
            return
        account[0] += quantity
        traded = settle_trades(book, soak, side, price)
        if slot < 0:
            account[2] += quantity - traded
    elif pick < REDUCE_SHARE and count > 0:
        slot = live_slot(book, int(uniform(generator) * count))
        before = order_quantity(book, slot)
        if pick < CANCEL_SHARE:
            cancel_order(book, slot)
            account[2] += before
        elif pick < REPLACE_SHARE:
            side = order_side(book, slot)
            price = soak.mid[0] - side * distance if uniform(generator) < 0.7 else order_price(book, slot)
            outcome = replace_order(book, time, slot, price, quantity, 0)
            account[0] += quantity
            account[2] += before
            traded = settle_trades(book, soak, side, price)
            if outcome < 0:
                account[2] += quantity - traded
        else:
            reduce_order(book, slot, quantity)
            account[2] += min(before, quantity)
    else:
        filled = market_order(book, time, side, quantity, time, 0)
        account[0] += filled
        if settle_trades(book, soak, side, side * (1 << 62)) != filled:
            soak.violations[CONSERVED] += 1


@kernel
def run(book, soak, live, events, interval):
    """Run `events` events and check them."""
    for i in range(events):
        one_event(book, soak, live)
        check_event(book, soak)
        if i % interval == 0:
            check(book, soak)


@kernel
def check_event(book, soak):
    """Check what costs next to nothing."""
    bid = best_price(book, 1)
    ask = best_price(book, -1)
    if bid != NO_PRICE and ask != NO_PRICE and bid >= ask:
        soak.violations[CROSSED] += 1
    if live_count(book) < 0 or live_count(book) > book.live.size:
        soak.violations[OVERFULL] += 1


@kernel
def check(book, soak):
    """Check the whole book, and that what entered was traded twice, left, or rests."""
    violations = soak.violations
    count = live_count(book)
    resting = 0
    for i in range(book.live.size):
        slot = book.live[i]
        if slot < 0 or slot >= book.live.size or (i < count and book.orders[slot].live != i):
            violations[LIVE] += 1
            return  # nothing below could be followed
        if i < count:
            resting += book.orders[slot].quantity
    counted = check_side(book, 0, violations) + check_side(book, 1, violations)
    if counted != count:
        violations[LIVE] += 1
    if soak.account[0] != 2 * soak.account[1] + soak.account[2] + resting:
        violations[CONSERVED] += 1


@kernel
def check_side(book, index, violations):
    """Check one side; the number of its orders."""
    side = book.sides[index]
    width = book.levels.size >> 1
    words = book.occupied.size >> 1
    groups = book.summary.size >> 1
    counted = 0
    occupied = 0
    first = side.low + width
    for rank in range(side.low, side.low + width):
        place = rank & (width - 1)
        level = book.levels[index * width + place]
        bit = (book.occupied[index * words + (place >> 6)] >> np.uint64(place & 63)) & np.uint64(1)
        if (level.head != NONE) != (bit == 1):
            violations[BITMAP] += 1
        if level.head == NONE:
            if level.quantity != 0 or level.tail != NONE:
                violations[LEVEL] += 1
            continue
        first = min(first, rank)
        occupied += 1
        counted += check_level(book, index, rank, level, violations)
    for word in range(words):
        group = book.summary[index * groups + (word >> 6)]
        bit = (group >> np.uint64(word & 63)) & np.uint64(1)
        if (bit == 1) != (book.occupied[index * words + word] != 0):
            violations[BITMAP] += 1
    if occupied != side.levels:
        violations[BITMAP] += 1
    if (occupied > 0 and first != side.best) or (occupied == 0 and side.overflow > 0):
        violations[BEST] += 1
    check_heap(book, index, violations)
    return counted + side.overflow


@kernel
def check_level(book, index, rank, level, violations):
    """Check the queue of one level; the number of its orders."""
    total = 0
    counted = 0
    arrival = -1
    previous = NONE
    slot = level.head
    while slot != NONE and counted <= book.live.size:
        order = book.orders[slot]
        if order.previous != previous or order.heap != NONE or order.rank != rank:
            violations[LINKS] += 1
        if order.arrival <= arrival:
            violations[ARRIVAL] += 1
        if order.quantity <= 0 or order.side != 1 - 2 * index:
            violations[ORDERS] += 1
        total += order.quantity
        arrival = order.arrival
        counted += 1
        previous = slot
        slot = order.next
    if level.tail != previous or slot != NONE:
        violations[LINKS] += 1
    if total != level.quantity:
        violations[LEVEL] += 1
    return counted


@kernel
def check_heap(book, index, violations):
    """Check the orders beyond the window."""
    side = book.sides[index]
    last = side.low + (book.levels.size >> 1) - 1
    heap = book.overflow[index * book.live.size :]
    for place in range(side.overflow):
        order = book.orders[heap[place]]
        parent = book.orders[heap[(place - 1) >> 1]] if place > 0 else order
        later = order.rank < parent.rank or (order.rank == parent.rank and order.arrival < parent.arrival)
        if order.rank <= last or order.heap != place or later:
            violations[HEAP] += 1
        if order.quantity <= 0 or order.side != 1 - 2 * index:
            violations[ORDERS] += 1


def main() -> None:
    """Run the soak and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=float, default=1e9)
    parser.add_argument("--interval", type=int, default=16384, help="events between two checks of the whole book")
    parser.add_argument("--live", type=int, default=1000, help="resting orders, about")
    parser.add_argument("--ticks", type=int, default=256, help="width of the window")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    book: BookState = allocate(options.ticks, 16 * options.live)
    soak = allocate_soak(options.seed)
    events, chunk = int(options.events), 20_000_000
    start = time.perf_counter()
    for done in range(0, events, chunk):
        run(book, soak, options.live, min(chunk, events - done), options.interval)
        seconds = time.perf_counter() - start
        print(f"\r{soak.clock[0]:,} events, {soak.violations.sum()} violations, {seconds:.0f} s", end="", flush=True)
    check(book, soak)
    entered, traded, left = soak.account.tolist()
    print(f"\nquantity: {entered:,} entered = 2 x {traded:,} traded + {left:,} left + what rests")
    print(f"orders: {live_count(book)} live, {book.sides['overflow'].sum()} of them beyond the windows")
    checks = events // options.interval + 1
    for name, count, times in zip(BY_EVENT + BY_STRUCTURE, soak.violations.tolist(),
                                  [events] * len(BY_EVENT) + [checks] * len(BY_STRUCTURE), strict=True):  # fmt: skip
        print(f"{count:6d} violations in {times:13,d} checks: {name}")
    sys.exit(bool(soak.violations.any()))


if __name__ == "__main__":
    main()
