"""Where a profit comes from: spread, adverse selection, inventory, fees and liquidation; and the cost of a fill."""

from __future__ import annotations

import numpy as np

from bitquote.market.simulation import Simulation

PARTS = ("spread", "adverse_selection", "inventory", "fees", "liquidation")


def simulated_attribution(simulation: Simulation) -> dict[str, float]:
    """Mean of each part over the paths; they add up to the mean profit."""
    return {part: float(np.mean(getattr(simulation, part))) for part in PARTS}


def exact_attribution(mean_profit: float) -> dict[str, float]:
    """The expected parts in the game, where the edge at the fill is all that a maker earns.

    The mid is a martingale that moves after the fills and independently of them, so that the expected gain of any
    inventory is zero; there are no fees, and what is left at the end is marked at the mid.
    """
    return dict.fromkeys(PARTS, 0.0) | {"spread": mean_profit}


def markout_per_fill(simulation: Simulation) -> float | None:
    """Mean signed move of the mid from an own fill to the markout horizon, in price; negative is against the maker.

    Weighted by the filled quantity, so that parts of an order count as parts. None when nothing was filled.
    """
    filled = float(np.sum(simulation.turnover))
    return float(np.sum(simulation.adverse_selection)) / filled if filled > 0.0 else None


def fill_rate(simulation: Simulation, horizon: float) -> float:
    """Own orders filled per second and side over `horizon` seconds; a part of an order counts as a part."""
    return float(np.mean(simulation.turnover)) / (2.0 * horizon)
