"""A quoter as a table: what every closed form and the dynamic program become."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bitquote.errors import InputError, require
from bitquote.quoting.parameters import GameParameters


class QuoteTable(NamedTuple):
    """Distances of the quotes from the mid, in price, float64 of shape (steps, 2 max_inventory + 1).

    Row i is time i dt; columns are inventories in ascending order, -max_inventory first. +inf means no quote
    on that side; negative distances, beyond the mid, are legal.
    """

    bid: np.ndarray
    ask: np.ndarray


def inventories(parameters: GameParameters) -> np.ndarray:
    """The columns of a table: -max_inventory .. max_inventory, in lots, float64."""
    return np.arange(-parameters.max_inventory, parameters.max_inventory + 1, dtype=np.float64)


def times_left(parameters: GameParameters) -> np.ndarray:
    """Time from each row of a table to the horizon: horizon .. dt, float64 (steps,)."""
    return parameters.dt * np.arange(parameters.steps, 0, -1)


def no_quote(parameters: GameParameters) -> QuoteTable:
    """The quoter that abstains: its profit is exactly zero."""
    return QuoteTable(np.full(parameters.shape, np.inf), np.full(parameters.shape, np.inf))


def bounded(bid: np.ndarray | float, ask: np.ndarray | float, parameters: GameParameters) -> QuoteTable:
    """The table of two distances that broadcast to (steps, inventories), without the quotes that leave the bound.

    Raises InputError if a distance is NaN or -inf: the parameters are then beyond the formula's range.
    """
    table = QuoteTable(*(np.array(np.broadcast_to(side, parameters.shape), dtype=np.float64) for side in (bid, ask)))
    table.bid[:, -1] = np.inf
    table.ask[:, 0] = np.inf
    return check(table, parameters)


def check(table: QuoteTable, parameters: GameParameters) -> QuoteTable:
    """The table as contiguous float64 arrays, or an InputError that says which side is malformed."""
    sides = []
    for name, side in zip(QuoteTable._fields, table, strict=True):
        try:
            side = np.ascontiguousarray(side, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(f"the table's {name} is {type(side).__name__}: must be an array of numbers") from None
        require(side.shape == parameters.shape, f"the shape of the table's {name}", side.shape, f"{parameters.shape}")
        if not np.all(side > -np.inf):  # also False for NaN
            step, column = np.argwhere(~(side > -np.inf))[0]
            inventory = column - parameters.max_inventory
            raise InputError(
                f"the table's {name} is {side[step, column]} at step {step}, inventory {inventory}: "
                "must be a finite distance, or +inf for no quote"
            )
        sides.append(side)
    return QuoteTable(*sides)
