"""What a calibrated market's `recording` tells of the order flow: clustering and information, as plain values.

Estimates are [value, low, high] at 95 %; an end that is not known is null. What the data do not allow is said in place
of the figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bitquote.calibration.goodness import autocorrelation, rescaled_goodness
from bitquote.calibration.hawkes import HawkesFit, fit_hawkes, residuals, spread_ties
from bitquote.calibration.informed import fit_pin_to_tape, vpin
from bitquote.calibration.intensity import fit_intensities, taker_orders
from bitquote.calibration.intervals import Estimate, Estimates
from bitquote.calibration.order_flow import EVENTS, BestQuoteFlow, best_quote_flow, clock_step
from bitquote.calibration.statistics import at_least
from bitquote.errors import InputError
from bitquote.market.simulation import Tape

DECAYS = 2
"""Exponentials of the kernels: bursts within milliseconds, and their aftermath within a tenth of a second."""
PIN_PERIOD = 5.0
"""Seconds of one period of PIN, in place of the day of the paper."""
VPIN_BUCKETS = 50
"""Of the volume traded; the paper's own number, of a day's volume."""
SIGN_LAGS = (1, 2, 5, 10)


def order_flow_record(tape: Tape) -> dict[str, Any]:
    """Hawkes fits of the taker orders and of all events at the best quotes, PIN and VPIN."""
    flow = best_quote_flow(tape)
    return {
        "hawkes": {
            "taker_orders": _or_reason(lambda: hawkes_record(fit_takers(flow), EVENTS[:2])),
            "best_quotes": _or_reason(lambda: hawkes_record(fit_best_quotes(flow), EVENTS)),
            "events_with_bundled_stamps": flow.spread,
            "taker_orders_without_a_change": flow.unmatched,
        },
        "informed": {
            "pin": _or_reason(lambda: _pin_record(tape)),
            "vpin": _or_reason(lambda: _plain(vpin(tape, float(tape.trade_quantity.sum()) / VPIN_BUCKETS))),
        },
    }


def fit_takers(flow: BestQuoteFlow) -> HawkesFit:
    """Market sells and buys alone, exciting themselves and each other."""
    own = flow.kind < 2
    return fit_hawkes(flow.time[own], flow.kind[own], 2, flow.seconds, DECAYS)


def fit_reaching_takers(tape: Tape, distance: float, clock: float | None = None) -> HawkesFit:
    """Market sells and buys that reach a quote at `distance` from the mid (price units), and none else.

    Their times are spread over `clock` seconds, by default what the tape's stamps count in.
    """
    orders = taker_orders(tape)
    own = at_least(orders, distance)
    start = float(tape.quote_time[0])
    times = spread_ties(orders.time[own] - start, clock or clock_step(tape))
    kinds = np.where(orders.side[own] < 0, 0, 1)
    seconds = max(float(tape.quote_time[-1]) - start, float(times.max(initial=0.0)))
    return fit_hawkes(times, kinds, 2, seconds, DECAYS)


def fit_best_quotes(flow: BestQuoteFlow) -> HawkesFit:
    """All six types of events at the best quotes."""
    return fit_hawkes(flow.time, flow.kind, len(EVENTS), flow.seconds, DECAYS)


def hawkes_record(fit: HawkesFit, names: tuple[str, ...]) -> dict[str, Any]:
    """A fit as plain values; `excitation` is [p][i][j] in 1/s, as a market's `flow.hawkes` takes it."""
    return {
        "events": dict(zip(names, np.bincount(fit.kinds).tolist(), strict=True)),
        "branching_ratio": _plain(fit.branching_ratio),
        "stationary": fit.stationary,
        "converged": fit.converged,
        "baseline": {name: _row(fit.baseline, i) for i, name in enumerate(names)},
        "decay": [_row(fit.decay, p) for p in range(len(fit.decay.value))],
        "excitation": fit.excitation.tolist(),
        "branching": fit.branching.tolist(),
        "aic_gain_over_poisson": fit.aic_gain,
        "goodness": {
            name: {"ks": test.ks, "ks_p_value": test.ks_p_value, "ljung_box_p_value": test.ljung_box_p_value}
            for name, test in zip(names, map(rescaled_goodness, residuals(fit)), strict=True)
        },
    }


def clustering_record(recorded: Tape, simulated: Tape, distance: float) -> Any:
    """Of the taker orders that reach `distance` (price units): how they excite each other, recorded and simulated."""

    clock = clock_step(recorded)  # for both: the simulated one would show what the recorded one cannot

    def record(tape: Tape) -> dict[str, Any]:
        fit, orders = fit_reaching_takers(tape, distance, clock), taker_orders(tape)
        sides = orders.side[at_least(orders, distance)]
        correlation = autocorrelation(sides, SIGN_LAGS[-1])
        return {
            "orders_per_second": len(sides) / fit.seconds,
            "branching_ratio": _plain(fit.branching_ratio),
            "decay": [_row(fit.decay, p) for p in range(DECAYS)],
            "sign_autocorrelation": {lag: float(correlation[lag - 1]) for lag in SIGN_LAGS},
            "ks_p_value": [rescaled_goodness(waits).ks_p_value for waits in residuals(fit)],
        }

    return _or_reason(lambda: {"recorded": record(recorded), "simulated": record(simulated)})


def bursts_record(tape: Tape, step: float, gap: float) -> Any:
    """A and k where taker orders within `gap` seconds count once, as a quote meets them that is not renewed between."""

    def record() -> dict[str, Any]:
        fit = fit_intensities(tape, step, gap=gap).pooled
        figures = {"A": _plain(fit.A), "k": _plain(fit.k), "half_step_rate": _plain(fit.at_touch)}
        return {"gap": gap, "count": fit.count, **figures, "ks": fit.ks, "p_value": fit.p_value}

    return _or_reason(record)


def _pin_record(tape: Tape) -> dict[str, Any]:
    fit = fit_pin_to_tape(tape, PIN_PERIOD)
    names = ("pin", "alpha", "delta", "mu", "eps_buy", "eps_sell")
    gain = 2.0 * (fit.log_likelihood - fit.poisson_log_likelihood) - 6.0  # three parameters more
    record = {name: _plain(getattr(fit, name)) for name in names}
    return record | {"period": PIN_PERIOD, "periods": fit.periods, "aic_gain_over_no_news": gain}


def _or_reason(make: Callable[[], Any]) -> Any:
    """What `make` gives, or why there is no such figure."""
    try:
        return make()
    except InputError as reason:
        return f"none: {reason}"


def _row(estimates: Estimates, i: int) -> list[float | None]:
    return _plain(Estimate(*(float(end[i]) for end in estimates)))


def _plain(estimate: Estimate) -> list[float | None]:
    return [end if math.isfinite(end) else None for end in estimate]
