"""Which way the kernels take on this machine, and why: AVX2 or portable, with the same integers."""

from __future__ import annotations

import os
from typing import NamedTuple

import llvmlite.binding as llvm

from bitquote.errors import InputError
from bitquote.ternary import kernels, simd

VARIABLE = "BITQUOTE_KERNELS"
"""Environment variable that forces a path."""
CODES = {"portable": kernels.PORTABLE, "avx2": kernels.AVX2}


class Choice(NamedTuple):
    """A path, and a sentence that says why."""

    name: str
    reason: str


def choose(wanted: str | None = None) -> Choice:
    """The path that is wanted, else that of the environment, else the fastest; `InputError` if it cannot be taken."""
    processor = llvm.get_host_cpu_name() or "this processor"
    source = "path" if wanted is not None else VARIABLE
    wanted = wanted if wanted is not None else os.environ.get(VARIABLE) or None
    if wanted is None:
        if simd.AVAILABLE:
            return Choice("avx2", f"{processor} has AVX2")
        return Choice("portable", f"{processor} has no AVX2, or numba is told not to use it")
    if wanted not in CODES:
        raise InputError(f"{source} is {wanted!r}: must be one of {', '.join(CODES)}")
    if wanted == "avx2" and not simd.AVAILABLE:
        raise InputError(f"{source} is 'avx2': must be 'portable', as {processor} has no AVX2")
    return Choice(wanted, f"{source} asks for it ({processor} has {'' if simd.AVAILABLE else 'no '}AVX2)")
