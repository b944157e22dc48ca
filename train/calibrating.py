"""`bitquote calibrate`: a market from a recording, with a page of pictures that shows how alike the two are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bitquote import run
from bitquote.calibration import calibrated_market, fit_reaching_takers, read_recording, write_market
from bitquote.errors import InputError, did_you_mean, require_choice
from bitquote.market import build
from bitquote.recorded import Recording
from bitquote.report.calibration_page import DISTANCES, calibration_page, calibration_text
from bitquote.report.stylised_page import stylised_page

from .words import refuse, split

READING: dict[str, Callable[[str], Any]] = {"tick": float, "format": str, "order_book": str}
OPTIONS: dict[str, Callable[[str], Any]] = {
    **READING,
    "step": float,
    "decision_interval": float,
    "maker_fee": float,
    "taker_fee": float,
    "gap": float,
    "hawkes": lambda text: {"true": True, "false": False}[text],
    "name": str,
    "seed": int,
}
"""The optional words of the verb, and how their values are read; those of `READING` say how the file is."""
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
    recording = read_recording(own["data"], **_reading(options))
    market = calibrated_market(recording, **options)
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
    refuse([key for key in own if key == "order_book"], "it belongs to one recording")
    reading = _reading(options)
    recordings = [read_recording(path, **reading) for path in own["data"].split(",")]
    result = walk_forward(recordings, Path(own["output"]), words, trains=trains, **options)
    print_walk(result)
    print(f"written to {Path(own['output']) / WALK}")
    return result


def _options(own: Mapping[str, str]) -> dict[str, Any]:
    return {key: _read(key, own[key]) for key in OPTIONS if key in own}


def _reading(options: dict[str, Any]) -> dict[str, Any]:
    """Takes the words of `READING` out of the options."""
    return {key: options.pop(key) for key in READING if key in options}


def draw_pages(recording: Recording, market: Mapping[str, Any], output: Path) -> str:
    """The pages of figures and of stylised facts beside `output`, of one simulation; returns their names in words."""
    page, facts = output.with_suffix(".png"), output.with_name(f"{output.stem}_stylised.png")
    interval = max(1.0, market["venue"]["decision_interval"])
    simulated = build(market).tape(recording.duration, PAGE_SEED, levels=2 * DISTANCES, snapshot_interval=interval)
    calibration_page(recording, market, page, tape=simulated)
    try:
        takers = fit_reaching_takers(recording.tape, market["venue"]["tick"] / 2)
        title = f"{market['name']}: {market['source']}"
        stylised_page(recording.tape, simulated, market["venue"]["tick"], title, facts, takers=takers)
    except InputError as reason:  # too short a stretch for these: the market stands all the same
        return f"{page} (none of stylised facts: {reason})"
    return f"{page} and {facts}"


def _read(key: str, text: str) -> Any:
    try:
        return OPTIONS[key](text)
    except (ValueError, KeyError):
        expected = {int: "an integer", float: "a number"}.get(OPTIONS[key], "true or false")
        raise InputError(f"{key} is {text!r}: must be {expected}") from None
