"""The contract page (names, shapes, signs, formats), one test a heading; what has files of its own is not repeated."""

from __future__ import annotations

import json
import math
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import yaml
from gymnasium.vector import AutoresetMode
from numba import njit
from safetensors import safe_open

import bitquote
from bitquote import quoting
from bitquote.book import MESSAGE, TRADE, OrderBook
from bitquote.market import Game, GameParameters
from bitquote.ternary import load_policy
from train.command import main

SMALL = ["benchmark.paths=20", "benchmark.tuning.paths=8", "learner.epochs=1", "learner.iterations_per_epoch=2",
         "trainer.progress=false", "threads=1"]  # fmt: skip
WORDS = {"game": ["market=game", "market.steps=40"], "order_book": ["market.venue.decisions=40"]}
HEADER = {"version", "market", "objective", "gamma", "units", "paths", "seed", "training_seeds", "dt",
          "fill_convention", "mid_convention", "reference", "liquidation", "rows"}  # fmt: skip
EVALUATED = ["mean_profit", "std_profit", "mean_terminal_inventory", "std_terminal_inventory", "mean_spread",
             "certainty_equivalent", "objective"]  # fmt: skip
FIGURES = [*EVALUATED, "fills", "turnover", "max_drawdown", "regret", "ci_low", "ci_high", "normalised_gap"]
PARTS = {"spread", "adverse_selection", "inventory", "fees", "liquidation"}
NAMES = ["no_quote", "symmetric_constant", "symmetric", "avellaneda_stoikov", "glft_asymptotic", "glft", "glft_tuned",
         "cartea_jaimungal", "dynamic_program_penalty", "dynamic_program_cara", "policy"]  # fmt: skip
REFERENCE = {"game": "dynamic_program_penalty", "order_book": "glft_tuned"}
TINY = GameParameters(140, 1.5, 2, 0.1, 0.1, 20, 5, "linear", "two_point")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=WORDS)
def run(request, tmp_path_factory):
    """A finished run of each market, made by the Python API."""
    directory = tmp_path_factory.mktemp("contract") / request.param
    return bitquote.train(*WORDS[request.param], *SMALL, seed=3, output=directory)


def test_run_directory(run):
    files = {path.name for path in run.directory.iterdir()}
    assert {"policy.safetensors", "config.yaml", "metrics.json", "benchmark.json", "checkpoints"} <= files
    assert any(name.startswith("events.out.tfevents") for name in files)
    with safe_open(run.directory / "policy.safetensors", "np") as file:
        metadata = {name: json.loads(text) for name, text in file.metadata().items()}
    assert {"version", "architecture", "observation_names", "observation_ranges", "action_scale"} <= metadata.keys()
    config = yaml.safe_load((run.directory / "config.yaml").read_text())
    assert metadata["market"] == config["market"] and config["seed"] == 3 and "${" not in str(config)
    torch = pytest.importorskip("torch")
    for path in (run.directory / "checkpoints").iterdir():
        assert "state_dict" in torch.load(path, weights_only=True)
    assert run.metrics == json.loads((run.directory / "metrics.json").read_text())


def test_benchmark_json(run):
    def refuse(text):
        raise AssertionError(f"{text} in benchmark.json")

    result = json.loads((run.directory / "benchmark.json").read_text(), parse_constant=refuse)
    assert result == run.benchmark
    assert result.keys() >= HEADER and result["training_seeds"] == [3] and result["paths"] == 20
    rows = {row["quoter"]: row for row in result["rows"]}
    assert list(rows) == NAMES and len(result["rows"]) == len(NAMES)
    exact = result["market"] == "game"
    reference = rows[result["reference"]]
    assert result["reference"] == REFERENCE[result["market"]] and reference["regret"] == 0.0
    for row in rows.values():
        assert {*FIGURES, "exact", "attribution"} <= row.keys() and row["exact"] is exact
        assert all(row[name] is None or isinstance(row[name], float) for name in FIGURES)
        assert row["attribution"].keys() == PARTS
        assert math.fsum(row["attribution"].values()) == pytest.approx(row["mean_profit"], abs=1e-9)
        assert row["regret"] == pytest.approx(reference["objective"] - row["objective"], abs=1e-9)
        assert row["ci_low"] <= row["regret"] <= row["ci_high"]
        if exact:
            worst = reference["objective"] - rows["symmetric_constant"]["objective"]
            assert row["ci_low"] == row["ci_high"] and row["regret"] > -1e-9
            assert row["normalised_gap"] == pytest.approx(row["regret"] / worst)
        else:
            assert row["normalised_gap"] is None
    assert rows["no_quote"]["mean_profit"] == rows["no_quote"]["fills"] == 0.0
    assert rows["no_quote"]["mean_spread"] is None


