"""Ternary networks by the recipe of BitNet b1.58: layers and network for training (torch), policies for use (numba)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitquote.ternary.description import PolicyDescription
from bitquote.ternary.kernels import PolicyArguments, quote_batch, quote_kernel
from bitquote.ternary.policy import Policy, load_policy

if TYPE_CHECKING:
    from bitquote.ternary.linear import BitLinear
    from bitquote.ternary.network import QuoteNetwork
    from bitquote.ternary.quantize import flip_rate, zero_share

_NEEDS_TORCH = {"BitLinear": "linear", "QuoteNetwork": "network", "flip_rate": "quantize", "zero_share": "quantize"}

__all__ = [
    "BitLinear",
    "Policy",
    "PolicyArguments",
    "PolicyDescription",
    "QuoteNetwork",
    "flip_rate",
    "load_policy",
    "quote_batch",
    "quote_kernel",
    "zero_share",
]


def __getattr__(name: str) -> Any:
    """Import what needs torch on first use: whoever only deploys a policy does not wait for it."""
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_NEEDS_TORCH[name]}"), name)
