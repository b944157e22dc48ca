"""The parameters of the Avellaneda-Stoikov game, which are all that a closed-form quoter may know."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bitquote.errors import require, require_choice, require_integer, require_number

FILL_CONVENTIONS = ("linear", "exponential")
MID_CONVENTIONS = ("two_point", "gaussian")

_SMALLEST, _LARGEST = 1e-12, 1e12  # beyond these a double no longer resolves the formulas
_MAX_CELLS = 2**25  # (step, inventory) cells of one table: 256 MiB a side


@dataclass(frozen=True)
class GameParameters:
    """A maker quotes one lot a side around a mid that nobody can predict (Avellaneda & Stoikov 2008).

    The defaults are the published game. "Price" is any unit of price, "time" any unit of time.

    Attributes:
        A: Fills per unit of time and side of a quote at the mid.
        k: Decay of the fill intensity A exp(-k distance), in 1/price.
        sigma: Volatility of the mid, in price per square root of time.
        gamma: Absolute risk aversion, in 1/price (wealth is price x lots).
        horizon: Length of the game, in time.
        steps: Number of decisions; the quotes of row i stand from i dt to (i + 1) dt.
        max_inventory: Largest inventory, in lots; at the bound the side that would leave it does not quote.
        fill_convention: Probability of a fill within a step: `linear` min(1, intensity dt), as in the paper,
            or `exponential` 1 - exp(-intensity dt).
        mid_convention: The mid's move in a step: `two_point` +-sigma sqrt(dt), as in the paper, or `gaussian`.
    """

    A: float = 140.0
    k: float = 1.5
    sigma: float = 2.0
    gamma: float = 0.1
    horizon: float = 1.0
    steps: int = 200
    max_inventory: int = 60
    fill_convention: str = "linear"
    mid_convention: str = "two_point"

    def __post_init__(self) -> None:
        for name in ("A", "k", "sigma", "gamma", "horizon"):
            object.__setattr__(self, name, require_number(name, getattr(self, name), _SMALLEST, _LARGEST))
        for name in ("steps", "max_inventory"):
            object.__setattr__(self, name, require_integer(name, getattr(self, name), 1))
        cells = self.steps * (2 * self.max_inventory + 1)
        require(cells <= _MAX_CELLS, "steps x (2 max_inventory + 1)", cells, f"at most {_MAX_CELLS}")
        require_choice("fill_convention", self.fill_convention, FILL_CONVENTIONS)
        require_choice("mid_convention", self.mid_convention, MID_CONVENTIONS)

    @property
    def dt(self) -> float:
        """Length of a step, in time."""
        return self.horizon / self.steps

    @property
    def penalty(self) -> float:
        """phi = gamma sigma^2 / 2: the running penalty is phi times the integral of inventory squared."""
        return 0.5 * self.gamma * self.sigma**2

    @property
    def no_quote(self) -> float:
        """A distance, in price, at which a fill in the whole game has probability below e^-20: as good as no quote."""
        return (math.log(max(self.A * self.horizon, 1.0)) + 20.0) / self.k

    @property
    def shape(self) -> tuple[int, int]:
        """(steps, 2 max_inventory + 1): the shape of a table over (step, inventory)."""
        return self.steps, 2 * self.max_inventory + 1
