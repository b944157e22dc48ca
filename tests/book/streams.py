"""Random message streams that reach every corner of the book."""

import numpy as np

from bitquote.book import MESSAGE

LOWEST, HIGHEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def random_stream(generator: np.random.Generator, length: int, *, spread: int, centre: int = 0, drift: float = 0.0):
    """A stream (MESSAGE) whose prices lie within about `spread` of a centre that drifts, or now and then far away.

    One message in twenty has a field that makes no sense. Ids come from a small pool, so that many are live, dead or
    used twice.
    """
    messages = np.zeros(length, MESSAGE)
    messages["time"] = np.arange(length)
    messages["kind"] = generator.choice(5, length, p=[0.55, 0.12, 0.13, 0.08, 0.12])
    messages["side"] = generator.choice([-1, 1], length)
    messages["order_id"] = generator.integers(-20, 60, length)
    messages["quantity"] = generator.integers(1, 12, length)
    messages["flags"] = generator.choice(8, length, p=[0.72, 0.08, 0.06, 0.02, 0.08, 0.02, 0.01, 0.01])
    distance = np.where(generator.random(length) < 0.1, 50 * spread, spread)
    moves = np.rint(generator.uniform(-1, 1, length) * distance + drift * np.arange(length)).astype(np.int64)
    messages["price"] = [min(max(centre + int(move), LOWEST), HIGHEST) for move in moves]
    nonsense = generator.random(length) < 0.05
    messages["kind"][nonsense] = generator.integers(-2, 8, nonsense.sum())
    messages["side"][nonsense] = generator.integers(-2, 3, nonsense.sum())
    messages["quantity"][nonsense] = generator.integers(-2, 3, nonsense.sum())
    return messages
