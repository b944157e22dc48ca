"""Recordings of orders replayed: sessions with a known truth, random faults against the naive twin, the real file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from naive_replay import NaiveReplay
from order_files import HEADER, bitstamp_text, lobster_texts, session, write_lobster
from recordings import data_file

from bitquote.book import OrderBook
from bitquote.calibration.intensity import taker_orders
from bitquote.calibration.volatility import fit_volatility
from bitquote.recorded import OrderRecording, Replay, read_bitstamp, read_lobster, replay
from bitquote.recorded.following import FAULTS, OUTCOMES
from bitquote.recorded.lives import order_lives
from bitquote.recorded.orders import FILL

BITSTAMP_KINDS = (0.6, 0.08, 0.22, 0.0, 0.1)
LOBSTER_KINDS = (0.62, 0.1, 0.16, 0.12, 0.0)


def check_against_naive(recording: OrderRecording, result: Replay) -> None:
    """The kernel does what the slow twin does, event by event."""
    twin = NaiveReplay(recording)
    lives = order_lives(result)
    rests = lives.died > recording.events["time"][-1]
    living = zip(*(column[rests].tolist() for column in (lives.side, lives.price, lives.left)), strict=True)
    assert sorted(living) == sorted((side, price, left) for _, side, price, left, _ in result.orders.tolist())
    assert (lives.left[lives.cancelled] > 0).all() and (lives.size >= lives.left).all()
    names = tuple(OUTCOMES)
    assert [names[outcome] for outcome in result.outcome] == twin.outcome
    assert [tuple(row) for row in result.best.tolist()] == twin.best
    expected = [(time, max(maker, 0), *rest) for time, maker, *rest in twin.trades]
    assert [(time, max(maker, 0), *rest) for time, maker, *rest in result.trades.tolist()] == expected
    assert result.orders.tolist() == twin.book.orders()
    assert changed(twin.opening_depth, result) == twin.depth()


def changed(depth: dict[tuple[int, int], int], result: Replay) -> dict[tuple[int, int], int]:
    """The depth after the logged changes, each of which must know what was there before."""
    recording, (time, sides, prices, *quantities) = result.recording, result.changes
    assert (np.diff(time) >= 0).all()
    ticks = np.rint(prices / recording.tick).astype(int).tolist()
    before, after = (np.rint(quantity / recording.lot).astype(int).tolist() for quantity in quantities)
    depth = dict(depth)
    for place, had, has in zip(zip(sides.tolist(), ticks, strict=True), before, after, strict=True):
        assert depth.pop(place, 0) == had != has
        if has:
            depth[place] = has
    return depth


@pytest.mark.parametrize("seed", range(4))
def test_a_session_written_as_bitstamp_shows_it_replays_to_the_same_book(tmp_path: Path, seed: int) -> None:
    played = session(seed, 700, BITSTAMP_KINDS)
    (tmp_path / "orders.csv").write_text(bitstamp_text(played))
    recording = read_bitstamp(tmp_path / "orders.csv")
    result = replay(recording)
    book = OrderBook(64, 1000)
    trades = book.apply(played.messages)
    assert len(trades) > 100
    np.testing.assert_array_equal(result.trades, trades)
    np.testing.assert_array_equal(result.orders, book.orders())
    assert sum(result.outcomes.values()) == len(recording.events) == sum(recording.counts.values())
    assert not set(result.outcomes) & set(FAULTS)
    check_against_naive(recording, result)


@pytest.mark.parametrize("seed", range(4))
def test_a_session_written_as_lobster_shows_it_replays_to_the_same_book(tmp_path: Path, seed: int) -> None:
    played = session(seed, 500, LOBSTER_KINDS)
    recording = read_lobster(*write_lobster(tmp_path, lobster_texts(played, seed)))
    result = replay(recording)
    book = OrderBook(64, 1000)
    trades = book.apply(played.messages)
    for name in ("maker_id", "quantity", "aggressor"):
        np.testing.assert_array_equal(result.trades[name], trades[name])
    np.testing.assert_allclose(result.trades["price"] * recording.tick, trades["price"] * 0.01)
    np.testing.assert_array_equal(result.orders["order_id"], book.orders()["order_id"])
    np.testing.assert_array_equal(result.orders["quantity"], book.orders()["quantity"])
    assert recording.symbol == "ABC"
    assert recording.tick == 0.005  # a hidden execution at half a cent
    assert set(recording.counts) >= {"submission", "reduction", "deletion", "execution", "hidden execution", "cross"}
    assert result.agreement == (1.0, [])
    assert not set(result.outcomes) & set(FAULTS)
    check_against_naive(recording, result)


@pytest.mark.parametrize("seed", range(4))
def test_the_levels_before_a_lobster_file_are_taken_from_its_order_book(tmp_path: Path, seed: int) -> None:
    played = session(seed, 500, LOBSTER_KINDS)
    recording = read_lobster(*write_lobster(tmp_path, lobster_texts(played, seed, opening=150, levels=60)))
    result = replay(recording)
    assert len(recording.opening) > 5
    assert result.outcomes["opening"] > 10
    assert result.agreement == (1.0, [])
    assert not set(result.outcomes) & set(FAULTS)
    check_against_naive(recording, result)
    narrow = replay(read_lobster(*write_lobster(tmp_path, lobster_texts(played, seed, opening=150))))
    check_against_naive(narrow.recording, narrow)
    assert set(narrow.outcomes) & set(FAULTS) == {"unknown_order"}  # of levels that the first row does not show


def shaken(text: str, generator: np.random.Generator, header: int) -> str:
    """The rows with some left out, repeated, or exchanged with a later one; the times stay in their places."""
    lines = text.splitlines()
    time = 1 if header else 0
    rows = [line.split(",") for line in lines[header:]]
    times = [row[time] for row in rows]
    places = list(range(len(rows)))
    for _ in range(len(rows) // 15):
        place = int(generator.integers(len(places)))
        match generator.integers(3):
            case 0:
                del places[place]
            case 1:
                places.insert(place, places[place])
            case 2:
                other = min(place + int(generator.integers(1, 6)), len(places) - 1)
                places[place], places[other] = places[other], places[place]
    times = sorted(times[place] for place in places)
    rows = [[*rows[place]] for place in places]
    for row, stamp in zip(rows, times, strict=True):
        row[time] = stamp
    return "\n".join([*lines[:header], *(",".join(row) for row in rows)]) + "\n"


@pytest.mark.parametrize("seed", range(6))
def test_faulty_recordings_are_accounted_for_as_the_naive_twin_does(tmp_path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    path = tmp_path / "orders.csv"
    path.write_text(shaken(bitstamp_text(session(seed, 400, BITSTAMP_KINDS)), generator, header=1))
    bitstamp = read_bitstamp(path)
    messages, books = lobster_texts(session(seed, 300, LOBSTER_KINDS), seed, opening=40)
    one, other = write_lobster(tmp_path, (shaken(messages, generator, header=0), books))
    rows = len(one.read_text().splitlines())
    other.write_text("".join(line + "\n" for line in (books.splitlines() * 2)[:rows]))
    for recording in (bitstamp, read_lobster(one), read_lobster(one, other)):
        result = replay(recording)
        check_against_naive(recording, result)
        assert sum(result.outcomes.values()) == len(recording.events)
        assert set(result.outcomes) & set(FAULTS)
        check_report(result)


def check_report(result: Replay) -> None:
    """The report counts every event once and names lines that have the fault."""
    text = result.report()
    table = text.split("every event:\n")[1].splitlines()
    counts = {row.split()[2].rstrip(":"): int(row.split()[0]) for row in table if row.startswith("  ")}
    assert counts == result.outcomes
    for name in set(result.outcomes) & set(FAULTS):
        first = np.flatnonzero(result.outcome == list(OUTCOMES).index(name))[0]
        assert f"(lines {result.recording.events['line'][first]}" in text


def small(path: Path, *rows: str) -> Replay:
    """The replay of a few rows "id price volume action direction", a second apart."""
    lines = [HEADER]
    for i, row in enumerate(rows):
        order, price, volume, action, direction = row.split()
        lines.append(f"{order},{1430438404518 + 1000 * i},1430438404000,{price},{volume},{action},{direction}")
    path.write_text("\n".join(lines) + "\n")
    return replay(read_bitstamp(path))


@pytest.mark.parametrize(
    ("rows", "outcomes"),
    [
        (["1 10.0 500 created bid", "1 10.0 500 deleted bid"], "rested cancelled"),
        (["1 10.0 500 created bid", "1 10.0 500 created bid"], "rested duplicate_id"),
        (["1 10.0 500 created bid", "1 10.0 490 deleted bid"], "rested other_quantity"),
        (["1 10.0 500 created bid", "1 10.0 499 deleted bid"], "rested rounding"),
        (["1 10.0 5 created bid", "1 10.0 5 deleted bid", "1 10.0 5 deleted bid"], "rested cancelled repeated_end"),
        (["1 10.0 500 deleted bid", "1 10.0 500 created bid"], "unknown_order entered_after_end"),
        (["1 10.0 500 created bid", "1 10.0 300 changed bid"], "rested not_matched"),
        (["1 10.0 500 created bid", "1 10.0 600 changed bid"], "rested raised"),
        (["1 10.0 500 created bid", "1 10.1 0 changed bid"], "rested other_price"),
        (["1 10.0 500 created bid", "1 10.1 500 deleted bid"], "rested other_price"),
        (["1 10.0 500 created bid", "1 10.1 600 changed bid"], "rested raised"),
        (["1 10.0 500 created bid", "2 10.0 500 created ask", "1 10.0 0 deleted bid", "1 10.0 0 deleted bid"],
         "rested traded executed repeated_end"),
        (["1 10.0 500 created bid", "2 10.0 500 created ask", "1 10.1 300 changed bid"], "rested traded ahead"),
        (["1 10.0 0 created bid", "1 10.1 500 changed bid"], "no_quantity unknown_order"),
        (["1 10.0 500 created bid", "1 10.1 500 changed bid"], "rested replaced"),
        (["1 10.0 500 created bid", "2 10.0 300 created ask", "1 10.0 200 changed bid", "2 10.0 0 deleted ask",
          "1 10.0 200 deleted bid"], "rested traded executed executed cancelled"),
        (["1 10.0 500 created bid", "2 9.9 800 created ask", "1 10.0 500 deleted bid"], "rested traded ended_by_book"),
        (["1 10.0 500 deleted bid", "2 10.1 500 created ask"], "cancelled rested"),  # of the opening
        (["1 10.0 0 deleted bid", "2 10.1 500 created ask"], "unknown_order rested"),
    ],
)  # fmt: skip
def test_each_kind_of_event_has_its_outcome(tmp_path: Path, rows: list[str], outcomes: str) -> None:
    result = small(tmp_path / "orders.csv", *rows)
    names = tuple(OUTCOMES)
    assert " ".join(names[outcome] for outcome in result.outcome) == outcomes
    check_against_naive(result.recording, result)


def test_a_replacement_by_nothing_ends_the_order(tmp_path: Path) -> None:
    recording = small(tmp_path / "orders.csv", "1 10.0 500 created bid", "1 10.1 500 changed bid").recording
    recording.events["quantity"][1] = 0  # which no reader gives
    result = replay(recording)
    assert result.outcomes == {"rested": 1, "not_matched": 1}
    check_against_naive(recording, result)


@pytest.mark.parametrize("maker_first", [True, False])
def test_the_volume_of_an_order_from_before_is_that_of_the_execution_beside_it(
    tmp_path: Path, maker_first: bool
) -> None:
    sides = ["1 10.0 0 deleted bid", "9 10.0 400 changed ask"]  # 100 were executed
    rows = sides if maker_first else sides[::-1]
    result = small(tmp_path / "orders.csv", "9 10.0 500 created ask", *rows, "9 10.0 400 deleted ask")
    names = tuple(OUTCOMES)
    assert " ".join(names[outcome] for outcome in result.outcome) == "traded executed executed cancelled"
    assert result.trades[["maker_id", "taker_id", "quantity"]].tolist() == [(1, 9, 100)]


def test_lobster_faults_have_their_outcome(tmp_path: Path) -> None:
    rows = [
        "1,1,10,100,100000,1",
        "2,1,11,100,100000,1",
        "3,4,11,40,100000,1",  # 10 was first
        "4,2,11,70,100000,1",  # 60 are left
        "5,1,12,50,99900,-1",  # an ask below the bid of 10
        "6,3,10,100,100000,1",  # which was taken off
        "7,4,99,5,99900,-1",
        "8,7,0,0,-1,-1",
        "9,6,-1,0,0,-1",  # an auction without a cross
    ]
    (tmp_path / "messages.csv").write_text("\n".join(rows) + "\n")
    result = replay(read_lobster(tmp_path / "messages.csv"))
    names = tuple(OUTCOMES)
    expected = "rested rested not_first too_much crosses ended_by_book unknown_order no_change no_change"
    assert " ".join(names[outcome] for outcome in result.outcome) == expected
    assert result.orders["order_id"].tolist() == [12]
    assert result.agreement is None
    check_against_naive(result.recording, result)


def of_levels(folder: Path, first: str, *rows: str) -> Replay:
    """The replay of LOBSTER rows, of which `first` is the order book after the first one and after all others."""
    texts = "\n".join(rows) + "\n", (first + "\n") * len(rows)
    return replay(read_lobster(*write_lobster(folder, texts)))


def ends(result: Replay) -> list[tuple[int, ...]]:
    """Size, what was left, whether it was cancelled and whether it is of the opening, of each life."""
    lives = order_lives(result)
    columns = lives.size, lives.left, lives.cancelled, lives.opening
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def test_a_reduction_by_all_that_is_left_is_a_cancellation_of_it(tmp_path: Path) -> None:
    (tmp_path / "messages.csv").write_text(
        "1,1,10,100,100000,1\n2,2,10,40,100000,1\n3,2,10,60,100000,1\n"
        "4,1,11,50,100000,1\n5,2,11,70,100000,1\n6,1,12,30,100000,1\n"
    )
    result = replay(read_lobster(tmp_path / "messages.csv"))
    assert ends(result) == [(30, 30, False, False), (50, 50, True, False), (100, 60, True, False)]
    check_against_naive(result.recording, result)


def test_an_opening_level_lives_until_its_orders_are_gone(tmp_path: Path) -> None:
    result = of_levels(
        tmp_path,
        "100100,30,100000,100,100200,20,99900,50,100300,10,99800,70",
        "1,5,0,1,100050,1",
        "2,2,90,40,100000,1",
        "3,3,91,60,100000,1",  # the level is gone
        "4,4,92,30,100100,-1",
        "5,3,93,15,100200,-1",  # 5 are left
        "6,1,94,10,99850,-1",  # meets the bid of 99900, which is taken off
    )
    assert result.outcomes == {"no_change": 1, "opening": 4, "crosses": 1}
    assert ends(result) == [
        (10, 10, False, False), (10, 10, False, True), (20, 5, False, True), (30, 0, False, True),
        (50, 0, False, True), (70, 70, False, True), (100, 60, True, True),
    ]  # fmt: skip
    check_against_naive(result.recording, result)


def test_of_two_opening_orders_that_cross_the_later_rests(tmp_path: Path) -> None:
    result = small(tmp_path / "orders.csv", "1 10.0 500 deleted bid", "2 9.9 400 deleted ask")
    assert len(result.recording.opening) == 2 and result.opened == 1
    assert result.outcomes == {"ended_by_book": 1, "cancelled": 1}
    assert ends(result) == [(400, 400, True, True)]
    check_against_naive(result.recording, result)


def test_a_replaced_order_is_never_larger_than_it_was(tmp_path: Path) -> None:
    result = small(
        tmp_path / "orders.csv",
        "1 10.0 500 created bid",
        "2 10.0 200 created ask",  # takes 200
        "1 10.1 500 changed bid",  # before its execution shows
        "3 10.1 300 created ask",  # takes the rest
        "1 10.2 300 changed bid",
    )
    assert ends(result) == [(300, 0, False, False), (500, 300, True, False)]


def test_the_tape_shows_what_was_replayed(tmp_path: Path) -> None:
    played = session(3, 600, BITSTAMP_KINDS, step=10**7)
    (tmp_path / "orders.csv").write_text(bitstamp_text(played))
    result = replay(read_bitstamp(tmp_path / "orders.csv"), depth_interval=0.5, depth_levels=4)
    tape = result.tape()
    book = OrderBook(64, 1000)
    start = played.messages["time"][0]
    pictures = 0
    for i, time in enumerate(tape.snapshot_time):
        until = np.searchsorted(played.messages["time"], start + round(time * 1e9))
        book = OrderBook(64, 1000)
        book.apply(played.messages[:until])
        for side, levels in enumerate(book.depth(4)):
            np.testing.assert_allclose(tape.depth[i, side, : len(levels)], levels * [0.01, 1e-8])
            assert np.isnan(tape.depth[i, side, len(levels) :]).all()
        pictures += 1
    assert pictures == 11
    assert (tape.bid < tape.ask).all() and (np.diff(tape.quote_time) >= 0).all()
    assert tape.trade_quantity.sum() == pytest.approx(result.trades["quantity"].sum() * 1e-8)
    quote = np.searchsorted(tape.quote_time, tape.snapshot_time, side="left") - 1
    np.testing.assert_allclose(tape.bid[quote], tape.depth[:, 0, 0, 0])


@pytest.fixture(scope="module")
def real() -> Replay:
    return replay(read_bitstamp(data_file("bitstamp", "orders.csv.xz")))


def test_the_real_bitstamp_recording_is_accounted_for_event_by_event(real: Replay) -> None:
    recording = real.recording
    assert recording.counts == {"created": 24894, "changed": 602, "deleted": 24918}
    assert recording.tick == 0.01
    assert len(np.unique(recording.events["order_id"])) == 25076
    assert sum(real.outcomes.values()) == len(recording.events) == 50414
    faults = {name: count for name, count in real.outcomes.items() if name in FAULTS}
    assert sum(faults.values()) < 100
    assert real.opened == len(recording.opening) == 182  # never created
    assert faults["repeated_end"] == 22  # 21 deleted twice, one changed after it was deleted
    assert faults["entered_after_end"] == 5  # deleted before it was created
    check_report(real)


@pytest.mark.slow
def test_the_naive_twin_agrees_on_the_real_bitstamp_recording(real: Replay) -> None:
    check_against_naive(real.recording, real)


def test_a_calibration_reads_the_tape_of_the_real_recording(real: Replay) -> None:
    tape = real.tape()
    sigma = fit_volatility(tape)
    assert 0.005 < sigma.low < sigma.value < sigma.high < 0.1  # USD per root second, of a price of 235
    orders = taker_orders(tape)
    assert 300 < len(orders.time) < 500


def test_the_real_executions_are_those_that_the_book_makes(real: Replay) -> None:
    """What the asks of the file lost to executions (an instant bid's last one is not shown) is what the book traded."""
    executed = 0
    left = dict(real.recording.opening[["order_id", "quantity"]].tolist())
    for _, kind, side, order, _, quantity, _, _ in real.recording.events.tolist():
        if kind == FILL and side < 0 and order in left:
            executed += max(left[order] - quantity, 0)
        left[order] = quantity
    assert int(real.trades["quantity"].sum()) == pytest.approx(executed, rel=1e-6)
    assert "not_matched" not in real.outcomes
