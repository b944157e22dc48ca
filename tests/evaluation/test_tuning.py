"""The grid search: it widens off an edge, refines inside, breaks ties by rule, and fails in one clear line."""

from __future__ import annotations

import math

import pytest

from bitquote.errors import InputError
from bitquote.evaluation import tune_glft
from bitquote.evaluation.tuning import WIDENINGS, _Search
from bitquote.quoting import glft_shifted


def search(score, shifts=(-1.0, 0.0, 1.0), scales=(0.5, 1.0, 2.0)):
    return _Search(score, list(shifts), list(scales), None)


def peak(shift, scale):
    return lambda point: -((point[0] - shift) ** 2) - (point[1] - scale) ** 2


def test_an_inner_optimum_needs_no_widening():
    found = search(peak(0.1, 1.1))
    found.widen_until_inside()
    assert found.best() == (0.0, 1.0)
    assert found.grid()["shifts"] == [-1.0, 0.0, 1.0]
    assert len(found.scores) == 9


@pytest.mark.parametrize("shift", [-40.0, 40.0])
def test_an_optimum_far_outside_is_reached_by_widening(shift):
    found = search(peak(shift, 1.0))
    found.widen_until_inside()
    assert found.shifts[0] < found.best()[0] < found.shifts[-1]
    assert abs(found.best()[0] - shift) <= 40.0


def test_an_optimum_that_runs_away_is_an_error():
    with pytest.raises(InputError, match=f"tuning.shifts widened {WIDENINGS} times .* optimum on the edge"):
        search(lambda point: point[0]).widen_until_inside()


def test_a_plateau_without_fills_ends_the_widening_at_its_beginning():
    """Where not quoting is best, every wide enough half-spread is as good: the narrowest of them is the optimum."""
    found = search(lambda point: min(point[0] - 10.0, 0.0))
    found.widen_until_inside()
    shift, scale = found.best()
    assert shift >= 10.0
    assert scale == 1.0
    assert not any(10.0 <= other < shift for other in found.shifts)


def test_refinement_comes_closer_and_stays_inside():
    found = search(peak(0.3, 1.2))
    found.widen_until_inside()
    before = found.scores[found.best()]
    found.refine(2)
    assert found.scores[found.best()] > before
    assert math.dist(found.best(), (0.3, 1.2)) < 0.3
    assert set(found.refined) < set(found.scores)


def test_no_estimable_point_is_an_error():
    with pytest.raises(InputError, match="not estimable"):
        search(lambda point: -math.inf).widen_until_inside()


def test_progress_is_told_of_every_point():
    told = []
    found = _Search(peak(0.0, 1.0), [-1.0, 0.0, 1.0], [0.5, 1.0, 2.0], lambda *news: told.append(news))
    found.widen_until_inside()
    assert [news[1:] for news in told] == [(done, 9) for done in range(9)]
    assert [told[0][0], told[-1][0]] == ["", f"best {found.scores[found.best()]:.5g}"]


@pytest.mark.parametrize("objective", ["penalty", "cara"])
def test_the_tuned_table_is_the_best_that_was_tried(game, objective):
    tuned = tune_glft(game, objective=objective, seed=1)
    record = tuned.record
    tried = [score for row in record["scores"] for score in row] + [score for _, _, score in record["refined"]]
    assert record["score"] == max(tried)
    assert record["exact"]
    assert tuned.shift == record["shift"]
    evaluation = game.evaluate(tuned.table)
    score = evaluation.objective if objective == "penalty" else evaluation.certainty_equivalent
    assert score == record["score"]
    assert record["score"] >= game.evaluate(glft_shifted(game.game, 0.0, 1.0)).objective or objective == "cara"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"shifts": [0.0, 1.0]}, "tuning.shifts .* at least three"),
        ({"shifts": "abc"}, "tuning.shifts"),
        ({"shifts": 3}, "tuning.shifts"),
        ({"shifts": [0.0, 0.0, 1.0]}, "distinct"),
        ({"scales": [0.5, 1.0, math.nan]}, "tuning.scales is nan"),
        ({"scales": [0.5, 1.0, "2"]}, "tuning.scales is '2'"),
        ({"paths": 0}, "tuning.paths"),
        ({"seed": -1}, "tuning.seed"),
        ({"objective": "profit"}, "objective"),
    ],
)
def test_bad_words_are_one_clear_line(game, words, message):
    with pytest.raises(InputError, match=message):
        tune_glft(game, **{"seed": 1} | words)