def test_policy(run):
    policy = load_policy(run.directory / "policy.safetensors")
    observation = np.linspace(-1.0, 1.0, policy.observation_size)
    kernel = policy.kernel

    @njit
    def compiled(observation, arguments):
        return kernel(observation, *arguments)

    half_spread, skew = policy.quote(observation)
    assert type(half_spread) is type(skew) is float and policy.no_quote > 0.0
    assert compiled(observation, policy.arguments) == (half_spread, skew)
    with pytest.raises(ValueError, match="observation"):
        policy.quote(observation[:-1])


def test_command_line(run, tmp_path, capsys):
    """A benchmark of a run is its benchmark again; damage is one clear line that nothing is lost by."""
    output = tmp_path / "again.json"
    assert main(["benchmark", f"run={run.directory}", f"output={output}"]) == 0
    assert json.loads(output.read_text())["rows"] == run.benchmark["rows"]
    capsys.readouterr()
    policy = (run.directory / "policy.safetensors").read_bytes()
    for name, content in {"flipped": policy[:-9] + bytes([policy[-9] ^ 64]) + policy[-8:], "cut": policy[:500]}.items():
        copy = tmp_path / name
        copy.mkdir()
        (copy / "config.yaml").write_bytes((run.directory / "config.yaml").read_bytes())
        (copy / "policy.safetensors").write_bytes(content)
        assert "policy.safetensors" in complaint(capsys, "benchmark", f"run={copy}")
    (tmp_path / "cut" / "tuning.json").write_bytes((run.directory / "tuning.json").read_bytes())
    (tmp_path / "cut" / "checkpoints").mkdir()
    (tmp_path / "cut" / "checkpoints" / "last.ckpt").write_bytes(b"junk")
    assert "last.ckpt is damaged" in complaint(capsys, "train", f"run={tmp_path / 'cut'}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train market.gama=1", "did you mean 'market.gamma'"),
        ("train market=game market.sigma=nan", "sigma is nan"),
        ("train market=game market.k=0", "k is 0"),
        ("train market=nowhere.yaml", "cannot read nowhere.yaml"),
        ("train objective=sharpe", "must be one of penalty, cara"),
        ("train seed=7 benchmark.seed=7", "benchmark.seed is 7"),
        ("sweep seed=7,8 benchmark.tuning.seed=8", "benchmark.tuning.seed is 8"),
        ("train output=/dev/null/run", "cannot write"),
        ("benchmark market=game output=.", "is a directory"),
        ("benchmark run=nowhere", "holds no run"),
        ("calibrate data=nowhere.gz output=x.yaml", "nowhere.gz"),
    ],
)
def test_bad_input(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert message in complaint(capsys, *words.split())
    assert not list(Path().iterdir())


@pytest.mark.parametrize("content", ["[]", "{}", "{"])
@pytest.mark.parametrize("name", ["benchmark.json", "metrics.json"])
def test_damaged_figures(name, content, run, tmp_path, capsys):
    for file in ("config.yaml", "metrics.json", "benchmark.json"):
        (tmp_path / file).write_bytes((run.directory / file).read_bytes())
    (tmp_path / name).write_text(content)
    assert f"{name} is damaged" in complaint(capsys, "train", f"run={tmp_path}")


def test_order_book():
    kinds = {"time": "i8", "kind": "i1", "side": "i1", "order_id": "i8", "price": "i8", "quantity": "i8"}
    assert np.dtype([*kinds.items(), ("flags", "i1")]) == MESSAGE
    assert MESSAGE.itemsize == 35
    assert TRADE.names == ("time", "maker_id", "taker_id", "price", "quantity", "aggressor") and TRADE.itemsize == 41
    book = OrderBook(ticks=64, capacity=4)

    def apply(*rows):
        return book.apply(np.array(list(rows), MESSAGE)).tolist()

    assert book.best_bid() is None and book.best_ask() is None
    assert apply((1, 0, 1, 1, 100, 5, 0), (2, 0, -1, 2, 103, 4, 0), (3, 0, 1, 3, 100, 2, 0)) == []
    assert (book.best_bid(), book.best_ask(), book.queue_ahead(3)) == (100, 103, 5)
    assert [side.tolist() for side in book.depth(2)] == [[[100, 7]], [[103, 4]]]
    # Post-only across, duplicate, fill-or-kill too large, no quantity, unknown id, kind and side.
    before = book.orders().tolist()
    bad = [(0, 1, 9, 103, 1, 1), (0, 1, 1, 99, 1, 0), (0, 1, 9, 103, 9, 4), (0, 1, 9, 99, 0, 0), (2, 1, 9, 0, 0, 0),
           (7, 1, 9, 99, 1, 0), (0, 2, 9, 99, 1, 0)]  # fmt: skip
    assert apply(*((4, *row) for row in bad)) == [] and book.orders().tolist() == before
    assert sum(book.rejected.values()) == len(bad)
    # A market sell at a senseless price takes the oldest first; what is left of it is discarded.
    assert apply((5, 1, -1, 8, 10**9, 6, 0)) == [(5, 1, 8, 100, 5, -1), (5, 3, 8, 100, 1, -1)]
    assert apply((6, 1, 1, 8, 0, 9, 0)) == [(6, 2, 8, 103, 4, 1)] and book.discarded == {"market": 1}
    # Replace: a lower quantity keeps the place, a higher one loses it. Side is ignored.
    apply((7, 0, 1, 4, 100, 3, 0), (8, 4, 0, 3, 100, 1, 0))
    assert book.queue_ahead(4) == 1
    apply((9, 4, 0, 3, 100, 2, 0), (9, 3, 0, 4, 0, 99, 0))
    assert book.queue_ahead(3) == 0
    with pytest.raises(KeyError):
        book.queue_ahead(4)
    apply(*((10, 0, 1, 20 + i, -(10**6) * i, 1, 0) for i in range(3)))
    before = book.orders().tolist()
    with pytest.raises(ValueError, match="capacity"):
        apply((11, 0, 1, 30, 50, 1, 0))
    assert book.orders().tolist() == before and len(before) == 4


def test_game_and_quoters():
    assert GameParameters is quoting.GameParameters
    tables = {name: getattr(quoting, name)(TINY) for name in NAMES if hasattr(quoting, name) and name != "no_quote"}
    tables |= {goal: quoting.dynamic_program(TINY, objective=goal) for goal in ("penalty", "cara")}
    assert len(tables) == 8
    for name, table in tables.items():
        for side in table:
            assert side.dtype == np.float64 and side.shape == (20, 11), name
        assert np.isposinf(table.bid[:, -1]).all() and np.isposinf(table.ask[:, 0]).all(), name
        assert np.isfinite(table.bid[:, :-1]).all() and np.isfinite(table.ask[:, 1:]).all(), name
        # Row 0 is the start and inventory ascends: a long maker's ask is the nearer.
        assert table.ask[0, -1] <= table.ask[0, 1] + 1e-12, name
    assert (quoting.symmetric_constant(TINY).bid[:, :-1] == quoting.symmetric_constant(TINY).ask[:, 1:]).all()
    patient, hasty = (quoting.cartea_jaimungal(TINY, terminal_penalty=alpha) for alpha in (0, 1))
    assert hasty.ask[-1, -1] < patient.ask[-1, -1]
    game, table = Game(TINY), tables["penalty"]
    found = game.evaluate(table)
    assert found.objective == max(game.evaluate(other).objective for other in tables.values())
    assert game.evaluate(tables["cara"]).certainty_equivalent >= found.certainty_equivalent
    for name in EVALUATED:
        assert math.isfinite(getattr(found, name)), name
    simulated = game.simulate(table, 4000, 1)
    for name in ("profit", "terminal_inventory", "fills"):
        assert getattr(simulated, name).shape == (4000,)
    assert simulated.profit.mean() == pytest.approx(found.mean_profit, abs=4 * found.std_profit / 4000**0.5)


def test_policy_layer():
    torch = pytest.importorskip("torch")
    layer = bitquote.ternary.BitLinear(6, 3)
    assert layer(torch.ones(5, 6)).shape == (5, 3) and set(layer.trits().unique().tolist()) <= {-1, 0, 1}


@pytest.mark.parametrize(("name", "action"), [("Game", (0.7, 0.7)), ("OrderBook", (3.0, 0.0))])
def test_gymnasium(name, action):
    environment = gymnasium.make(f"bitquote/{name}-v0")
    assert environment.action_space.shape == (2,) and environment.action_space.is_bounded("both")
    observation, _ = environment.reset(seed=0)
    assert environment.observation_space.contains(observation)
    _, reward, terminated, truncated, _ = environment.step(np.array(action, np.float32))
    assert isinstance(reward, float) and not terminated and not truncated
    vector = gymnasium.make_vec(f"bitquote/{name}-v0", num_envs=2)
    assert vector.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP and vector.action_space.shape == (2, 2)
    assert vector.reset(seed=0)[0].shape == (2, *observation.shape)


def test_python_functions(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("kind: game\nname: mine\n" + "".join(f"{key}: {value}\n" for key, value in vars(TINY).items()))
    result = bitquote.benchmark(f"market={path}", *SMALL[:2], market={"gamma": 0.2}, output=tmp_path / "b.json")
    assert result == json.loads((tmp_path / "b.json").read_text())
    assert (result["market"], result["gamma"]) == ("mine", 0.2) and callable(bitquote.calibrate)
    with pytest.raises(ValueError, match="gmma"):
        bitquote.train(market={"gmma": 1})


def complaint(capsys, *words: str) -> str:
    """The one line on stderr of a command that fails."""
    assert main(words) not in (0, None)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]
