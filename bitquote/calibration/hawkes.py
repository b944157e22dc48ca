"""Multivariate Hawkes processes with sums of exponentials, by maximum likelihood.

intensity_i(t) = mu_i + sum_p sum_j w[p,i,j] beta_p R[p,j](t),  R[p,j](t) = sum over events t_k < t of type j of
exp(-beta_p (t - t_k)). The weight w is the mean number of events of type i that an event of type j begets through
exponential p, so G = sum_p w[p] is the branching matrix and alpha = w beta the jump of the intensity (1/s). The
likelihood and its gradient take one pass, for R obeys a recursion.

Sources: Hawkes, Biometrika 58, 1971; Ozaki, Ann. Inst. Stat. Math. 31, 1979 (likelihood and recursion); Ogata, IEEE
Trans. Inf. Theory 27, 1981; Bacry, Mastromatteo & Muzy, Market Microstructure and Liquidity 1, 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from scipy import optimize

from bitquote.calibration.intervals import Estimate, Estimates, covariance, log_wald, wald
from bitquote.errors import InputError, require, require_integer, require_number

FEWEST = 20
"""Events of a type below which no process is fitted."""
STARTS = 4
"""Decays, equally spaced on a logarithmic scale, from whose combinations the search for free decays begins."""
MOST_DECAYS = 3
MOST_EVALUATIONS = 10_000


class Parameters(NamedTuple):
    """float64 arrays of a process with d types and p exponentials."""

    baseline: np.ndarray  # (d,) mu, 1/s
    weight: np.ndarray  # (p, d, d), events of type i begotten by one of type j
    decay: np.ndarray  # (p,) beta, 1/s


@dataclass(frozen=True)
class HawkesFit:
    """A fitted process; intervals at 95 %.

    The observed information gives the standard errors: baselines and decays have Wald intervals of their logarithms,
    weights and the branching ratio, which may be zero, plain ones cut at zero. A decay that was given, or that nothing
    in the data knows, has an interval of length zero or (0, inf).

    Attributes:
        baseline: (d,) mu, 1/s.
        weight: (p, d, d) w[p, i, j], events of type i begotten by one of type j.
        decay: (p,) beta, 1/s, ascending.
        branching_ratio: Spectral radius of the branching matrix.
        log_likelihood: Of the process.
        poisson_log_likelihood: Of constant rates on the same events.
        parameters: How many were estimated.
        converged: Whether the optimiser says that it arrived.
        times, kinds, seconds: What was fitted.
    """

    baseline: Estimates
    weight: Estimates
    decay: Estimates
    branching_ratio: Estimate
    log_likelihood: float
    poisson_log_likelihood: float
    parameters: int
    converged: bool
    times: np.ndarray
    kinds: np.ndarray
    seconds: float

    @property
    def excitation(self) -> np.ndarray:
        """alpha[p, i, j] = w beta, the jump of intensity i at an event of type j, 1/s."""
        return self.weight.value * self.decay.value[:, None, None]

    @property
    def branching(self) -> np.ndarray:
        """G[i, j], float64 (d, d)."""
        return self.weight.value.sum(axis=0)

    @property
    def stationary(self) -> bool:
        """Whether the branching ratio is below one."""
        return self.branching_ratio.value < 1.0

    @property
    def aic_gain(self) -> float:
        """Akaike's criterion of constant rates less that of the process: positive speaks for the process."""
        extra = self.parameters - len(self.baseline.value)
        return 2.0 * (self.log_likelihood - self.poisson_log_likelihood) - 2.0 * extra


