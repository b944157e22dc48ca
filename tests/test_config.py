"""Every configuration that ships builds, and no value of any of its fields makes anything but an `InputError`."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize
from hydra.core.global_hydra import GlobalHydra

from bitquote.config import BenchmarkConfig, TuningConfig, did_you_mean, settings, thread_count
from bitquote.errors import InputError
from bitquote.learning.config import LEARNERS, NetworkConfig, TrainerConfig
from bitquote.market import build, shipped_configuration
from bitquote.server.config import ServerConfig
from train.composition import CONF, GROUPS, LARGEST_FILE, build_composed, choices, compose, compose_recorded, read_yaml
from train.sweeping import combinations

SOURCES = {name: f"{name}.yaml" for name in ("config", *GROUPS)}
NOT_A_NUMBER = math.nan
WRONG = (None, True, "text", "", [], [1, 2], [None], {}, {"a": 1}, -1, 0, 0.5, -0.5, 10**18, 1e300, -1e300, 2**70,
         NOT_A_NUMBER, math.inf, -math.inf)  # fmt: skip
"""Values of every type and size; each is right for some field and wrong for most."""


def leaves(node: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value in nested mappings and lists, and of the mappings and lists themselves."""
    if path:
        yield path
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    elif isinstance(node, list) and node:
        yield from leaves(node[0], (*path, 0))


def changed(node: dict, path: tuple, value: Any) -> dict:
    """A copy of `node` with `value` at `path`."""
    new = copy.deepcopy(node)
    place = new
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return new


def misspelt(node: dict, path: tuple) -> dict:
    """A copy of `node` in which the key at the end of `path` has one letter too many."""
    new = copy.deepcopy(node)
    place = new
    for key in path[:-1]:
        place = place[key]
    place[f"{path[-1]}x"] = place.pop(path[-1])
    return new


def accepts(node: dict) -> bool:
    """Whether the configuration builds; anything but success or a one-line InputError propagates."""
    try:
        build_composed(node, SOURCES)
    except InputError as error:
        message = str(error)
    else:
        return True
    assert "\n" not in message
    assert len(message) < 500
    return False


def word_lists() -> list[list[str]]:
    """Overrides that between them choose every file of every group, and each learner in each kind of market."""
    lists = [[f"market={market}"] for market in choices("market")]
    others = [group for group in GROUPS if group not in ("market", "learner")]
    lists += [[f"{group}={name}"] for group in others for name in choices(group)]
    return lists + [[f"market={m}", f"learner={x}"] for m in ("game", "order_book") for x in choices("learner")]


@pytest.mark.parametrize("words", word_lists(), ids=" ".join)
def test_every_registered_configuration_builds(words):
    node, checked, market = compose(words)
    assert market.name == checked.market["name"]
    assert accepts(node)


def every_flow() -> dict:
    """The default configuration with every flow model that a scenario has, and rivals."""
    node = compose(["market=clustered"])[0]
    for name in ("tight", "whale_block", "pump", "cascade", "stuffed", "washed"):
        own = compose([f"market={name}"])[0]["market"]["flow"]
        node["market"]["flow"] |= {key: value for key, value in own.items() if isinstance(value, (dict, list))}
    node["market"]["rivals"] = [{"quoter": "glft", "copies": 2, "gamma": 0.1}]
    return node


def test_no_value_of_any_flow_makes_a_traceback():
    node, default = every_flow(), set(leaves(compose([])[0]))
    assert accepts(node)
    for path in leaves(node):
        if path not in default and path[-1] != "description":
            refused = sum(not accepts(changed(node, path, value)) for value in WRONG)
            assert refused >= 3, f"{path} takes almost anything"


@pytest.mark.parametrize("words", [["market=game", "learner=ppo", "server=shm"], ["market=order_book"]], ids=" ".join)
def test_no_value_of_any_field_makes_a_traceback(words):
    node = compose(words)[0]
    assert accepts(node)
    for path in leaves(node):
        refused = 0
        for value in WRONG:
            refused += not accepts(changed(node, path, value))
        assert refused >= 3, f"{path} takes almost anything"


