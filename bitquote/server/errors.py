"""What can go wrong between a worker and its server, one class a cause; each message is one line."""

from __future__ import annotations

from bitquote.errors import InputError


class ServerError(RuntimeError):
    """A failure of the parameter server or of the way to it; a worker's state is as before the call."""


class ServerUnavailable(ServerError):
    """No sign of life from the server within the deadline."""


class Disconnected(ServerError):
    """The connection broke; the client reconnects and repeats what was not answered. Users do not see it."""


class ProtocolError(ServerError):
    """A message that is no message of ours, or one that must not come now; the connection is closed."""


class Rejected(ServerError, InputError):
    """The server understood a request and refuses it: wrong token, wrong shape, another model, unknown keys."""


class SnapshotError(InputError):
    """A snapshot that is damaged, or of another run or model."""
