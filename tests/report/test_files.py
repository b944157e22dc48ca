"""Rows as CSV and rollouts as Parquet: what is read back is what was there."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
from pyarrow import parquet

from bitquote.market import Game, build, shipped_configuration
from bitquote.quoting import GameParameters, glft
from bitquote.report.flat import csv_text
from bitquote.report.log import quote_log, write_log


def test_the_csv_holds_every_figure_in_full(result):
    result["rows"][0]["distance_to_glft"] = None
    lines = list(csv.DictReader(io.StringIO(csv_text([result, result | {"market": 'x,\n"y'}]))))
    assert len(lines) == 2 * len(result["rows"])
    assert {line["market"] for line in lines} == {result["market"], 'x,\n"y'}
    for line, row in zip(lines, result["rows"], strict=False):
        for key, value in row.items():
            if isinstance(value, dict):
                assert {part: float(line[f"{key}.{part}"]) for part in value} == value
            elif isinstance(value, float):
                assert float(line[key]) == value
            elif value is None:
                assert line.get(key, "") == ""
            else:
                assert line[key] == str(value)


def check_log(market, quoter, tmp_path, unit):
    rollout = market.rollout(quoter, 3, 5)
    write_log(tmp_path / "log.parquet", quote_log(rollout, market, {"quoter": "glft", "seed": 5}))
    table = parquet.read_table(tmp_path / "log.parquet")
    facts = json.loads(table.schema.metadata[b"bitquote"])
    assert (facts["quoter"], facts["seed"], facts["market"]) == ("glft", 5, market.name)
    assert facts["price"] == "price"
    paths, steps = rollout.reward.shape
    read = {
        name: table[name].to_numpy(zero_copy_only=False).reshape(paths, steps).astype(np.float64)
        for name in table.column_names
    }
    np.testing.assert_array_equal(read["path"], np.arange(paths)[:, None] * np.ones(steps))
    np.testing.assert_array_equal(read["time"], np.ones((paths, 1)) * np.arange(steps) * market.game.dt)
    np.testing.assert_array_equal(read["inventory"], rollout.inventory[:, :-1])
    np.testing.assert_array_equal(read["mid"], rollout.mid[:, :-1] * unit)
    np.testing.assert_array_equal(read["reward"], rollout.reward)
    for column, side in enumerate(("bid", "ask")):
        distance = rollout.distance[..., column].astype(np.float64) * unit
        np.testing.assert_array_equal(read[f"{side}_distance"], np.where(np.isfinite(distance), distance, np.nan))
        np.testing.assert_array_equal(read[f"filled_{side}"], rollout.filled[..., column])
    return read


def test_the_log_of_a_game(tmp_path):
    game = Game(GameParameters(horizon=0.2, steps=40, max_inventory=4))
    read = check_log(game, glft(game.game), tmp_path, 1.0)
    assert np.isnan(read["bid_distance"]).sum() == (read["inventory"] == 4).sum()


def test_the_log_of_an_order_book(tmp_path):
    market = build(shipped_configuration("order_book"))
    read = check_log(market, glft(market.game), tmp_path, market.tick)
    inside = np.abs(read["inventory"]) < market.game.max_inventory - 1
    np.testing.assert_allclose(
        (read["half_spread"] - 0.5 * (read["bid_distance"] + read["ask_distance"]))[inside],
        0.0,
        atol=1.01 * market.tick,
    )
