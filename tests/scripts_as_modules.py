"""Files of scripts/ for tests that want their functions."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load_script(name: str) -> ModuleType:
    """The module of a file of scripts/; registered, since numba looks compiled functions up by their module's name."""
    path = Path(__file__).parents[1] / "scripts" / name
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)
    return module
