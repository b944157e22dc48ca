"""An order-book observation as the regressions of the pathwise learner see it: scaled, and mirrored for the ask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SIGNED = (
    "inventory",
    "inventory_time_left",
    "imbalance_1",
    "imbalance_3",
    "imbalance_5",
    "microprice",
    "flow_fast",
    "flow_medium",
    "flow_slow",
    "momentum",
)
"""Features that change sign when bid and ask change places, without the baseline's skew, which follows from them."""
PAIRED = (("queue_ahead_bid", "queue_ahead_ask"), ("quote_age_bid", "quote_age_ask"))
"""Features that then change places."""
INVENTORY_FEATURES = 4
"""The observation begins with as many features of inventory and time, which do not sway how fills fade."""
FAR = 2.0
"""Ticks from the mid beyond which fills may fade at another rate."""


class BookFeatures:
    """Feature matrices in float64 from observations (..., features) in physical units."""

    def __init__(self, names: Sequence[str], ranges: Sequence[float]) -> None:
        place = {name: i for i, name in enumerate(names)}
        limits = torch.tensor(ranges, dtype=torch.float64)
        self._gain = torch.where(limits > 0, 1.0 / limits, 0.0)
        self._signs = torch.ones(len(names), dtype=torch.float64)
        for name in (*SIGNED, "glft_skew"):
            self._signs[place[name]] = -1.0
        self._mirror = torch.arange(len(names))
        for bid, ask in PAIRED:
            self._mirror[[place[bid], place[ask]]] = torch.tensor([place[ask], place[bid]])
        self._signed = [place[name] for name in SIGNED]
        self._time_left, self._spread = place["time_left"], place["spread"]
        self.fill_size = 2 * len(names) - INVENTORY_FEATURES + 3
        self.costate_size = 3 * len(SIGNED)

    def scaled(self, observation: Tensor) -> Tensor:
        """Each feature in units of its fixed range."""
        return observation.double() * self._gain

    def mirrored(self, scaled: Tensor) -> Tensor:
        """The same situation with bid and ask exchanged."""
        return (scaled * self._signs)[..., self._mirror]

    def fill(self, scaled: Tensor, distance: Tensor) -> Tensor:
        """What a bid's fill depends on, (..., fill_size); `distance` from the mid in ticks, (...)."""
        away = distance.unsqueeze(-1)
        bends = torch.cat([away, 0.25 * away * away, torch.relu(away - FAR)], dim=-1)
        return torch.cat([scaled, bends, away * scaled[..., INVENTORY_FEATURES:]], dim=-1)

    def costate(self, scaled: Tensor) -> Tensor:
        """What the worth of one more order depends on: signed features alone, by time left and by spread."""
        signed = scaled[..., self._signed]
        by_time = signed * scaled[..., self._time_left].unsqueeze(-1)
        by_spread = signed * scaled[..., self._spread].unsqueeze(-1)
        return torch.cat([signed, by_time, by_spread], dim=-1)
