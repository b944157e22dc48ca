"""How long work says where it stands."""

from __future__ import annotations

import pytest

from bitquote import progress as module
from bitquote.errors import InputError
from bitquote.progress import VARIABLE, Pace, progress
from train.display import logged, note


def worked(seconds: float, monkeypatch) -> None:
    """A second of work a report, on a clock of our own."""
    now = iter(range(10_000))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(now)))
    with progress("counting") as report:
        for done in range(int(seconds)):
            report("score 1.5", done, 100)


def test_the_first_piece_of_work_tells_no_rate():
    pace = Pace("counting", "MB")
    for now, done in ((0.0, 0), (60.0, 1), (61.0, 3)):
        pace.see("best 2", done, 10, now)
        assert ("left" in pace.words()) == (done > 1)
    assert pace.words() == "counting: 3 of 10 MB, 2 MB/s, 0:00:03 left, best 2"


@pytest.mark.parametrize(("mode", "lines"), [("plain", 3), ("quiet", 0)])
def test_lines_now_and_then(mode, lines, monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, mode)
    worked(25.0, monkeypatch)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == lines
    assert "\x1b" not in shown.err
    assert "\r" not in shown.err


def test_nothing_is_printed_of_short_work(monkeypatch, capsys):
    worked(5.0, monkeypatch)
    assert capsys.readouterr() == ("", "")


def test_an_unknown_mode_is_an_error(monkeypatch):
    monkeypatch.setenv(VARIABLE, "loud")
    with pytest.raises(InputError, match="BITQUOTE_OUTPUT is 'loud': must be one of rich, plain, quiet"), progress("x"):
        pass


def fails() -> None:
    note("one\ntwo")
    with progress("counting") as report:
        report("", 1, 2)
    raise OSError("the disk is full")


def test_the_log_holds_what_was_said_and_why_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "quiet")
    with pytest.raises(OSError, match="full"), logged(tmp_path):
        fails()
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert [line[21:] for line in lines] == ["one", "two", "counting: done in 0:00:00", "stopped: the disk is full"]


def test_stages_tell_the_time_left_from_what_this_process_has_done(monkeypatch, capsys):
    clock = iter([100.0, 100.25, 110.25, 140.25])  # the first piece was finished before
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    stages = module.Stages("cell", 4)
    for number, name in enumerate("abcd", 1):
        stages.begin(number, name)
    assert capsys.readouterr().out.splitlines() == [
        "cell 1 of 4: a",
        "cell 2 of 4: b",
        "cell 3 of 4, 0:00:20 left: c",  # 10 s each
        "cell 4 of 4, 0:00:20 left: d",  # 10 s and 30 s
    ]
