"""Pictures of a real policy in a real game: they draw, and show what they should."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from bitquote.evaluation import benchmark
from bitquote.market import Game
from bitquote.quoting import GameParameters, dynamic_program, glft
from bitquote.report.figures import benchmark_figure, pixels, save
from bitquote.report.pictures import pictures, reference_table


@pytest.fixture(scope="module")
def game():
    return Game(GameParameters(horizon=0.2, steps=40, max_inventory=15))


@pytest.fixture(scope="module")
def game_benchmark(game):
    return benchmark(game, {}, paths=20, seed=1, tuning={"seed": 2})


def test_the_reference_of_the_game_is_its_dynamic_program(game, game_benchmark):
    np.testing.assert_array_equal(reference_table(game, game_benchmark).bid, dynamic_program(game.game).bid)


def test_the_reference_of_an_order_book_is_the_published_tuned_glft(game, game_benchmark):
    tuning = {"shift": 0.0, "scale": 1.0}
    table = reference_table(game, game_benchmark | {"reference": "glft_tuned", "tuning": tuning})
    np.testing.assert_allclose(table.ask, glft(game.game).ask)


def test_all_pictures_of_a_table_draw(game, game_benchmark, tmp_path):
    found = pictures(game, glft(game.game), game_benchmark)
    assert set(found) == {"quotes", "episode", "benchmark"}
    for name, figure in found.items():
        assert isinstance(figure, Figure)
        save(figure, tmp_path / f"{name}.png", dpi=40)
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_the_surfaces_of_policy_and_reference_share_their_colours(game, game_benchmark):
    figure = pictures(game, glft(game.game), game_benchmark)["quotes"]
    meshes = [axis.collections[0] for axis in figure.axes if axis.get_title() or axis.get_xlabel() == "time"]
    assert meshes[0].norm is meshes[1].norm
    assert meshes[2].norm is not meshes[0].norm
    assert {axis.get_ylabel() for axis in figure.axes} >= {"inventory (lots)", "half-spread (price)", "skew (price)"}


def test_the_benchmark_figure_names_every_row_with_a_regret(result):
    figure = benchmark_figure(result)
    labels = {label.get_text() for label in figure.axes[0].get_yticklabels()}
    assert labels == {row["quoter"] for row in result["rows"] if row["regret"] is not None}


def test_pixels_are_an_image(result):
    image = pixels(benchmark_figure(result))
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    assert image.std() > 1.0
