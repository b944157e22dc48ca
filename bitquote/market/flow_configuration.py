"""The flow section of a market's configuration: one dataclass a model, units beside every number.

Zero intelligence stands at the top level; every other model is a section of its own name, and one that is not there
does not take part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bitquote.errors import require, require_choice, require_integer, require_number
from bitquote.flow.cascade import Cascade
from bitquote.flow.crowd import Crowd, without_extras
from bitquote.flow.hawkes import Hawkes, branching_ratio, mean_rates, stationary_excitation
from bitquote.flow.metaorder import Metaorders
from bitquote.flow.momentum import Momentum
from bitquote.flow.poisson import PoissonFlow
from bitquote.flow.queue_reactive import QueueReactive, invariant_sizes
from bitquote.flow.regime import Regime
from bitquote.flow.state import (
    CANCEL_BID,
    KINDS,
    LIMIT_BID,
    MARKET_ASK,
    MARKET_BID,
    MOST_STUFFED,
    MOST_TERMS,
    QUANTILES,
)
from bitquote.flow.stuffing import Stuffing
from bitquote.flow.wash import Wash

MAX_SIZE = 2**31  # lots or ticks: products of price and quantity stay within int64
_SIDES = {"buy": 1, "sell": -1, "random": 0}


@dataclass(frozen=True)
class HawkesConfig:
    """Self-excitation of the six kinds market_bid, market_ask, limit_bid, limit_ask, cancel_bid, cancel_ask.

    market_bid is a market order that sells to the bid. The rates of the flow's top level are the base.
    """

    decay: list[float]  # 1/s, one an exponential of the kernel
    excitation: list[Any]  # 1/s, [term][kind that is excited][kind that happened]
    informed: bool = False  # whether trades of informed traders excite as market orders do

    def check(self) -> None:
        where = "market.flow.hawkes"
        require(_is_list(self.decay) and 1 <= len(self.decay) <= MOST_TERMS, f"{where}.decay", self.decay,
                f"a list of 1 to {MOST_TERMS} rates")  # fmt: skip
        require(isinstance(self.informed, bool), f"{where}.informed", self.informed, "true or false")
        for rate in self.decay:
            require_number(f"{where}.decay", rate, 0.0, 1e9, above=True)
        shape = (len(self.decay), len(KINDS), len(KINDS))
        jump = _array(f"{where}.excitation", self.excitation, shape)
        ratio = branching_ratio(np.array(self.decay, float), jump)
        require(ratio < 1.0, f"{where}.excitation", f"a matrix of branching ratio {ratio:.4g}",
                "of a branching ratio (spectral radius) below 1: the process is not stationary")  # fmt: skip


@dataclass(frozen=True)
class QueueReactiveConfig:
    """Intensities by queue size, in orders of `unit` lots; the last column stands for all larger sizes."""

    unit: int  # lots of every order
    limit: list[Any]  # 1/s and side, [distance in ticks behind the efficient price][queue size]
    cancel: list[Any]  # 1/s and side, the same shape; 0 at size 0
    market: list[float]  # 1/s and side, [size of the best queue]; 0 at size 0
    follow: float = 0.0  # probability that the efficient price follows a move of the mid by a tick

    def check(self) -> None:
        where = "market.flow.queue_reactive"
        require_integer(f"{where}.unit", self.unit, 1, MAX_SIZE)
        require_number(f"{where}.follow", self.follow, 0.0, 1.0)
        good = _is_list(self.limit) and 1 <= len(self.limit) <= 64 and _is_list(self.limit[0])
        require(good and 2 <= len(self.limit[0]) <= 1024, f"{where}.limit", self.limit, "a list of lists of rates")
        shape = (len(self.limit), len(self.limit[0]))
        _array(f"{where}.limit", self.limit, shape)
        cancel = _array(f"{where}.cancel", self.cancel, shape)
        market = _array(f"{where}.market", self.market, shape[1:])
        require(not cancel[:, 0].any(), f"{where}.cancel", self.cancel, "0 for an empty queue")
        require(market[0] == 0.0, f"{where}.market", self.market, "0 for an empty queue")
        leaves = bool((cancel[:, 1:] > 0.0).all())
        require(leaves, f"{where}.cancel", self.cancel, "above 0 for every queue that is not empty")
        arrives = bool(np.array(self.limit, float)[:, 0].any())
        require(arrives, f"{where}.limit", self.limit, "above 0 for some empty queue: nothing would ever come again")


@dataclass(frozen=True)
class MomentumConfig:
    """Traders who follow the trend of the mid."""

    rate: float  # arrivals per second
    lookback: float  # s, of the exponential average that the mid is compared with
    threshold: float = 0.0  # price: smaller trends are left alone

    def check(self) -> None:
        require_number("market.flow.momentum.rate", self.rate, 0.0, 1e6)
        require_number("market.flow.momentum.lookback", self.lookback, 0.0, 1e9, above=True)
        require_number("market.flow.momentum.threshold", self.threshold, 0.0, 1e9)


@dataclass(frozen=True)
class MetaorderConfig:
    """Large orders of an institution, as one block or sliced in time."""

    size: int  # lots of a parent order
    slices: int = 1
    interval: float = 1.0  # s between two slices
    start: float | None = None  # s, of the first one
    rate: float = 0.0  # further parent orders per second
    side: str = "random"  # buy, sell, random
    impact: float = 0.0  # of the efficient price, price per square root of a lot
    reach: int = 1_000_000  # ticks from the best quote at which a slice stops

    def check(self) -> None:
        where = "market.flow.metaorder"
        require_integer(f"{where}.size", self.size, 1, MAX_SIZE)
        require_integer(f"{where}.slices", self.slices, 1, self.size)
        require_number(f"{where}.interval", self.interval, 0.0, 1e9)
        if self.start is not None:
            require_number(f"{where}.start", self.start, 0.0, 1e9)
        require_number(f"{where}.rate", self.rate, 0.0, 1e6)
        require_choice(f"{where}.side", self.side, tuple(_SIDES))
        require_number(f"{where}.impact", self.impact, 0.0, 1e9)
        require_integer(f"{where}.reach", self.reach, 0, 1_000_000_000)


@dataclass(frozen=True)
class MoveConfig:
    """A pump or a crash: the efficient price is carried to a multiple of itself."""

    start: float  # s
    duration: float  # s
    factor: float  # 4.0 is a rise of 300 %, 0.7 a fall of 30 %
    taker_rate: float = 0.0  # market orders per second in the direction of the move

    def check(self) -> None:
        require_number("market.flow.regime.start", self.start, 0.0, 1e9)
        require_number("market.flow.regime.duration", self.duration, 0.0, 1e9, above=True)
        require_number("market.flow.regime.factor", self.factor, 1e-3, 1e3)
        require_number("market.flow.regime.taker_rate", self.taker_rate, 0.0, 1e6)


@dataclass(frozen=True)
class CascadeConfig:
    """Leveraged longs that are liquidated as the price falls, which makes it fall."""

    density: float  # lots to be sold per price unit of fall
    first: float  # the highest liquidation price, as a fraction of the price at the start
    last: float  # the lowest
    impact: float  # fall of the efficient price, price per lot sold
    rate: float  # liquidation orders per second while there is a backlog
    clip: int  # lots in one of them

    def check(self) -> None:
        where = "market.flow.cascade"
        require_number(f"{where}.density", self.density, 0.0, 1e12)
        require_number(f"{where}.first", self.first, 0.0, 1.0)
        require_number(f"{where}.last", self.last, 0.0, self.first)
        require_number(f"{where}.impact", self.impact, 0.0, 1e9)
        require_number(f"{where}.rate", self.rate, 0.0, 1e6)
        require_integer(f"{where}.clip", self.clip, 1, MAX_SIZE)


@dataclass(frozen=True)
class StuffingConfig:
    """Bursts of orders that are withdrawn at once, and slow everybody down."""

    rate: float  # bursts per second
    duration: float  # s of a burst
    orders: float  # orders per second within it
    life: float  # s, mean life of an order
    size: int  # lots
    distance: int = 0  # ticks behind the best quote
    delay: float = 0.0  # s that a maker's message takes longer in a burst

    def check(self) -> None:
        where = "market.flow.stuffing"
        for name in ("rate", "duration", "orders"):
            require_number(f"{where}.{name}", getattr(self, name), 0.0, 1e6)
        require_number(f"{where}.life", self.life, 1e-6, 1e6)
        require_integer(f"{where}.size", self.size, 1, MAX_SIZE)
        require_integer(f"{where}.distance", self.distance, 0, 1_000_000)
        most = 0.5 * MOST_STUFFED  # far enough from the mean for a Poisson number of them
        require(
            self.orders * self.life <= most, f"{where}.life", self.life,
            f"at most {most / self.orders if self.orders else 0.0:g} s at these orders per second: "
            f"{most:g} of them rest at one time on average",
        )  # fmt: skip
        require_number(f"{where}.delay", self.delay, 0.0, 1e6)


@dataclass(frozen=True)
class WashConfig:
    """Prints of somebody who trades with himself."""

    rate: float  # prints per second
    size: dict[str, Any]  # lots
    bias: float = 0.5  # probability of a print that looks like a buy

    def check(self) -> None:
        require_number("market.flow.wash.rate", self.rate, 0.0, 1e6)
        require_number("market.flow.wash.bias", self.bias, 0.0, 1.0)


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
    hawkes: HawkesConfig | None = None
    queue_reactive: QueueReactiveConfig | None = None
    momentum: MomentumConfig | None = None
    metaorder: MetaorderConfig | None = None
    regime: list[MoveConfig] = field(default_factory=list)
    cascade: CascadeConfig | None = None
    stuffing: StuffingConfig | None = None
    wash: WashConfig | None = None

    def check(self) -> None:
        require_number("market.flow.price", self.price, 0.0, above=True)
        for name in ("volatility", "jump_size", "informed_rate", "jump_rate", "stale_cancel_rate"):
            require_number(f"market.flow.{name}", getattr(self, name), 0.0, 1e9)
        for name in ("limit_rate", "market_rate_bid", "market_rate_ask"):
            require_number(f"market.flow.{name}", getattr(self, name), 0.0, 1e7)
        queues = self.queue_reactive is not None  # whose limit orders may be the only ones
        require_number("market.flow.limit_rate", self.limit_rate, 0.0, above=not queues)
        require_number("market.flow.cancel_rate", self.cancel_rate, 0.0, 1e6, above=True)
        require_integer("market.flow.market_reach", self.market_reach, 0, 1_000_000_000)
        require_number("market.flow.toxicity", self.toxicity, 0.0, 1.0)


SECTIONS = {
    "hawkes": HawkesConfig,
    "queue_reactive": QueueReactiveConfig,
    "momentum": MomentumConfig,
    "metaorder": MetaorderConfig,
    "cascade": CascadeConfig,
    "stuffing": StuffingConfig,
    "wash": WashConfig,
}
LISTS = {"regime": MoveConfig}


def compiled_flow(flow: FlowConfig, tick: float) -> Crowd:
    """The flow in ticks, as the kernels take it."""
    hawkes, base = _hawkes(flow)
    limit_rate = flow.limit_rate
    if hawkes.decay.size:
        limit_rate = float(mean_rates(hawkes.decay, hawkes.jump, base)[LIMIT_BID])
    poisson = PoissonFlow(
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
        informed_rate=float(flow.informed_rate * flow.toxicity),
        resting=int(limit_rate / flow.cancel_rate),
        limit_distance=quantile_table("market.flow.limit_distance", flow.limit_distance, 0),
        limit_size=quantile_table("market.flow.limit_size", flow.limit_size, 1),
        market_size=quantile_table("market.flow.market_size", flow.market_size, 1),
    )
    crowd = without_extras(poisson)._replace(hawkes=hawkes, regime=_regime(flow.regime))
    if flow.queue_reactive is not None:
        crowd = crowd._replace(queues=_queues(flow.queue_reactive))
    if (momentum := flow.momentum) is not None:
        threshold = momentum.threshold / tick
        crowd = crowd._replace(momentum=Momentum(float(momentum.rate), float(momentum.lookback), threshold))
    if (meta := flow.metaorder) is not None:
        crowd = crowd._replace(
            metaorders=Metaorders(
                size=meta.size, slices=meta.slices, interval=float(meta.interval),
                start=math.inf if meta.start is None else float(meta.start), rate=float(meta.rate),
                side=_SIDES[meta.side], impact=meta.impact / tick, reach=meta.reach,
            )
        )  # fmt: skip
    if (cascade := flow.cascade) is not None:
        crowd = crowd._replace(
            cascade=Cascade(
                density=cascade.density * tick, first=cascade.first * flow.price / tick,
                last=cascade.last * flow.price / tick, impact=cascade.impact / tick, rate=float(cascade.rate),
                clip=cascade.clip,
            )
        )  # fmt: skip
    if (stuffing := flow.stuffing) is not None:
        crowd = crowd._replace(
            stuffing=Stuffing(
                rate=float(stuffing.rate), duration=float(stuffing.duration), orders=float(stuffing.orders),
                life=float(stuffing.life), size=stuffing.size, distance=stuffing.distance,
                delay=float(stuffing.delay),
            )
        )  # fmt: skip
    if (wash := flow.wash) is not None:
        sizes = quantile_table("market.flow.wash.size", wash.size, 1)
        crowd = crowd._replace(wash=Wash(float(wash.rate), sizes, float(wash.bias)))
    timed = (flow.momentum, flow.metaorder, flow.cascade, flow.stuffing)
    return crowd._replace(by_the_clock=bool(flow.regime) or any(section is not None for section in timed))


def _hawkes(flow: FlowConfig) -> tuple[Hawkes, np.ndarray]:
    """The excitation, and the base rates by kind; as many orders are taken to be cancelled as arrive."""
    base = np.array([flow.market_rate_bid, flow.market_rate_ask, *[flow.limit_rate] * 4], float)
    base[CANCEL_BID:] -= 0.5 * (flow.market_rate_bid + flow.market_rate_ask)
    base = np.maximum(base, 0.0)
    if flow.hawkes is None:
        return Hawkes(np.zeros(0), np.zeros((0, len(KINDS), len(KINDS))), np.zeros((0, len(KINDS)))), base
    decay, jump = np.array(flow.hawkes.decay, float), np.array(flow.hawkes.excitation, float)
    if flow.hawkes.informed:
        base[[MARKET_BID, MARKET_ASK]] += 0.5 * flow.informed_rate * flow.toxicity  # as if each of them traded
    return Hawkes(decay, jump, stationary_excitation(decay, jump, base), flow.hawkes.informed), base


def _queues(config: QueueReactiveConfig) -> QueueReactive:
    limit, cancel = np.array(config.limit, float), np.array(config.cancel, float)
    market = np.array(config.market, float)
    leave = cancel.copy()
    leave[0] += market  # as if the nearest queue were the best
    laws = [invariant_sizes(up, down) for up, down in zip(limit, leave, strict=True)]
    start = [round(float(law @ np.arange(law.size))) for law in laws]
    return QueueReactive(config.unit, float(config.follow), limit, cancel, market, np.array(start, np.int64))


def _regime(moves: Sequence[MoveConfig]) -> Regime:
    columns = ("start", "duration", "factor", "taker_rate")
    return Regime(*(np.array([getattr(move, name) for move in moves], float) for name in columns))


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or type(value).__name__ == "ListConfig"


def _array(name: str, rows: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Nested lists as an array of this shape, of finite numbers of at least 0."""
    try:
        array = np.array(_plain(rows, name), float)
    except ValueError:
        array = np.zeros(0)
    require(array.shape == shape, name, rows, f"a table of shape {shape}")
    return array


def _plain(rows: Any, name: str) -> Any:
    if _is_list(rows):
        return [_plain(row, name) for row in rows]
    return require_number(name, rows, 0.0, 1e9)


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
    good = _is_list(values) and 2 <= len(values) <= 100_000
    require(good, f"{field_name}.quantiles", values, "a list of at least two numbers")
    numbers = np.array([require_number(f"{field_name}.quantiles", v, low, MAX_SIZE) for v in values])
    require(bool((np.diff(numbers) >= 0).all()), f"{field_name}.quantiles", list(values), "in ascending order")
    return np.rint(np.interp(middles, np.linspace(0.0, 1.0, numbers.size), numbers)).astype(np.int64)
