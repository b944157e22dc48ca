"""What the parent tells a process of a shard at its start."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from bitquote.server.shm.memory import whole


@dataclass(frozen=True)
class Setup:
    """What a process of a shard must know; small numbers are inherited descriptors unless they say otherwise."""

    config: dict[str, Any]
    token: str
    shard: int
    shards: int
    listener: int
    page: int
    definition: int | None
    """A file with the shard's `pack_definition`."""
    report: int
    """Events go to the parent here, a line of JSON each; its end tells the parent that this process is gone."""
    parent: int
    """Ends when the parent does."""
    parent_process: int
    """Not a descriptor: the parent's process id."""
    predecessor: int | None
    """Ends when the process before this one does; None: there is none."""
    directory: str
    log: str | None
    """Events are appended to this file; None when nobody has asked for one."""
    restore: bool
    torch: bool
    """The first worker will probably bring an update rule that needs torch."""
    remove: list[str]
    """Files and folders that nobody needs after the last process."""

    @classmethod
    def read(cls, descriptor: int) -> Setup:
        """From the file that the parent made."""
        return cls(**json.loads(whole(descriptor)))

    def pack(self) -> bytes:
        """The content of such a file."""
        return json.dumps(asdict(self)).encode()
