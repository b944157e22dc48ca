"""Numbers as text: the same decimals down a column, a dash where there is no figure."""

from __future__ import annotations

import math
from collections.abc import Iterable

MISSING = "-"


def decimals_for(values: Iterable[float | None], digits: int) -> int:
    """Decimals that show the typical (median) magnitude among `values` with `digits` significant digits, 0 to 8."""
    magnitudes = sorted(abs(value) for value in values if value)
    if not magnitudes:
        return 0
    typical = magnitudes[len(magnitudes) // 2]
    return min(max(digits - 1 - math.floor(math.log10(typical)), 0), 8)


def number(value: float | None, decimals: int) -> str:
    """`value` with fixed decimals; a dash for None; never a negative zero."""
    if value is None:
        return MISSING
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0.0 else text
