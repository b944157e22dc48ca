"""Order events of single orders: held against a slow count, a simulated session, and the real Bitstamp file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from order_files import Session, bitstamp_text, lobster_texts, session
from recordings import data_file, synthetic_lines, write

from bitquote.calibration import fit_zero_intelligence, order_level_events, taker_orders
from bitquote.calibration.order_flow import CANCEL, LIMIT, MARKET
from bitquote.calibration.statistics import mid_at
from bitquote.errors import InputError
from bitquote.recorded import Recording, from_orders, open_recording, read_binance, recording_format, replay
from bitquote.recorded.lives import order_lives
from bitquote.recorded.orders import OrderRecording

KINDS = {"bitstamp": (0.62, 0.05, 0.24, 0.05, 0.04), "lobster": (0.64, 0.05, 0.25, 0.06, 0.0)}
"""Shares of limit, market, cancel, reduce and replace."""


def of_orders(path: Path) -> Recording:
    recording = open_recording(path)
    assert isinstance(recording, OrderRecording)
    return from_orders(replay(recording))


def write_session(folder: Path, played: Session, name: str) -> Path:
    path = folder / f"{name}.csv"
    path.write_text(bitstamp_text(played) if name == "bitstamp" else lobster_texts(played, 0)[0])
    return path


@pytest.fixture(params=["bitstamp", "lobster"])
def recording(request: pytest.FixtureRequest, tmp_path: Path) -> Recording:
    return of_orders(write_session(tmp_path, session(3, 2000, KINDS[request.param]), request.param))


def test_the_orders_that_rest_at_the_end_are_those_of_the_book(recording: Recording) -> None:
    assert recording.orders is not None
    lives = order_lives(recording.orders)
    resting = lives.died > recording.orders.recording.events["time"][-1]
    found = np.stack((lives.side[resting], lives.price[resting], lives.left[resting]))
    book = np.stack([recording.orders.orders[name] for name in ("side", "price", "quantity")])
    assert found.shape[1] > 20
    np.testing.assert_array_equal(found[:, np.lexsort(found)], book[:, np.lexsort(book)])
    assert (lives.born <= lives.died).all()
    assert (lives.size >= lives.left).all()


def test_resting_orders_are_counted_as_a_slow_count_does(recording: Recording) -> None:
    assert recording.orders is not None
    reach = 8.0 * recording.tick.size
    events, lives = order_level_events(recording, reach), order_lives(recording.orders)
    start = float(recording.tape.quote_time[0])
    born, died = ((time - recording.start) * 1e-9 for time in (lives.born, lives.died))
    price = lives.price * recording.orders.recording.tick
    for i in range(0, len(events.time), 7):
        time = events.time[i] + start
        mid = mid_at(recording.tape, np.array([np.nextafter(time, 0.0)]))[0]
        live = (born < time) & (died >= time) & (np.abs(price - mid) <= reach + 1e-9)
        assert events.resting[i] == np.count_nonzero(live)


def test_every_order_is_one_event(recording: Recording) -> None:
    events = order_level_events(recording, 1e6)
    assert recording.orders is not None
    first = recording.tape.quote_time[0]
    lives = order_lives(recording.orders)
    born, died = ((time - recording.start) * 1e-9 for time in (lives.born, lives.died))
    last = max(recording.tape.quote_time[-1], recording.tape.trade_time[-1])
    entered = (born > first) & (born <= last) & ~lives.opening
    assert np.count_nonzero(events.kind == LIMIT) == np.count_nonzero(entered)
    left = lives.cancelled & (died > first) & (died <= last)
    assert np.count_nonzero(events.kind == CANCEL) == np.count_nonzero(left)
    reached = taker_orders(recording.tape).reach > 0.0
    assert np.count_nonzero(events.kind == MARKET) == np.count_nonzero(reached) > 50
    fit = fit_zero_intelligence(events, recording.tick.size, distances=5)
    assert fit.limit_rate.value * 2.0 * events.seconds == pytest.approx(np.count_nonzero(events.kind == LIMIT))


def test_levels_have_no_single_orders(tmp_path: Path) -> None:
    levels = read_binance(write(tmp_path / "recording.gz", synthetic_lines()))
    with pytest.raises(InputError, match="not made of single orders"):
        order_level_events(levels, 1.0)


def test_a_format_is_told_by_the_content(tmp_path: Path) -> None:
    played = session(1, 200, KINDS["lobster"])
    assert recording_format(write_session(tmp_path, played, "bitstamp")) == "bitstamp"
    assert recording_format(write_session(tmp_path, played, "lobster")) == "lobster"
    binance = write(tmp_path / "recording.gz", synthetic_lines())
    assert recording_format(binance) == "binance"
    assert isinstance(open_recording(binance), Recording)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"\x1f\x8b\x08"), "truncated|corrupted"),
        (lambda path: path.write_bytes(b"PK\x03\x04 archive\n"), r"begins with 'PK\\x03"),
        (lambda path: path.write_bytes(b"1,2,3\n"), "format= says which|must be"),
    ],
)
def test_what_is_no_recording_is_refused_in_one_line(
    make: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    make(path)
    for order_book in (None, "book.csv"):
        with pytest.raises(InputError, match=message) as caught:
            open_recording(path, order_book=order_book)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_words_that_do_not_fit_the_file_are_refused(tmp_path: Path) -> None:
    path = write_session(tmp_path, session(1, 200, KINDS["lobster"]), "bitstamp")
    with pytest.raises(InputError, match="format is 'csv'"):
        open_recording(path, "csv")
    with pytest.raises(InputError, match="it belongs to LOBSTER"):
        open_recording(path, order_book="book.csv")
    with pytest.raises(InputError, match="line 1"):
        open_recording(path, "lobster")


def test_the_real_bitstamp_recording_has_its_known_counts() -> None:
    recording = of_orders(data_file("bitstamp", "orders.csv.xz"))
    events = order_level_events(recording, 1e6)
    assert np.count_nonzero(events.kind == LIMIT) == pytest.approx(24_894, rel=0.02)  # created; some never rest
    assert 300 < np.count_nonzero(events.kind == MARKET) < 500
    assert events.resting.min() > 100
