"""benchmark.json in the game: the contract's words, exact scores, regret to the optimum."""

from __future__ import annotations

import json
import math

import pytest
from numba import njit

from bitquote.errors import InputError
from bitquote.evaluation import benchmark, tune_glft
from bitquote.evaluation.row import BASELINES
from bitquote.quoting import glft

HEADER = {
    "version", "market", "objective", "gamma", "units", "paths", "seed", "training_seeds", "dt", "fill_convention",
    "mid_convention", "reference", "liquidation", "rows",
}  # fmt: skip
ROW = {
    "quoter", "mean_profit", "std_profit", "mean_terminal_inventory", "std_terminal_inventory", "mean_spread", "fills",
    "turnover", "max_drawdown", "certainty_equivalent", "objective", "regret", "ci_low", "ci_high", "normalised_gap",
    "exact", "attribution",
}  # fmt: skip
ATTRIBUTION = {"spread", "adverse_selection", "inventory", "fees", "liquidation"}
TUNING = {"paths": 64, "seed": 2}


@pytest.fixture(scope="module", params=["penalty", "cara"])
def result(request, game, make_shifted):
    policies = {"policy:0": make_shifted(game, 0.0), "policy:1": make_shifted(game, 0.05)}
    words = {"paths": 500, "seed": 1, "training_seeds": [0, 3], "tuning": TUNING}
    return benchmark(game, policies, objective=request.param, **words)


@pytest.fixture(scope="module")
def rows(result):
    return {row["quoter"]: row for row in result["rows"]}


def test_it_has_the_contracts_words(result):
    assert set(result) >= HEADER
    for row in result["rows"]:
        assert set(row) >= ROW
        assert set(row["attribution"]) == ATTRIBUTION


def test_it_is_json_without_nan(result):
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_every_row_is_there_once_and_in_order(result):
    assert [row["quoter"] for row in result["rows"]] == [*BASELINES, "policy:0", "policy:1", "policy"]


def test_scores_are_the_exact_evaluation(result, rows, game):
    evaluation = game.evaluate(glft(game.game))
    row = rows["glft"]
    assert row["mean_profit"] == evaluation.mean_profit
    assert row["certainty_equivalent"] == evaluation.certainty_equivalent
    expected = evaluation.objective if result["objective"] == "penalty" else evaluation.certainty_equivalent
    assert row["objective"] == expected
    assert row["mean_spread"] == evaluation.mean_spread


def test_regret_is_exact_and_never_negative(result, rows):
    best = rows[result["reference"]]["objective"]
    assert result["reference"] == f"dynamic_program_{result['objective']}"
    for name, row in rows.items():
        assert row["regret"] == pytest.approx(best - row["objective"], abs=1e-12)
        assert row["regret"] >= -1e-9
        if name != "policy":
            assert row["exact"]
            assert row["ci_low"] == row["ci_high"] == row["regret"]


def test_the_gap_runs_from_the_optimum_to_the_best_constant(result, rows):
    assert rows[result["reference"]]["normalised_gap"] == 0.0
    assert rows["symmetric_constant"]["normalised_gap"] == pytest.approx(1.0)
    assert rows["glft"]["normalised_gap"] < 0.05


def test_attribution_adds_up_and_is_all_spread(rows):
    for row in rows.values():
        assert math.fsum(row["attribution"].values()) == pytest.approx(row["mean_profit"], abs=1e-12)
        assert row["attribution"]["spread"] == pytest.approx(row["mean_profit"])


def test_the_exact_split_of_the_profit_is_the_simulated_one(game):
    simulation = game.simulate(glft(game.game), 20_000, 5)
    for part in ("inventory", "spread"):
        values = getattr(simulation, part)
        expected = game.evaluate(glft(game.game)).mean_profit if part == "spread" else 0.0
        assert values.mean() == pytest.approx(expected, abs=4.0 * values.std() / math.sqrt(values.size))


def test_a_policy_with_the_quotes_of_a_table_scores_as_the_table(rows):
    assert rows["policy:0"]["objective"] == pytest.approx(rows["glft"]["objective"], abs=1e-6)
    assert rows["policy:1"]["objective"] < rows["policy:0"]["objective"]


def test_the_pooled_row_is_the_mean_over_training_seeds_with_an_interval(rows):
    members = [rows["policy:0"], rows["policy:1"]]
    pooled = rows["policy"]
    assert not pooled["exact"]
    assert pooled["objective"] == pytest.approx(sum(row["objective"] for row in members) / 2)
    assert pooled["ci_low"] < pooled["regret"] < pooled["ci_high"]


def test_the_distance_to_glft_is_the_shift(result, rows):
    tuned = abs(result["tuning"]["shift"])
    assert rows["policy:0"]["distance_to_glft"]["half_spread"] == pytest.approx(tuned, abs=1e-4)
    assert rows["policy:1"]["distance_to_glft"]["half_spread"] == pytest.approx(
        abs(0.05 - result["tuning"]["shift"]), abs=1e-4
    )


def test_the_tuning_is_published(result):
    tuning = result["tuning"]
    assert len(tuning["scores"]) == len(tuning["shifts"])
    assert all(len(scores) == len(tuning["scales"]) for scores in tuning["scores"])
    assert tuning["seed"] == TUNING["seed"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"training_seeds": [1]}, "benchmark.seed is 1: .* training does not use"),
        ({"training_seeds": [2]}, "tuning.seed is 2: .* training does not use"),
        ({"tuning": {"seed": 1}}, r"benchmark.seed is 1: .*tuning\.seed"),
        ({"tuning": {"seed": 2, "path": 3}}, "benchmark.tuning is 'path'"),
        ({"tuning": {"paths": 10}}, "tuning.seed is None"),
        ({"objective": "profit"}, "objective is 'profit'"),
        ({"paths": 1}, "benchmark.paths is 1"),
        ({"seed": -1}, "benchmark.seed is -1"),
    ],
)
def test_bad_words_are_one_clear_line(game, words, message):
    with pytest.raises(InputError, match=message):
        benchmark(game, {}, **{"paths": 10, "seed": 1, "tuning": TUNING} | words)


def test_a_row_must_not_be_named_twice(game, make_shifted):
    policy = make_shifted(game, 0.0)
    with pytest.raises(InputError, match="policy:a twice"):
        benchmark(game, {"a": policy, "policy:a": policy}, paths=10, seed=1, tuning=TUNING)


def test_a_tuning_for_another_objective_is_refused(game):
    tuned = tune_glft(game, objective="cara", seed=2)
    with pytest.raises(InputError, match=r"tuning\.objective is 'cara': must be 'penalty'"):
        benchmark(game, {}, paths=10, seed=1, tuning=tuned)


def test_a_users_compiled_function_is_judged_as_a_policy(game):
    @njit
    def constant(observation):
        return 0.7, 0.01 * observation[0]

    result = benchmark(game, {"mine": constant}, paths=10, seed=1, tuning=TUNING)
    row = result["rows"][-1]
    assert row["quoter"] == "policy:mine"
    assert 0.0 < row["normalised_gap"] < 1.0
