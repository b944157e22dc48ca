"""Named instruction points at which the fault suite may strike.

Code calls `reach(name)` where a process may die at the worst moment. Nothing happens there unless a fault is armed,
by `arm` or by the environment variable BITQUOTE_FAULT of a process at its start: "name:nth:action[:file]" strikes when
this process reaches the point for the nth time. The action is `kill` (SIGKILL to itself), `stop` (SIGSTOP), `exit`
(status 1, no clean-up) or `raise ERRNO` (an OSError, as in "raise ENOSPC"). Before it acts the point's name is
appended to `file` and synced, so a test can tell that the point was reached; a file that names the point already
disarms, so that of several processes that share an environment one is struck.
"""

from __future__ import annotations

import errno
import os
import signal
from typing import NamedTuple

from bitquote.errors import require, require_choice, require_integer

POINTS = {
    "worker.idle": "a worker is about to push; nothing of it is on its way",
    "worker.mid_copy": "half of a gradient is in shared memory",
    "worker.between_copy_and_notice": "a gradient is in shared memory and the server has not been told",
    "worker.parked": "a worker has waited for a twentieth of a second for an answer",
    "server.received": "the server has read a message",
    "server.before_apply": "the server has validated a push and not applied it",
    "server.after_apply_before_reply": "a push is applied and its worker has not been told",
    "server.before_snapshot": "the state for a snapshot is about to be copied",
    "snapshot.written": "a snapshot's bytes are in a file of a temporary name, not yet synced",
    "snapshot.before_rename": "a snapshot is on disk under a temporary name",
    "standby.taking_over": "a standby has noticed the death of the server and has not yet loaded the snapshot",
}
VARIABLE = "BITQUOTE_FAULT"
ACTIONS = ("kill", "stop", "exit", "raise")


class Fault(NamedTuple):
    """What an armed fault does: `action` (and `code`, an errno, of `raise`) at the `nth` reach of `name`."""

    name: str
    nth: int
    action: str
    code: int
    file: str


_fault: Fault | None = None
_reached = 0


def parse(text: str) -> Fault:
    """ "name:nth:action[:file]" as a Fault; InputError for anything else."""
    parts = text.split(":", 3)
    require(len(parts) >= 3, VARIABLE, text, "name:nth:action[:file]")
    name = require_choice(f"{VARIABLE} name", parts[0], tuple(POINTS))
    require(parts[1].isdigit(), f"{VARIABLE} nth", parts[1], "an integer of at least 1")
    nth = require_integer(f"{VARIABLE} nth", int(parts[1]), 1)
    action, _, code = parts[2].partition(" ")
    require_choice(f"{VARIABLE} action", action, ACTIONS)
    number = getattr(errno, code, None) if action == "raise" else 0
    require(isinstance(number, int), f"{VARIABLE} action", parts[2], "raise with the name of an errno")
    return Fault(name, nth, action, int(number or 0), parts[3] if len(parts) > 3 else "")


def arm(text: str | None) -> None:
    """Arm this process with the fault `text`, or disarm it with None; counting starts anew."""
    global _fault, _reached
    _fault, _reached = parse(text) if text else None, 0


def armed(name: str) -> bool:
    """Whether a fault waits at `name` in this process."""
    return _fault is not None and _fault.name == name


def reach(name: str) -> None:
    """Say that the point `name` is reached; strikes if a fault is armed there."""
    if _fault is not None and _fault.name == name:
        _strike(_fault)


def _strike(fault: Fault) -> None:
    global _reached
    _reached += 1
    if _reached != fault.nth or (fault.file and not _claim(fault)):
        return
    if fault.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault.action == "exit":
        os._exit(1)
    else:
        raise OSError(fault.code, os.strerror(fault.code))


def _claim(fault: Fault) -> bool:
    """Append the name to the fault's file; False if it stands there already."""
    descriptor = os.open(fault.file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        if fault.name in os.read(descriptor, 1 << 16).decode().split():
            return False
        os.write(descriptor, f"{fault.name}\n".encode())
        os.fsync(descriptor)
        return True
    finally:
        os.close(descriptor)


arm(os.environ.get(VARIABLE))