@pytest.mark.parametrize("market", choices("market"))
def test_every_misspelt_key_of_a_file_is_named(market):
    node = compose([f"market={market}"])[0]
    for path in leaves(node):
        if isinstance(path[-1], str) and path[0] != "recording" and "recording" not in path[1:-1]:
            with pytest.raises(InputError, match=path[-1]):
                build_composed(misspelt(node, path), SOURCES)


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "market"])
def test_files_hold_exactly_the_known_keys(group):
    kinds = {
        "policy": NetworkConfig,
        "benchmark": BenchmarkConfig,
        "trainer": TrainerConfig,
        "server": ServerConfig,
    }
    for name in choices(group):
        if name == "none":  # no server has no other keys
            assert compose(["server=none"])[0]["server"] == {"engine": "none"}
            continue
        node = compose([f"{group}={name}"])[0][group]
        known = {field.name for field in fields(LEARNERS[name] if group == "learner" else kinds[group])}
        # The number of threads is a setting of the whole program.
        assert set(node) == known - ({"threads"} if group == "trainer" else set())
    assert set(compose([])[0]["benchmark"]["tuning"]) == {field.name for field in fields(TuningConfig)}


def test_every_budget_belongs_to_a_market_and_a_learner():
    for name in choices("budget"):
        market, _, learner = name.rpartition("_")
        budget = yaml.safe_load((CONF / "budget" / f"{name}.yaml").read_text(encoding="utf-8"))["learner"]
        composed = compose([f"market={market}", f"learner={learner}"])[0]["learner"]
        assert composed["kind"] == learner
        assert {key: composed[key] for key in budget} == budget


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["market.gmma=1"], "unknown key 'market.gmma'; did you mean 'market.gamma'?"),
        (["sed=1"], "unknown key 'sed'; did you mean 'seed'?"),
        (["gamma=1"], "did you mean 'market.gamma'?"),
        (["learner=pathwize"], "did you mean 'pathwise'?"),
        (["market=gmae"], "did you mean 'game'?"),
        (["market=missing.yaml"], "cannot read missing.yaml: No such file"),
        (["seed=1,2"], "bitquote sweep"),
        (["learner=ppo,distill"], "bitquote sweep"),
        (["seed=[1"], "seed: cannot read the value '[1'"),
        (["seed=abc"], "seed is 'abc': must be an integer"),
        (["seed=-1"], "seed is -1: must be an integer from 0"),
        (["seed=${nothing}"], "nothing"),
        (["seed=???"], "seed"),
        (["hydra.run.dir=x"], "unknown key 'hydra.run.dir'"),
        (["market={gamma: 1}"], "market={gamma: 1} is unknown"),
        (["learner.epochs=0"], "learner.epochs is 0"),
        (["policy.hidden=64"], "policy.hidden is 64: must be a list"),
        (["benchmark.paths=1e3"], "benchmark.paths is 1000.0: must be an integer"),
        (["threads=0"], "threads is 0"),
        (["server=smh"], "did you mean 'shm'?"),
        (["server.workers=4"], "server.workers: there is no server; choose one with server=shm"),
        (["server=shm", "server.worker=4"], "did you mean 'server.workers'?"),
        (["server=shm", "server.workers=0"], "server.workers is 0"),
        (["server=shm", "server.consistency=eventual"], "must be one of bsp, bounded, async"),
        (["server=shm", "server.scaling=bound", "server.consistency=async"], "server.scaling is 'bound'"),
        (["server=ray", "server.address=7"], "server.address is 7: must be text or null"),
        (["objective=profit"], "objective is 'profit': must be one of penalty, cara"),
        (["market=game", "market.sigma=-1"], "sigma"),
        (["market=game", "market.k=0"], "k"),
        (["market=game", "market.max_inventory=0"], "max_inventory"),
        (["market=game", "market.horizon=0"], "horizon"),
        (["market=game", "market.gamma=nan"], "gamma"),
    ],
)
def test_bad_overrides_are_one_clear_line(words, message):
    with pytest.raises(InputError) as caught:
        compose(words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_own_market_file_takes_overrides(tmp_path):
    path = tmp_path / "my market=1.yaml"
    path.write_text(yaml.safe_dump(compose(["market=game"])[0]["market"] | {"name": "mine", "gamma": 0.2}))
    assert compose([f"market={path}"])[2].game.gamma == 0.2
    _, checked, market = compose([f"market={path}", "market.gamma=3e-1"])
    assert (market.name, market.game.gamma, checked.market["gamma"]) == ("mine", 0.3, 0.3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold a mapping"),
        ("just text", "kind"),
        ("[1, 2]", "must hold a mapping"),
        ("kind: game\nkind: game\n", "duplicate"),
        ("kind: [game", "line"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("kind: game\nname: ${oc.env:HOME}\n", "interpolation"),
        ("kind: game\n_target_: os.system\n", "_target_"),
        ("kind: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("kind: 2024-01-01\n", "market.kind"),
        ("kind: game\ngama: 1\n", "gamma"),
        ("[" * 50_000, "nesting deeper than 20"),
        ("kind: " + "x" * (LARGEST_FILE + 1), "larger than 1 MiB"),
        ("\t\x00", "not valid YAML"),
    ],
)
def test_hostile_market_files_are_one_clear_line(tmp_path, text, message):
    path = tmp_path / "hostile.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        compose([f"market={path}"])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hostile.yaml" in str(caught.value)


def test_a_file_that_is_not_text_or_not_a_file(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="not text"):
        read_yaml(tmp_path / "binary.yaml")
    with pytest.raises(InputError, match="Is a directory"):
        read_yaml(tmp_path)


def test_a_recorded_run_is_read_as_strictly(tmp_path):
    node = compose(["market=game"])[0]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(node))
    assert compose_recorded(tmp_path)[0] == node
    assert compose_recorded(tmp_path, ["benchmark.paths=7"])[1].benchmark.paths == 7
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({key: node[key] for key in node if key != "policy"}))
    with pytest.raises(InputError, match="'policy' is missing"):
        compose_recorded(tmp_path)


