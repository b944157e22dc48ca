"""Registration of the Gymnasium environments, without importing a market: `import bitquote` is enough."""

from __future__ import annotations

import gymnasium

ENVIRONMENTS = {"bitquote/Game-v0": "Game", "bitquote/OrderBook-v0": "OrderBook"}


def register() -> None:
    """Register `bitquote/Game-v0` and `bitquote/OrderBook-v0`, single and vector, once."""
    for identifier, name in ENVIRONMENTS.items():
        if identifier not in gymnasium.registry:
            gymnasium.register(
                identifier,
                entry_point=f"bitquote.market.gym:{name}Environment",
                vector_entry_point=f"bitquote.market.gym:{name}Vector",
            )
