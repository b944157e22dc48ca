"""What a message costs against the number of resting orders and of occupied levels: a table and a picture."""

from __future__ import annotations

import time
from pathlib import Path

from book_stream import make_stream
from matplotlib.figure import Figure

from bitquote.book import OrderBook

RESTING = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
REACHES = (1, 10, 100, 1_000, 10_000, 100_000)  # mean distance of an order from the mid, ticks
RUNS = 5


def cost(length: int, live: int, reach: float, ticks: int) -> tuple[float, int, int]:
    """Nanoseconds a message (fastest of RUNS) in a book that already holds `live` orders; orders and levels at the end.

    The first `live` messages fill the book and are not timed.
    """
    messages = make_stream(live + length, live, 0, reach, live)
    seconds = []
    for _ in range(RUNS):
        book = OrderBook(ticks, 2 * live + 1000)
        book.apply(messages[:live])
        start = time.perf_counter()
        book.apply(messages[live:])
        seconds.append(time.perf_counter() - start)
    levels = sum(len(side) for side in book.depth(live))
    return min(seconds) / length * 1e9, len(book.orders()), levels


def draw_scaling(length: int, path: Path) -> None:
    """Measure, print two tables and draw them."""
    figure = Figure((9, 3.8), layout="constrained")
    by_orders, by_levels = figure.subplots(1, 2, sharey=True)

    print(f"\nns a message against resting orders ({length} messages, mean distance 20 ticks, window 4096)")
    rows = [cost(length, live, 20.0, 4096) for live in RESTING]
    for nanoseconds, orders, levels in rows:
        print(f"{orders:9d} orders on {levels:6d} levels  {nanoseconds:6.1f} ns")
    by_orders.plot([row[1] for row in rows], [row[0] for row in rows], "o-")
    by_orders.set(xscale="log", xlabel="resting orders", ylabel="ns a message", ylim=(0, None))

    print(f"\nns a message against occupied levels ({length} messages, about 100 000 resting orders)")
    for ticks, name in ((2**21, "window of 2 097 152 ticks"), (4096, "window of 4 096 ticks")):
        rows = [cost(length, 100_000, reach, ticks) for reach in REACHES]
        for nanoseconds, orders, levels in rows:
            print(f"{orders:9d} orders on {levels:6d} levels  {nanoseconds:6.1f} ns  {name}")
        by_levels.plot([row[2] for row in rows], [row[0] for row in rows], "o-", label=name)
    by_levels.set(xscale="log", xlabel="occupied levels, 100 000 orders")
    by_levels.legend(frameon=False)
    for axes in (by_orders, by_levels):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"drawn in {path}")
