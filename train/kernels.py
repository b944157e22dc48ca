"""`bitquote kernels`: which way the compiled policy takes on this machine, and why."""

from __future__ import annotations

from collections.abc import Sequence

from bitquote.ternary import paths

from .words import refuse


def kernels(words: Sequence[str]) -> str:
    """Print the path of the ternary kernels and its reason; returns its name."""
    refuse(list(words), "kernels takes no keys")
    choice = paths.choose()
    print("\n".join(lines(choice)))
    return choice.name


def lines(choice: paths.Choice) -> list[str]:
    """What is said of a choice, here and by `bitquote doctor`."""
    other = f"{paths.VARIABLE}=portable takes the path that any processor can; both give the same integers"
    return [f"{choice.name}: {choice.reason}", other]
