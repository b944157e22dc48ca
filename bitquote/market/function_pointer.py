"""Compiled quoters as first-class functions, so that a kernel which calls one is compiled and cached once for all."""

from __future__ import annotations

from numbers import Number
from typing import Any, cast

import numpy as np
from numba import cfunc, njit, typeof, types
from numba.core.dispatcher import Dispatcher

from bitquote.errors import InputError, require


class Pointer(types.WrapperAddressProtocol):
    """An njit function as the address of its machine code for one signature.

    What calls it is compiled without it, which for a large function is the greater part of the work.
    """

    def __init__(self, function: Dispatcher, returned: Any, arguments: tuple, cache: bool = True, counted: bool = True):
        """`counted` says whether references to arrays are counted, as they must be by what allocates any."""
        self._signature = returned(*(typeof(argument) for argument in arguments))
        self._compiled = cfunc(self._signature, cache=cache, _nrt=counted)(function.py_func)  # pyright: ignore

    def __wrapper_address__(self) -> int:
        return cast(int, self._compiled.address)

    def signature(self):
        return self._signature


class FunctionPointer(Pointer):
    """An njit quoter `(observation, *arguments) -> (half_spread, skew)` as the address of its machine code.

    A dispatcher as an argument would make a kernel miss numba's on-disk cache; a pointer is cached by its signature.
    """

    def __init__(self, function: Dispatcher, arguments: tuple):
        # A user's function may live where numba cannot cache it, such as an interactive session; it compiles at once.
        own = function.py_func.__module__.startswith("bitquote.") and function.py_func.__closure__ is None
        inputs = (types.float64[::1], *(typeof(argument) for argument in arguments))
        outputs = 2 if own else _outputs(function, inputs)
        super().__init__(function, types.UniTuple(types.float64, outputs), (np.zeros(1), *arguments), cache=own)


def function_and_arguments(quoter: Any, observation_size: int) -> tuple[Dispatcher, tuple]:
    """The njit function of a policy or of a user's quoter, and its arguments; InputError for anything else.

    Args:
        quoter: A policy (`kernel`, `arguments`, `observation_size`), an njit function of an observation, or such a
            function with a tuple of its further arguments.
        observation_size: Features of the market's observation.
    """
    if hasattr(quoter, "kernel") and hasattr(quoter, "arguments"):
        size = getattr(quoter, "observation_size", observation_size)
        require(size == observation_size, "the policy's observation size", size, f"{observation_size} in this market")
        return quoter.kernel, tuple(quoter.arguments)
    if isinstance(quoter, Dispatcher):
        return quoter, ()
    if isinstance(quoter, tuple) and len(quoter) == 2 and isinstance(quoter[0], Dispatcher):
        return _bound(quoter[0], tuple(quoter[1]))
    raise InputError(
        f"the quoter is {type(quoter).__name__}: must be a QuoteTable, a policy, an njit function of an "
        "observation that returns (half_spread, skew), or (half_spread, skew, size), or such a function with a tuple "
        "of its arguments"
    )


def _bound(function: Dispatcher, arguments: tuple) -> tuple[Dispatcher, tuple]:
    """The function with its arguments built in, where these are numbers: one signature, one compiled market for all."""
    if not arguments or not all(isinstance(argument, Number) for argument in arguments):
        return function, arguments

    @njit
    def bound(observation):
        return function(observation, *arguments)

    return bound, ()


def _outputs(function: Dispatcher, inputs: tuple) -> int:
    """How many numbers a quoter returns: 2, or 3 with a size."""
    function.compile(inputs)
    returned = function.overloads[inputs].signature.return_type
    count = len(returned) if isinstance(returned, types.BaseTuple) else 1
    require(count in (2, 3), "the quoter", f"a function that returns {count}", "one of (half_spread, skew[, size])")
    return count
