"""The pictures of a benchmark: quotes beside the reference's, what happens along paths, every row's regret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from bitquote.evaluation.distance import no_quote_of, price_unit
from bitquote.market import Game, OrderBookMarket
from bitquote.market.simulation import Rollout
from bitquote.quoting import QUOTERS, QuoteTable, glft_shifted
from bitquote.report.course import course_figure, markout_figure, tuning_figure
from bitquote.report.figures import Units, benchmark_figure, episode, quote_surfaces
from bitquote.report.surface import Surface, rollout_surface, table_surface
from bitquote.report.table import is_exact, ranked

PATHS = 64
"""Paths over which an order-book policy's quotes are averaged."""
EVIDENCE_PATHS = 200
"""Paths of the pictures of a page, the first of the benchmark's."""


class Picture(NamedTuple):
    """A figure of a page with what it shows."""

    title: str
    caption: str
    figure: Figure


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


def rows_picture(result: Mapping[str, Any]) -> Picture:
    """Every row's regret, and in an order book where its profit comes from."""
    if is_exact(result):
        title = "Regret"
        caption = "Regret to the optimum, the best row on top. All expected profit is spread earned at fills."
    else:
        title = "Regret and attribution"
        caption = (
            "Regret to the reference with its 95 % interval, the best row on top. Beside it the mean profit by source: "
            "gains to the right of zero, losses to the left."
        )
    return Picture(title, caption, benchmark_figure(dict(result)))


def tuning_picture(result: Mapping[str, Any]) -> list[Picture]:
    """The grid of `glft_tuned`; nothing where it was not tuned."""
    figure = tuning_figure(result["tuning"], result["units"])
    caption = (
        "Objective over the published grid; the star is what was chosen, the dots are its refinement. The colours are "
        "those of the better half."
    )
    return [] if figure is None else [Picture("Tuning of the baseline", caption, figure)]


def evidence(
    market: Game | OrderBookMarket, result: Mapping[str, Any], policies: Mapping[str, Any]
) -> list[Picture]:
    """All pictures of a benchmark's page.

    The first of `policies`, or without any the best closed form that is not the reference itself, stands beside the
    reference on the first `EVIDENCE_PATHS` paths of the test seed.
    """
    name, quoter = _shown(market, result, policies)
    reference = reference_table(market, result)
    paths = min(EVIDENCE_PATHS, result["paths"])
    rollouts = {
        name: market.rollout(quoter, paths, result["seed"]),
        result["reference"]: market.rollout(reference, paths, result["seed"]),
    }
    units, dt = units_of(market), market.game.dt
    surfaces = quote_surfaces(
        _surface(market, quoter, rollouts[name]), table_surface(reference, market.game),
        reference_name=result["reference"], units=units, name=name,
    )  # fmt: skip
    sample = f"{paths:,} paths of test seed {result['seed']}, the same for both"
    averaged = "" if isinstance(quoter, QuoteTable) or isinstance(market, Game) else (
        f" {name} reads the book too: shown is its mean over the cells that {paths:,} paths visited."
    )  # fmt: skip
    return [
        rows_picture(result),
        Picture("Quotes", f"Half-spread and skew over time and inventory.{averaged}", surfaces),
        Picture(
            "Markouts after own fills",
            "Mean move of the mid in the maker's favour, from the decision before the fill, which the quote was taken "
            f"from; bands are 95 % intervals over paths ({sample}). A fill earns its distance plus this, less fees.",
            markout_figure(rollouts, dt, price_unit(market), units),
        ),
        Picture(
            "Along the paths",
            f"Median over paths, and the bands that hold half and nine tenths of them ({sample}).",
            course_figure(rollouts, dt, units, result["units"]),
        ),
        *tuning_picture(result),
    ]


def _shown(
    market: Game | OrderBookMarket, result: Mapping[str, Any], policies: Mapping[str, Any]
) -> tuple[str, Any]:
    for name, policy in policies.items():
        return name, policy
    forms = (row["quoter"] for row in ranked(result) if row["quoter"] in QUOTERS)
    name = next(name for name in forms if name not in (result["reference"], "no_quote"))
    return name, QUOTERS[name](market.game)


def reference_table(market: Game | OrderBookMarket, result: Mapping[str, Any]) -> QuoteTable:
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
