"""The commands from end to end, at tiny sizes, and the mistakes that people make with them."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from order_files import bitstamp_text, lobster_texts, write_lobster
from order_files import session as order_session
from pyarrow import parquet
from recordings import real_recording, synthetic_lines, write

import bitquote
from bitquote.errors import InputError
from bitquote.run import Run
from bitquote.ternary import load_policy
from train.command import MODULES, main
from train.help import VERBS

ROOT = Path(__file__).parent.parent
GAME = ["market=game", "market.steps=20", "market.max_inventory=8", "learner=distill", "learner.epochs=2",
        "learner.iterations_per_epoch=2", "policy.hidden=[8]"]  # fmt: skip
SMALL = ["benchmark.paths=16", "benchmark.tuning.paths=4", "trainer.progress=false"]
BOOK = ["learner=ppo", "learner.epochs=1", "learner.iterations_per_epoch=2", "learner.paths=4", "policy.hidden=[8]"]


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def game_run(tmp_path_factory) -> Path:
    """The directory of a finished run in the game."""
    directory = tmp_path_factory.mktemp("runs") / "game"
    assert main(["train", *GAME, *SMALL, f"output={directory}"]) == 0
    return directory


@pytest.fixture(scope="module")
def book_run(tmp_path_factory) -> Path:
    """The directory of a finished run in the order book."""
    directory = tmp_path_factory.mktemp("runs") / "book"
    assert main(["train", *BOOK, *SMALL, f"output={directory}"]) == 0
    return directory


def complaint(capsys, *words: str) -> str:
    """What the command says about a mistake: one line on stderr, exit status 2."""
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("bitquote: ")
    return lines[0]


def test_help_and_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"bitquote {bitquote.__version__}\n"
    assert main([]) == 2
    assert main(["--help"]) == 0
    assert set(VERBS) == set(MODULES)
    for verb in VERBS:
        assert main([verb, "--help"]) == 0
        assert f"bitquote {verb}" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["game_run", "book_run"])
def test_train_leaves_a_whole_run(name, request):
    directory = request.getfixturevalue(name)
    run = Run.load(directory)
    config = yaml.safe_load((directory / "config.yaml").read_text())
    assert run.policy.metadata["market"] == config["market"]
    assert run.benchmark["market"] == config["market"]["name"]
    assert "policy" in [row["quoter"] for row in run.benchmark["rows"]]
    assert run.metrics["updates"] > 0
    assert len(list(directory.glob("events.out.tfevents.*"))) == 2
    for picture in ("quotes", "episode", "benchmark"):
        assert (directory / f"{picture}.png").stat().st_size > 10_000
    assert "bitquote train" in (directory / "report.html").read_text()
    assert len((directory / "benchmark.csv").read_text().splitlines()) == 1 + len(run.benchmark["rows"])


@pytest.mark.slow
def test_events_hold_the_numbers_of_the_benchmark(game_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(game_run), size_guidance={"scalars": 0})
    events.Reload()
    for row in json.loads((game_run / "benchmark.json").read_text())["rows"]:
        shown = events.Scalars(f"benchmark/{row['quoter']}/objective")[-1].value
        assert shown == pytest.approx(row["objective"], rel=1e-6)


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(game_run, capsys):
    before = {path: path.stat().st_mtime_ns for path in game_run.rglob("*") if path.is_file()}
    assert main(["train", f"run={game_run}"]) == 0
    assert "tensorboard --logdir" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in game_run.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_benchmark_of_a_run(game_run, capsys):
    assert main(["benchmark", f"run={game_run}", "benchmark.paths=32", "output=again/result.json"]) == 0
    result = json.loads(Path("again/result.json").read_text())
    assert result["paths"] == 32
    assert "output=again/result.json" in Path("again/result.html").read_text()
    assert not Path("again/report.html").exists()
    before = json.loads((game_run / "benchmark.json").read_text())
    assert result["rows"][0]["objective"] == before["rows"][0]["objective"]
    assert "was trained in a game" in complaint(capsys, "benchmark", f"run={game_run}", "market=order_book")
    assert "same training seed" in complaint(capsys, "benchmark", f"run={game_run},{game_run}")


@pytest.mark.slow
def test_quotes_and_fills_are_logged(game_run, capsys):
    words = ["benchmark", f"run={game_run}", "output=b.json"]
    assert main([*words, "log=log", "log_paths=3"]) == 0
    rows = {row["quoter"] for row in json.loads(Path("b.json").read_text())["rows"]}
    assert {path.stem for path in Path("log").iterdir()} == rows
    assert parquet.read_metadata("log/policy.parquet").num_rows == 3 * 20
    Path("file").touch()
    Path("b.json").unlink()
    assert "cannot write to the directory file" in complaint(capsys, *words, "log=file")
    assert "log_paths is 'x'" in complaint(capsys, *words, "log=log", "log_paths=x")
    assert "without log=" in complaint(capsys, *words, "log_paths=3")
    assert not Path("b.json").exists()


@pytest.mark.slow
def test_benchmark_refuses_the_policy_of_another_market(game_run, book_run, tmp_path, capsys):
    for name, policy in (("config.yaml", game_run), ("policy.safetensors", book_run)):
        (tmp_path / name).write_bytes((policy / name).read_bytes())
    assert "another market" in complaint(capsys, "benchmark", f"run={tmp_path}")
    (tmp_path / "policy.safetensors").write_bytes(b"\0" * 100)
    assert "policy.safetensors" in complaint(capsys, "benchmark", f"run={tmp_path}")
    assert "another market or objective" in complaint(capsys, "benchmark", f"run={game_run},{book_run}")


@pytest.mark.slow
def test_export_writes_a_policy(game_run, capsys):
    assert main(["export", f"run={game_run}", "output=new/policy.safetensors"]) == 0
    exported, trained = load_policy("new/policy.safetensors"), load_policy(game_run / "policy.safetensors")
    observation = [1.0] * trained.observation_size
    assert exported.quote(observation) == trained.quote(observation)
    assert "must be one of safetensors, c" in complaint(capsys, "export", f"run={game_run}", "target=d", "output=x.d")


@pytest.mark.slow
def test_export_writes_c(game_run, capsys):
    assert main(["export", f"run={game_run}", "target=c", "output=new/my-quoter.c"]) == 0
    source = Path("new/my-quoter.c").read_text(encoding="ascii")
    assert "void my_quoter_quote(const double *observation, double *half_spread, double *skew);" in source
    assert '"kind": "game"' in source
    assert "must end in .c" in complaint(capsys, "export", f"run={game_run}", "target=c", "output=x.safetensors")
    Path("taken.c").mkdir()
    assert "taken.c: cannot be written" in complaint(capsys, "export", f"run={game_run}", "target=c", "output=taken.c")


@pytest.mark.slow
def test_sweep_goes_on_where_it_stopped(capsys):
    words = [*GAME, *SMALL, "learner.epochs=1", "seed=1,2", "output=sweep"]
    assert main(["sweep", *words]) == 0
    capsys.readouterr()
    first = Path("sweep/0/benchmark.json").read_bytes()
    Path("sweep/1/benchmark.json").unlink()
    assert main(["sweep", "run=sweep"]) == 0
    assert Path("sweep/0/benchmark.json").read_bytes() == first
    rows = json.loads(Path("sweep/sweep.json").read_text())["runs"]
    assert [row["overrides"][-1] for row in rows] == ["seed=1", "seed=2"]
    assert all(row["regret"] > 0 for row in rows)
    assert main(["benchmark", "run=sweep", "output=both.json"]) == 0
    names = [row["quoter"] for row in json.loads(Path("both.json").read_text())["rows"]]
    assert {"policy", "policy:1", "policy:2"} <= set(names)
    assert main(["benchmark", "run=sweep"]) == 0
    assert Path("sweep/benchmark.json").read_bytes() == Path("both.json").read_bytes()
    assert Path("sweep/0/benchmark.json").read_bytes() == first


@pytest.mark.slow
def test_python_functions_return_what_the_commands_write():
    run = bitquote.train(*GAME, *SMALL, seed=5, output="mine")
    assert run.directory == Path("mine")
    assert run.benchmark == json.loads(Path("mine/benchmark.json").read_text())
    result = bitquote.benchmark(market="game", output="b.json", benchmark={"paths": 16, "tuning": {"paths": 4}})
    assert result == json.loads(Path("b.json").read_text())
    with pytest.raises(InputError, match=r"unknown key 'market\.gmma'"):
        bitquote.train("market=game", market={"gmma": 1})


@pytest.mark.slow
def test_calibrate_makes_a_market_that_trains(capsys):
    recording = real_recording("spot")
    assert main(["calibrate", f"data={recording}", "output=new/mine.yaml", "name=mine"]) == 0
    assert Path("new/mine.png").stat().st_size > 10_000
    assert "95 % interval" in capsys.readouterr().out
    assert main(["benchmark", "market=new/mine.yaml", "output=b.json", *SMALL]) == 0
    result = json.loads(Path("b.json").read_text())
    assert result["market"] == "mine"
    assert "markout_1s" in result["recording"]


def test_replay_reports_and_quotes(tmp_path, capsys):
    write(tmp_path / "levels.gz", synthetic_lines(updates=400))
    played = order_session(0, 700, (0.6, 0.12, 0.2, 0.08, 0.0))
    (tmp_path / "bitstamp.csv").write_text(bitstamp_text(played))
    messages, books = write_lobster(tmp_path, lobster_texts(played, 0))
    for words, told in (
        (["data=levels.gz"], "added: a new level"),
        (["data=bitstamp.csv"], "198 changed"),
        ([f"data={messages}", f"order_book={books}"], "as recorded after 100.0000%"),
    ):
        assert main(["replay", *words]) == 0
        assert told in capsys.readouterr().out
    rules = ["market=order_book", "market.venue.tick=0.01", "market.venue.decision_interval=0.01",
             "market.venue.latency_new=0.002", "market.venue.latency_cancel=0.002", "market.venue.decisions=20",
             "market.closed_form.k=400", "start=0.05"]  # fmt: skip
    words = ["replay", f"data={messages}", f"order_book={books}", *rules, "quoter=glft,symmetric", "output=new/it.json"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "places in queues are exact" in text
    assert "Nobody in the recording reacts to the maker" in text
    result = json.loads(Path("new/it.json").read_text())
    assert result["replay"]["agreement"]["share"] == 1.0
    assert [row["quoter"] for row in result["quoted"]["rows"]] == ["no_quote", "glft", "symmetric"]
    idle, quoting, _ = result["quoted"]["rows"]
    assert (idle["fills"], idle["profit"]["mean"]) == (0, 0.0)
    assert quoting["fills"] > 10
    assert sum(quoting["attribution"].values()) == pytest.approx(quoting["profit"]["mean"])
    assert quoting["profit"]["low"] < quoting["profit"]["mean"] < quoting["profit"]["high"]
    assert quoting["markout"]["low"] < quoting["markout"]["mean"] < quoting["markout"]["high"]
    assert bitquote.replay(data=str(messages))["replay"]["agreement"] is None
    for name, content in (("letter", b"Dear sir"), ("cut.xz", b"\xfd7zXZ\x00"), ("empty", b"")):
        Path(name).write_bytes(content)
        assert name in complaint(capsys, "replay", f"data={name}")
    assert "it belongs to LOBSTER" in complaint(capsys, "replay", "data=levels.gz", f"order_book={books}")


def test_a_replay_tunes_nothing_before_recording_and_market_fit(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("train.replaying.tune", None)
    write(tmp_path / "levels.gz", synthetic_lines(updates=400))
    assert "no such file" in complaint(capsys, "replay", "data=missing.gz", "market=order_book")
    assert "market.venue.tick is 0.01" in complaint(capsys, "replay", "data=levels.gz", "market=order_book")


def session(leader: int) -> list[int]:
    """Processes that run in the session of `leader`."""
    members = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, member = path.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):  # it has gone
            continue
        if int(member) == leader and state != "Z":
            members.append(int(path.parent.name))
    return members


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize("server", ["none", pytest.param("shm", marks=pytest.mark.study)])
def test_ctrl_c_leaves_a_run_that_can_be_resumed(server, tmp_path):
    words = [*GAME, *SMALL, "learner.epochs=100000", f"server={server}", "output=stopped"]
    if server != "none":
        words += ["server.allow_oversubscription=true", "server.heartbeat=200", "server.deadline=250"]
    command = [sys.executable, "-m", "train", "train", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # As a terminal does it: every process of the command gets the signal, which what runs in the background ignores.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, env=environment, text=True, start_new_session=True, preexec_fn=heard, **pipes
    ) as process:
        while not Path("stopped/checkpoints/last.ckpt").exists() and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130, errors
    assert errors.strip() == "bitquote: interrupted; go on with: bitquote train run=stopped"
    for _ in range(200):  # what watches over shared memory ends itself when the command has ended
        if not session(process.pid):
            break
        time.sleep(0.1)
    assert session(process.pid) == []
    config = Path("stopped/config.yaml")
    config.write_text(config.read_text().replace("epochs: 100000", "epochs: 1"))
    assert main(["train", "run=stopped"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown verb 'trian'"),
        (["train", "market"], "write key=value"),
        (["train", "--market=game"], "write key=value"),
        (["train", "market=gmae"], "did you mean 'game'"),
        (["train", "market.gamm=1"], "did you mean 'market.gamma'"),
        (["train", "market.gamma=-1"], "gamma"),
        (["train", "output="], "output= is empty"),
        (["train", "output=a", "output=b"], "output= is given twice"),
        (["train", "server=shn"], "did you mean 'shm'"),
        (["train", "server.workers=2"], "there is no server; choose one with server=shm"),
        (["train", "server=shm", "server.workers=1000"], "server.workers is 1000: this machine has"),
        (["train", "server=shm", "server.aggregate=sum"], "server.aggregate is 'sum': must be each"),
        (["train", "server=inproc", "server.workers=2"], "must be 1 with server.engine=inproc"),
        (["train", "server=shm", "server.address=/nowhere/s"], "server.address is '/nowhere/s'"),
        (["sweep", "server=shm", "server.tau=1,-1"], "server.tau is -1"),
        (["kernels", "market=game"], "kernels takes no keys"),
        (["train", "run=nowhere"], "holds no run"),
        (["train", "run=nowhere", "seed=1"], "seed cannot be given here"),
        (["benchmark", "run=nowhere"], "holds no run"),
        (["benchmark", "data=x"], "unknown key 'data'"),
        (["sweep", "run=nowhere"], "holds no sweep"),
        (["sweep", "seed=1,,2"], "seed: cannot read the list"),
        (["sweep", "seed=range(0,100000)"], "at most 1000"),
        (["sweep", "market=game", "seed=1,-2"], "seed is -2"),
        (["export", "run=nowhere", "output=x"], "holds no run"),
        (["export", "output=x"], "run= is missing"),
        (["export", "run=x", "output=x", "markt=y"], "markt cannot be given here"),
        (["replay"], "data= is missing"),
        (["replay", "data=missing.gz"], "missing.gz: there is no such file"),
        (["replay", "data=x", "markt=calm"], "markt cannot be given here"),
        (["replay", "data=x", "quoter=glft"], "needs a market to quote by"),
        (["replay", "data=x", "market=calm", "quoter=glfd"], "did you mean 'glft'"),
        (["replay", "data=x", "market=game", "quoter=glft"], "market is a game"),
        (["replay", "data=x", "market=calm", "queue_model=power"], "queue_model=power is unknown"),
        (["replay", "data=x", "market=calm", "latency=soon"], "latency is 'soon'"),
        (["replay", "data=x", "run=nowhere"], "holds no run"),
        (["replay", "data=x", "output=x.csv"], "must end in .json"),
        (["calibrate", "output=x.yaml"], "data= is missing"),
        (["calibrate", "data=missing.gz", "output=x.yaml"], "missing.gz"),
        (["calibrate", "data=missing.gz", "output=x.txt"], "must end in .yaml"),
        (["calibrate", "data=missing.gz", "output=x.yaml", "tick=abc"], "tick is 'abc': must be a number"),
        (["calibrate", "data=missing.gz", "output=x.yaml", "tick=nan"], "tick is nan"),
        (["calibrate", "data=missing.gz", "output=x.yaml", "tik=1"], "did you mean 'tick'"),
        *(
            (words.split(), f"did you mean '{meant}'?")
            for words, meant in (
                ("trian", "train"),
                ("docter", "doctor"),
                ("train markt=game", "market"),
                ("train outptu=x", "output"),
                ("train market=toxc", "toxic"),
                ("train learner=pathwize", "pathwise"),
                ("train objective=penality", "penalty"),
                ("train policy.architecture=ternry", "ternary"),
                ("train market.venue.requote=fil", "fill"),
                ("benchmark market=calm,toxc", "toxic"),
                ("sweep learner=pathwise,pppo", "ppo"),
                ("export rn=x", "run"),
                ("replay data=x markt=calm", "market"),
                ("calibrate data=missing.gz output=x.yaml format=binanse", "binance"),
            )
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_clear_line(words, message, capsys):
    assert message in complaint(capsys, *words)
    assert not Path("runs").exists()


def test_outputs_that_cannot_be_written(capsys):
    Path("file").touch()
    Path("full").mkdir()
    Path("full/letter").touch()
    assert "cannot write to the directory file" in complaint(capsys, "train", *GAME, "output=file/run")
    assert "full is not empty" in complaint(capsys, "train", *GAME, "output=full")


def test_a_full_disk_is_seen_before_any_work(monkeypatch, capsys):
    monkeypatch.setattr("bitquote.run.ROOM", 2**80)
    assert "MB free" in complaint(capsys, "train", *GAME)


def test_a_damaged_run_is_one_clear_line(tmp_path, capsys):
    from train.composition import compose

    Path("config.yaml").write_text(yaml.safe_dump(compose(["market=game"])[0]))
    Path("tuning.json").write_text("{}")
    assert "tuning.json is damaged" in complaint(capsys, "train", f"run={tmp_path}")
    Path("tuning.json").write_text("{")
    assert "is not JSON" in complaint(capsys, "train", f"run={tmp_path}")
    Path("config.yaml").write_text("{")
    assert "not valid YAML" in complaint(capsys, "train", f"run={tmp_path}")


def test_without_ray_the_engine_is_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr("bitquote.server.config.find_spec", lambda name: None)
    assert "pip install 'bitquote[ray]'" in complaint(capsys, "train", "server=ray")
    assert not Path("runs").exists()


def test_a_taken_address_is_refused_in_one_line(capsys, tmp_path):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind("socket")
        other.listen()
        words = ["server=shm", "server.workers=1", "server.address=socket"]
        assert "it is taken, another server listens there" in complaint(capsys, "train", *words)
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_failure_of_the_server_is_one_line_that_says_how_to_go_on(monkeypatch, capsys):
    from bitquote.server.errors import ServerUnavailable

    def fail(*_: object, **__: object) -> None:
        raise ServerUnavailable("no sign of life from the server for 30 s")

    monkeypatch.setattr("bitquote.learning.train", fail, raising=False)
    assert main(["train", *GAME, *SMALL, "output=here"]) == 1
    expected = "no sign of life from the server for 30 s; once that is mended, go on with: bitquote train run=here"
    assert capsys.readouterr().err == f"bitquote: {expected}\n"


def test_output_that_nobody_reads(tmp_path):
    command = f"{sys.executable} -m train --help | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stderr == ""


def test_kernels_says_which_path_and_why(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("BITQUOTE_KERNELS", "portable")
    assert main(["kernels"]) == 0
    assert capsys.readouterr().out.startswith("portable: BITQUOTE_KERNELS asks for it")
    monkeypatch.setenv("BITQUOTE_KERNELS", "fastest")
    for words in (["kernels"], ["train", "market=game", f"output={tmp_path / 'run'}"]):
        assert main(words) == 2
        assert "must be one of portable, avx2" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_several_markets_make_one_table_and_go_on(book_run, capsys):
    """Closed forms and a policy trained elsewhere; what is finished is not done again."""
    words = ["benchmark", "market=calm,stuffed", f"run={book_run}", *SMALL[:2], "output=several"]
    words += ["log=log", "log_paths=2"]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert "calm" in first and "stuffed" in first and "policy" in first
    summary = json.loads(Path("several/suite.json").read_text())
    assert list(summary["markets"]) == ["calm", "stuffed"]
    for name in summary["markets"]:
        result = json.loads(Path(f"several/{name}.json").read_text())
        assert result["market"] == name and {"policy", "glft_tuned"} <= {row["quoter"] for row in result["rows"]}
    assert Path("several/suite.png").stat().st_size > 10_000
    page = Path("several/report.html").read_text()
    assert "calm" in page and "trained in order_book and are judged outside" in page
    assert len(Path("several/suite.csv").read_text().splitlines()) == 1 + 2 * 11
    assert Path("log/calm/policy.parquet").exists() and Path("log/stuffed/glft_tuned.parquet").exists()
    written = Path("several/calm.json").stat().st_mtime_ns
    assert main(words) == 0
    assert Path("several/calm.json").stat().st_mtime_ns == written
    assert main([*words, "market.gamma=0.4"]) == 0
    assert Path("several/calm.json").stat().st_mtime_ns > written


def test_mistakes_with_several_markets(book_run, game_run, capsys):
    assert "market=clam is unknown" in complaint(capsys, "benchmark", "market=calm,clam")
    where = complaint(capsys, "benchmark", "market=calm,game", f"run={book_run}")
    assert "game is a game: the policies were trained in an order book" in where
    assert "was trained in a game" in complaint(capsys, "benchmark", "market=calm", f"run={game_run}")
    Path("file").touch()
    assert "output=file is a file" in complaint(capsys, "benchmark", "market=calm,toxic", "output=file")
    seed = "benchmark.seed is 1: must be a seed that training does not use"
    assert seed in complaint(capsys, "benchmark", "market=calm", f"run={book_run}", "benchmark.seed=1")
    searched = Path(shutil.copytree(book_run, "searched"))
    (searched / "selection.json").write_text('{"seed": 1000003, "trials": 5, "sharpe_spread": 0.1}')
    validation = "benchmark.seed is 1000003: must be another than the seed of the validation"
    assert validation in complaint(capsys, "benchmark", "market=calm", f"run={searched}", "benchmark.seed=1000003")


@pytest.mark.slow
def test_a_suite_of_ones_own_trains_judges_and_goes_on(capsys):
    """Cells of the game, two training seeds each; what is finished is neither trained nor judged again."""
    words = ["market=game", "market.steps=20", "market.horizon=0.1", "market.max_inventory=5",
             "learner.epochs=1", "learner.paths=64", "benchmark.paths=16"]  # fmt: skip
    cells = {"risky": ["market.gamma=0.01"], "timid": ["market.gamma=0.5"],
             "exact": ["market.gamma=0.5", "policy=fp32"]}  # fmt: skip
    pairs = {"weights": ["timid", "exact"]}
    suite = {"words": words, "cells": cells, "seeds": [3, 4], "pairs": pairs}
    Path("own.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
    assert main(["benchmark", "suite=own.yaml", "output=own"]) == 0
    said = capsys.readouterr().out
    assert "policy - reference" in said and "weights: timid less exact" in said
    assert "weights: timid less exact" in Path("own/report.html").read_text()
    summary = json.loads(Path("own/suite.json").read_text())
    assert list(summary["markets"]) == list(cells)
    of = {name: {row["quoter"]: row["objective"] for row in summary["markets"][name]["rows"]} for name in cells}
    gain = [of["timid"][f"policy:{seed}"] - of["exact"][f"policy:{seed}"] for seed in (3, 4)]
    assert summary["pairs"]["weights"]["mean"] == pytest.approx(sum(gain) / 2.0)
    for name, gamma in (("risky", 0.01), ("timid", 0.5)):
        result = json.loads(Path(f"own/{name}.json").read_text())
        assert result["gamma"] == gamma and result["training_seeds"] == [3, 4]
        assert {"policy:3", "policy:4", "policy"} <= {row["quoter"] for row in result["rows"]}
    written = {path: path.stat().st_mtime_ns for path in Path("own").rglob("*.json") if path.name != "suite.json"}
    assert main(["benchmark", "suite=own.yaml", "output=own"]) == 0
    assert all(path.stat().st_mtime_ns == when for path, when in written.items())
    changed = complaint(capsys, "benchmark", "suite=own.yaml", "output=own", "learner.epochs=2")
    assert "was trained with other words" in changed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cells: {a: [market=gaem]}", "market=gaem is unknown"),
        ("cells: {a: market=game}", "own.yaml: cells.a is 'market=game': must be a list of words"),
        ("cells: {}", "own.yaml: cells is {}: must be names with lists of words"),
        ("cells: {a/b: [market=game]}", "cells is 'a/b': must be a name for a file"),
        ("cells: {a: [market=game]}\nseeds: [1000000]", "benchmark.seed is 1000000: must be a seed that"),
        ("cells: {a: [market=game]}\nseeds: [1, 1]", "own.yaml: seeds is [1, 1]: must be different ones"),
        ("cell: {a: [market=game]}", "cell is unknown: must be one of description, words, cells, seeds, pairs; did"),
        ("cells: {a: [market=game], b: []}\nseeds: [1]\npairs: {c: [a, b]}", "['a', 'b']: must be two of the cells"),
        ("cells: {a: [market=game]}\nseeds: [1, 2]\npairs: {c: [a, z]}", "['a', 'z']: must be two of the cells"),
        ("cells: {a: [market=game]}\nseeds: [1, 2]\npairs: {c: [[a], {b: 1}]}", "must be two of the cells"),
        ("cells: {1: [market=game], 2: [market=calm]}\nseeds: [1, 2]\npairs: {c: [1, 2]}", "be cells of one market"),
        ("cells: {a: [market=game], b: [market=calm]}\nseeds: [1, 2]\npairs: {c: [a, b]}", "be cells of one market"),
        ("cells: {a: [market=game, benchmark.path=3]}", "unknown key 'benchmark.path'"),
    ],
)
def test_mistakes_in_a_suite(text, message, capsys):
    Path("own.yaml").write_text(text)
    assert message in complaint(capsys, "benchmark", "suite=own.yaml", "output=own")
    assert not Path("own").exists()


def test_mistakes_with_a_cluster(capsys, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert "cluster= is empty" in complaint(capsys, "benchmark", "cluster=")
    assert "no Ray cluster answers at 127.0.0.1:1" in complaint(capsys, "benchmark", "cluster=127.0.0.1:1")


def test_an_unknown_suite_is_named(capsys):
    assert "suite=scenarois is unknown: must be one of calibrated" in complaint(capsys, "benchmark", "suite=scenarois")
    assert "did you mean 'scenarios'" in complaint(capsys, "benchmark", "suite=scenarois")
    assert "cannot be given with suite=" in complaint(capsys, "benchmark", "suite=scenarios", "market=game")
