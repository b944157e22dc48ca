"""A quoter's half-spread and skew over (time, inventory), from a table or from what a policy did in a rollout."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitquote.evaluation.distance import half_spread_and_skew
from bitquote.market.simulation import Rollout
from bitquote.quoting import GameParameters, QuoteTable

LARGEST_INVENTORY = 12
TIMES = 60


class Surface(NamedTuple):
    """Quotes in price over a grid; NaN where a side does not quote or nothing was seen.

    Attributes:
        time: float64 (times + 1,), edges of the time bins.
        inventory: float64 (inventories,), ascending.
        half_spread: float64 (times, inventories).
        skew: float64 (times, inventories).
    """

    time: NDArray[np.float64]
    inventory: NDArray[np.float64]
    half_spread: NDArray[np.float64]
    skew: NDArray[np.float64]


def table_surface(table: QuoteTable, parameters: GameParameters, largest: int = LARGEST_INVENTORY) -> Surface:
    """The surface of a table for inventories within +-`largest`, one time bin a step."""
    bound = min(largest, parameters.max_inventory)
    middle = slice(parameters.max_inventory - bound, parameters.max_inventory + bound + 1)
    half_spread, skew = half_spread_and_skew(table.bid[:, middle], table.ask[:, middle])
    time = np.linspace(0.0, parameters.horizon, parameters.steps + 1)
    return Surface(time, np.arange(-bound, bound + 1.0), half_spread, skew)


def rollout_surface(
    rollout: Rollout,
    parameters: GameParameters,
    *,
    price_unit: float,
    no_quote: float,
    times: int = TIMES,
) -> Surface:
    """Mean of what a policy quoted at each (time, inventory) that the rollout visited.

    A policy also reads the book, so its surface is an average over what it saw there. `price_unit` is the price of
    one unit of its output, `no_quote` the half-spread (in that unit) from which it does not quote.
    """
    paths, steps = rollout.mean.shape[:2]
    times = min(times, steps)
    inventory = np.rint(rollout.inventory[:, :-1]).astype(np.int64)
    valid = (np.arange(steps) >= rollout.start[:, None]) & (rollout.mean[..., 0] < no_quote)
    bound = int(np.abs(inventory[valid]).max(initial=1))
    row = np.broadcast_to(np.arange(steps) * times // steps, (paths, steps))
    cell = (row * (2 * bound + 1) + inventory + bound)[valid]

    def mean(column: int) -> NDArray[np.float64]:
        size = times * (2 * bound + 1)
        total = np.bincount(cell, rollout.mean[..., column][valid] * price_unit, size)
        count = np.bincount(cell, minlength=size)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(times, -1)

    time = np.linspace(0.0, parameters.horizon, times + 1)
    return Surface(time, np.arange(-bound, bound + 1.0), mean(0), mean(1))


def matched(surface: Surface, other: Surface) -> tuple[Surface, Surface]:
    """Both on the coarser time bins (that of `surface`) and on the inventories they share, `other` averaged per bin."""
    bound = min(surface.inventory[-1], other.inventory[-1])
    surface, other = (_within(entry, bound) for entry in (surface, other))
    middle = 0.5 * (other.time[:-1] + other.time[1:])
    rows = np.clip(np.searchsorted(surface.time, middle, side="right") - 1, 0, surface.time.size - 2)
    half_spread, skew = (_row_means(values, rows, surface.time.size - 1) for values in (other.half_spread, other.skew))
    return surface, Surface(surface.time, other.inventory, half_spread, skew)


def _within(surface: Surface, bound: float) -> Surface:
    keep = np.abs(surface.inventory) <= bound
    return Surface(surface.time, surface.inventory[keep], surface.half_spread[:, keep], surface.skew[:, keep])


def _row_means(values: NDArray[np.float64], rows: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Mean of the rows of `values` that fall into each of `count` bins; NaN for an empty bin."""
    total, size = np.zeros((count, values.shape[1])), np.zeros((count, 1))
    np.add.at(total, rows, values)
    np.add.at(size, rows, 1.0)
    return np.where(size > 0.0, total / np.maximum(size, 1.0), np.nan)
