"""The words of a command: `key=value`, some the verb's own (run=, output=, ...), the others overrides for Hydra."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bitquote.errors import InputError, did_you_mean

_WORD = re.compile(r"[A-Za-z_][\w.]*=.*", re.DOTALL)


def split(words: Sequence[str], own: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The verb's own words as a dictionary, their values taken literally, and the other words as they stand."""
    values: dict[str, str] = {}
    overrides = []
    for word in words:
        if not _WORD.fullmatch(word):
            raise InputError(f"cannot read {word!r}: write key=value, such as market=game")
        key, _, value = word.partition("=")
        if key not in own:
            overrides.append(word)
        elif not value:
            raise InputError(f"{key}= is empty: write a value after it")
        elif key in values:
            raise InputError(f"{key}= is given twice")
        else:
            values[key] = value
    return values, overrides


def from_keywords(keywords: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The words that say the same as Python keywords; a nested mapping becomes dotted keys."""
    words = []
    for key, value in keywords.items():
        if isinstance(value, Mapping):
            words += from_keywords(value, f"{prefix}{key}.")
        else:
            words.append(f"{prefix}{key}={_text(value)}")
    return words


def refuse(words: Iterable[str], reason: str, known: Iterable[str] = ()) -> None:
    """Raise `InputError` for the first of the words, if there is any; `known` are those that could be meant."""
    for word in words:
        key = word.partition("=")[0]
        raise InputError(f"{key} cannot be given here: {reason}{did_you_mean(key, known)}")


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return "[" + ",".join(_text(item) for item in value) + "]"
    return str(value)
