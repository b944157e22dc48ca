"""A small game, and a policy whose quotes are known: GLFT's own, shifted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numba import njit

from bitquote.market import Game, OrderBookMarket, build
from bitquote.quoting import GameParameters


@dataclass(frozen=True)
class ShiftedGlft:
    """The baseline's quotes out of the observation, with `shift` (in the observation's unit) on the half-spread."""

    observation_names: tuple[str, ...]
    shift: float
    no_quote: float
    kernel: Any

    @property
    def observation_size(self) -> int:
        return len(self.observation_names)

    @property
    def arguments(self) -> tuple:
        names = self.observation_names
        columns = np.array([names.index("glft_half_spread"), names.index("glft_skew")])
        return np.zeros(0, np.int8), np.array([self.shift], np.float32), columns


@njit
def shifted_glft(observation, weights, scales, shape):
    return observation[shape[0]] + scales[0], observation[shape[1]]


@pytest.fixture(scope="session")
def make_shifted():
    """A function: market, shift -> policy."""
    return lambda market, shift: ShiftedGlft(tuple(market.observation_names), shift, 1e3, shifted_glft)


@pytest.fixture(scope="session")
def game():
    return Game(GameParameters(horizon=0.2, steps=40, max_inventory=30))


@pytest.fixture(scope="session")
def book() -> OrderBookMarket:
    """An order-book market of forty decisions whose maker pays for bad fills."""
    return build(
        {
            "kind": "order_book",
            "name": "small",
            "source": "invented",
            "units": "price x order size",
            "gamma": 0.02,
            "closed_form": {"A": 1.0, "k": 30.0, "sigma": 0.02, "max_inventory": 6},
            "venue": {
                "tick": 0.01,
                "lot": 1.0,
                "order_size": 5,
                "decision_interval": 1.0,
                "decisions": 40,
                "taker_fee": 0.0001,
                "no_quote": 50,
                "window": 256,
                "capacity": 2048,
            },
            "flow": {
                "price": 100.0,
                "volatility": 0.02,
                "jump_rate": 0.02,
                "jump_size": 0.05,
                "limit_rate": 10.0,
                "limit_distance": {"mean": 6.0},
                "limit_size": {"mean": 5.0},
                "cancel_rate": 0.25,
                "stale_cancel_rate": 5.0,
                "market_rate_bid": 1.0,
                "market_rate_ask": 1.0,
                "market_size": {"mean": 6.0},
                "informed_rate": 1.0,
                "toxicity": 0.3,
            },
            "recording": {"markout_1s": -0.002, "fill_rate": 0.05},
        }
    )
