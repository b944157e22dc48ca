"""How far a policy's quotes are from a table's, along the policy's own paths."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bitquote.market import Game, OrderBookMarket
from bitquote.quoting import QuoteTable

PATHS = 64
"""Paths of the rollout: a distance is a descriptive figure, and a rollout keeps every observation."""


def half_spread_and_skew(bid: np.ndarray, ask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(bid + ask)/2 and (bid - ask)/2 of distances from the mid; NaN where a side does not quote."""
    both = np.isfinite(bid) & np.isfinite(ask)
    bid, ask = np.where(both, bid, np.nan), np.where(both, ask, np.nan)
    return 0.5 * (bid + ask), 0.5 * (bid - ask)


def mean_distance(market: Game | OrderBookMarket, policy: Any, table: QuoteTable, seed: int) -> dict[str, float] | None:
    """Mean absolute difference of the policy's half-spread and skew from the table's, in price, over a rollout.

    Taken where both quote both sides; None where that never happens.
    """
    rollout = market.rollout(policy, PATHS, seed)
    unit = price_unit(market)
    half_spread, skew = rollout.mean[..., 0] * unit, rollout.mean[..., 1] * unit  # (paths, steps)
    bound = market.game.max_inventory
    column = np.clip(np.rint(rollout.inventory[:, :-1]).astype(np.int64), -bound, bound) + bound
    row = np.broadcast_to(np.arange(column.shape[1]), column.shape)
    other_half_spread, other_skew = half_spread_and_skew(table.bid[row, column], table.ask[row, column])
    both = np.isfinite(other_half_spread) & (rollout.mean[..., 0] < no_quote_of(policy))
    if not both.any():
        return None
    return {
        "half_spread": float(np.abs(half_spread - other_half_spread)[both].mean()),
        "skew": float(np.abs(skew - other_skew)[both].mean()),
    }


def no_quote_of(policy: Any) -> float:
    """The half-spread from which `policy` does not quote; a plain function of the user has none."""
    return getattr(policy, "no_quote", math.inf)


def price_unit(market: Game | OrderBookMarket) -> float:
    """The price of one unit of a policy's output: one in the game, a tick in the order book."""
    return 1.0 if isinstance(market, Game) else market.tick
