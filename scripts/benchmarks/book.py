"""The order book on one core: messages a second through one `apply`, events a second with the Poisson flow, memory.

    python scripts/benchmarks/book.py --messages 2000000 --live 1000

The stream is zero-intelligence flow around a wandering mid with about `live` resting orders: limit orders (some
immediate-or-cancel), cancels and replaces of live orders, market orders. It is made beforehand and not timed; every
run starts with a new book. Order books of PyPI take the same stream where they are installed, a replace as cancel and
limit: pip install limit_order_book cython_orderbook.
"""

import argparse
import importlib.util
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np

from bitquote.book import MESSAGE, OrderBook
from bitquote.book.matching import (
    IMMEDIATE,
    allocate,
    cancel_order,
    limit_order,
    live_count,
    live_slot,
    market_order,
    order_side,
    replace_order,
)
from bitquote.compilation import kernel
from bitquote.flow.poisson import (
    QUANTILES,
    FlowState,
    PoissonFlow,
    allocate_flow,
    constant_rate,
    flow_event,
    move_price,
    seed_book,
    total_rate,
)
from bitquote.flow.random import exponential, seed_generator, uniform

KINDS = ("limit", "market", "cancel", "reduce", "replace")
LIMIT, MARKET, CANCEL, REDUCE, REPLACE = range(len(KINDS))
TICKS = 4096
FIRST_ID = 10_000_000


@kernel
def fill_stream(book, messages, live, generator):
    """Write a stream that keeps about `live` orders, playing it on `book` to know which ids live."""
    mid = 1_000_000
    for i in range(len(messages)):
        message = messages[i]
        message.time = i * 1000
        message.order_id = FIRST_ID + i
        message.side = side = 1 if uniform(generator) < 0.5 else -1
        message.quantity = quantity = 1 + int(10 * exponential(generator))
        distance = 1 + int(20 * exponential(generator))
        message.price = price = mid - side * distance
        message.flags = 0
        count = live_count(book)
        wanted = count < 2 * live * uniform(generator)
        pick = uniform(generator)
        if pick < 0.85 and wanted:
            message.kind = LIMIT
            message.flags = flags = IMMEDIATE if pick < 0.04 else 0
            limit_order(book, message.time, side, price, quantity, message.order_id, 0, flags)
        elif pick < 0.70 and count > 0:
            slot = live_slot(book, int(uniform(generator) * count))
            message.kind = CANCEL
            message.order_id = book.orders[slot].order_id
            cancel_order(book, slot)
        elif pick < 0.85 and count > 0:
            slot = live_slot(book, int(uniform(generator) * count))
            message.kind = REPLACE
            message.order_id = book.orders[slot].order_id
            message.price = price = mid - order_side(book, slot) * distance
            replace_order(book, message.time, slot, price, quantity, 0)
        else:
            message.kind = MARKET
            market_order(book, message.time, side, quantity, message.order_id, 0)
        if i % 16 == 0:
            mid += int(3 * uniform(generator)) - 1


def make_stream(length: int, live: int, seed: int) -> np.ndarray:
    """A stream of `length` messages (MESSAGE)."""
    messages = np.zeros(length, MESSAGE)
    generator = np.zeros(2, np.uint64)
    seed_generator(generator, seed, 0, 0, 0)
    fill_stream(allocate(TICKS, 16 * live), messages, live, generator)
    return messages


def play_bitquote(messages: np.ndarray, live: int) -> tuple[float, OrderBook, int]:
    """Seconds of one `apply`, the book after it and the number of trades."""
    book = OrderBook(TICKS, 16 * live)
    start = time.perf_counter()
    trades = book.apply(messages)
    return time.perf_counter() - start, book, len(trades)


def make_flow(live: int) -> PoissonFlow:
    """A flow that keeps about `live` orders and moves the market a few ticks a second."""
    exponential_quantiles = -np.log1p(-(np.arange(QUANTILES) + 0.5) / QUANTILES)
    sizes = 1 + (5 * exponential_quantiles).astype(np.int64)
    return PoissonFlow(
        price=1e6,
        volatility=2.0,
        jump_rate=0.01,
        jump_size=10.0,
        limit_rate=live / 2 * 0.1,
        cancel_rate=0.1,
        stale_cancel_rate=1.0,
        market_rate_bid=live / 80,
        market_rate_ask=live / 80,
        market_reach=1_000_000,
        informed_rate=live / 400,
        limit_distance=(20 * exponential_quantiles).astype(np.int64),
        limit_size=sizes,
        market_size=sizes,
    )


