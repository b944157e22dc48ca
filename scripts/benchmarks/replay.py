"""Feed replay on one core: our book against hftbacktest's ladder, the same updates, alternating in the same run.

    scripts/hftbacktest scripts/benchmarks/replay.py RECORDING --seconds 10

RECORDING is a Binance file (spot or USD-M). Its feed is the snapshot's levels, every update of a level and every trade,
and at the end a removal of each level that is left, so that it can be repeated without a break; each of these is one
event. It is made beforehand, `--repeat` times over, and not timed. Ours replays it with one order a level
(bitquote/recorded/levels.py) and must find the recorded best bid and offer after every diff. hftbacktest (2.4) replays
it with `elapse`, on the exchange's side and on ours (`both`, as in a backtest) or on ours alone (`local`), with
`ROIVectorMarketDepth`: over all prices of the file (`all`), or over a window around the market (`near`: what lies
outside is dropped, although it counts as replayed), and with `HashMapMarketDepth`. Both end with the same best bid and
offer.

hftbacktest wants numpy < 2.3, so scripts/hftbacktest runs this in the environment of its example; in the project's own
it times ours alone.
"""

import argparse
import importlib.util
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bitquote.book.matching import best_price, reset
from bitquote.recorded.levels import (
    LEVEL,
    OUTCOMES,
    TRADE,
    UPDATE,
    LevelRecording,
    allocate_levels,
    apply_levels,
    read_binance_levels,
    replay_levels,
)
from bitquote.recorded.orders import BEST

Play = Callable[[], tuple[float, float, tuple[int, int]]]
"""A replay: its wall and processor seconds, and the best bid and ask (ticks) before the last removals."""


def make_feed(levels: LevelRecording) -> tuple[np.ndarray, int]:
    """One pass of the feed (UPDATE), and the number of removals at its end."""
    rows = np.concatenate((levels.opening, levels.updates))
    left: dict[tuple[int, int], int] = {}
    for side, price, quantity, kind in rows[["side", "price", "quantity", "kind"]].tolist():
        if kind == LEVEL:
            left.pop((side, price), None)
            if quantity:
                left[side, price] = quantity
    end = np.zeros(len(left), UPDATE)
    end["time"] = rows["time"][-1]
    end["side"], end["price"] = np.array(list(left), np.int64).T
    end["kind"] = LEVEL
    rows = np.concatenate((rows, end))
    rows["time"] = np.maximum.accumulate(rows["time"])  # trades and diffs come on streams of their own
    return rows, len(end)


def repeated(feed: np.ndarray, times: int, without: int) -> np.ndarray:
    """The feed again and again, in time; the last pass without its last `without` rows, so that a book is left."""
    span = feed["time"][-1] - feed["time"][0] + 10**9
    rows = np.tile(feed, times)
    rows["time"] += np.repeat(np.arange(times) * span, len(feed))
    return rows[: len(rows) - without]


def bitquote(levels: LevelRecording, rows: np.ndarray) -> Play:
    """Our book."""
    book = allocate_levels(levels)
    stops, best, outcomes = np.zeros(0, np.int64), np.zeros(0, BEST), np.zeros(len(OUTCOMES), np.int64)
    apply_levels(book, rows[:1], stops, best, outcomes)  # compiles

    def play():
        reset(book)
        wall, cpu = time.perf_counter(), time.process_time()
        apply_levels(book, rows, stops, best, outcomes)
        seconds = time.perf_counter() - wall, time.process_time() - cpu
        return *seconds, (best_price(book, 1), best_price(book, -1))

    return play


