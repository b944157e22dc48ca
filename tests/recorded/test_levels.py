"""A Binance feed replayed level by level: against dictionaries on synthetic files, against the recorded quotes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from recordings import Line, of_stream, real_recording, synthetic_lines, write

from bitquote.recorded import LevelReplay, read_binance_levels, replay_levels
from bitquote.recorded.levels import LEVEL, OUTCOMES, TRADE, UPDATE, allocate_levels, apply_levels
from bitquote.recorded.orders import BEST, NO_PRICE


def naive(result: LevelReplay) -> tuple[Counter[str], list[tuple[int, int, int, int]]]:
    """Outcomes, and the best bid and offer after each diff, by two dictionaries."""
    levels = result.levels
    sides: dict[int, dict[int, int]] = {1: {}, -1: {}}
    outcomes: Counter[str] = Counter()
    best = []
    for i, row in enumerate([*levels.opening.tolist(), *levels.updates.tolist()], 1 - len(levels.opening)):
        _, price, quantity, _, side, kind = row
        if kind != LEVEL:
            outcome = "trade"
        else:
            before = sides[side].pop(price, 0)
            if quantity:
                sides[side][price] = quantity
            changes = {(False, True): "added", (True, False): "removed", (False, False): "absent"}
            both = "unchanged" if quantity == before else "reduced" if quantity < before else "raised"
            outcome = changes.get((before > 0, quantity > 0), both)
        if i > 0:
            outcomes[outcome] += 1
        if i >= 0:  # i updates are done; an empty diff stops where the one before did
            bid, ask = max(sides[1]), min(sides[-1])
            best += [(bid, sides[1][bid], ask, sides[-1][ask])] * np.count_nonzero(levels.stops == i)
    return outcomes, best


def test_a_feed_is_replayed_as_the_dictionaries_do(recorded: Path, lines: list[Line]) -> None:
    result = replay_levels(read_binance_levels(recorded))
    outcomes, best = naive(result)
    assert result.outcomes == outcomes
    assert [tuple(row) for row in result.best.tolist()] == best
    assert sum(result.outcomes.values()) == len(result.levels.updates)
    share, compared, first = result.agreement
    assert (share, first) == (1.0, [])
    assert compared == len(result.levels.stops) > 10


def test_a_wrong_quote_is_found_and_its_diff_is_named(tmp_path: Path) -> None:
    lines = synthetic_lines("spot")
    ids = {lines[i][1]["data"]["u"]: i for i in of_stream(lines, "depth")}
    quotes = {lines[i][1]["data"]["u"]: i for i in of_stream(lines, "bookTicker")}
    last = sorted(ids)[-1]
    lines[quotes[last]][1]["data"]["B"] = "123.00000000"
    share, compared, first = replay_levels(read_binance_levels(write(tmp_path / "r.gz", lines))).agreement
    assert share == 1 - 1 / compared
    assert first == [ids[last] + 1]


def with_empty_diffs(lines: list[Line]) -> list[Line]:
    """Another diff of no levels after each; the ids are twice what they were, so that it has one of its own."""
    spread = []
    for stamp, message in lines:
        data = dict(message.get("data", message))
        for key in {"u", "U", "lastUpdateId"} & data.keys():
            data[key] *= 2
        if "pu" in data:
            data["pu"] = 2 * data["pu"] + 1  # the empty diff before
        spread.append((stamp, message | {"data": data} if "data" in message else data))
        if "U" in data:
            empty = data | {"U": data["u"] + 1, "u": data["u"] + 1, "b": [], "a": []}
            spread.append((stamp, message | {"data": empty | ({"pu": data["u"]} if "pu" in data else {})}))
    return spread


def test_empty_diffs_change_nothing_and_are_compared(tmp_path: Path, lines: list[Line]) -> None:
    lines = with_empty_diffs(lines)
    result = replay_levels(read_binance_levels(write(tmp_path / "r.gz", lines)))
    assert [tuple(row) for row in result.best.tolist()] == naive(result)[1]
    assert result.agreement == (1.0, len(result.levels.stops), [])
    assert np.count_nonzero(np.diff(result.levels.stops) == 0) > 10
    diffs = of_stream(lines, "depth")
    assert result.levels.lines.tolist() == [i + 1 for i in diffs[-len(result.levels.lines) :]]


def test_a_feed_without_an_update_stays_at_its_snapshot(tmp_path: Path) -> None:
    lines = synthetic_lines("spot")
    last_trade = of_stream(lines, "trade")[0]
    for i in of_stream(lines, "depth"):
        lines[i][1]["data"] |= {"b": [], "a": []}
    lines = [line for i, line in enumerate(lines) if i <= last_trade or i not in of_stream(lines, "trade")]
    result = replay_levels(read_binance_levels(write(tmp_path / "r.gz", lines)))
    assert (len(result.levels.updates), result.outcomes) == (0, {})
    assert len(result.best) == len(result.levels.stops) > 10
    assert [tuple(row) for row in result.best.tolist()] == naive(result)[1]
    assert result.report()


@pytest.mark.parametrize("place", ["snapshot", "removal"])
def test_a_level_off_the_grid_of_all_others_makes_the_tick_finer(tmp_path: Path, lines: list[Line], place: str) -> None:
    """The level is of the snapshot and stays, or is removed without having been known: no change of it is logged."""
    diff = lines[of_stream(lines, "depth")[-1]][1]["data"]
    level = ["40.01000000", "0.00000000"]
    if place == "snapshot":
        diff, level = lines[of_stream(lines, "snapshot")[0]][1], ["40.01000000", "1.00000000"]
    diff["b" if place == "removal" else "bids"].append(level)
    result = replay_levels(read_binance_levels(write(tmp_path / "r.gz", lines)))
    assert result.levels.recording.tick.size == 0.01
    assert result.outcomes == naive(result)[0]
    assert result.agreement is not None
    assert result.agreement[0] == 1.0


def test_streams_that_the_reader_skips_are_not_of_the_feed(tmp_path: Path, lines: list[Line]) -> None:
    plain = read_binance_levels(write(tmp_path / "plain.gz", lines))
    for channel in ("trade", "bookTicker"):
        stream = lines[of_stream(lines, channel)[-1]][1]["stream"]
        lines.append((lines[-1][0], {"stream": f"{stream}@foo", "data": {"s": "OTHER"}}))
    levels = read_binance_levels(write(tmp_path / "r.gz", lines))
    assert (levels.updates == plain.updates).all()
    assert (levels.best == plain.best).all()
    assert "other stream: abcusdt@trade@foo" in levels.recording.skipped


def test_trades_before_the_first_diff_are_counted(recorded: Path, lines: list[Line]) -> None:
    levels = read_binance_levels(recorded)
    early = levels.recording.skipped["trade before the first depth diff"]
    assert early > 0
    assert early + np.count_nonzero(levels.updates["kind"] == TRADE) == len(of_stream(lines, "trade"))


def test_quotes_that_begin_after_the_last_diff_are_not_compared(tmp_path: Path) -> None:
    lines = synthetic_lines("spot")
    last = lines[of_stream(lines, "depth")[-1]][1]["data"]["u"]
    for i in of_stream(lines, "bookTicker"):
        lines[i][1]["data"]["u"] += last
    result = replay_levels(read_binance_levels(write(tmp_path / "r.gz", lines)))
    assert result.agreement is None
    assert "as recorded" not in result.report()


@pytest.mark.parametrize("seed", range(5))
def test_levels_near_and_far_are_what_the_dictionaries_hold(recorded: Path, seed: int) -> None:
    """A market that wanders over many windows: its levels go to the heap and come back, and some would cross."""
    random = np.random.default_rng(seed)
    feed = read_binance_levels(recorded)
    rows = np.zeros(100_000, UPDATE)  # sets the capacity
    rows["price"] = np.arange(len(rows))
    book = allocate_levels(dataclasses.replace(feed, opening=rows[:0], updates=rows))
    outcomes = np.zeros(len(OUTCOMES), np.int64)
    sides: dict[int, dict[int, int]] = {1: {}, -1: {}}
    best = np.zeros(1, BEST)
    centre = 10**8
    for _ in range(4000):
        centre += int(random.normal(0, 8000))
        side = int(random.choice([-1, 1]))
        own, other = sides[side], sides[-side]
        touch = max(own, key=lambda price: side * price, default=centre)
        distance = int(random.exponential(20 if random.random() < 0.5 else 200_000))
        price, quantity = centre - side * distance, int(random.integers(0, 5))
        if random.random() < 0.4:
            price, quantity = touch, 0
        row = np.zeros(1, UPDATE)
        row["price"], row["quantity"], row["side"] = price, quantity, side
        apply_levels(book, row, np.ones(1, np.int64), best, outcomes)
        crosses = any(side * (price - opposite) >= 0 for opposite in other)
        if quantity == 0:
            own.pop(price, None)
        elif price in own or not crosses:
            own[price] = quantity
        bid, ask = max(sides[1], default=NO_PRICE), min(sides[-1], default=NO_PRICE)
        assert best[0].tolist() == (bid, sides[1].get(bid, 0), ask, sides[-1].get(ask, 0))
    assert outcomes.sum() == 4000
    assert outcomes[list(OUTCOMES).index("crosses")] > 10
    assert book.sides["overflow"].max() > 10


@pytest.fixture(scope="module", params=["spot", "usdm"])
def real(request: pytest.FixtureRequest) -> LevelReplay:
    return replay_levels(read_binance_levels(real_recording(request.param)))


@pytest.mark.slow
def test_the_real_feeds_show_the_recorded_best_bid_and_offer_after_every_diff(real: LevelReplay) -> None:
    updates, diffs = {"spot": (133829, 3449), "usdm": (464570, 6547)}[real.levels.recording.kind]
    assert len(real.levels.updates) == sum(real.outcomes.values()) == updates
    assert "crosses" not in real.outcomes
    assert real.agreement == (1.0, diffs, [])
    assert f"100.0000% of {diffs} diffs" in real.report()
