"""`python -m train <verb> ...` from a checkout does what `bitquote <verb> ...` does."""

from __future__ import annotations

import sys

from .command import main

sys.exit(main())
