"""How numba compiles: the switches of every kernel in one place.

`kernel` and `inlined` borrow the arrays of their caller and allocate none, so that numba need not count references
(`_nrt=False`): the atomic counters would cost more than an order book. `inlined` is for the hot path, where the words
that describe a tuple of arrays are worth keeping in registers, `kernel` for the rest. Both are cached on disk and
release the interpreter lock. Never fastmath: prices, cash and quantised weights are exact.
"""

from typing import Any

from numba import njit

_SWITCHES: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False}

kernel = njit(**_SWITCHES)
inlined = njit(**_SWITCHES, forceinline=True)
