"""How much of the trading is informed: PIN by maximum likelihood, and VPIN on the volume clock.

PIN. In each period news comes with probability alpha, bad with probability delta. Buys and sells are Poisson with means
eps_buy and eps_sell per period; informed traders add mu to the sells after bad news, to the buys after good news. The
probability that a trade is informed is PIN = alpha mu / (alpha mu + eps_buy + eps_sell).

Sources: Easley, Kiefer, O'Hara & Paperman, J. Finance 51, 1996 (with eps_buy = eps_sell); Easley, Hvidkjaer & O'Hara,
J. Finance 57, 2002 (apart); Lin & Ke, J. Financial Markets 14, 2011 (the likelihood without overflow); Yan & Zhang, J.
Banking & Finance 36, 2012 (starting values); Easley, Lopez de Prado & O'Hara, Rev. Financial Studies 25, 2012 (VPIN).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from bitquote.calibration.intensity import taker_orders
from bitquote.calibration.intervals import NORMAL, Estimate, covariance, jackknife
from bitquote.errors import require, require_integer, require_number
from bitquote.market.simulation import Tape

FEWEST = 20
"""Periods, or buckets of volume, below which nothing is fitted."""


class PinParameters(NamedTuple):
    """Probabilities, and mean counts per period."""

    alpha: float  # probability of news
    delta: float  # probability that news is bad
    mu: float  # informed trades in a period with news
    eps_buy: float
    eps_sell: float

    @property
    def pin(self) -> float:
        """Probability that a trade is informed."""
        return self.alpha * self.mu / (self.alpha * self.mu + self.eps_buy + self.eps_sell)


@dataclass(frozen=True)
class PinFit:
    """Estimates with 95 % intervals: Wald on the log odds of probabilities and of PIN, on the logarithm of counts.

    An estimate at the edge of what is possible (no news at all, or news always) has the interval [0, 1] or [0, inf].
    """

    alpha: Estimate
    delta: Estimate
    mu: Estimate
    eps_buy: Estimate
    eps_sell: Estimate
    pin: Estimate
    log_likelihood: float
    poisson_log_likelihood: float  # without news
    periods: int


def fit_pin(buys: np.ndarray, sells: np.ndarray) -> PinFit:
    """Fit the model to counts of buys and sells, non-negative integers (n,), one a period.

    Raises:
        InputError: there are fewer than `FEWEST` periods, a count is negative, or one side never trades.
    """
    buys, sells = _counts("buys", buys), _counts("sells", sells)
    require(len(buys) == len(sells), "sells", len(sells), f"as many periods as buys, {len(buys)}")
    mean_buys, mean_sells = float(buys.mean()), float(sells.mean())

    def negative(x: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = _parameters(x)
        return -log_likelihood(buys, sells, parameters), -_score(buys, sells, parameters)

    starts = [
        _unknowns(PinParameters(alpha, delta, max(excess, 0.1), eps_buy, eps_sell))
        for alpha, delta, share in product((0.1, 0.3, 0.5, 0.7, 0.9), (0.3, 0.7), (0.2, 0.5, 0.8))
        for eps_buy, eps_sell in [(max(share * mean_buys, 0.1), max((1 - share * 0.5) * mean_sells, 0.1))]
        for excess in [(mean_buys - eps_buy) / (alpha * (1 - delta))]
    ]
    bounds = [(-12.0, 12.0)] * 2 + [(-12.0, 20.0)] * 3
    ranked = sorted(starts, key=lambda x: negative(x)[0])[:3]
    found = [optimize.minimize(negative, x, jac=True, method="TNC", bounds=bounds) for x in ranked]
    best = min(found, key=lambda result: result.fun)
    return _fit(buys, sells, best.x, covariance(lambda x: negative(x)[1], best.x))


def fit_pin_to_tape(tape: Tape, period: float) -> PinFit:
    """The model on the taker orders of a tape, counted over periods of `period` seconds; a part left over is not used.

    The model takes the counts of a period without news as Poisson: orders that come in bursts look informed.
    """
    period = require_number("period", period, 0.0, above=True)
    orders = taker_orders(tape)
    start, end = float(tape.quote_time[0]), float(tape.quote_time[-1])
    edges = start + period * np.arange(int((end - start) / period) + 1)
    require(len(edges) > FEWEST, "period", period, f"at most {(end - start) / FEWEST:g} s, for {FEWEST} periods")
    return fit_pin(*(np.histogram(orders.time[orders.side == side], edges)[0] for side in (1, -1)))


def log_likelihood(buys: np.ndarray, sells: np.ndarray, parameters: PinParameters) -> float:
    """Of independent periods; sums of exponentials are taken relative to the largest (Lin & Ke 2011).

    Raises:
        InputError: a probability is outside [0, 1], or a mean count is negative.
    """
    for name in ("alpha", "delta"):
        require_number(f"the probability {name}", getattr(parameters, name), 0.0, 1.0)
    for name in ("mu", "eps_buy", "eps_sell"):
        require_number(f"the mean count {name}", getattr(parameters, name), 0.0)
    constant = special.gammaln(buys + 1.0) + special.gammaln(sells + 1.0)
    return float(np.sum(np.logaddexp.reduce(_cases(buys, sells, parameters)) - constant))


def _cases(buys: np.ndarray, sells: np.ndarray, parameters: PinParameters) -> np.ndarray:
    """(3, n) log joint probabilities of no, bad and good news with the counts, less the factorials."""
    alpha, delta, mu, eps_buy, eps_sell = parameters
    with np.errstate(divide="ignore"):
        chances = np.log([1.0 - alpha, alpha * delta, alpha * (1.0 - delta)])
    means = (eps_buy, eps_sell), (eps_buy, eps_sell + mu), (eps_buy + mu, eps_sell)
    return np.array(
        [
            chance + special.xlogy(buys, buying) - buying + special.xlogy(sells, selling) - selling
            for chance, (buying, selling) in zip(chances, means, strict=True)
        ]
    )


def _score(buys: np.ndarray, sells: np.ndarray, parameters: PinParameters) -> np.ndarray:
    """(5,) derivatives of the log-likelihood by the log odds of alpha and delta and the logarithms of the rest.

    By Fisher's identity: the mean of the complete data's score, given the counts.
    """
    alpha, delta, mu, eps_buy, eps_sell = parameters
    cases = _cases(buys, sells, parameters)
    none, bad, good = np.exp(cases - np.logaddexp.reduce(cases))
    news = bad + good
    more_buys, more_sells = good * (buys / (eps_buy + mu) - 1.0), bad * (sells / (eps_sell + mu) - 1.0)
    return np.array(
        [
            np.sum(news - alpha),
            np.sum(bad - delta * news),
            mu * np.sum(more_buys + more_sells),
            np.sum((none + bad) * (buys - eps_buy) + eps_buy * more_buys),
            np.sum((none + good) * (sells - eps_sell) + eps_sell * more_sells),
        ]
    )


def vpin(tape: Tape, bucket: float) -> Estimate:
    """Mean |bought - sold| / traded over buckets of `bucket` base units, with its jackknife interval over the buckets.

    Sides are the tape's own, where the paper guesses them from price moves. A trade across the edge of a bucket is
    split; volume left over at the end is not used.
    """
    bucket = require_number("bucket", bucket, 0.0, above=True)
    traded = np.r_[0.0, np.cumsum(tape.trade_quantity)]
    signed = np.r_[0.0, np.cumsum(tape.trade_quantity * tape.trade_aggressor)]
    edges = bucket * np.arange(int(traded[-1] / bucket) + 1)
    require(len(edges) > FEWEST, "bucket", bucket, f"at most {traded[-1] / FEWEST:g}, for {FEWEST} buckets")
    imbalance = np.abs(np.diff(np.interp(edges, traded, signed))) / bucket
    blocks = np.stack((imbalance, np.ones(len(imbalance))), axis=1)
    return jackknife(lambda sums: sums[..., 0] / sums[..., 1], blocks)


def _counts(name: str, counts: np.ndarray) -> np.ndarray:
    counts = np.asarray(counts)
    require(counts.ndim == 1 and counts.dtype.kind in "iu", name, f"{counts.dtype} {counts.shape}", "a row of integers")
    require_integer(f"periods of {name}", len(counts), FEWEST)
    require(int(counts.min()) >= 0, name, int(counts.min()), "counts from 0")
    require(int(counts.max()) > 0, name, 0, "above 0 in some period")
    return counts.astype(np.float64)


def _parameters(x: np.ndarray) -> PinParameters:
    return PinParameters(*(float(value) for value in (*special.expit(x[:2]), *np.exp(x[2:]))))


def _unknowns(parameters: PinParameters) -> np.ndarray:
    return np.r_[special.logit(parameters[:2]), np.log(parameters[2:])]


def _fit(buys: np.ndarray, sells: np.ndarray, x: np.ndarray, spread: np.ndarray) -> PinFit:
    """The estimates from the unknowns (log odds, logarithms) and their covariance."""
    parameters = _parameters(x)
    error = np.sqrt(np.diag(spread))
    # log odds of PIN = log(alpha mu) - log(eps_buy + eps_sell)
    share = parameters.eps_buy / (parameters.eps_buy + parameters.eps_sell)
    slope = np.array([1.0 - parameters.alpha, 0.0, 1.0, -share, share - 1.0])
    used = slope != 0.0
    variance = slope[used] @ spread[np.ix_(used, used)] @ slope[used]
    none = PinParameters(0.0, 0.5, 0.0, float(buys.mean()), float(sells.mean()))
    return PinFit(
        *(_estimate(x[i], error[i], special.expit) for i in (0, 1)),
        *(_estimate(x[i], error[i], np.exp) for i in (2, 3, 4)),
        pin=_estimate(float(special.logit(parameters.pin)), float(np.sqrt(variance)), special.expit),
        log_likelihood=log_likelihood(buys, sells, parameters),
        poisson_log_likelihood=log_likelihood(buys, sells, none),
        periods=len(buys),
    )


def _estimate(value: float, error: float, back: Callable[[float], float]) -> Estimate:
    """An interval on the scale of the unknowns, brought back by an increasing function."""
    margin = NORMAL * error
    with np.errstate(over="ignore"):
        return Estimate(*(float(back(end)) for end in (value, value - margin, value + margin)))
