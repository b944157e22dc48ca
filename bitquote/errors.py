"""The one error that a user is meant to read, the checks that raise it, and the nearest word that it suggests."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any


class InputError(ValueError):
    """Bad input from a user: a single line that names the field, the value and what would be right.

    The command line prints it without a traceback and exits with a non-zero status.
    """


def require(condition: bool, field: str, value: Any, expected: str) -> None:
    """Raise `InputError` "<field> is <value>: must be <expected>" unless `condition` holds."""
    if not condition:
        shown = repr(value)
        raise InputError(f"{field} is {shown if len(shown) < 80 else shown[:77] + '...'}: must be {expected}")


def require_number(
    field: str, value: Any, low: float = -math.inf, high: float = math.inf, *, above: bool = False
) -> float:
    """A finite float in [low, high], or in (low, high] when `above`; booleans and text are refused."""
    bound = f"a finite number {'above' if above else 'of at least'} {low:g}" if low > -math.inf else "a finite number"
    if high < math.inf:
        bound += f" and at most {high:g}"
    number = _as_float(value)
    inside = (number > low if above else number >= low) and number <= high
    require(math.isfinite(number) and inside, field, value, bound)
    return number


def _as_float(value: Any) -> float:
    """`value` as a float; NaN for what is no number, infinity for an integer beyond a double."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def require_integer(field: str, value: Any, low: int, high: int = 2**53) -> int:
    """An integer in [low, high]; booleans, text and fractions are refused."""
    integer = isinstance(value, Integral) and not isinstance(value, bool)
    bound = f"an integer of at least {low}" if high == 2**53 else f"an integer from {low} to {high}"
    require(integer and low <= int(value) <= high, field, value, bound)
    return int(value)


def require_choice(field: str, value: Any, choices: tuple[str, ...]) -> str:
    """One of `choices`."""
    if not (isinstance(value, str) and value in choices):
        hint = did_you_mean(value, choices) if isinstance(value, str) else ""
        require(False, field, value, f"one of {', '.join(choices)}{hint}")
    return value


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean ...?" with the nearest of the known words, or nothing when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
