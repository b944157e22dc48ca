"""One path of an order-book market, step by step, for tests."""

from __future__ import annotations

from numba import njit

from bitquote.market.path import MarketKernels, market_kernels, start_path, state_for

_KERNELS: list[MarketKernels] = []  # asking for them takes a millisecond


def started(market, seed=3):
    """A path whose book has settled, at the first decision."""
    state = state_for(market.venue, market.flow, (market.window, market.capacity), 1)
    if not _KERNELS:
        _KERNELS.append(market_kernels(market.venue, market.flow, state))
    start_path(_KERNELS[0], market.venue, market.flow, state, seed, 0, 0)
    return state


def advance(market, state, until):
    """Run the path to the time `until`; the number of events."""
    return _run_until(_KERNELS[0], market.venue, market.flow, state, until)


@njit(cache=True)
def _run_until(kernels, venue, flow, state, until):
    return kernels.advance(venue, flow, state, until)