def fit_hawkes(
    times: np.ndarray, kinds: np.ndarray, dimensions: int, seconds: float, decays: int | Sequence[float] = 1
) -> HawkesFit:
    """Fit a process by maximum likelihood (a truncated Newton method with the exact gradient).

    Args:
        times: (n,) seconds from the start of the observation, strictly ascending.
        kinds: (n,) integers in [0, dimensions), the type of each event.
        dimensions: d; every type must have `FEWEST` events.
        seconds: Length of the observation, at least times[-1].
        decays: How many exponentials, 1 to 3, whose decays are estimated too; or their decays (1/s), held fixed.

    Raises:
        InputError: one line that names the field, the value and what would be right.
    """
    times, kinds, dimensions, seconds = _checked(times, kinds, dimensions, seconds)
    rates = np.bincount(kinds, minlength=dimensions) / seconds
    if isinstance(decays, Sequence | np.ndarray):
        fixed = np.sort([require_number("decays", decay, 0.0, above=True) for decay in decays])
        require(1 <= len(fixed) == len(np.unique(fixed)), "decays", list(decays), "one or more different decays")
        starts = [fixed]
    else:
        starts, fixed = _starts(times, require_integer("decays", decays, 1, MOST_DECAYS)), None
    problem = _Problem(times, kinds, seconds, rates, fixed)
    found = [problem.minimise(problem.start(start), 100 if len(starts) > 1 else MOST_EVALUATIONS) for start in starts]
    best = problem.minimise(min(found, key=lambda result: result.fun).x, MOST_EVALUATIONS)
    return _fit(problem, best)


def require_stationary(weight: np.ndarray) -> None:
    """Refuse weights (p, d, d) whose branching matrix has a spectral radius of one or more."""
    radius = float(np.abs(np.linalg.eigvals(np.sum(weight, axis=0))).max())
    require(radius < 1.0, "the branching ratio of the Hawkes process", round(radius, 6), "below 1 to be stationary")


def flow_excitation(fit: HawkesFit, rates: np.ndarray, types: Sequence[int] | None = None) -> dict[str, Any]:
    """What a market's `flow.hawkes` takes, and the constant rates that keep the mean rates.

    A flow whose rates differ from the recording's takes the weights w[i, j] f_i / f_j, f being the ratio of the rates:
    a similarity transform, which keeps the branching ratio. Then baseline = (1 - G) rates.

    Args:
        fit: Stationary.
        rates: (n,) mean rates of the flow's types, 1/s, positive.
        types: The flow's types that the fit's types are, by default the first; the others excite nothing.

    Returns:
        `baseline`, n rates, and `hawkes`, a mapping of `decay` (1/s) and `excitation` [p][i][j] (1/s).

    Raises:
        InputError: the fit is not stationary, or some baseline would be negative.
    """
    require_stationary(fit.weight.value)
    rates = np.asarray(rates, float)
    d = len(fit.baseline.value)
    chosen = np.arange(d) if types is None else np.asarray(types)
    require(len(chosen) == d and bool((rates > 0.0).all()), "rates", rates.tolist(), f"positive, for {d} fitted types")
    factor = rates[chosen] / (np.bincount(fit.kinds, minlength=d) / fit.seconds)
    excitation = np.zeros((len(fit.decay.value), len(rates), len(rates)))
    excitation[:, chosen[:, None], chosen[None, :]] = fit.excitation * factor[:, None] / factor[None, :]
    baseline = rates - np.sum(excitation / fit.decay.value[:, None, None], axis=0) @ rates
    require(bool((baseline >= 0.0).all()), "a baseline", float(baseline.min()), "0 or more: the fit has not converged")
    return {
        "baseline": baseline.tolist(),
        "hawkes": {"decay": fit.decay.value.tolist(), "excitation": excitation.tolist()},
    }


def spread_ties(times: np.ndarray, resolution: float, seed: int | np.random.Generator = 0) -> np.ndarray:
    """Times (n,) of a clock that counts in steps of `resolution` seconds, each spread uniformly within its step.

    Simultaneous events would make the likelihood unbounded. The order of the events stays. Source: Lallouache &
    Challet, The limits of statistical significance of Hawkes processes fitted to financial data, Quant. Finance 16,
    2016.
    """
    resolution = require_number("resolution", resolution, 0.0, above=True)
    spread = np.sort(times + resolution * np.random.default_rng(seed).random(len(times)))
    while (tied := np.flatnonzero(np.diff(spread) <= 0.0)).size:  # a step of 1 ns has few doubles late in the day
        spread[tied + 1] = np.nextafter(spread[tied], np.inf)
    return spread


