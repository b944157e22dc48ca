"""Markouts and gains along paths, against slow sums over a rollout."""

from __future__ import annotations

import numpy as np
import pytest

from bitquote.market import Game
from bitquote.quoting import GameParameters, glft, no_quote
from bitquote.report.course import accrued, course_figure, markout_figure, markouts, tuning_figure
from bitquote.report.figures import Units


@pytest.fixture(scope="module")
def game():
    return Game(GameParameters(horizon=0.2, steps=40, max_inventory=15))


def test_a_markout_is_the_move_of_the_mid_after_fills(game):
    rollout = game.rollout(glft(game.game), 30, 4)
    curve = markouts(rollout, game.game.dt, 2.0)
    assert curve is not None
    assert curve.time[0] == game.game.dt
    assert curve.time[-1] == pytest.approx(10 * game.game.dt)
    for time, mean in zip(curve.time, curve.mean, strict=True):
        k, moves, fills = round(time / game.game.dt), 0.0, 0.0
        for path in range(30):
            for step in range(31):  # all horizons up to ten decisions lie inside the path
                bid, ask = rollout.filled[path, step]
                moves += 2.0 * (bid - ask) * (rollout.mid[path, step + k] - rollout.mid[path, step])
                fills += bid + ask
        assert mean == pytest.approx(moves / fills)
    assert (curve.margin > 0.0).all()


def test_what_has_accrued_is_the_objective(game):
    rollout, simulation = game.rollout(glft(game.game), 30, 4), game.simulate(glft(game.game), 30, 4)
    total = accrued(rollout)
    np.testing.assert_array_equal(total[:, 0], 0.0)
    np.testing.assert_allclose(total[:, -1], simulation.profit - simulation.penalty, atol=1e-4)


def test_a_quoter_without_fills_has_pictures_too(game):
    rollouts = {name: game.rollout(no_quote(game.game), 5, 4) for name in ("policy", "other")}
    assert markouts(rollouts["policy"], game.game.dt, 1.0) is None
    legend = markout_figure(rollouts, game.game.dt, 1.0, Units()).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["policy: no fill", "other: no fill"]
    assert len(course_figure(rollouts, game.game.dt, Units(), "price").axes) == 6


def test_the_grid_shows_what_was_tried_and_what_was_chosen():
    tuning = {
        "shifts": [-1.0, 0.0, 2.0], "scales": [0.5, 1.0, 2.0], "scores": [[1, 2, 1], [2, 3, None], [0, 1, 0.5]],
        "refined": [[0.0, 1.5, 3.1]], "shift": 0.5, "shift_unit": 0.5, "scale": 1.5,
    }  # fmt: skip
    figure = tuning_figure(tuning, "USD")
    assert figure is not None
    axis = figure.axes[0]
    assert {text.get_text() for text in axis.texts} == {"0", "0.5", "1", "2", "3"}
    dot, star = (line.get_xydata()[0] for line in axis.lines)
    np.testing.assert_allclose(dot, (1.0, 1.5))
    np.testing.assert_allclose(star, (1.5, 1.5))
    assert tuning_figure({"untuned": "text"}, "USD") is None
