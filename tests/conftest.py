"""Settings of the whole test suite."""

from __future__ import annotations

import hypothesis

# Compilation makes first examples slow; examples are the same on every machine.
hypothesis.settings.register_profile("bitquote", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("bitquote")
