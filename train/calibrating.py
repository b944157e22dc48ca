"""`bitquote calibrate`: a market from a recording, with a page of pictures that shows how alike the two are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bitquote import run
from bitquote.calibration import calibrated_market, write_market
from bitquote.config import did_you_mean
from bitquote.errors import InputError
from bitquote.recorded import read_binance
from bitquote.report.calibration_page import calibration_page, calibration_text

from .words import split

OPTIONS: dict[str, Callable[[str], Any]] = {
    "tick": float,
    "step": float,
    "decision_interval": float,
    "maker_fee": float,
    "taker_fee": float,
    "name": str,
    "seed": int,
}
"""The optional words of the verb, and how their values are read."""


def calibrate(words: Sequence[str]) -> dict[str, Any]:
    """Calibrate on `data=`, write the market to `output=` and its page beside it; returns the market."""
    own, others = split(words, ("data", "output", *OPTIONS))
    for word in others:
        key = word.partition("=")[0]
        raise InputError(f"unknown key {key!r}{did_you_mean(key, ('data', 'output', *OPTIONS))}")
    for key in ("data", "output"):
        if key not in own:
            raise InputError(f"{key}= is missing: see bitquote calibrate --help")
    output = Path(own["output"])
    if output.suffix not in (".yaml", ".yml"):
        raise InputError(f"output={output} must end in .yaml: market= takes it by that")
    options = {key: _read(key, own[key]) for key in OPTIONS if key in own}
    run.make_directory(output.parent)
    recording = read_binance(own["data"], tick=options.get("tick"))
    market = calibrated_market(recording, **{key: value for key, value in options.items() if key != "tick"})
    write_market(market, output)
    page = output.with_suffix(".png")
    calibration_page(recording, market, page)
    print(calibration_text(market))
    print(f"written to {output}, with pictures in {page}; train on it with: bitquote train market={output}")
    return market


def _read(key: str, text: str) -> Any:
    try:
        return OPTIONS[key](text)
    except ValueError:
        raise InputError(f"{key} is {text!r}: must be {'an integer' if OPTIONS[key] is int else 'a number'}") from None
