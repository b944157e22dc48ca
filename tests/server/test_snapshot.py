"""Snapshots: what is written is read, what is damaged is not, and no death or full disk leaves half a file."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import stat
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bitquote.server import points, snapshot
from bitquote.server.errors import SnapshotError

DTYPES = st.sampled_from([np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_])
ARRAYS = st.dictionaries(
    st.text(max_size=8), DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0)))
)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def blob(number=0, identity="mine"):
    return snapshot.pack({"weights": np.arange(5, dtype=np.float32) + number}, {"identity": identity, "number": number})


def number_of(found):
    assert found.arrays["weights"][0] == found.meta["number"]
    return found.meta["number"]


# Blobs.


@given(ARRAYS, st.dictionaries(st.text(), PLAIN, max_size=4))
def test_what_is_packed_is_unpacked(arrays, meta):
    got, values = snapshot.unpack(snapshot.pack(arrays, meta))
    assert values == meta
    assert got.keys() == arrays.keys()
    for name, array in arrays.items():
        assert got[name].dtype == array.dtype and got[name].shape == array.shape
        assert got[name].tobytes() == array.tobytes()
        assert got[name].flags.writeable


def test_views_and_bytes_of_any_kind_are_taken():
    array = np.arange(12.0).reshape(3, 4)[:, ::2].T
    data = snapshot.pack({"a": array}, {})
    for same in (data, bytearray(data), memoryview(data), np.frombuffer(data, np.uint8)):
        np.testing.assert_array_equal(snapshot.unpack(same)[0]["a"], array)


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([None]), np.zeros(2, np.complex128)])
def test_what_a_snapshot_cannot_hold_is_an_error(array):
    with pytest.raises(SnapshotError, match="cannot hold"):
        snapshot.pack({"a": array}, {})


@given(st.data())
def test_damage_is_noticed(data):
    raw = bytearray(blob())
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    with pytest.raises(SnapshotError) as error:
        snapshot.unpack(raw)
    assert "\n" not in str(error.value)


def forged(body):
    """A blob whose checksum is right, as somebody who can compute one might send it."""
    return snapshot.MAGIC + hashlib.sha256(body).digest() + body


def container(header, tail=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tail


@given(st.data())
def test_forged_blobs_are_errors_or_arrays(data):
    body = bytearray(blob()[40:])
    for _ in range(data.draw(st.integers(0, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = data.draw(st.just(bytes(body)) | st.binary(max_size=60))
    try:
        arrays, meta = snapshot.unpack(forged(body))
    except SnapshotError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(meta, dict) and all(isinstance(array, np.ndarray) for array in arrays.values())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00" * 7,
        container({}),
        container({"__metadata__": {}}),
        container({"__metadata__": {"json": "[1]"}}),
        container({"__metadata__": {"json": "{"}}),
        container({"__metadata__": {"json": "[" * 100_000}}),
        container({"__metadata__": {"json": "{}"}, "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}),
        container(
            {"__metadata__": {"json": "{}"}, "a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}, b"x"
        ),
        container({"__metadata__": {"json": "{}"}, "a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, b"x"),
        container(
            {"__metadata__": {"json": "{}"}, "a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}, b"xx"
        ),
        container(b"[" * 100_000),
        struct.pack("<Q", 2**63) + b"{}",
    ],
)
def test_containers_that_are_not_ours_are_errors(body):
    with pytest.raises(SnapshotError) as error:
        snapshot.unpack(forged(body))
    assert "\n" not in str(error.value)


# Files.


def test_the_newest_is_found_and_two_are_kept(tmp_path):
    folder = tmp_path / "new" / "folder"
    assert snapshot.latest(folder, "shard-0") is None
    for number in range(5):
        path = snapshot.write(folder, "shard-0", blob(number))
        found = snapshot.latest(folder, "shard-0", "mine")
        assert number_of(found) == number and found.path == path and found.passed_over == []
    assert sorted(os.listdir(folder)) == ["shard-0-000000004.snapshot", "shard-0-000000005.snapshot"]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_as_many_as_wanted_are_kept(tmp_path, keep):
    for number in range(5):
        snapshot.write(tmp_path, "a", blob(number), keep)
    assert len(os.listdir(tmp_path)) == keep
    assert number_of(snapshot.latest(tmp_path, "a")) == 4


def test_names_are_apart(tmp_path):
    for name in ("shard-1", "shard-11", "shard-1-1", "[a]*"):
        for number in range(3):
            snapshot.write(tmp_path, name, blob(len(name) + number))
    for name in ("shard-1", "shard-11", "shard-1-1", "[a]*"):
        assert number_of(snapshot.latest(tmp_path, name)) == len(name) + 2
    assert snapshot.latest(tmp_path, "shard") is None
    assert len(os.listdir(tmp_path)) == 8


def test_more_than_a_billion_snapshots_stay_in_order(tmp_path):
    (tmp_path / "a-999999999.snapshot").write_bytes(blob(1))
    snapshot.write(tmp_path, "a", blob(2))
    assert number_of(snapshot.latest(tmp_path, "a")) == 2
    assert (tmp_path / "a-1000000000.snapshot").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes()[:60] + b"\xff" + path.read_bytes()[61:]),
        lambda path: path.write_bytes(b"something else entirely"),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_a_damaged_one_falls_back_to_the_one_before(tmp_path, damage):
    older, newer = (snapshot.write(tmp_path, "a", blob(number)) for number in (1, 2))
    damage(newer)
    found = snapshot.latest(tmp_path, "a", "mine")
    assert number_of(found) == 1
    assert len(found.passed_over) == 1 and found.passed_over[0].startswith(newer.name)
    damage(older)
    with pytest.raises(SnapshotError, match="whole") as error:
        snapshot.latest(tmp_path, "a")
    assert "\n" not in str(error.value)


def test_writing_goes_on_after_a_damaged_one(tmp_path):
    snapshot.write(tmp_path, "a", blob(1)).write_bytes(b"")
    snapshot.write(tmp_path, "a", blob(2))
    assert number_of(snapshot.latest(tmp_path, "a")) == 2


def test_a_snapshot_of_another_run_is_an_error(tmp_path):
    snapshot.write(tmp_path, "a", blob(1))
    snapshot.write(tmp_path, "a", blob(2, "other"))
    with pytest.raises(SnapshotError, match="another run") as error:
        snapshot.latest(tmp_path, "a", "mine")
    assert "\n" not in str(error.value)
    assert number_of(snapshot.latest(tmp_path, "a", "other")) == 2
    assert number_of(snapshot.latest(tmp_path, "a")) == 2


# Disasters.


@pytest.mark.parametrize("point", ["snapshot.written", "snapshot.before_rename"])
def test_a_full_disk_leaves_what_was_there(tmp_path, point):
    for number in (1, 2):
        snapshot.write(tmp_path, "a", blob(number))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    points.arm(f"{point}:1:raise ENOSPC")
    try:
        with pytest.raises(OSError, match="No space left") as error:
            snapshot.write(tmp_path, "a", blob(3))
    finally:
        points.arm(None)
    assert error.value.errno == errno.ENOSPC
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    snapshot.write(tmp_path, "a", blob(4))
    assert number_of(snapshot.latest(tmp_path, "a")) == 4


LIMITED = """
import os, resource, signal, sys
import numpy as np
from bitquote.server import snapshot

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    snapshot.write(sys.argv[1], "a", snapshot.pack({"weights": np.zeros(100_000)}, {}))
except OSError:
    sys.exit(7)