def log_likelihood(times: np.ndarray, kinds: np.ndarray, seconds: float, parameters: Parameters) -> float:
    """sum over events of log intensity, less the integral of all intensities."""
    value, *_ = _likelihood(times, kinds, seconds, *parameters)
    return value


def residuals(fit: HawkesFit) -> list[np.ndarray]:
    """For each type, the integral of its intensity between its consecutive events (the first from time zero).

    They are independent Exp(1) if the process is right (random time change: Papangelou 1972; Brown, Barbieri, Ventura,
    Kass & Frank, Neural Computation 14, 2002; Daley & Vere-Jones, theorem 7.4.I).
    """
    integral = _compensator(fit.times, fit.kinds, fit.baseline.value, fit.weight.value, fit.decay.value)
    return [np.diff(integral[fit.kinds == kind], prepend=0.0) for kind in range(len(fit.baseline.value))]


def _checked(
    times: np.ndarray, kinds: np.ndarray, dimensions: int, seconds: float
) -> tuple[np.ndarray, np.ndarray, int, float]:
    dimensions = require_integer("dimensions", dimensions, 1, 100)
    seconds = require_number("seconds", seconds, 0.0, above=True)
    times, kinds = np.ascontiguousarray(times, np.float64), np.asarray(kinds)
    require(times.ndim == 1 and times.shape == kinds.shape, "kinds", kinds.shape, f"of times' shape, {times.shape}")
    require(kinds.dtype.kind in "iu" or not len(kinds), "kinds", str(kinds.dtype), "integers")
    require(bool(np.isfinite(times).all()), "times", "not finite", "finite seconds")
    if len(times):
        require(times[0] >= 0.0, "times[0]", float(times[0]), "at least 0")
        require(times[-1] <= seconds, f"times[{len(times) - 1}]", float(times[-1]), f"at most seconds={seconds:g}")
        require(kinds.min() >= 0 and kinds.max() < dimensions, "kinds", [int(kinds.min()), int(kinds.max())],
                f"from 0 to {dimensions - 1}")  # fmt: skip
    if (late := np.flatnonzero(np.diff(times) <= 0.0)).size:
        at = int(late[0]) + 1
        raise InputError(f"times[{at}] is {float(times[at])!r}: must be above the one before it; see spread_ties")
    for kind, count in enumerate(np.bincount(kinds.astype(np.int64), minlength=dimensions)):
        require(count >= FEWEST, f"events of type {kind}", int(count), f"at least {FEWEST}, or leave the type out")
    return times, kinds.astype(np.int64), dimensions, seconds


def _starts(times: np.ndarray, decays: int) -> list[np.ndarray]:
    """Combinations of decays between a tenth of the mean rate and ten times what the shorter gaps suggest."""
    slowest = 0.1 * len(times) / times[-1]
    fastest = max(10.0 / np.quantile(np.diff(times), 0.25), 100.0 * slowest)
    return [np.array(chosen) for chosen in combinations(np.geomspace(slowest, fastest, STARTS), decays)]


