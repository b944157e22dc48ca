"""A benchmark's rows as a table for spreadsheets and data frames: one line a row, nested figures under dotted names."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any


def csv_text(results: Iterable[Mapping[str, Any]]) -> str:
    """The rows of one or more results, each with its market; numbers in full, an empty cell where there is none."""
    rows = [{"market": result["market"], **_flat(row)} for result in results for row in result["rows"]]
    names = list(dict.fromkeys(name for row in rows for name in row))
    # A figure that is null in one row is a group in another: then its parts have columns, and the null has none.
    names = [name for name in names if not any(other.startswith(f"{name}.") for other in names)]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(entry: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in entry.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
