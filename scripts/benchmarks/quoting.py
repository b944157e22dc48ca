"""Fills of a constant quoter in a Binance recording: quote_into beside hftbacktest, in the environment of its example.

    scripts/hftbacktest scripts/benchmarks/quoting.py RECORDING --market btcusdt_spot --ticks 2 5 10 15

Both quote the same half-spread around the mid in the market's ticks, in episodes of its length. hftbacktest fills an
order whole or not at all (NoPartialFillExchange), also when the book passes its price, and shows its maker the feed
late.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numba import njit

from bitquote.market import OrderBookMarket, build, shipped_configuration
from bitquote.recorded import quote_into, read_binance_levels

EXAMPLE = Path(__file__).parents[2] / "examples" / "hftbacktest"
PAIRS = (("proportional", "power"), ("conservative", "risk_averse"))


@njit
def constant(observation: np.ndarray, half_spread: float) -> tuple[float, float]:
    """The same quotes whatever is observed."""
    return half_spread, 0.0


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("recording", type=Path)
    words.add_argument("--market", default="btcusdt_spot")
    words.add_argument("--ticks", type=float, nargs="+", default=[2.0, 5.0, 10.0, 15.0], help="half-spreads")
    options = words.parse_args()
    sys.path.insert(0, str(EXAMPLE))  # the example's modules import one another by their names
    from convert import convert
    from replay import Models, run

    market = build(shipped_configuration(options.market))
    assert isinstance(market, OrderBookMarket)
    levels, converted = read_binance_levels(options.recording), convert(options.recording)
    print(f"{'half-spread':>11} {'engine':<12} {'queue':<13} {'episodes':>8} {'fills':>6} {'orders':>8} {'markout':>8}")
    for ticks in options.ticks:
        quoter = constant, (ticks,)
        for ours, theirs in PAIRS:
            quoted = quote_into(levels, market, quoter, queue_model=ours)
            models = Models(market.venue.latency_new, 1e-6, theirs)
            _, replayed = run(market, quoter, converted, models)
            rows = (("bitquote", ours, quoted.simulation), ("hftbacktest", theirs, replayed.simulation))
            for engine, queue, simulation in rows:
                orders = simulation.turnover.sum()
                markout = simulation.adverse_selection.sum() / orders if orders else np.nan
                print(f"{ticks:>11g} {engine:<12} {queue:<13} {simulation.fills.size:>8} "
                      f"{int(simulation.fills.sum()):>6} {orders:>8.2f} {markout:>8.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
