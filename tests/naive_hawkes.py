"""A Hawkes process the slow way: the double sum of its likelihood, and Ogata's thinning."""

from __future__ import annotations

import numpy as np

from bitquote.calibration.hawkes import Parameters


def intensity(i: int, time: float, times: np.ndarray, kinds: np.ndarray, parameters: Parameters) -> float:
    """Intensity of type i just before `time`, every past event summed."""
    mu, weight, decay = parameters
    past = times < time
    ages = time - times[past]
    return mu[i] + sum(
        (weight[p, i, kinds[past]] * beta * np.exp(-beta * ages)).sum() for p, beta in enumerate(decay)
    )


def log_likelihood(times: np.ndarray, kinds: np.ndarray, seconds: float, parameters: Parameters) -> float:
    """Both terms from their definitions, O(n^2)."""
    mu, weight, decay = parameters
    value = sum(np.log(intensity(k, t, times, kinds, parameters)) for t, k in zip(times, kinds, strict=True))
    value -= mu.sum() * seconds
    for p, beta in enumerate(decay):
        value -= (weight[p][:, kinds].sum(axis=0) * (1.0 - np.exp(-beta * (seconds - times)))).sum()
    return value


def simulate(parameters: Parameters, seconds: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Times and kinds by thinning (Ogata 1981): the intensity only falls until the next event, so it bounds itself."""
    mu, weight, decay = parameters
    random = np.random.default_rng(seed)
    jump = weight * decay[:, None, None]
    excited = np.zeros((len(decay), len(mu)))
    times, kinds = [], []
    now = 0.0
    while True:
        bound = mu.sum() + excited.sum()
        wait = random.exponential(1.0 / bound)
        now += wait
        if now >= seconds:
            return np.array(times), np.array(kinds, np.int64)
        excited *= np.exp(-decay * wait)[:, None]
        each = np.cumsum(mu + excited.sum(axis=0))
        pick = random.random() * bound
        if pick < each[-1]:
            kind = int(np.searchsorted(each, pick, side="right"))
            times.append(now)
            kinds.append(kind)
            excited += jump[:, :, kind]
