"""Puts "parameter_server" into Lightning's registry of strategies, without importing Lightning.

Lightning has no entry point for strategies, and its import takes seconds. So when it is there already the name is
registered at once, otherwise in the moment it is imported; the strategy itself is loaded when a trainer asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

NAME = "parameter_server"
MODULE = "lightning.pytorch.strategies"
DESCRIPTION = "gradients travel asynchronously through a parameter server (bitquote.server)"


def register() -> None:
    """Make `Trainer(strategy="parameter_server")` work, whether Lightning is imported before or after."""
    if MODULE in sys.modules:
        _enter(sys.modules[MODULE])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _enter(module: ModuleType) -> None:
    registry = getattr(module, "StrategyRegistry", None)
    if registry is not None and NAME not in registry:  # None: the module is being imported at this moment
        registry.register(NAME, _make, description=DESCRIPTION)


def _make(**parameters: Any) -> Any:
    """The strategy; called by the registry."""
    from bitquote.server.lightning.strategy import ParameterServerStrategy

    return ParameterServerStrategy(**parameters)


class _Finder(MetaPathFinder):
    """Notices the import of Lightning's strategies; every other import passes it by."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != MODULE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        sys.meta_path.remove(self)
        return spec


class _Loader(Loader):
    """Loads as the module's own loader does, then registers."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _enter(module)
