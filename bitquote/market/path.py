"""How a path begins: its random numbers, a settled book, fresh accounts; and the arrays and kernels that it needs."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numba import njit, typeof, types

from bitquote.book.matching import NO_PRICE, reset
from bitquote.errors import require
from bitquote.flow.crowd import Crowd, begin_flow
from bitquote.flow.random import seed_generator, uniform
from bitquote.market.clock import PRICE_STEPS, advance
from bitquote.market.function_pointer import Pointer
from bitquote.market.venue import PathState, Venue, allocate_path, update_mid

WARM_UP = 5  # decision intervals before the makers arrive, over which the seeded book settles
FLOW_STREAM, POLICY_STREAM, PRICE_STREAM = 0, 1, 2


@njit(cache=True)
def rekey(state, seed, path, step):
    """Give the flow of the decision `step` its own random numbers, whatever was drawn before; -1 is the warm-up."""
    seed_generator(state.flow.generator, seed, path, step + 1, FLOW_STREAM)
    seed_generator(state.flow.price_generator, seed, path, step + 1, PRICE_STREAM)
    state.flow.now[0].hazard = 0.0


@njit(cache=True)
def _prepare(flow, state, seed, path, clock):
    """A fresh book and fresh accounts for `path` at the time `clock`."""
    reset(state.book)
    rekey(state, seed, path, -1)
    begin_flow(flow, state.flow, state.book, clock)
    state.maker[:] = np.zeros_like(state.maker)
    state.public[:] = np.zeros_like(state.public)
    state.public[0].wake = np.inf
    state.public[0].clock = clock
    state.public[0].step = 1 - WARM_UP * PRICE_STEPS
    state.public[0].bid = NO_PRICE
    state.public[0].ask = NO_PRICE
    for n in range(state.maker.size):
        state.maker[n].clock = clock
        for i in range(2):
            for level in range(state.quotes.shape[2]):
                quote = state.quotes[n, i, level]
                quote.slot = -1
                quote.price = NO_PRICE
                quote.pending = 0
                quote.pending_price = NO_PRICE
                quote.filled = 0
        update_mid(state, n)


class MarketKernels(NamedTuple):
    """The large kernels that know no quoter, as pointers: what knows one is compiled anew for each kind of quoter."""

    prepare: Pointer
    advance: Pointer


_POINTERS: dict[Any, MarketKernels] = {}


def market_kernels(venue: Venue, flow: Crowd, state: PathState) -> MarketKernels:
    """The kernels for arguments of these types."""
    kind = typeof((venue, flow, state))
    if kind not in _POINTERS:
        prepare = Pointer(_prepare, types.void, (flow, state, 0, 0, 0.0))
        run = Pointer(advance, types.int64, (venue, flow, state, 0.0), counted=False)
        _POINTERS[kind] = MarketKernels(prepare, run)
    return _POINTERS[kind]


@njit(cache=True)
def start_path(kernels, venue, flow, state, seed, path, start_inventory):
    """Seed the book, let it settle, and hand each maker its first inventory, marked at the mid."""
    kernels.prepare(flow, state, seed, path, -WARM_UP * venue.decision_interval)
    kernels.advance(venue, flow, state, 0.0)
    public = state.public[0]
    public.spread_time = 0.0
    public.two_sided_time = 0.0
    public.depth_time = 0.0
    public.effective2 = 0
    public.effective_lots = 0
    public.lots = 0
    public.squared_moves = 0.0
    public.wake = np.inf
    generator = np.empty(2, np.uint64)
    seed_generator(generator, seed, path, 0, POLICY_STREAM)
    for n in range(state.maker.size):
        maker = state.maker[n]
        maker.squared = 0.0
        maker.squared_clock = 0.0
        maker.net_volume = 0
        maker.trades = 0
        maker.decision_mid2 = maker.mid2
        if start_inventory > 0:
            orders = int(uniform(generator) * (2 * start_inventory + 1)) - start_inventory
            maker.position = orders * venue.order_size
            maker.cash = -(maker.position * maker.mid2) // 2


def state_for(venue: Venue, flow: Crowd, memory: tuple[int, int], makers: int) -> PathState:
    """Arrays for one path of this market."""
    return allocate_path(*memory, makers, venue.levels, flow.queues.limit.shape[0])


def check_room(states: Iterable[PathState], capacity: int) -> None:
    """Raise InputError where a book of `capacity` orders had no room for one: nothing is dropped unsaid."""
    full = sum(int(state.flow.now["refused"][0]) for state in states)
    require(full == 0, "market.venue.capacity", capacity, f"larger: the book was full for {full} orders")
