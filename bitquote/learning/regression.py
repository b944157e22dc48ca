"""Two regressions that are refined by every rollout and forget slowly; their state travels in checkpoints.

Both keep the information of past batches as a Gaussian prior on the coefficients: recursive least squares with
exponential forgetting (Ljung & Söderström 1983), and its logistic counterpart by Newton's method.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MEMORY = 0.9
"""Share of the past information that an update keeps."""
RIDGE = 1e-3
"""Prior precision of each coefficient, as a share of one row's."""
NEWTON_STEPS = 6
_LARGEST_LOGIT = 30.0


class LinearRegression(nn.Module):
    """Weighted least squares y ~ x @ coefficients, in float64.

    Attributes:
        coefficients: (features,).
    """

    information: Tensor
    moment: Tensor
    coefficients: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("information", torch.zeros(features, features, dtype=torch.float64))
        self.register_buffer("moment", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("coefficients", torch.zeros(features, dtype=torch.float64))

    def update(self, x: Tensor, y: Tensor, weight: Tensor | None = None, memory: float = MEMORY) -> None:
        """Add rows x (n, features), y (n,), weight (n,), all float64, to `memory` of what was known."""
        weighted = x if weight is None else x * weight[:, None]
        self.information.mul_(memory).add_(weighted.T @ x)
        self.moment.mul_(memory).add_(weighted.T @ y)
        self.coefficients.copy_(torch.linalg.solve(_regular(self.information), self.moment))

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (n,) for x (n, features)."""
        return x @ self.coefficients


class LogisticRegression(nn.Module):
    """P(y = 1) = logistic(x @ coefficients), in float64; y may be a fraction, such as the filled share of an order.

    Attributes:
        coefficients: (features,).
    """

    information: Tensor
    coefficients: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("information", torch.zeros(features, features, dtype=torch.float64))
        self.register_buffer("coefficients", torch.zeros(features, dtype=torch.float64))

    def update(self, x: Tensor, y: Tensor) -> None:
        """Add rows x (n, features), y (n,) in [0, 1], float64: maximum a posteriori from the last coefficients."""
        prior = MEMORY * self.information
        centre = self.coefficients.clone()
        current, curvature = centre.clone(), prior
        for _ in range(NEWTON_STEPS):
            chance = self._chance(x @ current)
            curvature = (x * (chance * (1.0 - chance))[:, None]).T @ x
            slope = x.T @ (y - chance) - prior @ (current - centre)
            current = current + torch.linalg.solve(_regular(prior + curvature), slope)
        self.coefficients.copy_(current)
        self.information.copy_(prior + curvature)

    def forward(self, x: Tensor) -> Tensor:
        """Probabilities (n,) for x (n, features)."""
        return self._chance(x @ self.coefficients)

    @staticmethod
    def _chance(logit: Tensor) -> Tensor:
        return torch.sigmoid(logit.clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT))


def _regular(information: Tensor) -> Tensor:
    """`information` with a small ridge, so that a constant or missing feature does no harm."""
    size = information.diagonal().mean() * RIDGE + 1e-9
    return information + size * torch.eye(len(information), dtype=information.dtype)
