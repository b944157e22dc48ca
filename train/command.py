"""The command `bitquote`: finds the verb, and turns every foreseeable failure into one line and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import bitquote
from bitquote.errors import InputError, did_you_mean

from . import help as texts
from .words import from_keywords

MODULES = {
    "train": "training",
    "benchmark": "benchmarking",
    "calibrate": "calibrating",
    "replay": "replaying",
    "export": "exporting",
    "sweep": "sweeping",
    "kernels": "kernels",
    "doctor": "doctor",
}
"""The verbs, and the module of this package that holds each."""
BAD_INPUT = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    try:
        status = _dispatch(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()  # so that a reader who has gone is noticed here and not at exit
        return status
    except InputError as error:
        return _report(error, BAD_INPUT)
    except KeyboardInterrupt as interruption:
        return _report(f"interrupted; {str(interruption) or 'nothing had begun'}", INTERRUPTED)
    except MemoryError:
        return _report("not enough memory: take fewer paths or a smaller network", 1)
    except BrokenPipeError:
        # Whoever read the output has gone: say nothing, and leave nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except _failures() as error:
        return _report(error, 1)


def call(verb: str, overrides: Sequence[str], keywords: Mapping[str, Any]) -> Any:
    """Run a verb on the words of a Python call and return what it made; errors are raised, not printed."""
    return _function(verb)([*overrides, *from_keywords(keywords)])


def _dispatch(arguments: list[str]) -> int:
    asks_for_help = any(word in ("-h", "--help") for word in arguments)
    verb = next((word for word in arguments if not word.startswith("-")), None)
    if "--version" in arguments:
        print(f"bitquote {bitquote.__version__}")
    elif verb is None and (asks_for_help or not arguments):
        print(texts.COMMAND, end="")
        return 0 if asks_for_help else BAD_INPUT
    elif arguments[0] not in MODULES:
        hint = did_you_mean(arguments[0], MODULES)
        raise InputError(f"unknown verb {arguments[0]!r}: must be one of {', '.join(MODULES)}{hint}")
    elif asks_for_help:
        print(texts.VERBS[arguments[0]], end="")
    else:
        made = _function(arguments[0])(arguments[1:])
        return int(arguments[0] == "doctor" and bool(made))  # a doctor's faults
    return 0


def _function(verb: str) -> Callable[[Sequence[str]], Any]:
    """The function behind a verb; its module is imported only now, so that --help and bad verbs answer at once."""
    return getattr(import_module(f".{MODULES[verb]}", __package__), verb)


def _failures() -> tuple[type[Exception], ...]:
    """What may go wrong outside of us; looked up when something has, since the server takes a while to import."""
    from bitquote.server.errors import ServerError

    return OSError, ServerError


def _report(message: object, status: int) -> int:
    print("bitquote:", " ".join(str(message).split()), file=sys.stderr)
    return status
