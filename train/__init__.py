"""The applications behind the command `bitquote`; the one place that knows Hydra. Installed as `bitquote.apps`."""

from __future__ import annotations

from .command import call, main

__all__ = ["call", "main"]
