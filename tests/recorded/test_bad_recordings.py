"""Bad recordings: each ends in one line that names the file and the line, and none in a traceback."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import Line, of_stream, synthetic_lines, write, write_text

from bitquote.errors import InputError
from bitquote.recorded import Recording, read_binance
from bitquote.recorded.message import MAX_LINE_BYTES


def error(path: Path, **settings: Any) -> str:
    """The one line that reading `path` ends in."""
    with pytest.raises(InputError) as caught:
        read_binance(path, **settings)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    return text


def test_a_missing_file(tmp_path: Path) -> None:
    assert "no such file" in error(tmp_path / "absent.gz")


def test_a_directory(tmp_path: Path) -> None:
    assert "directory" in error(tmp_path)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.gz").write_bytes(b"")
    assert "is empty" in error(tmp_path / "empty.gz")


def test_an_empty_archive(tmp_path: Path) -> None:
    assert "is empty" in error(write_text(tmp_path / "empty.gz", ""))


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x09" + bytes(20)])
def test_an_unknown_compression(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "r").write_bytes(start + bytes(range(100)))
    assert "line 1: " in error(tmp_path / "r")


def test_names_that_the_system_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be read (File name too long)" in error(tmp_path / ("x" * 300))

    def denied(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert "cannot be read (Permission denied)" in error(tmp_path / "r")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.99])
def test_a_truncated_file(recorded: Path, share: float) -> None:
    content = recorded.read_bytes()
    recorded.write_bytes(content[: max(12, int(share * len(content)))])
    assert "truncated" in error(recorded)


def test_a_file_that_stops_in_the_middle_of_a_line(recorded: Path) -> None:
    text = gzip.decompress(recorded.read_bytes()).decode()
    last = len(text.splitlines())
    assert f"line {last}: broken JSON" in error(write_text(recorded, text[:-20]))


def test_broken_json_names_its_line(recorded: Path) -> None:
    rows = gzip.decompress(recorded.read_bytes()).decode().splitlines()
    rows[6] = rows[6][:-3]
    assert "line 7: broken JSON" in error(write_text(recorded, "\n".join(rows)))


@pytest.mark.parametrize(
    "row", ["", "12 {}", "hello", "9999999999999999999 {}", "1700000000000000000 [1]", "1700000000000000000 {}"]
)
def test_lines_that_are_no_messages(recorded: Path, row: str) -> None:
    rows = gzip.decompress(recorded.read_bytes()).decode().splitlines()
    rows.insert(0, row)
    assert "line 1:" in error(write_text(recorded, "\n".join(rows)))


def test_a_decompression_bomb_is_refused_at_its_line(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(b"1" * (4 * MAX_LINE_BYTES), mtime=0))
    assert "line 1: the line is longer" in error(bomb)


def test_deeply_nested_json(tmp_path: Path) -> None:
    nested = "[" * 100_000
    assert "broken JSON" in error(write_text(tmp_path / "nested.gz", f"1700000000000000000 {nested}\n"))


Change = Callable[[dict[str, Any]], None]


def set_field(key: str, value: Any) -> Change:
    return lambda data: data.update({key: value})


def shift(key: str, by: int) -> Change:
    return lambda data: data.update({key: data[key] + by})


@pytest.mark.parametrize(
    ("channel", "change", "expected"),
    [
        ("trade", set_field("p", "NaN"), "'p' holds 'NaN'"),
        ("trade", set_field("p", "-3.5"), "'p' holds '-3.5'"),
        ("trade", set_field("p", 50.0), "'p' holds 50.0"),
        ("trade", set_field("p", "0.00"), "must be above 0"),
        ("trade", set_field("q", "0.0"), "must be above 0"),
        ("trade", set_field("q", "1e5"), "'q' holds '1e5'"),
        ("trade", set_field("q", "Infinity"), "'q' holds"),
        ("trade", set_field("m", "yes"), "'m' is 'yes'"),
        ("trade", set_field("s", "XYZUSDT"), "the symbol is 'XYZUSDT'"),
        ("trade", set_field("s", "XYZ\nUSDT"), r"the symbol is 'XYZ\nUSDT'"),
        ("trade", set_field("s", None), "'s' is None"),
        ("trade", lambda data: data.pop("T"), "'T' is None"),
        ("trade", lambda data: data.pop("E"), "'E' is None"),
        ("trade", set_field("T", True), "'T' is True"),
        ("trade", set_field("T", 12), "more than a day"),
        ("trade", shift("T", -5000), "the trade time runs backwards"),
        ("trade", shift("t", 1), "trades are missing or repeated"),
        ("bookTicker", shift("u", -1000), "runs backwards"),
        ("bookTicker", lambda data: data.update(b=data["a"]), "crossed"),
        ("bookTicker", set_field("A", "-1"), "'A' holds '-1'"),
        ("depth", shift("U", 2), "gap in the update ids"),
        ("depth", set_field("b", [["50.0"]]), "must be a list of [price, quantity]"),
        ("depth", set_field("b", None), "must be a list of [price, quantity]"),
        ("depth", set_field("a", [["1.0", "nan"]]), "'a' holds 'nan'"),
        ("depth", set_field("a", [["0", "1"]]), "is 0 or comes twice"),
        ("depth", set_field("a", [["60.0", "1"], ["60.00", "2"]]), "is 0 or comes twice"),
        ("depth", set_field("a", [["0.05", "1"]]), "the rebuilt book is crossed"),
        ("depth", shift("u", -1000), "above its last"),
        ("snapshot", set_field("bids", []), "empty side"),
        ("snapshot", set_field("bids", [["10.0", "0.0"]]), "level of quantity 0"),
        ("snapshot", lambda data: data.update(bids=data["asks"]), "crossed"),
        ("snapshot", set_field("lastUpdateId", "5"), "'lastUpdateId' is '5'"),
    ],
)
def test_bad_fields_name_their_line(tmp_path: Path, channel: str, change: Change, expected: str) -> None:
    lines = synthetic_lines("spot")
    positions = of_stream(lines, channel)
    position = positions[len(positions) // 2]
    message = lines[position][1]
    change(message.get("data", message))
    text = error(write(tmp_path / "recording.gz", lines))
    assert f"line {position + 1}: " in text
    assert expected in text


def test_a_missing_usdm_diff_is_a_gap(tmp_path: Path) -> None:
    lines = synthetic_lines("usdm")
    missing = of_stream(lines, "depth")[8]
    del lines[missing]
    following = next(i for i in of_stream(lines, "depth") if i >= missing)
    assert f"line {following + 1}: gap in the update ids" in error(write(tmp_path / "recording.gz", lines))


def test_a_snapshot_newer_or_older_than_the_diffs_is_no_start(tmp_path: Path, lines: list[Line]) -> None:
    snapshot = lines[of_stream(lines, "snapshot")[0]][1]
    snapshot["lastUpdateId"] += 10**6
    assert "no depth diffs that follow the snapshot" in error(write(tmp_path / "newer.gz", lines))
    snapshot["lastUpdateId"] = 3
    assert "does not reach back to the snapshot" in error(write(tmp_path / "older.gz", lines))


def test_local_time_running_backwards(tmp_path: Path, lines: list[Line]) -> None:
    lines[30] = (lines[29][0] - 1_000_000, lines[30][1])
    assert "line 31: the local time runs backwards by 0.001000 s" in error(write(tmp_path / "recording.gz", lines))


@pytest.mark.parametrize("channel", ["trade", "bookTicker", "depth", "snapshot"])
def test_a_recording_without_one_of_its_streams(tmp_path: Path, lines: list[Line], channel: str) -> None:
    absent = set(of_stream(lines, channel))
    rest = [line for i, line in enumerate(lines) if i not in absent]
    assert "holds no" in error(write(tmp_path / "recording.gz", rest))


def test_a_stated_tick_that_disagrees(recorded: Path) -> None:
    assert "the tick is stated as 0.1" in error(recorded, tick=0.1)


@pytest.mark.parametrize("tick", [0.0, -1.0, float("nan")])
def test_an_impossible_tick(recorded: Path, tick: float) -> None:
    with pytest.raises(InputError, match="tick is"):
        read_binance(recorded, tick=tick)


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["gzip", "text"])
def test_mutated_bytes_give_an_input_error_or_a_valid_recording(tmp_path: Path, kind: str, layer: str) -> None:
    path = write(tmp_path / "recording.gz", synthetic_lines(kind, updates=45))
    original = path.read_bytes() if layer == "gzip" else gzip.decompress(path.read_bytes())
    random = np.random.default_rng(5)
    refused = 0
    for _ in range(250):
        mutated = bytearray(original)
        for _ in range(int(random.integers(1, 4))):
            mutated[int(random.integers(len(mutated)))] = int(random.choice(list(b'0123456789"{}[],.-eN\x00\xff')))
        path.write_bytes(bytes(mutated) if layer == "gzip" else gzip.compress(bytes(mutated), 1, mtime=0))
        try:
            recording = read_binance(path)
        except InputError:
            refused += 1
            error(path)
        else:
            check_valid(recording)
    assert refused > 100


def check_valid(recording: Recording) -> None:
    """What every recording promises."""
    tape = recording.tape
    for times in (tape.trade_time, tape.quote_time, tape.snapshot_time, recording.changes.time):
        assert np.isfinite(times).all()
        assert (np.diff(times) >= 0).all()
    for positive in (tape.trade_price, tape.trade_quantity, tape.bid, tape.bid_quantity, tape.ask_quantity):
        assert np.isfinite(positive).all()
        assert (positive > 0).all()
    assert (tape.bid < tape.ask).all()
    assert recording.tick.size > 0
    json.dumps([recording.messages, recording.skipped])
