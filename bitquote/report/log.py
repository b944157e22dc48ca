"""What a quoter quoted and what was filled, decision by decision, as a Parquet file (https://parquet.apache.org)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from bitquote.evaluation.distance import price_unit
from bitquote.market import Game, OrderBookMarket
from bitquote.market.simulation import Rollout


def quote_log(rollout: Rollout, market: Game | OrderBookMarket, facts: Mapping[str, Any]) -> pa.Table:
    """One row a decision, path by path; `facts` (text to JSON values) go into the file's metadata with the units.

    `time` is that of the decision; inventory and mid are those before it; half_spread and skew are what the quoter
    asked for and the distances what was in force, from that mid, in price, null where nothing is quoted; filled_bid,
    filled_ask and reward are of the time until the next decision.
    """
    paths, steps = rollout.reward.shape
    unit = price_unit(market)
    path, step = np.divmod(np.arange(paths * steps, dtype=np.int32), steps)
    columns = {
        "path": path,
        "step": step,
        "time": step * market.game.dt,
        "inventory": rollout.inventory[:, :-1].ravel(),
        "mid": rollout.mid[:, :-1].ravel() * unit,
        "half_spread": _or_null(rollout.action[..., 0], unit),
        "skew": _or_null(rollout.action[..., 1], unit),
        "bid_distance": _or_null(rollout.distance[..., 0], unit),
        "ask_distance": _or_null(rollout.distance[..., 1], unit),
        "filled_bid": rollout.filled[..., 0].ravel(),
        "filled_ask": rollout.filled[..., 1].ravel(),
        "reward": rollout.reward.ravel(),
    }
    table = pa.table({name: pa.array(column) for name, column in columns.items()})
    told = {**facts, "market": market.name, "money": market.units, "price": market.units.partition(" x ")[0]}
    return table.replace_schema_metadata({"bitquote": json.dumps(told)})


def write_log(path: Path, table: pa.Table) -> None:
    """Write `table` to `path`, compressed."""
    parquet.write_table(table, path, compression="zstd")


def _or_null(values: np.ndarray, unit: float) -> pa.Array:
    flat = values.ravel().astype(np.float64) * unit
    return pa.array(flat, mask=~np.isfinite(flat))
