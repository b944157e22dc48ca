"""From a recording to a market: the YAML that `market=` takes, written with what was measured and what was chosen."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bitquote.calibration.hawkes import HawkesFit
from bitquote.calibration.intensity import Intensities, fit_intensities, taker_orders
from bitquote.calibration.order_flow import LIMIT, OrderEvents, order_events
from bitquote.calibration.order_level import order_level_events
from bitquote.calibration.record import bursts_record, clustering_record, fit_reaching_takers, order_flow_record
from bitquote.calibration.resemblance import ROUNDS, Dials, Figures, Grid, match, measure, volatility
from bitquote.calibration.statistics import at_least, jump_share
from bitquote.calibration.zero_intelligence import ZeroIntelligence, fit_zero_intelligence
from bitquote.errors import InputError, require_number
from bitquote.market import build
from bitquote.market.simulation import Tape
from bitquote.progress import progress
from bitquote.recorded import OrderRecording, Recording, from_orders, open_recording, replay

FEES = {"spot": (0.0010, 0.0010), "usdm": (0.0002, 0.0005)}
"""(maker, taker) fractions of the notional without discounts: Binance's published schedules, spot and USD-M, VIP 0. Of
other exchanges none is known, and 0 is written."""
STEPS_PER_DECISION = 2.0
"""About how many price steps the mid moves (one standard deviation) within a decision: finer steps only cost speed."""
FEWEST_LEVELS, MOST_LEVELS = 30, 100
"""Steps on either side of the mid whose orders are simulated: as far as a taker order reached, within these bounds."""
PACE = 1.5
"""Limit orders and cancellations arrive this much faster than net level changes show, for the diffs hide what came and
went between them; it keeps the depth and closes the spread to little more than a step. Single orders hide nothing."""
STALE_CANCEL_RATE = 5.0
"""1/s a side: how fast a best quote is pulled once the efficient price has passed it. Public data do not show it; much
faster leaves informed traders nothing, much slower makes the mid lag behind the efficient price."""
QUANTILES = 101
"""Of each written distribution, equally spaced from 0 to 1."""
ORDER_LOTS = 1000
DECISIONS = 300
MAX_INVENTORY = 20  # orders
LATENCY = 0.005  # s; the least one is hidden in the recorder's clock offset, the median lies 2 ms above it
DEPTH_LEVELS = 200  # a side, in the pictures of a replay of single orders
MATCHING_SECONDS = 6000.0  # simulated in each round of the matching loop
CHECK_SECONDS = 12000.0  # simulated for the figures that are reported
USUAL_RATE = 0.2  # taker orders per second that reach half a step; where they are rarer, simulations are longer


def calibrate(
    data: str | Path,
    output: str | Path,
    *,
    tick: float | None = None,
    format: str | None = None,
    order_book: str | Path | None = None,
    **choices: Any,
) -> dict[str, Any]:
    """Read a recording, calibrate a market on it, write its YAML and return the same mapping.

    Args:
        data: The recording.
        output: The YAML to write.
        tick: The exchange's tick, if a configuration states one; it must agree with the recording's.
        format, order_book: As `open_recording` takes them.
        choices: The keywords of `calibrated_market`.

    Raises:
        InputError: the recording is bad or too short, or the output cannot be written.
    """
    market = calibrated_market(read_recording(data, tick, format, order_book), **choices)
    write_market(market, output)
    return market


def read_recording(
    data: str | Path, tick: float | None = None, format: str | None = None, order_book: str | Path | None = None
) -> Recording:
    """Read a recording of any kind; one of single orders is replayed. The arguments are those of `calibrate`."""
    if tick is not None:
        tick = require_number("tick", tick, 0.0, above=True)
    recording = open_recording(data, format, order_book)
    if isinstance(recording, OrderRecording):
        recording = from_orders(replay(recording, depth_levels=DEPTH_LEVELS))
    found = recording.tick
    if tick is not None and abs(tick - found.size) > 1e-9:
        raise InputError(
            f"{data}: the tick is stated as {tick:g}, but the {found.prices} distinct prices in the recording lie on "
            f"multiples of {found.size:g}"
        )
    return recording


def calibrated_market(
    recording: Recording,
    *,
    step: float | None = None,
    decision_interval: float = 0.1,
    maker_fee: float | None = None,
    taker_fee: float | None = None,
    gap: float | None = None,
    hawkes: bool = True,
    name: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """A market, as a mapping of plain values, whose simulation shows the recording's A, k, sigma and depth.

    Args:
        recording: One stretch of one instrument.
        step: Price step of the simulation; by default about half of what the mid moves in a decision (1, 2 or 5 times a
            power of ten, at least the tick).
        decision_interval: Seconds.
        maker_fee, taker_fee: Fractions of the notional; by default the exchange's without discounts.
        gap: Seconds within which taker orders of one side count as one burst, which fills a resting quote once; by
            default the decision interval. At 0 each order counts, and a quote that rests is filled too often.
        hawkes: Whether taker orders excite each other as those do that reach half a step in the recording.
        name: Of the market; by default symbol and kind.
        seed: Of the simulations.
    """
    tape = recording.tape
    require_number("decision_interval", decision_interval, 1e-3, 60.0)
    maker, taker = FEES.get(recording.kind, (0.0, 0.0))
    maker = maker if maker_fee is None else require_number("maker_fee", maker_fee, -0.1, 0.1)
    taker = taker if taker_fee is None else require_number("taker_fee", taker_fee, -0.1, 0.1)
    gap = decision_interval if gap is None else require_number("gap", gap, 0.0)
    scale = max(1.0, decision_interval)
    sigma = volatility(tape, scale)
    if step is None:
        step = max(recording.tick.size, _round_number(sigma.value * math.sqrt(decision_interval) / STEPS_PER_DECISION))
    step = require_number("step", step, recording.tick.size)
    intensities = fit_intensities(tape, step, gap=gap)
    A, k = intensities.pooled.A.value, intensities.pooled.k.value
    each, orders = taker_orders(tape), taker_orders(tape, gap)
    taken = each if hawkes else orders  # what comes as one order in the simulation
    sizes = taken.quantity[at_least(taken, step / 2)]
    order_size = _round_number(float(np.median(sizes)))
    levels = min(max(math.ceil(orders.reach.max() / step), FEWEST_LEVELS), MOST_LEVELS)
    events, rates = _order_flow(recording, step, levels)
    grid = Grid(step, order_size / ORDER_LOTS, levels, scale)
    target = measure(tape, grid, gap)
    market: dict[str, Any] = {
        "kind": "order_book",
        "name": name or f"{recording.symbol or recording.exchange}_{recording.kind}".lower(),
        "description": f"calibrated on {_length(recording)} of {_instrument(recording)}"
        + (", taker orders in bursts as recorded" if hawkes else ", taker orders that do not excite each other"),
        "source": _source(recording, step, maker, taker),
        "units": f"price x {order_size:g} of the base currency",
        "gamma": _round_number(k / 15),  # gamma / k as in the published game
        "closed_form": {"A": A, "k": k, "sigma": sigma.value, "max_inventory": MAX_INVENTORY},
        "venue": _venue(grid, float(tape.bid[0]), k, decision_interval, maker, taker),
    }
    guess = _first_guess(recording, events, rates, sizes, target, grid, decision_interval)
    takers = _excitation(tape, step) if hawkes else None
    market["flow"], dials, simulated, simulation = _matched(market, guess, target, grid, seed, gap, takers)
    market["recording"] = {
        "markout_1s": target.markout,
        "fill_rate": intensities.pooled.at_touch.value,
        "spread": target.spread,
        "sigma": list(sigma),
        "intensity": _intensity_record(intensities),
        "figures": {
            name: {"recorded": recorded, "simulated": found}
            for name, recorded, found in zip(Figures._fields, target, simulated, strict=True)
        },
        "size_factors": {"market": dials.market_size, "limit": dials.limit_size},
        "largest_market_order": dials.largest_order,
        "orders": {
            "taker_orders_per_second": len(each.time) / recording.duration,
            "median_taker_size": float(np.median(each.quantity)),
            "limit_orders_per_second_and_side": list(rates.limit_rate),
            "cancellations_per_second_and_order": list(rates.cancel_rate),
        },
        "gap": gap,
        "bursts": bursts_record(tape, step, decision_interval),
        "clustering": clustering_record(tape, simulation, step / 2),
        **order_flow_record(tape),
        "evidence": _evidence(recording),
    }
    return _rounded(market)


def _venue(grid: Grid, price: float, k: float, interval: float, maker_fee: float, taker_fee: float) -> dict[str, Any]:
    """The rules of the market: measured units, and choices that are the same for every calibrated market."""
    return {
        "tick": grid.step,
        "lot": grid.lot,
        "order_size": ORDER_LOTS,
        "decision_interval": interval,
        "decisions": DECISIONS,
        "latency_new": min(LATENCY, interval / 2),
        "latency_cancel": min(LATENCY, interval / 2),
        "maker_fee": maker_fee,
        "taker_fee": taker_fee,
        "markout": 1.0,
        "no_quote": math.ceil((abs(maker_fee) * price + 20 / k) / grid.step),  # far beyond fee + 1/k, the best distance
        "window": 1024,
        "capacity": 8192,
    }


def _matched(
    market: dict[str, Any],
    guess: dict[str, Any],
    target: Figures,
    grid: Grid,
    seed: int,
    gap: float | None,
    takers: HawkesFit | None,
) -> tuple[dict[str, Any], Dials, Figures, Tape]:
    """The flow that shows the target's figures, its dials, and a longer simulation of it with its figures."""
    longer = max(1.0, USUAL_RATE / (target.bid_rate + target.ask_rate))
    interval = market["venue"]["decision_interval"]

    def simulate(flow: dict[str, Any], seed: int, seconds: float = MATCHING_SECONDS) -> Tape:
        simulated = build(_rounded(market | {"flow": flow}))
        return simulated.tape(longer * seconds, seed, levels=2 * grid.levels, snapshot_interval=max(1.0, interval))

    with progress("matching the flow to the recording") as report:
        report("", 0, ROUNDS + 2)
        flow, dials = match(
            target, guess, grid, simulate, seed, lambda done: report("", done, ROUNDS + 2), gap, takers
        )
        simulation = simulate(flow, seed + ROUNDS, CHECK_SECONDS)
        simulated = measure(simulation, grid, gap)
    return flow, dials, simulated, simulation


