"""`bitquote export`: the trained policy of a run as a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bitquote import run
from bitquote.errors import InputError, require_choice
from bitquote.ternary import load_policy

from .words import refuse, split

TARGETS = ("safetensors",)


def export(words: Sequence[str]) -> Path:
    """Check the policy of `run=` and write it to `output=`."""
    own, others = split(words, ("run", "output", "target"))
    refuse(others, "export takes run=, output= and target=")
    require_choice("target", own.get("target", TARGETS[0]), TARGETS)
    for key in ("run", "output"):
        if key not in own:
            raise InputError(f"{key}= is missing: see bitquote export --help")
    path = Path(own["output"])
    policy = load_policy(run.existing_directory(own["run"]) / run.POLICY)
    if path.suffix != ".safetensors":  # lest a slip overwrite some other file
        raise InputError(f"output={path} must end in .safetensors")
    run.make_directory(path.parent)
    policy.save(path)
    print(f"written to {path}")
    return path
