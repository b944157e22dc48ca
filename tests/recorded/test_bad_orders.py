"""Bad recordings of orders: each ends in one line that names the file and the line, and none in a traceback."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from order_files import HEADER, bitstamp_text, lobster_texts, session, write_lobster
from recordings import synthetic_lines, write

from bitquote.errors import InputError
from bitquote.recorded import OrderRecording, read_binance_levels, read_bitstamp, read_lobster, replay
from bitquote.recorded.orders import NO_PRICE
from bitquote.recorded.rows import MAX_ROW_BYTES

COMPRESSIONS = {"plain": bytes, "gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress}
BITSTAMP = bitstamp_text(session(1, 120, (0.6, 0.1, 0.2, 0.0, 0.1)))
LOBSTER = lobster_texts(session(1, 120, (0.6, 0.1, 0.2, 0.1, 0.0)), 1)


def error(read: Callable[..., Any], *paths: Path, **settings: Any) -> str:
    """The one line, naming one of the files, that reading ends in."""
    with pytest.raises(InputError) as caught:
        read(*paths, **settings)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(tuple(str(path) for path in paths))
    return text


@pytest.fixture(params=[read_bitstamp, read_lobster])
def read(request: pytest.FixtureRequest) -> Callable[[Path], OrderRecording]:
    return request.param


def text_of(read: Callable[[Path], OrderRecording]) -> str:
    return BITSTAMP if read is read_bitstamp else LOBSTER[0]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_compression_is_read_whatever_the_name(tmp_path: Path, read, compression: str) -> None:
    plain, packed = tmp_path / "a.csv", tmp_path / "a.csv.xz"
    plain.write_text(text_of(read))
    packed.write_bytes(COMPRESSIONS[compression](text_of(read).encode()))
    np.testing.assert_array_equal(read(packed).events, read(plain).events)


@pytest.mark.parametrize("compression", ["gzip", "xz", "bzip2"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.98])
def test_a_truncated_archive(tmp_path: Path, read, compression: str, share: float) -> None:
    content = COMPRESSIONS[compression](text_of(read).encode())
    (tmp_path / "a").write_bytes(content[: max(8, int(share * len(content)))])
    assert "truncated" in error(read, tmp_path / "a")


def test_a_damaged_archive(tmp_path: Path, read) -> None:
    for compression in ("gzip", "xz", "bzip2"):
        content = bytearray(COMPRESSIONS[compression](text_of(read).encode()))
        content[len(content) // 2] ^= 0xFF
        (tmp_path / "a").write_bytes(content)
        error(read, tmp_path / "a")


def test_no_file_a_directory_and_nothing_in_it(tmp_path: Path, read) -> None:
    assert "no such file" in error(read, tmp_path / "absent")
    assert "is a directory" in error(read, tmp_path)
    for name, content in {"a": b"", "b": gzip.compress(b""), "c": HEADER.encode() + b"\n"}.items():
        (tmp_path / name).write_bytes(content)
        text = error(read, tmp_path / name)
        assert "is empty" in text or (name == "c" and read is read_lobster)


def test_a_file_that_stops_in_a_line(tmp_path: Path, read) -> None:
    (tmp_path / "a").write_text(text_of(read)[:-1])
    last = len(text_of(read).splitlines())
    assert f"line {last}: the row" in error(read, tmp_path / "a")
    assert "does not end: the file is truncated here" in error(read, tmp_path / "a")


def test_a_line_without_end(tmp_path: Path, read) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(text_of(read).encode() + b"1" * (4 * MAX_ROW_BYTES)))
    assert "the row is longer than" in error(read, tmp_path / "a")


def with_field(text: str, line: int, column: int, value: str) -> str:
    rows = text.splitlines()
    fields = rows[line - 1].split(",")
    fields[column] = value
    rows[line - 1] = ",".join(fields)
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        (0, "x", "id is 'x': must be an integer"),
        (0, "-4", "id is '-4'"),
        (0, "9" * 30, "id is '9999"),
        (1, "1430438404", "timestamp is '1430438404': must be milliseconds"),
        (1, "1430438000000", "the local time runs backwards"),
        (2, "1530438404000", "exchange.timestamp is 1530438404000: more than a day after the local time"),
        (3, "nan", "price is 'nan': must be a decimal number"),
        (3, "-1.0", "price is '-1.0'"),
        (3, "1e9", "price is '1e9'"),
        (3, "0.00", "price is 0: must be above 0"),
        (4, "-5", "volume is '-5': must be an integer"),
        (4, "5.5", "volume is '5.5'"),
        (4, "9" * 20, "volume is '9999"),
        (5, "filled", "action is 'filled': must be created, changed or deleted"),
        (6, "buy", "direction is 'buy': must be bid or ask"),
        (6, "bid,USD", "8 columns"),
        (6, "bid\x00", "direction is 'bid"),
    ],
)
def test_bad_bitstamp_fields_name_their_line(tmp_path: Path, column: int, value: str, expected: str) -> None:
    (tmp_path / "a").write_text(with_field(BITSTAMP, 40, column, value))
    assert f"line 40: {expected}" in error(read_bitstamp, tmp_path / "a")


def test_a_bitstamp_order_that_changes_its_side(tmp_path: Path) -> None:
    rows = BITSTAMP.splitlines()
    line, row = next((i, row) for i, row in enumerate(rows) if ",changed," in row)
    other = "ask" if row.endswith("bid") else "bid"
    (tmp_path / "a").write_text(with_field(BITSTAMP, line + 1, 6, other))
    assert "two instruments?" in error(read_bitstamp, tmp_path / "a")


def test_other_columns_than_bitstamps(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(BITSTAMP.replace("volume", "amount", 1))
    assert f"line 1: the columns are '{HEADER.replace('volume', 'amount')}'" in error(read_bitstamp, tmp_path / "a")
    (tmp_path / "a").write_text("\n".join(row.rpartition(",")[0] for row in BITSTAMP.splitlines()) + "\n")
    assert "line 1: the columns are" in error(read_bitstamp, tmp_path / "a")


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        (0, "nan", "time is 'nan': must be seconds after midnight"),
        (0, "86400.5", "time is 86400: must be below 86400"),
        (0, "100.5", "the time runs backwards"),
        (1, "8", "type is '8': must be an integer from 1 to 7"),
        (2, "", "order id is ''"),
        (3, "-10", "size is '-10'"),
        (3, "0", "price is"),
        (4, "1.5", "price is '1.5'"),
        (4, "-100", "price is -100 and size"),
        (5, "0", "direction is '0': must be 1 or -1"),
        (5, "1,null", "7 columns"),
    ],
)
def test_bad_lobster_fields_name_their_line(tmp_path: Path, column: int, value: str, expected: str) -> None:
    rows = LOBSTER[0].splitlines()
    line = next(i for i, row in enumerate(rows, 1) if i > 30 and row.split(",")[1] == "1")
    (tmp_path / "a").write_text(with_field(LOBSTER[0], line, column, value))
    assert f"line {line}: {expected}" in error(read_lobster, tmp_path / "a")


def test_lobster_orders_halts_and_ids(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for rows, expected in (
        ("1,1,5,10,100,1\n2,3,5,10,100,-1\n", "line 2: order 5 has direction -1, but had 1 before"),
        ("1,1,0,10,100,1\n", "line 1: order id is 0: must be above 0"),
        ("1,7,0,0,5,-1\n", "line 1: price is 5 in a halt"),
        ("1,7,0,0,-1,-1\n", "holds no price above 0"),
    ):
        path.write_text(rows)
        assert expected in error(read_lobster, path)


def test_an_order_book_that_does_not_belong_to_the_messages(tmp_path: Path) -> None:
    messages, books = write_lobster(tmp_path, LOBSTER)
    rows = LOBSTER[1].splitlines()
    n = len(rows)
    for text, expected in (
        ("\n".join(rows[:-1]) + "\n", f"line {n}: the file ends here"),
        ("\n".join([*rows, rows[-1]]) + "\n", f"line {n + 1}: {messages.name} has no more than {n} messages"),
        (with_field(LOBSTER[1], 50, 0, "1"), "line 50: the book is crossed"),
        (with_field(LOBSTER[1], 50, 1, "0"), "line 50: the best ask is 0 at"),
        (with_field(LOBSTER[1], 50, 3, "-7"), "line 50: size is '-7'"),
        ("\n".join(row.rpartition(",")[0] for row in rows) + "\n", "line 1: 11 columns"),
        ("\n".join(["200500,9,200000,9,200400,9,199900,9,200600,9,199800,9", *rows[1:]]), "line 1: the ask prices are"),
        ("", "is empty"),
    ):
        books.write_text(text)
        assert expected in error(read_lobster, messages, books)
    other = books.with_name(books.name.replace("ABC", "XYZ"))
    other.write_text(LOBSTER[1])
    assert "is not the order book of ABC" in error(read_lobster, messages, other)


def test_pictures_that_would_fill_the_memory(tmp_path: Path) -> None:
    rows = BITSTAMP.splitlines()
    rows[-1] = rows[-1].replace(rows[-1].split(",")[1], "8430438404518")
    (tmp_path / "a").write_text("\n".join(rows) + "\n")
    recording = read_bitstamp(tmp_path / "a")
    with pytest.raises(InputError, match=r"depth_interval is 1\.0: must be at least"):
        replay(recording)


# ---- generated faults


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """A few bytes set, the end cut off, lines exchanged, repeated or left out, a column left out or made absurd."""
    data = bytearray(content)
    lines = content.split(b"\n")
    one, other = (int(place) for place in random.integers(len(lines), size=2))
    match int(random.integers(6)):
        case 0:
            for _ in range(int(random.integers(1, 4))):
                data[int(random.integers(len(data)))] = int(random.choice(list(b"0123456789,.-eN\n\x00\xff")))
            return bytes(data)
        case 1:
            return content[: int(random.integers(len(content)))]
        case 2:
            lines[one], lines[other] = lines[other], lines[one]
        case 3:
            lines.insert(one, lines[other])
        case 4:
            del lines[one]
        case 5:
            fields = lines[one].split(b",")
            absurd = [b"NaN", b"1e309", b"-1", b"9" * 25, b"", b"__import__('os')", b"0", b"\xff"]
            fields[int(random.integers(len(fields)))] = absurd[int(random.integers(len(absurd)))]
            lines[one] = b",".join(fields)
    return b"\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("layer", ["text", "file"])
def test_mutated_orders_are_refused_or_accounted_for(tmp_path: Path, read, compression: str, layer: str) -> None:
    random = np.random.default_rng(7)
    pack = COMPRESSIONS[compression]
    paths = [tmp_path / "a"] if read is read_bitstamp else [tmp_path / "a", tmp_path / "b"]
    originals = [text.encode() for text in ([BITSTAMP] if read is read_bitstamp else LOBSTER)]
    if layer == "file":
        originals = [pack(text) for text in originals]
    refused = 0
    for _ in range(150):
        victim = int(random.integers(len(paths)))
        for i, (path, original) in enumerate(zip(paths, originals, strict=True)):
            content = mutated(original, random) if i == victim else original
            path.write_bytes(pack(content) if layer == "text" else content)
        try:
            recording = read(*paths)
        except InputError:
            refused += 1
            error(read, *paths)
        else:
            check_accounted(recording)
    assert 150 >= refused > 40


def check_accounted(recording: OrderRecording) -> None:
    """Whatever was read replays, and every event has an outcome."""
    assert recording.tick > 0
    assert (np.diff(recording.events["time"]) >= 0).all()
    seconds = float(np.ptp(recording.events["time"])) * 1e-9
    result = replay(recording, depth_interval=max(1.0, seconds / 1000))
    assert sum(result.outcomes.values()) == len(recording.events) == sum(recording.counts.values())
    assert str(recording.path) in result.report()
    both = (result.best["bid"] != NO_PRICE) & (result.best["ask"] != NO_PRICE)
    assert (result.best["bid"] < result.best["ask"])[both].all()
    assert (result.trades["quantity"] > 0).all()
    assert int(result.log["by"].sum()) == int(result.orders["quantity"].sum())


@pytest.mark.slow
def test_mutated_feeds_are_refused_or_replayed(tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(8)
    path = write(tmp_path / "recording.gz", synthetic_lines(kind, updates=45))
    original = gzip.decompress(path.read_bytes())
    refused = 0
    for _ in range(120):
        path.write_bytes(gzip.compress(mutated(original, random), 1))
        try:
            read_binance_levels(path)
        except InputError:
            refused += 1
            error(read_binance_levels, path)
    assert 120 > refused > 40
