"""Ternary networks that learn to quote inside a compiled limit order book, judged against the exact optimum.

`train`, `benchmark`, `calibrate` and `replay` take the same words as the command line and return what it writes:

    import bitquote

    run = bitquote.train("market=game", "learner=distill", seed=1)
    print(run.benchmark["rows"])

Importing this package is cheap: numba, torch and Hydra are loaded by the first call that needs them.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bitquote.environments import register
from bitquote.errors import InputError

if TYPE_CHECKING:
    from bitquote.run import Run

register()

__version__ = "0.1.0"
__all__ = ["InputError", "__version__", "benchmark", "calibrate", "replay", "train"]


def train(*overrides: str, **settings: Any) -> Run:
    """Train a policy, benchmark it and return the finished run; `run=<directory>` resumes one.

    Args:
        overrides: words of the command line, such as "market=game" or "market.gamma=0.05".
        settings: the same as keywords, such as seed=1.
    """
    return _applications().call("train", overrides, settings)


def benchmark(*overrides: str, **settings: Any) -> dict[str, Any]:
    """Benchmark every quoter of a market, and the policies of `run=` where given: the content of benchmark.json."""
    return _applications().call("benchmark", overrides, settings)


def calibrate(*overrides: str, **settings: Any) -> dict[str, Any]:
    """Calibrate a market on the recording `data=`, write it to `output=` and return it with its intervals and fit."""
    return _applications().call("calibrate", overrides, settings)


def replay(*overrides: str, **settings: Any) -> dict[str, Any]:
    """Replay the recording `data=` and return what became of its events; with `market=` or `run=`, quote into it."""
    return _applications().call("replay", overrides, settings)


def _applications() -> ModuleType:
    """The Hydra applications: `bitquote.apps` where installed, the folder `train` of a bare checkout."""
    return import_module("bitquote.apps" if find_spec("bitquote.apps") else "train")
