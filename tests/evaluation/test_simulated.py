"""benchmark.json in the order book: common random numbers, paired regret to `glft_tuned`, markouts, pooled seeds."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from bitquote.evaluation import benchmark, tune_glft
from bitquote.evaluation.row import BASELINES
from bitquote.evaluation.statistics import paired_interval

PATHS, SEED = 48, 11
TUNING = {"paths": 24, "seed": 12, "shifts": [-0.5, 0.0, 0.5], "scales": [0.5, 1.0, 1.5]}


@pytest.fixture(scope="module")
def tuned(book):
    return tune_glft(book, **TUNING)


@pytest.fixture(scope="module")
def result(book, tuned, make_shifted):
    market = book.with_baseline(tuned.table)
    policies = {"policy:0": make_shifted(market, 0.0), "policy:1": make_shifted(market, 1.0)}
    return benchmark(market, policies, paths=PATHS, seed=SEED, training_seeds=[0, 1], tuning=tuned)


@pytest.fixture(scope="module")
def rows(result):
    return {row["quoter"]: row for row in result["rows"]}


def test_every_row_is_there_and_none_is_exact(rows):
    assert list(rows) == [*BASELINES, "policy:0", "policy:1", "policy"]
    assert not any(row["exact"] or row["normalised_gap"] is not None for row in rows.values())


def test_it_is_json_without_nan(result):
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_rows_are_the_simulation_on_the_test_seed(book, tuned, rows):
    simulation = book.simulate(tuned.table, PATHS, SEED)
    row = rows["glft_tuned"]
    assert row["mean_profit"] == simulation.profit.mean()
    assert row["objective"] == pytest.approx((simulation.profit - simulation.penalty).mean(), abs=1e-15)
    assert row["fill_rate"] == pytest.approx(simulation.turnover.mean() / (2 * 40.0))


def test_abstaining_earns_nothing_and_loses_nothing(rows):
    row = rows["no_quote"]
    assert row["objective"] == row["fills"] == row["mean_profit"] == 0.0
    assert row["mean_spread"] is None
    assert row["markout_1s"] is None


def test_regret_is_paired_with_the_reference(book, tuned, rows):
    assert rows["glft_tuned"]["regret"] == rows["glft_tuned"]["ci_low"] == 0.0
    scores = []
    for quoter in (tuned.table, book.baseline):  # the market's own baseline is plain GLFT
        simulation = book.simulate(quoter, PATHS, SEED)
        scores.append(simulation.profit - simulation.penalty)
    expected = paired_interval(*scores)
    row = rows["glft"]
    assert (row["regret"], row["ci_low"], row["ci_high"]) == pytest.approx(expected, abs=1e-12)


def test_attribution_adds_up(rows):
    for row in rows.values():
        assert math.fsum(row["attribution"].values()) == pytest.approx(row["mean_profit"], abs=1e-9)


def test_the_pooled_row_holds_both_seeds_and_is_no_more_certain_than_its_paths(rows):
    members = [rows["policy:0"], rows["policy:1"]]
    pooled = rows["policy"]
    for figure in ("objective", "mean_profit", "fills", "regret"):
        assert pooled[figure] == pytest.approx(np.mean([row[figure] for row in members]), abs=1e-12)
    assert pooled["ci_low"] < pooled["regret"] < pooled["ci_high"]
    assert pooled["attribution"]["spread"] == pytest.approx(np.mean([row["attribution"]["spread"] for row in members]))


def test_the_comparison_says_how_sure_it_is(book, tuned, rows, result):
    """p-values, how often a row earns more on a path, and what the pooled row says of its seeds."""
    row = rows["glft"]
    assert (row["p_value"] < 0.05) == (row["ci_low"] > 0.0 or row["ci_high"] < 0.0)
    glft, best = (book.simulate(quoter, PATHS, SEED).profit for quoter in (book.baseline, tuned.table))
    expected = 0.5 * (1.0 + np.sign(glft - best)).mean()
    assert row["probability_of_improvement"]["mean"] == pytest.approx(expected)
    assert row["sharpe_ratio"] == pytest.approx(row["mean_profit"] / row["std_profit"])
    pooled = rows["policy"]
    assert pooled["bootstrap"]["low"] < pooled["regret"] < pooled["bootstrap"]["high"]
    assert pooled["interquartile_mean"]["mean"] == pytest.approx(pooled["regret"])  # of two seeds
    assert "p_value" not in rows["glft_tuned"] and rows["no_quote"]["sharpe_ratio"] is None
    trials = result["tuning"]["trials"]
    assert trials == sum(len(line) for line in result["tuning"]["scores"]) + len(result["tuning"]["refined"])
    assert 0.0 < rows["glft_tuned"]["deflated_sharpe_ratio"] <= 1.0


def test_the_distance_to_glft_is_the_shift_in_price(rows, book):
    assert rows["policy:1"]["distance_to_glft"]["half_spread"] > 0.5 * book.tick
    assert rows["policy:1"]["distance_to_glft"]["half_spread"] < 1.5 * book.tick
    assert rows["policy:0"]["distance_to_glft"]["half_spread"] < 0.2 * book.tick


def test_the_recording_stands_beside_the_simulation(result):
    assert result["recording"] == {"markout_1s": -0.002, "fill_rate": 0.05}
    assert result["markout_horizon"] == 1.0
    assert result["reference"] == "glft_tuned"


def test_tuning_knows_no_result_of_the_test(tuned, book):
    assert tuned.record["seed"] != SEED
    assert tuned.shift == pytest.approx(tuned.record["shift"])
    assert tuned.record["shift_unit"] == pytest.approx(1.0 / book.game.k)
    assert not tuned.record["exact"]


def test_a_certainty_equivalent_that_these_paths_cannot_tell_is_null(book, make_shifted):
    tuning = TUNING | {"paths": 8}
    result = benchmark(book, {}, objective="cara", paths=16, seed=SEED, tuning=tuning)
    for row in result["rows"]:
        sure = row["std_profit"] == 0.0  # what is certain needs no estimate
        assert row["certainty_equivalent"] == (row["mean_profit"] if sure else None)
        assert row["regret"] is row["ci_low"] is None
