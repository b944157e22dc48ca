"""`bitquote sweep trials=...` from end to end in a tiny game, and the mistakes that people make with it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning.pytorch.callbacks import LambdaCallback
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from train import searching
from train.command import main

GAME = ["market=game", "market.A=10", "market.steps=20", "market.max_inventory=8", "learner=distill",
        "learner.epochs=6", "learner.iterations_per_epoch=2", "policy.hidden=[8]", "benchmark.paths=64",
        "benchmark.tuning.paths=4", "trainer.progress=false"]  # fmt: skip
RATE = "learner.learning_rate=tag(log,interval(1e-7,1e-2))"
SEARCH = [*GAME, RATE, "policy.baseline=choice(direct,residual)", "trials=8"]
TRIALS = range(8)


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def search(tmp_path_factory) -> Path:
    """The directory of a finished search."""
    directory = tmp_path_factory.mktemp("sweeps") / "search"
    assert main(["sweep", *SEARCH, f"output={directory}"]) == 0
    return directory


def summary(directory: Path) -> dict:
    return json.loads((directory / "sweep.json").read_text())


def policy_row(path: Path) -> dict:
    return next(row for row in json.loads(path.read_text())["rows"] if row["quoter"] == "policy")


def complaint(capsys, *words: str) -> str:
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.slow
def test_a_search_selects_by_validation_and_tests_one_policy(search):
    found = summary(search)
    rows, best = found["runs"], int(found["selected"])
    assert [row["directory"] for row in rows] == [str(number) for number in TRIALS]
    assert rows[best]["score"] == min(row["score"] for row in rows if row["state"] == "complete")
    assert [number for number in TRIALS if (search / str(number) / "benchmark.json").exists()] == [best]
    assert found["selection"]["trials"] == len(rows)
    assert set(found["importances"]) == {"learner.learning_rate", "policy.baseline"}
    assert (search / "sweep.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_trial_that_falls_behind_is_pruned(search):
    pruned = [row for row in summary(search)["runs"] if row["state"] == "pruned"]
    assert pruned
    for row in pruned:
        assert 2 <= row["epochs"] < 6
        assert not (search / row["directory"] / "policy.safetensors").exists()
        assert (search / row["directory"] / "checkpoints" / "last.ckpt").exists()
    finished = [row for row in summary(search)["runs"] if row["state"] == "complete"]
    assert len(finished) >= searching.STARTUP
    assert {row["epochs"] for row in finished} == {6}


@pytest.mark.slow
def test_the_number_of_trials_deflates_the_sharpe_ratio(search, capsys):
    found = summary(search)
    row = policy_row(search / found["selected"] / "benchmark.json")
    assert found["selection"]["sharpe_spread"] > 0.0
    assert 0.0 <= row["deflated_sharpe_ratio"] <= 1.0
    assert main(["benchmark", f"run={search}", "output=again.json"]) == 0
    again = json.loads(Path("again.json").read_text())
    assert policy_row(Path("again.json")) == row
    assert again["selection"] == found["selection"]
    assert "benchmark.seed is 1000003" in complaint(capsys, "benchmark", f"run={search}", "benchmark.seed=1000003")


@pytest.mark.slow
def test_an_interrupted_search_ends_with_the_same_trials(search, monkeypatch, capsys):
    def stopped(trainer, module):
        if trainer.current_epoch == 3:
            raise KeyboardInterrupt

    def learn(directory, settings, market, callbacks, learn=searching.learn):
        more = [LambdaCallback(on_validation_end=stopped)] if directory.name == "2" else []
        learn(directory, settings, market, [*callbacks, *more])

    with monkeypatch.context() as patched:
        patched.setattr(searching, "learn", learn)
        assert main(["sweep", *SEARCH, "output=stopped"]) == 130
    assert "go on with: bitquote sweep run=stopped" in capsys.readouterr().err
    assert [row["state"] for row in summary(Path("stopped"))["runs"]] == ["complete", "complete"]
    assert "has no finished run yet" in complaint(capsys, "benchmark", "run=stopped")
    assert main(["sweep", "run=stopped"]) == 0
    assert summary(Path("stopped")) == summary(search)
    assert main(["sweep", "run=stopped"]) == 0
    assert summary(Path("stopped")) == summary(search)


@pytest.mark.slow
def test_a_search_in_the_order_book(capsys):
    words = ["learner=ppo", "learner.epochs=1", "learner.iterations_per_epoch=2", "learner.paths=4",
             "policy.hidden=choice([4],[8])", *GAME[-3:], "benchmark.paths=8", "trials=2", "output=search"]  # fmt: skip
    assert main(["sweep", *words]) == 0
    found = summary(Path("search"))
    assert found["score"] == {"name": "objective", "lower_is_better": False}
    assert max(row["score"] for row in found["runs"]) == found["runs"][int(found["selected"])]["score"]
    row = policy_row(Path("search") / found["selected"] / "benchmark.json")
    assert row["deflated_sharpe_ratio"] is None or 0.0 <= row["deflated_sharpe_ratio"] <= 1.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([RATE, "trials=0"], "trials is '0': must be an integer from 1 to 1000"),
        ([RATE, "trials=many"], "trials is 'many'"),
        (["trials=4"], "without anything to search"),
        ([RATE], "learner.learning_rate=tag(log,interval(1e-7,1e-2)) has no end of values"),
        (["learner.learning_rat=interval(0.1,1)", "trials=4"], "did you mean 'learner.learning_rate'"),
        (["learner.learning_rate=intervall(0.1,1)", "trials=4"], "cannot search 'intervall(0.1,1)'"),
        (["learner.learning_rate=interval(1,0.1)", "trials=4"], "learner.learning_rate: cannot search"),
        (["learner.learning_rate=tag(log,interval(0,1))", "trials=4"], "learner.learning_rate: cannot search"),
        (["learner.learning_rate=interval(-1,1)", "trials=4"], "learner.learning_rate is -1"),
        (["policy.baseline=choice(direct,residul)", "trials=4"], "policy.baseline is 'residul'"),
        (["learner.epochs=range(4,4)", "trials=4"], "learner.epochs: cannot search"),
        (["market.gamma=interval(0.1,1)", "trials=4"], "market.gamma cannot be searched"),
        (["seed=1,2", "trials=4"], "seed cannot be searched"),
        ([RATE, "benchmark.seed=1000003", "trials=4"], "benchmark.seed is 1000003"),
        ([RATE, "benchmark.tuning.seed=1000003", "trials=4"], "benchmark.tuning.seed is 1000003"),
        ([RATE, "seed=1000003", "trials=4"], "seed is 1000003"),
        ([RATE, "server=inproc", "trials=4"], "server is 'inproc': must be none in a search"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_clear_line_before_any_training(words, message, capsys):
    assert message in complaint(capsys, "sweep", *GAME[:-4], *words)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "search.journal is missing"),
        (b"\xff\xfe letter\n" * 3, "search.journal is damaged"),
        (b"[]\n{}\n", "search.journal is damaged"),
        (b'{"op_code": 4, "worker_id": "a"}\n{}\n', "search.journal is damaged"),
    ],
)
def test_a_journal_that_cannot_be_read_is_one_clear_line(content, message, capsys):
    Path("search").mkdir()
    asked = {"trials": 4, "words": [*GAME, RATE]}
    Path("search/sweep.json").write_text(json.dumps({"version": 1, "search": asked, "runs": []}))
    if content is not None:
        Path("search/search.journal").write_bytes(content)
    assert message in complaint(capsys, "sweep", "run=search")
    Path("search/sweep.json").write_text(json.dumps({"version": 1, "search": {"trials": "4"}, "runs": []}))
    assert "sweep.json is damaged" in complaint(capsys, "sweep", "run=search")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interval(1,4)", FloatDistribution(1.0, 4.0)),
        ("int(interval(1,4))", IntDistribution(1, 4)),
        ("tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("range(1,10,4)", IntDistribution(1, 9, step=4)),
        ("range(10,1,-3)", IntDistribution(4, 10, step=3)),
        ("choice([8,8],[4])", CategoricalDistribution(["[8,8]", "[4]"])),
        ("range(0.5,1.5,0.5)", CategoricalDistribution(["0.5", "1.0"])),
        ("a,b,a", CategoricalDistribution(["a", "b"])),
    ],
)
def test_hydras_grammar_becomes_a_distribution(text, expected):
    assert searching._distribution(OverridesParser.create().parse_override(f"x={text}")) == expected


def test_the_ratio_of_a_profit_that_does_not_vary_is_none():
    assert searching._sharpe_ratio({"profit/mean": 1.0, "profit/std": 0.0}) is None
    assert searching._sharpe_ratio({"profit/mean": math.nan, "profit/std": 1.0}) is None
    assert searching._sharpe_ratio({"profit/mean": 1.0, "profit/std": 2.0}) == 0.5
