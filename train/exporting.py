"""`bitquote export`: the trained policy of a run as a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bitquote import run
from bitquote.errors import InputError, require_choice
from bitquote.ternary import Policy, load_policy
from bitquote.ternary.export_c import export_c

from .carding import write_card
from .words import refuse, split

TARGETS: dict[str, tuple[str, Callable[[Policy, Path], None]]] = {
    "safetensors": (".safetensors", Policy.save),
    "c": (".c", export_c),
}
"""Target -> ending of the file, and what writes it."""


def export(words: Sequence[str]) -> Path:
    """Check the policy of `run=` and write it to `output=`, with its model card beside it."""
    own, others = split(words, ("run", "output", "target"))
    refuse(others, "export takes run=, output= and target=", ("run", "output", "target"))
    target = own.get("target", "safetensors")
    require_choice("target", target, tuple(TARGETS))
    ending, write = TARGETS[target]
    for key in ("run", "output"):
        if key not in own:
            raise InputError(f"{key}= is missing: see bitquote export --help")
    path = Path(own["output"])
    directory = run.existing_directory(own["run"])
    policy = load_policy(directory / run.POLICY)
    if path.suffix != ending:  # lest a slip overwrite some other file
        raise InputError(f"output={path} must end in {ending} with target={target}")
    run.make_directory(path.parent)
    write(policy, path)
    page = write_card(policy, directory, path)
    print(f"written to {path}, its model card to {page}")
    return path
