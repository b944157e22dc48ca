"""Nanoseconds an event of one evaluation of the Hawkes likelihood with its gradient.

    python scripts/benchmarks/hawkes.py

The events are Poisson: the recursion's cost does not depend on what it finds. Prints the median over runs, one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from bitquote.calibration.hawkes import Parameters, log_likelihood


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    times = np.sort(random.uniform(0.0, options.events / 100.0, options.events))
    for types, decays in ((1, 1), (2, 1), (2, 2), (6, 1), (6, 2), (6, 3)):
        kinds = random.integers(0, types, options.events)
        weight = np.full((decays, types, types), 0.5 / (decays * types))
        parameters = Parameters(np.full(types, 50.0 / types), weight, np.geomspace(1.0, 100.0, decays))
        log_likelihood(times, kinds, times[-1], parameters)
        seconds = []
        for _ in range(options.runs):
            start = time.perf_counter()
            log_likelihood(times, kinds, times[-1], parameters)
            seconds.append(time.perf_counter() - start)
        each, least = (1e9 * value / options.events for value in (statistics.median(seconds), min(seconds)))
        print(f"{types} types, {decays} decays: {each:6.1f} ns an event (fastest {least:.1f})")


if __name__ == "__main__":
    main()