def test_a_server_is_recorded_and_its_file_may_be_older_than_the_group(tmp_path):
    words = ["market=game", "server=ray", "server.workers=3", "server.consistency=async"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(compose(words)[0]))
    chosen = compose_recorded(tmp_path)[1].server
    assert (chosen.engine, chosen.workers, chosen.consistency, chosen.standby) == ("ray", 3, "async", False)
    node = {key: value for key, value in compose(["market=game"])[0].items() if key != "server"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(node))
    assert compose_recorded(tmp_path)[1].server.engine == "none"


def test_the_files_of_the_servers_are_the_defaults():
    for name in ("inproc", "shm", "ray"):
        chosen = compose([f"server={name}"])[1].server
        assert chosen == ServerConfig(engine=name, workers=1 if name == "inproc" else 2, standby=name == "shm")


def test_cores_are_divided_among_workers(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [thread_count(None, workers) for workers in (1, 2, 3, 8, 9)] == [8, 4, 2, 1, 1]
    assert thread_count(5, workers=4) == 5


def test_composes_inside_an_application_of_the_users_own():
    with initialize(None, version_base="1.3"):
        assert compose(["seed=7"])[1].seed == 7
        assert GlobalHydra.instance().is_initialized()
        assert hydra_compose() == {}


def test_sweep_lists_every_combination():
    assert combinations(["seed=1,2", "market=game", "learner=ppo,distill"]) == [
        ["seed=1", "market=game", "learner=ppo"],
        ["seed=1", "market=game", "learner=distill"],
        ["seed=2", "market=game", "learner=ppo"],
        ["seed=2", "market=game", "learner=distill"],
    ]
    assert combinations(["policy.hidden=[8,8],[4]"]) == [["policy.hidden=[8,8]"], ["policy.hidden=[4]"]]


def test_the_nearest_word_is_suggested():
    assert did_you_mean("markt", ["market", "seed"]) == "; did you mean 'market'?"
    assert did_you_mean("zzz", ["market", "seed"]) == ""


def test_settings_name_the_file_of_a_missing_group():
    with pytest.raises(InputError, match=r"config.yaml: the key 'seed' is missing"):
        settings({key: value for key, value in compose([])[0].items() if key != "seed"}, SOURCES)


def test_market_files_name_their_source():
    for name in choices("market"):
        if name != "game":
            assert build(shipped_configuration(name)).source


def test_what_a_run_records_of_a_market_equals_what_its_policy_remembers(tmp_path):
    """A calibrated market has lags, which are numbers, for keys; a policy remembers them in JSON, which has texts."""
    own = shipped_configuration("order_book") | {"recording": {"signs": {1: 0.7, 10: 0.1}, "list": [{2: "x"}]}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    market = compose([f"market={tmp_path / 'own.yaml'}"])[1].market
    assert market == json.loads(json.dumps(market))
