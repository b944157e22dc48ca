"""Decisions and events a second of the order-book market, through the public call that training makes.

    python scripts/benchmarks/market.py --paths 256 --threads 1 2

Prints medians over runs for a table and for a 64-64 ternary network, with the memory of a book and of a path, and
the first call of the cached kernel in a new process. Numbers of threads take turns, run by run, so that what else
the machine does meets them alike; their ratio is the median over the runs.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from bitquote.market import build
from bitquote.market.configuration import shipped_configuration
from bitquote.market.rollout import allocate_rollout
from bitquote.market.venue import allocate_path
from bitquote.quoting import glft
from bitquote.ternary import QuoteNetwork

FIRST_CALL = """
import time
from bitquote.market import build
from bitquote.market.configuration import shipped_configuration
from bitquote.quoting import glft
market = build(shipped_configuration("order_book"))
table = glft(market.game)
start = time.perf_counter()
market.summaries(table, 1, 0, threads=1)
print(time.perf_counter() - start)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=256)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--market", default="order_book")
    options = parser.parse_args()
    market = build(shipped_configuration(options.market))
    policy = QuoteNetwork(market.observation_names, market.observation_ranges, base_half_spread=3.0).policy()
    quoters = {"table": glft(market.game), "network": policy}
    for name, quoter in quoters.items():
        market.summaries(quoter, 2, 0, threads=1)
        seconds = {threads: [] for threads in options.threads}
        events = 0.0
        for run in range(options.runs):
            for threads, times in seconds.items():
                start = time.perf_counter()
                rows = market.summaries(quoter, options.paths, run, threads=threads)
                times.append(time.perf_counter() - start)
            events = rows["events"].sum()
        decisions = options.paths * market.venue.decisions
        first = seconds[options.threads[0]]
        for threads, times in seconds.items():
            median = statistics.median(times)
            ratio = statistics.median(one / other for one, other in zip(first, times, strict=True))
            print(
                f"{name:8s} {threads} threads {decisions / median:10,.0f} decisions/s  "
                f"{events / median:12,.0f} events/s  ({events / decisions:.0f} events a decision, "
                f"median of {options.runs}, fastest {decisions / min(times):,.0f}; "
                f"{ratio:.2f} times {options.threads[0]} threads)"
            )
    state = allocate_path(market.window, market.capacity)
    book = sum(array.nbytes for array in state.book)
    rest = sum(array.nbytes for array in (state.maker, state.quotes, state.markouts))
    record = sum(array.nbytes for array in allocate_rollout(1, market.venue.decisions))
    print(f"memory: book {book / 1024:.0f} KiB a thread, accounts {rest / 1024:.0f} KiB a thread, "
          f"a recorded path {record / 1024:.0f} KiB")  # fmt: skip
    first = subprocess.run([sys.executable, "-c", FIRST_CALL], capture_output=True, text=True, check=True).stdout
    print(f"first call in a new process: {float(first):.2f} s")


if __name__ == "__main__":
    main()
