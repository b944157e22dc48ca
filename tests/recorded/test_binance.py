"""The Binance reader: what a good file gives, on synthetic files with known truths and on the real recordings."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from recordings import START_MS, SYMBOL, TICK, Line, of_stream, real_recording, synthetic_lines, write

from bitquote.recorded import Recording, read_binance


def rebuilt_naively(lines: list[Line], upto: int) -> dict[str, dict[float, float]]:
    """The book after line `upto` by the slow rule: the snapshot, then every newer diff's absolute quantities."""
    snapshot = next(message for _, message in lines if "lastUpdateId" in message)
    book = {side: dict(snapshot[name]) for side, name in (("b", "bids"), ("a", "asks"))}
    for i in of_stream(lines[: upto + 1], "depth"):
        data = lines[i][1]["data"]
        if data["u"] > snapshot["lastUpdateId"]:
            for side in "ba":
                book[side].update(data[side])
    return {
        side: {float(price): float(quantity) for price, quantity in levels.items() if float(quantity)}
        for side, levels in book.items()
    }


def test_a_valid_file_is_read_whole(recorded: Path, lines: list[Line], kind: str) -> None:
    recording = read_binance(recorded)
    assert (recording.symbol, recording.kind, recording.exchange) == (SYMBOL, kind, "binance")
    assert sum(recording.messages.values()) == len(lines)
    assert len(recording.tape.trade_time) == len(of_stream(lines, "trade"))
    assert len(recording.tape.quote_time) == len(of_stream(lines, "bookTicker"))
    assert recording.tape.trade_time.min() >= 0
    trades = [lines[i][1]["data"] for i in of_stream(lines, "trade")]
    assert recording.tape.trade_price.tolist() == [float(trade["p"]) for trade in trades]
    assert recording.tape.trade_aggressor.tolist() == [-1 if trade["m"] else 1 for trade in trades]
    assert recording.start + recording.tape.trade_time[3] * 1e9 == pytest.approx(trades[3]["T"] * 1e6, abs=1e3)


@pytest.mark.parametrize("pack", [bytes, lzma.compress, bz2.compress])
def test_plain_and_otherwise_compressed_files_are_the_same_recording(
    tmp_path: Path, recorded: Path, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "packed").write_bytes(pack(gzip.decompress(recorded.read_bytes())))
    expected, found = read_binance(recorded), read_binance(tmp_path / "packed")
    assert found.messages == expected.messages
    assert found.tape.depth.tobytes() == expected.tape.depth.tobytes()


def test_old_diffs_are_counted_not_dropped_in_silence(recorded: Path, lines: list[Line], kind: str) -> None:
    snapshot = next(message["lastUpdateId"] for _, message in lines if "lastUpdateId" in message)
    newest = [lines[i][1]["data"]["u"] for i in of_stream(lines, "depth")]
    old = sum(u < snapshot if kind == "usdm" else u <= snapshot for u in newest)
    assert old > 0
    assert read_binance(recorded).skipped == {"depth diff older than the snapshot": old}


def test_pictures_are_the_naively_rebuilt_book(recorded: Path, lines: list[Line]) -> None:
    recording = read_binance(recorded, depth_interval=0.05, depth_levels=15)
    snapshot = of_stream(lines, "snapshot")[0]
    later = [i for i in of_stream(lines, "depth") if i > snapshot]
    assert len(recording.tape.depth) > 10
    for picture, line in zip(recording.tape.depth[-5:], later[-5:], strict=True):
        book = rebuilt_naively(lines, line)
        for levels, side, best_first in zip(picture, "ba", (-1, 1), strict=True):
            expected = sorted(book[side].items(), key=lambda level: best_first * level[0])[:15]
            np.testing.assert_allclose(levels, expected)


def test_the_log_of_changes_leads_from_the_first_picture_to_the_last(recorded: Path) -> None:
    recording = read_binance(recorded, depth_interval=0.05, depth_levels=100)
    first, last = recording.tape.depth[0], recording.tape.depth[-1]
    books = [{price: quantity for price, quantity in side if np.isfinite(price)} for side in first]
    time, side, price, before, after = recording.changes
    later = time > recording.tape.snapshot_time[0]
    for s, p, b, a in zip(side[later], price[later], before[later], after[later], strict=True):
        book = books[0] if s > 0 else books[1]
        assert book.pop(p, 0.0) == b
        if a:
            book[p] = a
    for book, levels in zip(books, last, strict=True):
        assert book == {p: q for p, q in levels if np.isfinite(p)}


