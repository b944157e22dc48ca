"""A parameter server: gradients travel asynchronously, within bounds, and survive crashes.

`Server` holds the weights, `Client` pushes gradients and pulls weights, `ParameterServerStrategy` puts both under an
unmodified LightningModule (`Trainer(strategy="parameter_server")` once this package is imported). Knows nothing of
markets. Importing it is cheap: numpy's company, torch, Lightning and Ray wait until they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bitquote.server.config import ServerConfig
from bitquote.server.errors import Rejected, ServerError, ServerUnavailable, SnapshotError
from bitquote.server.lightning.registration import register

if TYPE_CHECKING:
    from bitquote.server.client import Client
    from bitquote.server.lightning.strategy import ParameterServerStrategy
    from bitquote.server.line import Result
    from bitquote.server.proximal import L1, Box, Group, ProximalGradient
    from bitquote.server.server import Outcome, Server

__all__ = [
    "L1",
    "Box",
    "Client",
    "Group",
    "Outcome",
    "ParameterServerStrategy",
    "ProximalGradient",
    "Rejected",
    "Result",
    "Server",
    "ServerConfig",
    "ServerError",
    "ServerUnavailable",
    "SnapshotError",
]

_LAZY = {
    "Box": "proximal",
    "Client": "client",
    "Group": "proximal",
    "L1": "proximal",
    "Outcome": "server",
    "ParameterServerStrategy": "lightning.strategy",
    "ProximalGradient": "proximal",
    "Result": "line",
    "Server": "server",
}

register()


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