def write_market(market: dict[str, Any], output: str | Path) -> None:
    """Write a market as YAML, with a comment that says what it is."""
    output = Path(output)
    text = yaml.safe_dump(market, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    note = (
        "# Written by `bitquote calibrate`: numbers measured in a recording, none of its data.\n"
        "# Prices in the quote currency, times in seconds. closed_form is what the closed forms are computed from.\n"
        "# recording holds [value, low, high] with 95 % intervals, and each figure's recorded and simulated value.\n"
    )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(note + text, encoding="utf-8")
    except OSError as problem:
        raise InputError(f"{output}: cannot be written ({problem.strerror})") from None


def _order_flow(recording: Recording, step: float, levels: int) -> tuple[OrderEvents, ZeroIntelligence]:
    """Order events within `levels` steps of the mid, from single orders where there are such, and their rates."""
    if recording.orders is None:
        events = order_events(recording.tape, recording.changes, levels * step)
    else:
        events = order_level_events(recording, levels * step)
    return events, fit_zero_intelligence(events, step, distances=levels)


def _excitation(tape: Tape, step: float) -> HawkesFit:
    """How the taker orders that the simulation has, those that reach half a step, excite each other."""
    takers = fit_reaching_takers(tape, step / 2)
    if not takers.stationary:
        raise InputError(
            f"the Hawkes fit of taker orders has a branching ratio of {takers.branching_ratio.value:.3g}: must be "
            "below 1 to be simulated; hawkes=false goes without"
        )
    return takers


def _first_guess(
    recording: Recording,
    events: OrderEvents,
    rates: ZeroIntelligence,
    sizes: np.ndarray,
    target: Figures,
    grid: Grid,
    interval: float,
) -> dict[str, Any]:
    """The flow as the recording shows it, before its dials are turned.

    `sizes` are those of the taker orders that reach half a step. What moves the price within a decision, of `interval`
    seconds, as a diffusion would not is a jump.
    """
    tape, limits = recording.tape, events.kind == LIMIT
    pace = PACE if recording.orders is None else 1.0
    share, jump_rate = jump_share(tape, interval)
    behind = np.maximum(np.floor(events.distance[limits] / grid.step), 0.0)  # inside the spread: at the mid
    return {
        "price": float(tape.bid[0]),
        "volatility": target.sigma * math.sqrt(1 - share),
        "jump_rate": jump_rate,
        "jump_size": target.sigma * math.sqrt(share / jump_rate) if jump_rate else 0.0,
        "limit_rate": pace * rates.limit_rate.value,
        "limit_distance": {
            "quantiles": [round(distance) for distance in _quantiles(behind)]
        },
        "limit_size": {"quantiles": _quantiles(events.size[limits] / grid.lot)},
        "cancel_rate": pace * rates.cancel_rate.value,
        "stale_cancel_rate": STALE_CANCEL_RATE,
        "market_rate_bid": target.bid_rate,
        "market_rate_ask": target.ask_rate,
        "market_size": {"quantiles": _quantiles(sizes / grid.lot)},
        "market_reach": grid.levels,  # no order went deeper, so none shall
        "informed_rate": 0.0,
        "toxicity": 1.0,
    }


def _intensity_record(intensities: Intensities) -> dict[str, Any]:
    """Each side's A, k and rate at half a step as [value, low, high], and its goodness of fit."""
    record: dict[str, Any] = {
        name: {
            "A": list(fit.A),
            "k": list(fit.k),
            "half_step_rate": list(fit.at_touch),
            "taker_orders": fit.count,
            "ks": fit.ks,
            "p_value": fit.p_value,
        }
        for name, fit in (("bid", intensities.bid), ("ask", intensities.ask), ("pooled", intensities.pooled))
    }
    return record | {"taker_orders_nearer_than_half_a_step": intensities.nearer}


def _evidence(recording: Recording) -> dict[str, Any]:
    """What the reader counted and inferred."""
    tick, clock = recording.tick, recording.clock
    evidence: dict[str, Any] = {
        "seconds": recording.duration,
        "tick": {"size": tick.size, "distinct_prices": tick.prices, "neighbours_one_tick_apart": tick.at_one_tick},
    }
    if clock is not None:
        latency = clock.latency[0]
        evidence["clock"] = {"offset": clock.offset, "drift": clock.drift, "median_latency_above_least": latency}
    return evidence | {"messages": dict(recording.messages), "skipped": dict(recording.skipped)}


def _instrument(recording: Recording) -> str:
    return " ".join(filter(None, (recording.exchange, recording.kind, recording.symbol)))


def _length(recording: Recording) -> str:
    minutes = recording.duration / 60
    return f"{minutes:.1f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"


def _source(recording: Recording, step: float, maker_fee: float, taker_fee: float) -> str:
    """Where the numbers come from, and how little that is."""
    start = datetime.fromtimestamp(recording.start * 1e-9, UTC)
    origin = "1970 UTC" if recording.orders is None else recording.orders.recording.origin
    when = {
        "1970 UTC": f"{start:%Y-%m-%d %H:%M} UTC",
        "1970 local": f"{start:%Y-%m-%d %H:%M} of the exchange's clock",
        "midnight": f"{start:%H:%M} of a day that the file does not tell",
    }[origin]
    part = ("night", "morning", "afternoon", "evening")[start.hour // 6]
    return (
        f"{_length(recording)} of one {part} and no more: {_instrument(recording)}, {when}; simulated on a "
        f"price step of {step:g} where the exchange's tick is {recording.tick.size:g}; "
        f"maker fee {maker_fee * 1e4:g}, taker fee {taker_fee * 1e4:g} basis points"
    )


def _quantiles(values: np.ndarray) -> list[float]:
    return np.quantile(values, np.linspace(0.0, 1.0, QUANTILES)).tolist()


def _round_number(value: float) -> float:
    """The nearest of 1, 2, 5 times a power of ten, on a logarithmic scale."""
    power = 10.0 ** math.floor(math.log10(value))
    choices = [digit * power for digit in (1, 2, 5, 10)]
    return float(f"{min(choices, key=lambda choice: abs(math.log(choice / value))):.3g}")


def _rounded(value: Any) -> Any:
    """Plain Python values with 5 significant digits, so that what is simulated is what is written."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    if isinstance(value, (float, np.floating)):
        number = float(f"{value:.5g}")
        return int(number) if number.is_integer() and abs(number) >= 1e4 else number
    return value
