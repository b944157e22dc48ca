"""The model card that `bitquote export` leaves beside a policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bitquote import run
from bitquote.errors import InputError
from bitquote.ternary import Policy
from bitquote.ternary.card import HEADING, card


def write_card(policy: Policy, directory: Path, path: Path) -> Path:
    """Write the card of a run's policy that is exported to `path`: `<stem>.md` beside it.

    The run's benchmark.json is used where there is one. Another file of that name is left alone: `InputError`.
    """
    page = path.with_suffix(".md")
    try:
        foreign = page.exists() and not page.read_bytes().startswith(HEADING.encode())
    except OSError as error:
        raise InputError(f"cannot read {page}: {error.strerror}") from None
    if foreign:
        raise InputError(f"{page} is there and no model card: move it, or choose another output=")
    row, context = _benchmark(directory / run.BENCHMARK)
    run.write_text(page, card(policy, row, context=context))
    return page


def _benchmark(path: Path) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The policy's row of a run's benchmark.json, and all of that file; None without them."""
    if not path.exists():
        return None, {}
    result = run.read_json(path, "rows")
    rows = result["rows"] if isinstance(result["rows"], list) else []
    return next((row for row in rows if isinstance(row, dict) and row.get("quoter") == "policy"), None), result