@kernel
def run_flow(flow, state, book, events):
    """Seed the book and draw `events` events."""
    seed_book(flow, state, book)
    rate = constant_rate(flow)
    clock = 0.0
    for _ in range(events):
        seconds = exponential(state.generator) / total_rate(flow, book, rate)
        clock += seconds
        move_price(flow, state, seconds)
        flow_event(flow, state, book, np.int64(1e9 * clock), rate)


def play_flow(events: int, live: int, seed: int) -> float:
    """Seconds of `events` events of the Poisson flow in a book, draws included."""
    state: FlowState = allocate_flow()
    seed_generator(state.generator, seed, 0, 0, 0)
    seed_generator(state.price_generator, seed, 0, 0, 1)
    book = allocate(TICKS, 16 * live)
    start = time.perf_counter()
    run_flow(make_flow(live), state, book, events)
    return time.perf_counter() - start


def play_limit_order_book(messages: np.ndarray) -> float:
    """Seconds of limit_order_book (C++ behind ctypes)."""
    from limit_order_book import LimitOrderBook

    book = LimitOrderBook()
    sells: dict[int, bool] = {}
    rows = messages.tolist()
    start = time.perf_counter()
    for _, kind, side, order_id, price, quantity, _ in rows:
        if kind == LIMIT:
            sells[order_id] = side < 0
            book.limit(side < 0, order_id, quantity, price)
        elif kind == MARKET:
            book.market(side < 0, order_id, quantity)
        elif book.has(order_id):
            book.cancel(order_id)
            if kind == REPLACE:
                book.limit(sells[order_id], order_id, quantity, price)
    return time.perf_counter() - start


def play_cython_orderbook(messages: np.ndarray) -> float:
    """Seconds of cython_orderbook; it keeps a log of its trades."""
    from cython_orderbook import Order, OrderBook, OrderSide

    book = OrderBook()
    sides = {1: OrderSide.BID, -1: OrderSide.ASK}
    known = {}
    rows = messages.tolist()
    start = time.perf_counter()
    for _, kind, side, order_id, price, quantity, _ in rows:
        if kind == MARKET:
            book.add_market_order(Order(side=sides[side], price=0, original_quantity=quantity))
            continue
        order_side_ = sides[side]
        if kind in (CANCEL, REPLACE):
            order_side_ = known[order_id].side
            book.cancel_order(known.pop(order_id).order_id)
        if kind in (LIMIT, REPLACE):
            known[order_id] = Order(side=order_side_, price=price, original_quantity=quantity)
            book.add_limit_order(known[order_id])
    return time.perf_counter() - start


PEERS: dict[str, Callable[[np.ndarray], float]] = {
    "limit_order_book": play_limit_order_book,
    "cython_orderbook": play_cython_orderbook,
}


def report(name: str, count: int, seconds: list[float]) -> None:
    """Print the rate of the median run, and of the fastest in brackets."""
    rates = sorted(count / second / 1e6 for second in seconds)
    median = statistics.median(rates)
    print(f"{name:28} {median:8.2f} M/s ({rates[-1]:.2f}), {1e3 / median:.0f} ns each")


def main() -> None:
    """Print the stream, the memory of a book, its rates and those of the peers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=2_000_000, help="length of the stream")
    parser.add_argument("--live", type=int, default=1000, help="resting orders, about")
    parser.add_argument("--runs", type=int, default=7, help="timed runs; the median counts")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    messages = make_stream(options.messages, options.live, options.seed)
    shares = np.bincount(messages["kind"], minlength=len(KINDS)) / len(messages)
    play_bitquote(messages[:1000], options.live)  # compiles, as does the next line
    play_flow(1000, options.live, options.seed)
    runs = [play_bitquote(messages, options.live) for _ in range(options.runs)]
    _, book, trades = runs[-1]

    print(f"{platform.machine()}, one core; median of {options.runs} runs, the fastest in brackets")
    print(f"stream: {len(messages)} messages:", *(f"{s:.1%} {k}" for k, s in zip(KINDS, shares, strict=True) if s))
    print(f"        {trades} trades, {len(book.orders())} orders live at the end, rejected: {book.rejected or 'none'}")
    print(f"memory: {book.nbytes / 2**20:.2f} MiB a book of {TICKS} ticks and capacity {16 * options.live}")
    report("apply, messages", len(messages), [run[0] for run in runs])
    flows = [play_flow(options.messages, options.live, options.seed) for _ in range(options.runs)]
    report("with Poisson flow, events", options.messages, flows)
    for name, play in PEERS.items():
        if importlib.util.find_spec(name) is None:
            print(f"{name:28} not installed, skipped")
            continue
        sample = messages[:200_000]
        report(f"{name}, messages", len(sample), [play(sample) for _ in range(3)])


if __name__ == "__main__":
    main()
