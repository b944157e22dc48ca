"""What is shown of a server: figures from its counts, TensorBoard, the live view."""

from __future__ import annotations

import io
import json
import math
import os
import pty
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bitquote.server.monitor import (
    View,
    bytes_saved,
    live_view,
    log_statistics,
    mean_and_max,
    refused,
    scalars,
    summary,
)


def statistics(**changes: Any) -> dict[str, Any]:
    """Statistics of a server that has seen something of everything."""
    members = [
        {"worker": 0, "epoch": 1, "clock": 61, "pushed": 60, "idle": False, "parked": False},
        {"worker": 1, "epoch": 2, "clock": 41, "pushed": 40, "idle": False, "parked": True},
        {"worker": 3, "epoch": 5, "clock": 2, "pushed": 1, "idle": True, "parked": False},
    ]
    return {
        "version": 95, "pushed": 101, "applied": 95, "refused": {"nonfinite": 2, "keys": 1}, "lost": 2, "duplicates": 4,
        "parked": 1, "fenced": 1, "evicted": 1, "joined": 4, "left": 0, "members": members,
        "version_delay": [10, 80, 0, 5], "clock_gap": [100, 1], "gate_wait_seconds": 1.5, "gate_waits": 7,
        "bytes_received": 250, "bytes_raw_received": 1000, "bytes_sent": 1000, "bytes_raw_sent": 1000,
        "snapshots": 2, "term": 1, "size": 10,
    } | changes  # fmt: skip


@given(st.lists(st.integers(0, 1000), max_size=20))
def test_mean_and_max_by_the_definition(counts):
    values = [value for value, count in enumerate(counts) for _ in range(count)]
    mean, largest = mean_and_max(counts)
    assert mean == pytest.approx(np.mean(values) if values else 0.0)
    assert largest == max(values, default=0)


def test_figures_of_a_run():
    found = summary(statistics())
    assert found["pushed"] == found["applied"] + sum(found["refused"].values()) + found["lost"] + 1  # one is parked
    assert (found["version_delay_mean"], found["version_delay_max"]) == ((80 + 15) / 95, 3)
    assert found["bytes_saved_share"] == pytest.approx(1.0 - 1250 / 2000)
    assert json.loads(json.dumps(found)) == found
    assert refused(statistics()) == 3


def test_figures_of_a_server_that_has_done_nothing_are_zeros():
    found = scalars({}, 0.0)
    assert set(found.values()) == {0.0}
    assert summary({})["version_delay_max"] == 0
    assert bytes_saved({}) == 0.0


def test_rates_and_delays_are_of_what_happened_since_the_last_time():
    before = statistics(pushed=81, version_delay=[10, 80])
    found = scalars(statistics(), 2.0, before)
    assert found["server/pushes_per_second"] == 10.0
    assert (found["server/version_delay_mean"], found["server/version_delay_max"]) == (3.0, 3.0)
    assert found["server/refused_nonfinite"] == 2.0
    assert found["server/workers"] == 3.0
    # A restarted server knows less than was seen before its crash.
    assert all(math.isfinite(value) for value in scalars(before, 1.0, statistics(version_delay=[500])).values())


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*")
def test_tensorboard_holds_scalars_and_exact_histograms(tmp_path):
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoardLogger(tmp_path, name="", version="")
    # A logger without histograms takes the scalars alone.
    log_statistics([board, CSVLogger(tmp_path / "csv")], statistics(), step=95, elapsed=10.0)
    board.finalize("success")
    events = EventAccumulator(str(tmp_path)).Reload()
    tags = {"version_delay_mean", "version_delay_max", "clock_gap_mean", "gate_wait_seconds", "pushes_per_second",
            "bytes_sent", "bytes_saved_share", "refused", "lost", "evicted", "snapshots"}  # fmt: skip
    assert {f"server/{tag}" for tag in tags} <= set(events.Tags()["scalars"])
    assert [(e.step, e.value) for e in events.Scalars("server/lost")] == [(95, 2.0)]
    histogram = events.Histograms("server/version_delay")[0].histogram_value
    assert (histogram.num, histogram.sum, histogram.min, histogram.max) == (95, 95, 0, 3)
    filled = {limit: count for limit, count in zip(histogram.bucket_limit, histogram.bucket, strict=True) if count}
    assert filled == {0.5: 10, 1.5: 80, 3.5: 5}


def drawn(view: View) -> str:
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as capture:
        console.print(view.render())
    return capture.get()


def test_the_view_shows_workers_and_figures():
    view = View(total=200)
    assert "starting" in drawn(view)
    view.see({"pushed": 0, "members": []}, 99.0)
    assert "the workers are starting" in drawn(view)
    view = View(total=200)
    earlier = [{"worker": 0, "pushed": 40, "clock": 40}, {"worker": 2, "pushed": 3, "clock": 9}]
    view.see(statistics(pushed=51, members=earlier), 100.0)
    view.see(statistics(), 105.0)
    picture = drawn(view)
    assert "101 of 200 pushes  10/s  0:00:05  0:00:09 to go" in picture
    rows = {line.split()[0]: line.split()[1:] for line in picture.splitlines() if line.strip()[:1].isdigit()}
    assert rows["0"] == ["60", "4", "61", "works"]
    assert rows["1"] == ["40", "0", "41", "waits", "at", "the", "gate"]
    assert rows["2"] == ["3", "gone"]
    assert rows["3"] == ["1", "0", "2", "idle"]
    assert "refused 3  lost 2  evicted 1  snapshots 2  term 1" in picture
    view.trouble = "no sign of life from the server for 30 s"
    assert "no sign of life" in drawn(view)


def test_the_view_forgets_what_is_long_ago():
    view = View()
    for second in range(1000):
        view.see(statistics(pushed=second if second < 900 else 900 + 5 * (second - 900)), float(second))
    assert "5/s" in drawn(view)


def test_nothing_is_read_where_nobody_looks(capsys):
    def read() -> dict[str, Any]:
        raise AssertionError

    with live_view(read, total=3):
        pass
    assert capsys.readouterr() == ("", "")


PROGRAM = """
import sys, time
from bitquote.server.errors import ServerUnavailable
from bitquote.server.monitor import live_view
looks = []
def read():
    looks.append(0)
    if len(looks) == 3:
        raise ServerUnavailable("no sign of life")
    if len(looks) > 5:
        time.sleep(3600)  # a server that answers no more must not hold up the end
    return {"pushed": 10 * len(looks), "members": [{"worker": 7, "pushed": 10 * len(looks), "clock": 1}]}
with live_view(read, total=100, enabled=sys.argv[1] == "on"):
    deadline = time.monotonic() + 60
    while len(looks) <= 5 and time.monotonic() < deadline and sys.argv[1] == "on":
        time.sleep(0.05)
print("looks", len(looks))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("enabled", ["on", "off"])
def test_the_view_in_a_terminal(enabled):
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    shown = bytearray()

    def collect() -> None:
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the terminal's other end is closed
                return
            if not part:
                return
            shown.extend(part)

    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, enabled], stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True
    ) as process:
        os.close(theirs)
        reader = threading.Thread(target=collect)
        reader.start()
        output = process.communicate(timeout=120)[0]
    reader.join(timeout=30)
    os.close(ours)
    assert output == ("looks 6\n" if enabled == "on" else "looks 0\n")
    assert (b"of 100 pushes" in shown) == (enabled == "on")
    assert (b"no sign of life" in shown) == (enabled == "on")