def test_the_tick_is_inferred_with_its_evidence(recorded: Path) -> None:
    tick = read_binance(recorded).tick
    assert tick.size == TICK
    assert tick.prices > 10
    assert tick.at_one_tick > 10
    assert read_binance(recorded, tick=TICK).tick == tick


@pytest.mark.parametrize(("offset", "drift"), [(-1.27, 0.0), (0.4, 2e-5), (3600.0, -2e-5)])
def test_the_clock_offset_is_found_and_corrected(tmp_path: Path, kind: str, offset: float, drift: float) -> None:
    lines = synthetic_lines(kind, updates=2000, offset=offset, drift=drift)
    recording = read_binance(write(tmp_path / "recording.gz", lines))
    assert recording.clock.offset == pytest.approx(offset, abs=1e-4)  # the smallest latency is part of it
    assert recording.clock.drift == pytest.approx(drift, abs=1e-5)
    assert 5e-4 < recording.clock.latency[0] < 2e-3  # a little above the median of one: delivery is in order
    expected = (np.arange(2000) * 10 + START_MS) * 1e-3 - recording.start * 1e-9  # a quote every 10 ms
    late = recording.tape.quote_time - expected
    assert np.median(late) < 1e-3
    assert (np.abs(late) < 0.02).all()


def test_a_stream_that_is_not_needed_is_counted(tmp_path: Path, lines: list[Line]) -> None:
    stamp = lines[20][0]
    lines.insert(21, (stamp, {"stream": "abcusdt@markPrice", "data": {"p": "1.0"}}))
    recording = read_binance(write(tmp_path / "recording.gz", lines))
    assert recording.skipped["other stream: abcusdt@markPrice"] == 1
    assert recording.messages["markPrice"] == 1


def test_trades_outside_the_book_are_counted(tmp_path: Path) -> None:
    lines = synthetic_lines("usdm")
    position = of_stream(lines, "trade")[3]
    lines[position][1]["data"]["X"] = "INSURANCE_FUND"
    recording = read_binance(write(tmp_path / "recording.gz", lines))
    assert recording.skipped["trade outside the book: INSURANCE_FUND"] == 1
    assert len(recording.tape.trade_time) == len(of_stream(lines, "trade")) - 1


@pytest.fixture(scope="module", params=["spot", "usdm"])
def real(request: pytest.FixtureRequest) -> Recording:
    return read_binance(real_recording(request.param))


def test_the_real_recordings(real: Recording) -> None:
    expected = {
        "spot": (0.01, {"depth@100ms": 3451, "bookTicker": 28040, "trade": 9757, "snapshot": 1}, 2),
        "usdm": (0.1, {"depth@0ms": 6551, "bookTicker": 66089, "trade": 21313, "snapshot": 1}, 4),
    }
    tick, messages, old = expected[real.kind]
    assert real.symbol == "BTCUSDT"
    assert real.tick.size == tick
    assert real.messages == messages
    assert real.skipped == {"depth diff older than the snapshot": old}
    assert real.duration == pytest.approx(345, abs=2)
    assert real.clock.offset == pytest.approx(-1.27, abs=0.01)
    assert abs(real.clock.drift) < 1e-5


def test_the_rebuilt_book_shows_the_best_bid_and_offer_that_the_exchange_sent(real: Recording) -> None:
    tape = real.tape
    quote = np.searchsorted(tape.quote_time, tape.snapshot_time, side="right") - 1
    # Quotes and diffs come on separate streams, so a picture may fall between a change and its quote.
    assert np.mean(tape.bid[quote] == tape.depth[:, 0, 0, 0]) > 0.9
    assert np.mean(tape.ask[quote] == tape.depth[:, 1, 0, 0]) > 0.9


def test_real_trades_happen_at_the_quotes_before_them(real: Recording) -> None:
    tape = real.tape
    quote = np.searchsorted(tape.quote_time, tape.trade_time, side="left") - 1
    touch = np.where(tape.trade_aggressor > 0, tape.ask[quote], tape.bid[quote])
    worse = tape.trade_aggressor * (tape.trade_price - touch)
    assert np.mean(worse >= -1e-9) > 0.95  # a trade inside the spread before it would mean times in the wrong order