class _Problem:
    """The negative log-likelihood per event over dimensionless unknowns of about one.

    x holds mu_i / rate_i, then the shares w[p,i,j] rate_j / rate_i of events i that j begets, then log beta_p if free.
    """

    def __init__(
        self, times: np.ndarray, kinds: np.ndarray, seconds: float, rates: np.ndarray, fixed: np.ndarray | None
    ) -> None:
        self.times, self.kinds, self.seconds, self.rates, self.fixed = times, kinds, seconds, rates, fixed
        self.scale = rates[:, None] / rates[None, :]  # weight = share * scale

    def start(self, decays: np.ndarray) -> np.ndarray:
        """Half of all events from the baseline, the rest from all types and exponentials alike."""
        d = len(self.rates)
        shares = np.full(len(decays) * d * d, 0.5 / (len(decays) * d))
        return np.concatenate((np.full(d, 0.5), shares, np.log(decays) if self.fixed is None else []))

    def parameters(self, x: np.ndarray) -> Parameters:
        d = len(self.rates)
        rest = len(x) - d
        count = len(self.fixed) if self.fixed is not None else rest // (d * d + 1)
        shares, logarithms = x[d : d + count * d * d], x[d + count * d * d :]
        decay = np.exp(logarithms) if self.fixed is None else self.fixed
        return Parameters(x[:d] * self.rates, shares.reshape(count, d, d) * self.scale, decay)

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = self.parameters(x)
        value, of_baseline, of_weight, of_decay = _likelihood(self.times, self.kinds, self.seconds, *parameters)
        slope = [of_baseline * self.rates, (of_weight * self.scale).ravel()]
        if self.fixed is None:
            slope.append(of_decay * parameters.decay)
        return -value / len(self.times), -np.concatenate(slope) / len(self.times)

    def minimise(self, x: np.ndarray, evaluations: int) -> Any:
        d = len(self.rates)
        count = len(self.parameters(x).decay)
        bounds = [(1e-6, None)] * d + [(0.0, None)] * (count * d * d)
        if self.fixed is None:
            fastest = 10.0 / np.quantile(np.diff(self.times), 0.01)  # the rarest gaps would only fit the clock
            bounds += [(np.log(0.1 / self.seconds), np.log(fastest))] * count
        # As good as L-BFGS-B, and without its calls to a threaded BLAS, which take 30 times as long on a busy machine.
        options = {"maxfun": evaluations, "ftol": 1e-12, "gtol": 1e-8, "xtol": 1e-12}
        return optimize.minimize(self, x, jac=True, method="TNC", bounds=bounds, options=options)

    def covariance(self, x: np.ndarray) -> np.ndarray:
        """Of the unknowns; where one is zero, the curvature beside it."""
        step = 1e-5
        d, count = len(self.rates), len(self.parameters(x).decay)
        inside = x.copy()
        inside[: d + count * d * d] = np.maximum(inside[: d + count * d * d], 2 * step)
        return covariance(lambda point: len(self.times) * self(point)[1], inside, step)


def _fit(problem: _Problem, best: Any) -> HawkesFit:
    d = len(problem.rates)
    estimate = problem.parameters(best.x)
    count = len(estimate.decay)
    spread = problem.covariance(best.x)
    error = np.sqrt(np.diag(spread))
    of_decay = error[d + count * d * d :] if problem.fixed is None else np.zeros(count)
    radius, slope = _spectral_radius(estimate.weight.sum(axis=0))
    along = np.zeros(len(best.x))
    along[d : d + count * d * d] = np.tile((slope * problem.scale).ravel(), count)
    used = along != 0.0
    variance = along[used] @ spread[np.ix_(used, used)] @ along[used]
    order = np.argsort(estimate.decay)
    shape = estimate.weight.shape
    weight = wald(estimate.weight, error[d : d + count * d * d].reshape(shape) * problem.scale)
    decay = log_wald(estimate.decay, of_decay * estimate.decay)
    ratio = wald(radius, np.sqrt(variance) if variance >= 0.0 else np.inf)
    counts = np.bincount(problem.kinds, minlength=d)
    return HawkesFit(
        baseline=log_wald(estimate.baseline, error[:d] * problem.rates),
        weight=Estimates(*(field[order] for field in weight)),
        decay=Estimates(*(field[order] for field in decay)),
        branching_ratio=Estimate(*(float(end) for end in ratio)),
        log_likelihood=-float(best.fun) * len(problem.times),
        poisson_log_likelihood=float(np.sum(counts * (np.log(problem.rates) - 1.0))),
        parameters=len(best.x),
        converged=bool(best.success),
        times=problem.times,
        kinds=problem.kinds,
        seconds=problem.seconds,
    )


