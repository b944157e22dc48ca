"""Markets from plain configuration: strict names and types, no code in a file, units beside every number."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bitquote.errors import InputError, require, require_choice, require_integer, require_number
from bitquote.flow.poisson import QUANTILES, PoissonFlow
from bitquote.market.game import Game
from bitquote.market.order_book import OrderBookMarket
from bitquote.market.venue import Venue
from bitquote.quoting.glft import glft
from bitquote.quoting.parameters import GameParameters

_MAX_SIZE = 2**31  # lots or ticks: products of price and quantity stay within int64


@dataclass(frozen=True)
class ClosedFormConfig:
    """What the closed forms are computed from."""

    A: float  # fills per second and side of an order quoted at the mid
    k: float  # decay of the fill intensity, 1/price
    sigma: float  # volatility of the mid, price per square root of a second
    max_inventory: int  # orders


@dataclass(frozen=True)
class VenueConfig:
    """Rules of the market."""

    tick: float  # price
    lot: float  # smallest quantity, base units
    order_size: int  # lots in one order of the maker
    decision_interval: float  # s
    decisions: int  # an episode
    latency_new: float = 0.0  # s from a decision to the exchange, new and replaced orders
    latency_cancel: float = 0.0  # s, cancellations
    maker_fee: float = 0.0  # fraction of the notional, negative for a rebate
    taker_fee: float = 0.0  # fraction of the notional
    markout: float = 1.0  # horizon of the markout, s
    no_quote: float = 100.0  # ticks: a half-spread from here on means no quotes
    window: int = 1024  # ticks of the book's dense window
    capacity: int = 8192  # live orders of the book

    def check(self) -> None:
        require_number("market.venue.tick", self.tick, 1e-12, 1e12)
        require_number("market.venue.lot", self.lot, 1e-12, 1e12)
        require_integer("market.venue.order_size", self.order_size, 1, _MAX_SIZE)
        require_number("market.venue.decision_interval", self.decision_interval, 1e-6, 1e6)
        require_integer("market.venue.decisions", self.decisions, 1, 1_000_000)
        for name in ("latency_new", "latency_cancel"):
            require_number(f"market.venue.{name}", getattr(self, name), 0.0)
            require(
                getattr(self, name) < self.decision_interval, f"market.venue.{name}", getattr(self, name),
                f"below the decision interval of {self.decision_interval:g} s",
            )  # fmt: skip
        for name in ("maker_fee", "taker_fee"):
            require_number(f"market.venue.{name}", getattr(self, name), -0.1, 0.1)
        require_number("market.venue.markout", self.markout, 0.0, above=True)
        require_number("market.venue.no_quote", self.no_quote, 0.0, 1e9, above=True)
        require_integer("market.venue.window", self.window, 8, 2**24)
        require_integer("market.venue.capacity", self.capacity, 64, 2**24)


@dataclass(frozen=True)
class FlowConfig:
    """Background flow; sizes and distances are `{mean: x}` (geometric) or `{quantiles: [...]}`, equally spaced 0..1."""

    price: float  # efficient price at the start
    volatility: float  # of the efficient price, price per square root of a second
    limit_rate: float  # limit orders per second and side
    limit_distance: dict[str, Any]  # ticks behind the efficient price, from 0
    cancel_rate: float  # cancellations per second and resting order
    market_rate_bid: float  # market sell orders per second
    market_rate_ask: float  # market buy orders per second
    market_size: dict[str, Any]  # lots
    limit_size: dict[str, Any]  # lots
    market_reach: int = 1_000_000  # ticks from the best quote at which a market order stops: a price band
    stale_cancel_rate: float = 0.0  # per second and side: a best quote that the efficient price has passed is pulled
    jump_rate: float = 0.0  # jumps of the efficient price per second
    jump_size: float = 0.0  # standard deviation of a jump, price
    informed_rate: float = 0.0  # arrivals per second of traders who may know the efficient price
    toxicity: float = 0.0  # share of them that knows it and trades on it

    def check(self) -> None:
        require_number("market.flow.price", self.price, 0.0, above=True)
        for name in ("volatility", "jump_size", "informed_rate", "jump_rate", "stale_cancel_rate"):
            require_number(f"market.flow.{name}", getattr(self, name), 0.0, 1e9)
        for name in ("limit_rate", "market_rate_bid", "market_rate_ask"):
            require_number(f"market.flow.{name}", getattr(self, name), 0.0, 1e7)
        require_number("market.flow.limit_rate", self.limit_rate, 0.0, above=True)
        require_number("market.flow.cancel_rate", self.cancel_rate, 0.0, 1e6, above=True)
        require_integer("market.flow.market_reach", self.market_reach, 0, 1_000_000_000)
        require_number("market.flow.toxicity", self.toxicity, 0.0, 1.0)


@dataclass(frozen=True)
class OrderBookConfig:
    """A market with an order book."""

    gamma: float  # absolute risk aversion, 1 / (price x order size)
    closed_form: ClosedFormConfig
    venue: VenueConfig
    flow: FlowConfig
    kind: str = "order_book"
    name: str = "order_book"
    source: str = ""
    units: str = "price x order size"
    recording: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GameConfig(GameParameters):
    """The Avellaneda-Stoikov game."""

    kind: str = "game"
    name: str = "game"


_KINDS = {"game": GameConfig, "order_book": OrderBookConfig}
_NESTED = {"closed_form": ClosedFormConfig, "venue": VenueConfig, "flow": FlowConfig}
_TEXT = ("kind", "name", "source", "units", "fill_convention", "mid_convention")


def shipped_configuration(name: str) -> dict[str, Any]:
    """A market that ships with bitquote (`game`, `order_book`, ...), as plain configuration."""
    folders = [Path(__file__).parents[1] / "conf", Path(__file__).parents[2] / "conf"]  # installed, checkout
    for folder in folders:
        file = folder / "market" / f"{name}.yaml"
        if file.is_file():
            return yaml.safe_load(file.read_text(encoding="utf-8"))
    raise InputError(f"market {name!r} is not among the markets that ship with bitquote")


def build(config: Mapping[str, Any]) -> Game | OrderBookMarket:
    """The market that `config` describes; every error is one line that names the field."""
    require(isinstance(config, Mapping), "market", config, "a mapping of settings")
    kind = require_choice("market.kind", config.get("kind"), tuple(_KINDS))
    schema = _typed(_KINDS[kind], config, "market")
    return _game(schema) if isinstance(schema, GameConfig) else _order_book(schema)


def _typed(schema: type, values: Any, where: str) -> Any:
    """`values` as the dataclass `schema`: no unknown key, none missing."""
    require(isinstance(values, Mapping), where, values, "a mapping of settings")
    fields = {f.name: f for f in dataclasses.fields(schema)}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, 1)
            hint = f"did you mean {near[0]}?" if near else "known are " + ", ".join(fields)
            raise InputError(f"{where}.{key} is unknown: {hint}")
    for name, f in fields.items():
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise InputError(f"{where}.{name} is missing: {schema.__name__} needs it")
    made = {}
    for key, value in values.items():
        if key in _NESTED:
            value = _typed(_NESTED[key], value, f"{where}.{key}")
        elif key in _TEXT:
            require(isinstance(value, str), f"{where}.{key}", value, "text")
        elif key == "recording":
            require(isinstance(value, Mapping), f"{where}.{key}", value, "a mapping of figures")
        made[key] = value
    try:
        return schema(**made)
    except InputError as error:
        raise InputError(f"{where}.{error}") from None


def _game(config: GameConfig) -> Game:
    names = (f.name for f in dataclasses.fields(GameParameters))
    return Game(GameParameters(**{name: getattr(config, name) for name in names}), name=config.name)


def _order_book(config: OrderBookConfig) -> OrderBookMarket:
    rules, flow = config.venue, config.flow
    rules.check()
    flow.check()
    for name in ("A", "k", "sigma"):
        require_number(f"market.closed_form.{name}", getattr(config.closed_form, name), 1e-12, 1e12)
    require_integer("market.closed_form.max_inventory", config.closed_form.max_inventory, 1, 100_000)
    require_number("market.gamma", config.gamma, 1e-12, 1e12)
    game = GameParameters(
        A=config.closed_form.A, k=config.closed_form.k, sigma=config.closed_form.sigma, gamma=config.gamma,
        horizon=rules.decision_interval * rules.decisions, steps=rules.decisions,
        max_inventory=config.closed_form.max_inventory, fill_convention="exponential", mid_convention="gaussian",
    )  # fmt: skip
    require(flow.price / rules.tick < _MAX_SIZE, "market.flow.price", flow.price, f"below {_MAX_SIZE} ticks")
    require(
        game.max_inventory * rules.order_size < _MAX_SIZE, "market.closed_form.max_inventory", game.max_inventory,
        f"below {_MAX_SIZE} lots in all",
    )  # fmt: skip
    venue = Venue(
        order_size=rules.order_size,
        max_position=game.max_inventory * rules.order_size,
        decision_interval=float(rules.decision_interval),
        decisions=rules.decisions,
        latency_new=float(rules.latency_new),
        latency_cancel=float(rules.latency_cancel),
        maker_fee=float(rules.maker_fee),
        taker_fee=float(rules.taker_fee),
        markout=float(rules.markout),
        no_quote=float(rules.no_quote),
        price_unit=rules.tick / rules.order_size,
        penalty=game.penalty,
    )
    return OrderBookMarket(
        name=config.name, source=config.source, units=config.units, game=game, tick=float(rules.tick),
        lot=float(rules.lot), venue=venue, flow=_compiled_flow(flow, rules.tick),
        window=rules.window, capacity=rules.capacity,
        recording=dict(config.recording), baseline=glft(game),
    )  # fmt: skip


def _compiled_flow(flow: FlowConfig, tick: float) -> PoissonFlow:
    return PoissonFlow(
        price=flow.price / tick,
        volatility=flow.volatility / tick,
        jump_rate=float(flow.jump_rate),
        jump_size=flow.jump_size / tick,
        limit_rate=float(flow.limit_rate),
        cancel_rate=float(flow.cancel_rate),
        stale_cancel_rate=float(flow.stale_cancel_rate),
        market_rate_bid=float(flow.market_rate_bid),
        market_rate_ask=float(flow.market_rate_ask),
        market_reach=flow.market_reach,
        informed_rate=flow.informed_rate * flow.toxicity,
        limit_distance=quantile_table("market.flow.limit_distance", flow.limit_distance, 0),
        limit_size=quantile_table("market.flow.limit_size", flow.limit_size, 1),
        market_size=quantile_table("market.flow.market_size", flow.market_size, 1),
    )


def quantile_table(field_name: str, distribution: Any, low: int) -> np.ndarray:
    """QUANTILES equally likely integers of at least `low`: int64 (QUANTILES,).

    `distribution` is `{mean: x}`, a geometric law that begins at `low`, or `{quantiles: [...]}`, equally spaced
    quantiles from 0 to 1 with straight lines between them.
    """
    require(
        isinstance(distribution, Mapping) and len(distribution) == 1 and set(distribution) <= {"mean", "quantiles"},
        field_name, distribution, "{mean: number} or {quantiles: [numbers]}",
    )  # fmt: skip
    middles = (np.arange(QUANTILES) + 0.5) / QUANTILES
    if "mean" in distribution:
        mean = require_number(f"{field_name}.mean", distribution["mean"], low, 1e6)
        if mean == low:
            return np.full(QUANTILES, low, np.int64)
        success = 1.0 / (1.0 + mean - low)
        return low + np.floor(np.log1p(-middles) / np.log1p(-success)).astype(np.int64)
    values = distribution["quantiles"]
    good = isinstance(values, (list, tuple)) or type(values).__name__ == "ListConfig"
    require(good and 2 <= len(values) <= 100_000, f"{field_name}.quantiles", values, "a list of at least two numbers")
    numbers = np.array([require_number(f"{field_name}.quantiles", v, low, _MAX_SIZE) for v in values])
    require(bool((np.diff(numbers) >= 0).all()), f"{field_name}.quantiles", list(values), "in ascending order")
    return np.rint(np.interp(middles, np.linspace(0.0, 1.0, numbers.size), numbers)).astype(np.int64)
