"""Walk-forward evaluation: recordings in order, cut stretches, and what a quoter loses on the next market."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from order_files import lobster_texts, session
from planted import simulated_recording
from recordings import real_recording, synthetic_lines, write

from bitquote.calibration import fit_volatility, read_recording, taker_orders
from bitquote.calibration import market as market_module
from bitquote.calibration.walk_forward import check_sequence, stretch
from bitquote.errors import InputError
from bitquote.market.configuration import shipped_configuration
from bitquote.recorded import Recording, read_binance
from train.command import main
from train.walking import print_walk, walk_forward

SMALL = ("benchmark.paths=32", "benchmark.tuning.paths=8", "benchmark.tuning.shifts=[-60,-30,0,30]")
TINY_TRAINING = ("learner=ppo", "learner.epochs=1", "learner.iterations_per_epoch=2", "learner.paths=4",
                 "policy.hidden=[8]", "trainer.progress=false")  # fmt: skip


@pytest.fixture(scope="module")
def whole() -> Recording:
    return simulated_recording(shipped_configuration("btcusdt_spot"), 600.0, 4)


@pytest.fixture(scope="module")
def halves(whole: Recording) -> list[Recording]:
    return [stretch(whole, 1.0, 300.0), stretch(whole, 300.0, 599.0)]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short simulations in the matching loop."""
    monkeypatch.setattr(market_module, "MATCHING_SECONDS", 300.0)
    monkeypatch.setattr(market_module, "CHECK_SECONDS", 600.0)


def test_a_stretch_is_that_part_of_the_tape(whole: Recording, halves: list[Recording]) -> None:
    first, second = halves
    assert second.start - first.start == 299 * 10**9
    tape = whole.tape
    inside = (tape.trade_time >= 300.0) & (tape.trade_time <= 599.0)
    np.testing.assert_allclose(second.tape.trade_time, tape.trade_time[inside] - 300.0)
    np.testing.assert_array_equal(second.tape.trade_price, tape.trade_price[inside])
    assert second.tape.quote_time[0] == 0.0  # the quote in force opens it
    at = np.searchsorted(tape.quote_time, 300.0, side="right") - 1
    assert (second.tape.bid[0], second.tape.ask[0]) == (tape.bid[at], tape.ask[at])
    assert len(second.tape.depth) == len(second.tape.snapshot_time)
    assert 0.0 <= second.changes.time[0] <= second.changes.time[-1] <= 299.0
    assert first.duration <= 299.0
    orders = taker_orders(whole.tape).time
    between = np.count_nonzero((orders >= 1.0) & (orders <= 599.0))
    assert len(taker_orders(first.tape).time) + len(taker_orders(second.tape).time) == between
    assert fit_volatility(second.tape).value > 0.0


def test_recordings_in_order_pass_and_others_are_refused_by_name(halves: list[Recording]) -> None:
    first, second = (replace(half, path=Path(name)) for half, name in zip(halves, ("one.gz", "two.gz"), strict=True))
    check_sequence([first, second])
    for recordings, message in (
        ([first], "it needs at least two"),
        ([second, first], r"one\.gz begins before two\.gz"),
        ([first, replace(second, start=first.start + 10**9)], r"two\.gz overlaps with one\.gz"),
        ([first, replace(second, symbol="XYZ")], "two.gz is of simulated spot XYZ: must be of simulated spot A"),
        ([first, replace(second, kind="usdm")], "is of simulated usdm"),
    ):
        with pytest.raises(InputError, match=message):
            check_sequence(recordings)


def test_days_of_lobster_follow_each_other_by_their_names(tmp_path: Path) -> None:
    text, _ = lobster_texts(session(0, 300, (0.62, 0.1, 0.16, 0.12, 0.0)), 0)
    names = [f"ABC_{day}_34200000_57600000_message_3.csv" for day in ("2015-04-30", "2015-05-01", "2015-02-31")]
    one, other, impossible, undated = (tmp_path / name for name in (*names, "messages.csv"))
    for path in (one, other, impossible, undated):
        path.write_text(text)
    earlier, later, unknown = (read_recording(path) for path in (one, other, undated))
    check_sequence([earlier, later])
    assert later.start - earlier.start == 86_400 * 10**9
    with pytest.raises(InputError, match=r"begins before .*message_3\.csv: it begins at 2015-04-30 09:30:00"):
        check_sequence([later, earlier])
    with pytest.raises(InputError, match=r"messages\.csv does not tell its day"):
        check_sequence([earlier, unknown])
    with pytest.raises(InputError, match="the day 2015-02-31"):
        read_recording(impossible)