"""


def test_a_file_that_cannot_be_written_to_its_end_is_removed(tmp_path):
    """A limit of the operating system stands in for a disk that fills up in mid-file."""
    snapshot.write(tmp_path, "a", blob(1))
    assert subprocess.run([sys.executable, "-c", LIMITED, tmp_path], timeout=120).returncode == 7
    assert os.listdir(tmp_path) == ["a-000000001.snapshot"]
    assert number_of(snapshot.latest(tmp_path, "a")) == 1


KILLED = """
import sys
from bitquote.server import snapshot

for number in range(3):
    data = snapshot.pack({"weights": __import__("numpy").full(1000, number, "f4")}, {"number": number})
    snapshot.write(sys.argv[1], "a", data)
"""


@pytest.mark.parametrize("point", ["snapshot.written", "snapshot.before_rename"])
def test_a_writer_killed_at_any_point_leaves_the_snapshot_before(tmp_path, point):
    reached = tmp_path / "reached"
    folder = tmp_path / "snapshots"
    environment = {**os.environ, points.VARIABLE: f"{point}:3:kill:{reached}"}
    ended = subprocess.run([sys.executable, "-c", KILLED, folder], env=environment, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    assert reached.read_text().split() == [point]
    assert len(list(folder.glob("a-*.snapshot"))) == 2
    found = snapshot.latest(folder, "a")
    assert number_of(found) == 1 and found.passed_over == []
    snapshot.write(folder, "a", blob(9))
    assert number_of(snapshot.latest(folder, "a")) == 9
    assert not list(folder.glob(".*"))  # what the dead one left is gone


def test_what_dead_writers_left_is_removed_and_nothing_else(tmp_path):
    snapshot.write(tmp_path, "a", blob())
    left = tmp_path / ".a-000000001.snapshot.tmp"
    others = [tmp_path / name for name in (".a-1-000000001.snapshot.tmp", ".hidden", "a.tmp", "a-x.snapshot")]
    for path in (left, *others):
        path.write_bytes(b"half")
    snapshot.write(tmp_path, "a", blob(1))
    assert not left.exists()
    assert all(path.exists() for path in others)
    assert number_of(snapshot.latest(tmp_path, "a")) == 1


def test_the_file_and_its_name_are_synced_in_this_order(tmp_path, monkeypatch):
    calls = []
    fsync, rename = os.fsync, type(tmp_path).rename
    kind = {False: "file", True: "folder"}
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(kind[stat.S_ISDIR(os.fstat(fd).st_mode)]), fsync(fd)))
    monkeypatch.setattr(type(tmp_path), "rename", lambda path, to: (calls.append("rename"), rename(path, to))[1])
    snapshot.write(tmp_path, "a", blob())
    assert calls == ["file", "rename", "folder"]
