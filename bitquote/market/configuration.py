"""Markets from plain configuration: strict names and types, no code in a file, units beside every number."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bitquote.errors import InputError, did_you_mean, require, require_choice, require_integer, require_number
from bitquote.market.flow_configuration import LISTS, MAX_SIZE, SECTIONS, FlowConfig, compiled_flow
from bitquote.market.game import Game
from bitquote.market.order_book import OrderBookMarket
from bitquote.market.venue import MOST_MAKERS, ON_BEST, ON_FILL, Venue
from bitquote.quoting import QUOTERS
from bitquote.quoting.glft import glft
from bitquote.quoting.parameters import GameParameters

_REQUOTE = {"never": 0, "fill": ON_FILL, "best": ON_BEST, "fill_or_best": ON_FILL | ON_BEST}


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
    levels: int = 1  # quotes a side
    level_spacing: int = 1  # ticks between them
    requote: str = "never"  # when makers are asked between two decisions: never, fill, best, fill_or_best
    requote_gap: float = 0.0  # s between two such moments at least
    window: int = 1024  # ticks of the book's dense window
    capacity: int = 8192  # live orders of the book

    def check(self) -> None:
        require_number("market.venue.tick", self.tick, 1e-12, 1e12)
        require_number("market.venue.lot", self.lot, 1e-12, 1e12)
        require_integer("market.venue.order_size", self.order_size, 1, MAX_SIZE)
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
        require_integer("market.venue.levels", self.levels, 1, 16)
        require_integer("market.venue.level_spacing", self.level_spacing, 1, 1_000_000)
        require_choice("market.venue.requote", self.requote, tuple(_REQUOTE))
        require_number("market.venue.requote_gap", self.requote_gap, 0.0, 1e6)
        ends = self.requote == "never" or self.latency_new > 0.0 or self.requote_gap > 0.0
        require(ends, "market.venue.requote_gap", self.requote_gap,
                "above 0 without latency_new: makers could answer each other for ever at one moment")  # fmt: skip
        require_integer("market.venue.window", self.window, 8, 2**24)
        require_integer("market.venue.capacity", self.capacity, 64, 2**24)


@dataclass(frozen=True)
class RivalConfig:
    """Other makers in the same book."""

    quoter: str  # a closed form, `self` (the very quoter that is judged or trained), or the path of a policy
    copies: int = 1
    gamma: float | None = None  # risk aversion of a closed form, where it is not the market's

    def check(self) -> None:
        require_integer("market.rivals.copies", self.copies, 1, MOST_MAKERS - 1)
        known = self.quoter in QUOTERS or self.quoter == "self" or self.quoter.endswith(".safetensors")
        require(known, "market.rivals.quoter", self.quoter,
                f"self, the path of a policy.safetensors, or one of {', '.join(QUOTERS)}"
                f"{did_you_mean(self.quoter, ['self', *QUOTERS])}")  # fmt: skip
        if self.gamma is not None:
            closed = self.quoter in QUOTERS
            require(closed, "market.rivals.gamma", self.gamma, f"left out: {self.quoter} has none of its own")
            require_number("market.rivals.gamma", self.gamma, 1e-12, 1e12)


@dataclass(frozen=True)
class OrderBookConfig:
    """A market with an order book."""

    gamma: float  # absolute risk aversion, 1 / (price x order size)
    closed_form: ClosedFormConfig
    venue: VenueConfig
    flow: FlowConfig
    kind: str = "order_book"
    name: str = "order_book"
    description: str = ""  # one line
    source: str = ""
    units: str = "price x order size"
    rivals: list[RivalConfig] = field(default_factory=list)
    recording: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GameConfig(GameParameters):
    """The Avellaneda-Stoikov game."""

    kind: str = "game"
    name: str = "game"


_KINDS = {"game": GameConfig, "order_book": OrderBookConfig}
_NESTED = {"closed_form": ClosedFormConfig, "venue": VenueConfig, "flow": FlowConfig, **SECTIONS}
_LISTS = {"rivals": RivalConfig, **LISTS}
_TEXT = (
    "kind", "name", "description", "source", "units", "requote", "quoter", "side", "fill_convention", "mid_convention",
)  # fmt: skip


def shipped_configuration(name: str) -> dict[str, Any]:
    """A market that ships with bitquote (`game`, `order_book`, ...), as plain configuration."""
    folders = [Path(__file__).parents[1] / "conf", Path(__file__).parents[2] / "conf"]  # installed, checkout
    for folder in folders:
        file = folder / "market" / f"{name}.yaml"
        if file.is_file():
            return _with_bases(yaml.safe_load(file.read_text(encoding="utf-8")))
    known = {path.stem for folder in folders for path in folder.glob("market/*.yaml")}
    raise InputError(f"market {name!r} is not among the markets that ship with bitquote{did_you_mean(name, known)}")


def _with_bases(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration laid over those that its `defaults` name, as Hydra does it."""
    whole: dict[str, Any] = {}
    for base in config.pop("defaults", []):
        if base != "_self_":
            whole = _laid_over(whole, shipped_configuration(base))
    return _laid_over(whole, config)