@pytest.mark.parametrize(("first", "last"), [(-1.0, 5.0), (5.0, 5.0), (5.0, 1e9), (float("nan"), 5.0)])
def test_an_impossible_stretch_is_refused(whole: Recording, first: float, last: float) -> None:
    with pytest.raises(InputError, match=r"(first|last) is"):
        stretch(whole, first, last)


def test_mistakes_show_before_the_first_calibration(
    halves: list[Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.walking.calibrated_market", None)
    for words, trains, message in (
        (("benchmark.path=5",), False, "did you mean 'benchmark.paths'"),
        (("benchmark.seed=2000000",), False, "another than benchmark.tuning.seed"),
        (("benchmark.seed=7", "seed=7"), True, "a seed that training does not use"),
    ):
        with pytest.raises(InputError, match=message):
            walk_forward(halves, tmp_path / "walk", words, trains=trains)
    assert not (tmp_path / "walk").exists()


def test_all_markets_have_one_step_and_what_paths_do_not_tell_is_left_out(
    halves: list[Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[float | None] = []

    def calibrated(recording: Recording, step: float | None = None) -> dict[str, Any]:
        steps.append(step)
        return shipped_configuration("order_book")

    monkeypatch.setattr("train.walking.calibrated_market", calibrated)
    # A certainty equivalent takes 10 000 paths.
    words = ("benchmark.paths=32", "benchmark.tuning.paths=8", "objective=cara")
    (row,) = (result := walk_forward(halves, tmp_path / "walk", words))["rows"]
    assert steps == [None, 0.01]
    assert [row[name] for name in ("in_sample", "out_of_sample", "attainable", "loss")] == [None] * 4
    print_walk(result)
    assert "- [-, -]" in capsys.readouterr().out


@pytest.mark.study
def test_quotes_tuned_on_one_market_are_judged_on_the_next(
    quick: None, halves: list[Recording], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = walk_forward(halves, tmp_path / "walk", SMALL)
    assert json.loads((tmp_path / "walk" / "walk_forward.json").read_text()) == result
    assert (tmp_path / "walk" / "0.yaml").exists()
    (row,) = result["rows"]
    assert (row["made_on"], row["tested_on"]) == tuple(result["markets"])
    assert row["loss"][0] == pytest.approx(row["attainable"][0] - row["out_of_sample"][0])
    for name in ("in_sample", "out_of_sample", "attainable", "loss"):
        mean, low, high = row[name]
        assert low <= mean <= high
    print_walk(result)
    assert "glft_tuned" in capsys.readouterr().out
    with pytest.raises(InputError, match="is not empty"):
        walk_forward(halves, tmp_path / "walk", SMALL)


@pytest.mark.study
def test_a_policy_is_trained_on_the_earlier_market(quick: None, halves: list[Recording], tmp_path: Path) -> None:
    result = walk_forward(halves, tmp_path / "walk", (*SMALL, *TINY_TRAINING), trains=True)
    assert [row["quoter"] for row in result["rows"]] == ["glft_tuned", "policy"]
    assert (tmp_path / "walk" / "run_0" / "policy.safetensors").exists()


@pytest.mark.study
def test_halves_of_a_real_recording_are_walked(quick: None, tmp_path: Path) -> None:
    recording = read_binance(real_recording("spot"))
    middle = recording.duration / 2
    parts = [stretch(recording, 0.1, middle), stretch(recording, middle, recording.duration)]
    (row,) = walk_forward(parts, tmp_path / "walk", SMALL, gap=0.1)["rows"]
    assert np.isfinite([row[name] for name in ("in_sample", "out_of_sample", "attainable", "loss")]).all()


def test_the_command_refuses_what_cannot_be_walked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.gz", "b.gz"):
        write(tmp_path / name, synthetic_lines())
    for words, message in (
        (["data=a.gz,b.gz", "output=walk"], "b.gz overlaps with a.gz"),
        (["data=a.gz,c.gz", "output=walk"], "c.gz"),
        (["data=a.gz,b.gz"], "output= is missing"),
        (["data=a.gz,b.gz", "output=walk", "train=yes"], "train is 'yes': must be one of true, false"),
        (["data=a.gz", "output=a.yaml", "train=true"], "several recordings"),
    ):
        assert main(["calibrate", *words]) == 2
        assert message in capsys.readouterr().err
