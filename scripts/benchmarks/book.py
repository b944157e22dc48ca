"""The order book on one core: messages a second through one `apply`, events a second with the Poisson flow, memory.

    python scripts/benchmarks/book.py --messages 2000000 --live 1000
    python scripts/benchmarks/book.py --scaling docs/book_cost.png

The stream is zero-intelligence flow around a wandering mid with about `live` resting orders: limit orders (some
immediate-or-cancel), cancels and replaces of live orders, market orders. It is made beforehand and not timed; every
run starts with a new book. Order books of PyPI (book_peers.py) take the same stream where they are installed, and the
ratio is that of the medians. `--scaling` measures what a message costs against resting orders and occupied levels.
"""

import argparse
import importlib.util
import json
import math
import platform
import statistics
import time
from pathlib import Path

import numpy as np
from book_peers import PEERS
from book_scaling import draw_scaling
from book_stream import make_stream
from numba import njit

from bitquote.book import OrderBook
from bitquote.book.matching import allocate
from bitquote.flow.crowd import Crowd, begin_flow, constant_rate, flow_event, total_rate, without_extras
from bitquote.flow.poisson import PoissonFlow, diffuse
from bitquote.flow.random import exponential, seed_generator
from bitquote.flow.state import QUANTILES, allocate_flow

KINDS = ("limit", "market", "cancel", "reduce", "replace")
TICKS = 4096


def play_bitquote(messages: np.ndarray, live: int) -> tuple[float, OrderBook, int]:
    """Seconds of one `apply`, the book after it and the number of trades."""
    book = OrderBook(TICKS, 16 * live)
    start = time.perf_counter()
    trades = book.apply(messages)
    return time.perf_counter() - start, book, len(trades)


def make_flow(live: int) -> Crowd:
    """A flow that keeps about `live` orders and moves the market a few ticks a second."""
    exponential_quantiles = -np.log1p(-(np.arange(QUANTILES) + 0.5) / QUANTILES)
    sizes = 1 + (5 * exponential_quantiles).astype(np.int64)
    poisson = PoissonFlow(
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
        resting=live // 2,
        limit_distance=(20 * exponential_quantiles).astype(np.int64),
        limit_size=sizes,
        market_size=sizes,
    )
    return without_extras(poisson)


@njit(cache=True)
def run_flow(crowd, state, book, events):
    """Seed the book and draw `events` events."""
    begin_flow(crowd, state, book, 0.0)
    rate = constant_rate(crowd)
    clock = 0.0
    for _ in range(events):
        total = total_rate(crowd, state, book, rate)
        seconds = exponential(state.generator) / total
        clock += seconds
        diffuse(crowd.poisson, state, seconds)
        flow_event(crowd, state, book, clock, total)


def play_flow(events: int, live: int, seed: int) -> float:
    """Seconds of `events` events of the Poisson flow in a book, draws included."""
    state = allocate_flow()
    seed_generator(state.generator, seed, 0, 0, 0)
    seed_generator(state.price_generator, seed, 0, 0, 1)
    book = allocate(TICKS, 16 * live)
    start = time.perf_counter()
    run_flow(make_flow(live), state, book, events)
    return time.perf_counter() - start


def report(name: str, count: int, seconds: list[float], ours: float = math.nan) -> float:
    """Print the rate of the median run, of the fastest in brackets, and how many times that goes into `ours`."""
    rates = sorted(count / second / 1e6 for second in seconds)
    median = statistics.median(rates)
    ratio = "" if math.isnan(ours) else f", ours is {ours / median:.0f} times as fast"
    print(f"{name:28} {median:8.3f} M/s ({rates[-1]:.3f}), {1e3 / median:.0f} ns each{ratio}")
    return median


def main() -> None:
    """Print the stream, the memory of a book, its rates and those of the peers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=2_000_000, help="length of the stream")
    parser.add_argument("--live", type=int, default=1000, help="resting orders, about")
    parser.add_argument("--runs", type=int, default=7, help="timed runs; the median counts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the median rates of all books there")
    parser.add_argument("--scaling", type=Path, metavar="PICTURE", help="measure the scaling alone, and draw it")
    options = parser.parse_args()
    if options.scaling:
        draw_scaling(options.messages, options.scaling)
        return

    messages = make_stream(options.messages, options.live, options.seed)
    shares = np.bincount(messages["kind"], minlength=len(KINDS)) / len(messages)
    play_bitquote(messages[:1000], options.live)  # compiles, as does the next line
    play_flow(1000, options.live, options.seed)
    runs = [play_bitquote(messages, options.live) for _ in range(options.runs)]
    _, book, trades = runs[-1]

    print(f"{platform.machine()}, one core; median of {options.runs} runs, the fastest in brackets")
    print(f"stream: {len(messages)} messages:", *(f"{s:.1%} {k}" for k, s in zip(KINDS, shares, strict=True) if s))
    print(f"        {trades} trades, {len(book.orders())} orders live at the end, rejected: {book.rejected or 'none'}")
    print(f"memory: {book.nbytes / 1024:.0f} KiB a book of {TICKS} ticks and capacity {16 * options.live},")
    print(f"        {OrderBook(256, 4096).nbytes / 1024:.0f} KiB one of 256 ticks and capacity 4096")
    ours = report("apply, messages", len(messages), [run[0] for run in runs])
    flows = [play_flow(options.messages, options.live, options.seed) for _ in range(options.runs)]
    report("with Poisson flow, events", options.messages, flows)
    rates: dict[str, float | None] = {"bitquote": ours}
    for name, (module, play) in PEERS.items():
        rates[name] = None
        if importlib.util.find_spec(module) is None:
            print(f"{name:28} not installed, skipped")
            continue
        sample = messages[:200_000]
        rates[name] = report(f"{name}, messages", len(sample), [play(sample) for _ in range(3)], ours)
    if options.json:
        told = {"messages": len(messages), "live": options.live, "million_messages_per_second": rates}
        options.json.write_text(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
