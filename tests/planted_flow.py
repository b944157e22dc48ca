"""Order flow with known rates: order events, queues, and periods with and without news."""

from __future__ import annotations

import numpy as np

from bitquote.calibration.informed import PinParameters
from bitquote.calibration.order_flow import CANCEL, LIMIT, MARKET, OrderEvents
from bitquote.calibration.queue_reactive import CENSORED, Spells

BY_DISTANCE = np.array([3.0, 2.0, 1.0])  # limit orders per second and side
CANCELS = 0.5  # per second and order
SELLS, BUYS = 0.4, 0.7
SIZE = 2.0


def planted_events(seed: int, seconds: float = 120.0) -> OrderEvents:
    """Orders that live for an exponential time, and takers that leave them alone."""
    random = np.random.default_rng(seed)
    rows: list[tuple[float, int, int, float, float]] = []
    for side in (1, -1):
        for distance, rate in enumerate(BY_DISTANCE):
            born = random.uniform(0.0, seconds, random.poisson(rate * seconds))
            dead = born + random.exponential(1.0 / CANCELS, len(born))
            size = random.exponential(SIZE, len(born))
            rows += [(t, LIMIT, side, distance + 0.5, q) for t, q in zip(born, size, strict=True)]
            rows += [(t, CANCEL, side, distance + 0.5, q) for t, q in zip(dead, size, strict=True) if t < seconds]
        takers = random.poisson((SELLS if side > 0 else BUYS) * seconds)
        rows += [(t, MARKET, side, 0.5, 1.0) for t in random.uniform(0.0, seconds, takers)]
    rows.sort()
    time, kind, side, distance, size = (np.array(column) for column in zip(*rows, strict=True))
    change = np.where(kind == LIMIT, 1, np.where(kind == CANCEL, -1, 0))
    resting = np.r_[0.0, np.cumsum(change)[:-1]]
    return OrderEvents(time, kind.astype(np.int8), side.astype(np.int8), distance, size, resting, seconds)


SIZES = 6
BIRTH = np.array([[3.0, 2.5, 2.0, 1.5, 1.0, 0.0], [2.0, 2.0, 1.5, 1.5, 1.0, 0.0]])
CANCELLED = np.array([[0.0, 0.5, 1.0, 1.5, 2.0, 2.5], [0.0, 0.6, 1.2, 1.8, 2.4, 3.0]])
TAKEN = np.array([[0.0, 1.0, 0.8, 0.6, 0.5, 0.5], [0.0, 0.2, 0.2, 0.2, 0.2, 0.2]])


def planted_spells(seed: int, seconds: float = 400.0) -> Spells:
    """Two independent birth-death queues, jump by jump."""
    random = np.random.default_rng(seed)
    rows = []
    for distance in range(2):
        now, size = 0.0, 1
        while now < seconds:
            rates = np.array([BIRTH[distance, size], CANCELLED[distance, size], TAKEN[distance, size]])
            wait = random.exponential(1.0 / rates.sum())
            end = (LIMIT, CANCEL, MARKET)[int(random.choice(3, p=rates / rates.sum()))]
            end = end if now + wait < seconds else CENSORED
            rows.append((distance, size, min(wait, seconds - now), end))
            now += wait
            size += 1 if end == LIMIT else -1
    columns = zip(*rows, strict=True)
    return Spells(*(np.array(c, t) for c, t in zip(columns, (np.int64, np.int64, float, np.int8), strict=True)))


NEWS = PinParameters(0.4, 0.5, 20.0, 15.0, 12.0)


def planted_counts(parameters: PinParameters, periods: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Buys and sells drawn from the model."""
    random = np.random.default_rng(seed)
    news, bad = random.random(periods) < parameters.alpha, random.random(periods) < parameters.delta
    buys = random.poisson(parameters.eps_buy + parameters.mu * (news & ~bad))
    return buys, random.poisson(parameters.eps_sell + parameters.mu * (news & bad))
