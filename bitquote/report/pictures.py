"""The pictures of a benchmarked policy: its quotes beside the reference's, one episode, every row's regret."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from bitquote.evaluation.distance import no_quote_of, price_unit
from bitquote.market import Game, OrderBookMarket
from bitquote.market.simulation import Rollout
from bitquote.quoting import QUOTERS, QuoteTable, glft_shifted
from bitquote.report.figures import Units, benchmark_figure, episode, quote_surfaces
from bitquote.report.surface import Surface, rollout_surface, table_surface

PATHS = 64
"""Paths over which an order-book policy's quotes are averaged."""


def pictures(market: Game | OrderBookMarket, policy: Any, result: dict[str, Any]) -> dict[str, Figure]:
    """`quotes`, `episode` and `benchmark` of `policy`, on the test seed of the benchmark `result`."""
    units = units_of(market)
    rollout = market.rollout(policy, PATHS, result["seed"])
    reference = table_surface(reference_table(market, result), market.game)
    unit = price_unit(market)
    return {
        "quotes": quote_surfaces(
            _surface(market, policy, rollout), reference, reference_name=result["reference"], units=units
        ),
        "episode": episode(rollout, 0, dt=market.game.dt, price_unit=unit, units=units),
        "benchmark": benchmark_figure(result),
    }


def reference_table(market: Game | OrderBookMarket, result: dict[str, Any]) -> QuoteTable:
    """The quotes of the row that the benchmark `result` measures regret against."""
    if result["reference"] == "glft_tuned":
        return glft_shifted(market.game, result["tuning"]["shift"], result["tuning"]["scale"])
    return QUOTERS[result["reference"]](market.game)


def _surface(market: Game | OrderBookMarket, quoter: Any, rollout: Rollout) -> Surface:
    """All of a table, and of a game's policy; of an order book's, which reads the book too, the mean of its quotes."""
    if isinstance(quoter, QuoteTable):
        return table_surface(quoter, market.game)
    if isinstance(market, Game):
        return table_surface(market.tabulate(quoter), market.game)
    return rollout_surface(rollout, market.game, price_unit=price_unit(market), no_quote=no_quote_of(quoter))


def units_of(market: Game | OrderBookMarket) -> Units:
    """Labels; the price comes out of the market's unit of money, "price x quantity"."""
    price = market.units.partition(" x ")[0]
    return Units(price, "lots", "time") if isinstance(market, Game) else Units(price, "orders", "time (s)")
