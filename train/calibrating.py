"""`bitquote calibrate`: a market from a recording, with a page of pictures that shows how alike the two are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bitquote import run
from bitquote.calibration import best_quote_flow, calibrated_market, fit_takers, write_market
from bitquote.config import did_you_mean
from bitquote.errors import InputError, require_choice
from bitquote.market import build
from bitquote.recorded import Recording, read_binance
from bitquote.report.calibration_page import DISTANCES, calibration_page, calibration_text
from bitquote.report.stylised_page import stylised_page

from .words import refuse, split

OPTIONS: dict[str, Callable[[str], Any]] = {
    "tick": float,
    "step": float,
    "decision_interval": float,
    "maker_fee": float,
    "taker_fee": float,
    "gap": float,
    "name": str,
    "seed": int,
}
"""The optional words of the verb, and how their values are read."""
PAGE_SEED = 1000
"""Of the simulation that the pages show."""


def calibrate(words: Sequence[str]) -> dict[str, Any]:
    """Calibrate on `data=`, write the market to `output=` and its pages beside it; returns the market.

    Several recordings with commas between are walked forward: the folder `output=` gets a market each, and the result
    of `walk_forward` is returned.
    """
    own, others = split(words, ("data", "output", "train", *OPTIONS))
    if "," in own.get("data", "") and not Path(own["data"]).exists():
        return _walk(own, others)
    refuse([key for key in own if key == "train"], "it belongs to several recordings, data=a,b")
    for word in others:
        key = word.partition("=")[0]
        raise InputError(f"unknown key {key!r}{did_you_mean(key, ('data', 'output', *OPTIONS))}")
    for key in ("data", "output"):
        if key not in own:
            raise InputError(f"{key}= is missing: see bitquote calibrate --help")
    output = Path(own["output"])
    if output.suffix not in (".yaml", ".yml"):
        raise InputError(f"output={output} must end in .yaml: market= takes it by that")
    options = _options(own)
    run.make_directory(output.parent)
    recording = read_binance(own["data"], tick=options.get("tick"))
    market = calibrated_market(recording, **{key: value for key, value in options.items() if key != "tick"})
    write_market(market, output)
    pages = draw_pages(recording, market, output)
    print(calibration_text(market))
    print(f"written to {output}, with pictures in {pages}; train on it with: bitquote train market={output}")
    return market


def _walk(own: Mapping[str, str], words: Sequence[str]) -> dict[str, Any]:
    from .walking import WALK, print_walk, walk_forward  # imports the trainer, which one recording does without

    if "output" not in own:
        raise InputError("output= is missing: with several recordings, a new folder")
    trains = require_choice("train", own.get("train", "false"), ("true", "false")) == "true"
    options = _options(own)
    recordings = [read_binance(path, tick=options.get("tick")) for path in own["data"].split(",")]
    options.pop("tick", None)
    result = walk_forward(recordings, Path(own["output"]), words, trains=trains, **options)
    print_walk(result)
    print(f"written to {Path(own['output']) / WALK}")
    return result


def _options(own: Mapping[str, str]) -> dict[str, Any]:
    return {key: _read(key, own[key]) for key in OPTIONS if key in own}


def draw_pages(recording: Recording, market: Mapping[str, Any], output: Path) -> str:
    """The pages of figures and of stylised facts beside `output`, of one simulation; returns their names in words."""
    page, facts = output.with_suffix(".png"), output.with_name(f"{output.stem}_stylised.png")
    simulated = build(market).tape(recording.duration, PAGE_SEED, levels=2 * DISTANCES)
    calibration_page(recording, market, page, tape=simulated)
    try:
        takers = fit_takers(best_quote_flow(recording.tape))
        title = f"{market['name']}: {market['source']}"
        stylised_page(recording.tape, simulated, market["venue"]["tick"], title, facts, takers=takers)
    except InputError as reason:  # too short a stretch for these: the market stands all the same
        return f"{page} (none of stylised facts: {reason})"
    return f"{page} and {facts}"


def _read(key: str, text: str) -> Any:
    try:
        return OPTIONS[key](text)
    except ValueError:
        raise InputError(f"{key} is {text!r}: must be {'an integer' if OPTIONS[key] is int else 'a number'}") from None