def _laid_over(base: Any, over: Any) -> Any:
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    return {**base, **{key: _laid_over(base.get(key), value) for key, value in over.items()}}


def build(
    config: Mapping[str, Any], load_policy: Callable[[str], Any] | None = None
) -> Game | OrderBookMarket:
    """The market that `config` describes; every error is one line that names the field.

    `load_policy` reads the policies that rivals are made of (bitquote.ternary.load_policy).
    """
    require(isinstance(config, Mapping), "market", config, "a mapping of settings")
    kind = require_choice("market.kind", config.get("kind"), tuple(_KINDS))
    schema = _typed(_KINDS[kind], config, "market")
    return _game(schema) if isinstance(schema, GameConfig) else _order_book(schema, load_policy)


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
        if key in _NESTED and not (value is None and fields[key].default is None):
            value = _typed(_NESTED[key], value, f"{where}.{key}")
        elif key in _LISTS:
            require(isinstance(value, Sequence) and not isinstance(value, str), f"{where}.{key}", value, "a list")
            value = [_typed(_LISTS[key], item, f"{where}.{key}[{i}]") for i, item in enumerate(list(value or ()))]
        elif key in _TEXT:
            require(isinstance(value, str), f"{where}.{key}", value, "text")
        elif key == "recording":
            require(isinstance(value, Mapping), f"{where}.{key}", value, "a mapping of figures")
        made[key] = value
    try:
        built = schema(**made)
    except InputError as error:
        raise InputError(f"{where}.{error}") from None
    if hasattr(built, "check"):
        built.check()
    return built


def _game(config: GameConfig) -> Game:
    names = (f.name for f in dataclasses.fields(GameParameters))
    return Game(GameParameters(**{name: getattr(config, name) for name in names}), name=config.name)


def _order_book(config: OrderBookConfig, load_policy: Callable[[str], Any] | None) -> OrderBookMarket:
    rules, flow = config.venue, config.flow
    for name in ("A", "k", "sigma"):
        require_number(f"market.closed_form.{name}", getattr(config.closed_form, name), 1e-12, 1e12)
    require_integer("market.closed_form.max_inventory", config.closed_form.max_inventory, 1, 100_000)
    require_number("market.gamma", config.gamma, 1e-12, 1e12)
    game = GameParameters(
        A=config.closed_form.A, k=config.closed_form.k, sigma=config.closed_form.sigma, gamma=config.gamma,
        horizon=rules.decision_interval * rules.decisions, steps=rules.decisions,
        max_inventory=config.closed_form.max_inventory, fill_convention="exponential", mid_convention="gaussian",
    )  # fmt: skip
    highest = flow.price / rules.tick * math.prod(max(move.factor, 1.0) for move in flow.regime)
    require(highest < MAX_SIZE, "market.flow.price", flow.price, f"below {MAX_SIZE} ticks, after all moves")
    require(
        game.max_inventory * rules.order_size < MAX_SIZE, "market.closed_form.max_inventory", game.max_inventory,
        f"below {MAX_SIZE} lots in all",
    )  # fmt: skip
    resting = 2.0 * flow.limit_rate / flow.cancel_rate  # orders, were none of them to trade
    require(
        resting < rules.capacity, "market.flow.cancel_rate", flow.cancel_rate,
        f"larger: at this limit_rate some {resting:.3g} orders rest, and market.venue.capacity is {rules.capacity}",
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
        levels=rules.levels,
        level_spacing=rules.level_spacing,
        requote=_REQUOTE[rules.requote],
        requote_gap=float(rules.requote_gap),
    )
    return OrderBookMarket(
        name=config.name, source=config.source, units=config.units, game=game, tick=float(rules.tick),
        lot=float(rules.lot), venue=venue, flow=compiled_flow(flow, rules.tick),
        window=rules.window, capacity=rules.capacity,
        recording=dict(config.recording), baseline=glft(game),
        rivals=_rivals(config.rivals, game, load_policy),
    )  # fmt: skip


def _rivals(
    configs: Sequence[RivalConfig], game: GameParameters, load_policy: Callable[[str], Any] | None
) -> tuple[Any, ...]:
    rivals: list[Any] = []
    for config in configs:
        if config.quoter == "self":
            rival = None
        elif config.quoter in QUOTERS:
            own = game if config.gamma is None else dataclasses.replace(game, gamma=config.gamma)
            rival = QUOTERS[config.quoter](own)
        elif load_policy is None:
            raise InputError(f"market.rivals.quoter is {config.quoter!r}: build() needs load_policy to read a policy")
        else:
            rival = load_policy(config.quoter)
        rivals += [rival] * config.copies
    require(len(rivals) < MOST_MAKERS, "market.rivals", len(rivals), f"at most {MOST_MAKERS - 1} makers")
    return tuple(rivals)
