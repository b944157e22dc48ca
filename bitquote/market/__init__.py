"""Markets in which a maker trades."""

from __future__ import annotations

from bitquote.market.configuration import build, shipped_configuration
from bitquote.market.game import Evaluation, Game
from bitquote.market.order_book import OrderBookMarket
from bitquote.market.simulation import Rollout, Simulation, Tape
from bitquote.quoting.parameters import GameParameters

__all__ = [
    "Evaluation",
    "Game",
    "GameParameters",
    "OrderBookMarket",
    "Rollout",
    "Simulation",
    "Tape",
    "build",
    "shipped_configuration",
]
