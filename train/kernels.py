"""`bitquote kernels`: which way the compiled policy takes on this machine, and why."""

from __future__ import annotations

from collections.abc import Sequence

from bitquote.ternary import paths

from .words import refuse


def kernels(words: Sequence[str]) -> str:
    """Print the path of the ternary kernels and its reason; returns its name."""
    refuse(list(words), "kernels takes no keys")
    name, reason = paths.choose()
    print(f"{name}: {reason}")
    print(f"{paths.VARIABLE}=portable takes the path that any processor can; both give the same integers")
    return name