def _spectral_radius(matrix: np.ndarray) -> tuple[float, np.ndarray]:
    """The Perron root of a non-negative (d, d) matrix and its gradient u v' / u'v (Horn & Johnson, theorem 6.3.12)."""
    values, right = np.linalg.eig(matrix)
    top = int(np.argmax(values.real))
    rows, left = np.linalg.eig(matrix.T)
    u, v = np.abs(left[:, int(np.argmax(rows.real))]), np.abs(right[:, top])
    return float(values[top].real), np.outer(u, v) / max(float(u @ v), 1e-12)


@njit(cache=True, nogil=True)
def _likelihood(times, kinds, seconds, baseline, weight, decay):
    """(log-likelihood, its derivatives by baseline, weight and decay) in one pass; -inf where an intensity is not > 0.

    R and Q, (p, d), are sums over past events of exp(-beta (t - t_k)) and of (t - t_k) exp(-beta (t - t_k)).
    """
    p, d = weight.shape[0], weight.shape[1]
    R, Q = np.zeros((p, d)), np.zeros((p, d))
    of_baseline, of_weight, of_decay = np.zeros(d), np.zeros((p, d, d)), np.zeros(p)
    counts = np.zeros(d)
    value = 0.0
    last = 0.0
    for n in range(times.size):
        i = kinds[n]
        wait = times[n] - last
        last = times[n]
        intensity = baseline[i]
        for q in range(p):
            fade = np.exp(-decay[q] * wait)
            for j in range(d):
                Q[q, j] = fade * (Q[q, j] + wait * R[q, j])
                R[q, j] *= fade
                intensity += weight[q, i, j] * decay[q] * R[q, j]
        if not intensity > 0.0:
            return -np.inf, of_baseline, of_weight, of_decay
        value += np.log(intensity)
        inverse = 1.0 / intensity
        of_baseline[i] += inverse
        for q in range(p):
            slope = 0.0
            for j in range(d):
                of_weight[q, i, j] += inverse * decay[q] * R[q, j]
                slope += weight[q, i, j] * (R[q, j] - decay[q] * Q[q, j])
            of_decay[q] += inverse * slope
            R[q, i] += 1.0
        counts[i] += 1.0
    wait = seconds - last
    for i in range(d):
        value -= baseline[i] * seconds
        of_baseline[i] -= seconds
    for q in range(p):
        fade = np.exp(-decay[q] * wait)
        for j in range(d):
            Q[q, j] = fade * (Q[q, j] + wait * R[q, j])
            R[q, j] *= fade
            for i in range(d):
                value -= weight[q, i, j] * (counts[j] - R[q, j])
                of_weight[q, i, j] -= counts[j] - R[q, j]
                of_decay[q] -= weight[q, i, j] * Q[q, j]
    return value, of_baseline, of_weight, of_decay


@njit(cache=True, nogil=True)
def _compensator(times, kinds, baseline, weight, decay):
    """(n,) at each event, the integral from 0 of the intensity of the event's own type."""
    p, d = weight.shape[0], weight.shape[1]
    R, counts = np.zeros((p, d)), np.zeros(d)
    integral = np.zeros(times.size)
    last = 0.0
    for n in range(times.size):
        i = kinds[n]
        total = baseline[i] * times[n]
        for q in range(p):
            fade = np.exp(-decay[q] * (times[n] - last))
            for j in range(d):
                R[q, j] *= fade
                total += weight[q, i, j] * (counts[j] - R[q, j])
        for q in range(p):
            R[q, i] += 1.0
        counts[i] += 1.0
        integral[n] = total
        last = times[n]
    return integral