def hftbacktest(levels: LevelRecording, rows: np.ndarray, depth: str, both: bool, near: int | None) -> Play:
    """hftbacktest's replay of the same rows, with a market depth of its own."""
    import hftbacktest as hft
    from hftbacktest.types import event_dtype

    tick = levels.recording.tick.size
    events = np.zeros(len(rows), event_dtype)
    level, buys = rows["kind"] == LEVEL, rows["side"] > 0
    events["ev"] = np.where(level, hft.DEPTH_EVENT, hft.TRADE_EVENT) | np.where(buys, hft.BUY_EVENT, hft.SELL_EVENT)
    events["ev"] |= hft.LOCAL_EVENT | (hft.EXCH_EVENT if both else 0)
    events["exch_ts"] = events["local_ts"] = rows["time"]
    events["px"], events["qty"] = rows["price"] * tick, rows["quantity"] * levels.lot
    low, high = int(rows["price"][level].min()), int(rows["price"][level].max())
    if near is not None:
        middle = int(np.median(levels.best["bid"]))
        low, high = max(low, middle - near // 2), min(high, middle + near // 2)

    def play():
        asset = hft.BacktestAsset().data([events]).linear_asset(1.0).constant_order_latency(0, 0)
        asset = asset.risk_adverse_queue_model().no_partial_fill_exchange().trading_value_fee_model(0, 0)
        asset = asset.tick_size(tick).lot_size(levels.lot).last_trades_capacity(0)
        if depth == "ROIVectorMarketDepth":
            asset = asset.roi_lb(low * tick).roi_ub(high * tick)
        backtest = getattr(hft, f"{depth}Backtest")([asset])
        wall, cpu = time.perf_counter(), time.process_time()
        backtest.elapse(1 << 62)
        seconds = time.perf_counter() - wall, time.process_time() - cpu
        best = backtest.depth(0).best_bid_tick, backtest.depth(0).best_ask_tick
        backtest.close()
        return *seconds, best

    return play


def main() -> None:
    """Print the feed, and the rate of each replay."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("recording", type=Path, help="file of hftbacktest's collector, spot or USD-M")
    words.add_argument("--seconds", type=float, default=10.0, help="wall time of each replay in all, at least")
    words.add_argument("--repeat", type=int, default=20, help="passes over the file in one run")
    options = words.parse_args()

    levels = read_binance_levels(options.recording)
    agreement = replay_levels(levels).agreement
    feed, removals = make_feed(levels)
    rows = repeated(feed, options.repeat, removals)
    print(f"{platform.machine()}, one core; {options.recording.name}: {len(feed)} events a pass, of which")
    print(f"{np.count_nonzero(feed['kind'] == TRADE)} trades; {options.repeat} passes a run, {len(rows)} events")
    if agreement is not None:
        print(f"best bid and offer as recorded after {agreement[0]:.4%} of {agreement[1]} diffs")

    plays = {"bitquote": bitquote(levels, rows)}
    if importlib.util.find_spec("hftbacktest"):
        ladder = "ROIVectorMarketDepth"
        plays["hftbacktest ladder, near, both"] = hftbacktest(levels, rows, ladder, True, 1 << 17)
        plays["hftbacktest ladder, near, local"] = hftbacktest(levels, rows, ladder, False, 1 << 17)
        plays["hftbacktest ladder, all, both"] = hftbacktest(levels, rows, ladder, True, None)
        plays["hftbacktest hash map, both"] = hftbacktest(levels, rows, "HashMapMarketDepth", True, None)
    else:
        print("hftbacktest is not installed: ours alone")
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in plays}
    while any(sum(wall for wall, _ in seconds) < options.seconds for seconds in runs.values()):
        ends = set()
        for name, play in plays.items():
            wall, cpu, best = play()
            runs[name].append((wall, cpu))
            ends.add(best)
        assert len(ends) == 1, f"the replays end with different books: {ends}"

    ours = statistics.median(len(rows) / cpu for _, cpu in runs["bitquote"])
    print("events a second, median of the runs: by the processor's time (by wall time; both depend on the neighbours)")
    for name, seconds in runs.items():
        rates = [statistics.median(len(rows) / s[i] / 1e6 for s in seconds) for i in (1, 0)]
        total = sum(wall for wall, _ in seconds)
        print(
            f"{name:32} {rates[0]:6.2f} M/s ({rates[1]:.2f}), {len(seconds)} runs, {total:.1f} s; "
            f"ours is {ours / rates[0] / 1e6:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
