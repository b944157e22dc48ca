"""The rollout of the order-book market: book, flow, quoter, accounts and buffer writes in one compiled loop.

Training, benchmark and deployment call this kernel. A quoter is a table, or a compiled function
`(observation, *arguments) -> (half_spread, skew)` that is passed as a pointer with its arguments: the kernel is
compiled once for all of them, and Python is entered once a block of paths.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit

from bitquote.book.matching import NO_PRICE, reset
from bitquote.errors import require
from bitquote.flow.poisson import PoissonFlow, seed_book
from bitquote.flow.random import normal, seed_generator, uniform
from bitquote.market.action import distances, quote_prices
from bitquote.market.observation import SIZE, look_up, observe
from bitquote.market.simulation import Rollout, for_each_block
from bitquote.market.venue import (
    PathState,
    Venue,
    advance,
    allocate_path,
    liquidate,
    send_quotes,
    update_mid,
    wealth,
)

WARM_UP = 5  # decision intervals before the maker arrives, over which the seeded book settles
SUMMARY = np.dtype(
    [
        (name, np.float64)
        for name in (
            "profit", "penalty", "terminal_inventory", "fills", "turnover", "max_drawdown", "mean_spread",
            "spread", "adverse_selection", "inventory", "fees", "liquidation",
            "markout", "unliquidated", "rejected", "events", "markout_lost",
        )
    ]
)  # fmt: skip
_FLOW_STREAM, _POLICY_STREAM, _PRICE_STREAM = 0, 1, 2


class Exploration(NamedTuple):
    """How a rollout departs from the policy, for training; all zero in evaluation."""

    half_spread: float = 0.0  # standard deviation of Gaussian noise, ticks
    skew: float = 0.0
    start_inventory: int = 0  # orders: the first inventory is uniform within +- this
    dither: bool = False  # stochastic rounding to ticks


class Quoter(NamedTuple):
    """A quoter as the kernel takes it."""

    table: np.ndarray  # float64 (2, decisions, 2Q+1), bid and ask distances in ticks; (2, 0, 1) for a function
    function: object  # pointer to (observation, *arguments) -> (half_spread, skew) in ticks
    arguments: tuple


@njit(cache=True)
def rekey(state, seed, path, step):
    """Give the flow of the decision `step` its own random numbers, whatever was drawn before; -1 is the warm-up."""
    seed_generator(state.flow.generator, seed, path, step + 1, _FLOW_STREAM)
    seed_generator(state.flow.price_generator, seed, path, step + 1, _PRICE_STREAM)


@njit(cache=True)
def _begin(flow, state, seed, path):
    """A fresh book and fresh accounts for `path`."""
    reset(state.book)
    rekey(state, seed, path, -1)
    seed_book(flow, state.flow, state.book)
    state.maker[:] = np.zeros_like(state.maker)
    for i in range(2):
        state.quotes[i].slot = -1
        state.quotes[i].price = NO_PRICE
        state.quotes[i].pending = 0
        state.quotes[i].pending_price = NO_PRICE
        state.quotes[i].filled = 0
    update_mid(state)


@njit(cache=True)
def start_path(venue, flow, state, seed, path, start_inventory):
    """Seed the book, let it settle, and hand the maker its first inventory, marked at the mid."""
    _begin(flow, state, seed, path)
    maker = state.maker[0]
    maker.clock = -WARM_UP * venue.decision_interval
    advance(venue, flow, state, 0.0)
    maker.squared = 0.0
    maker.squared_clock = 0.0
    maker.net_volume = 0
    maker.trades = 0
    maker.decision_mid2 = maker.mid2
    if start_inventory > 0:
        generator = np.empty(2, np.uint64)
        seed_generator(generator, seed, path, 0, _POLICY_STREAM)
        orders = int(uniform(generator) * (2 * start_inventory + 1)) - start_inventory
        maker.position = orders * venue.order_size
        maker.cash = -(maker.position * maker.mid2) // 2


@njit(cache=True)
def _decide(venue, state, quoter, baseline, exploration, step, generator, observation, record, row, prices):
    """Observe, ask the quoter, explore, record; returns the distances asked for, in ticks."""
    observe(venue, state, step, baseline, observation)
    inventory = observation[0]
    table, function, arguments = quoter
    if table.shape[1] > 0:
        bid, ask = look_up(table, step, inventory)
        half_spread = 0.5 * (bid + ask)
        skew = 0.5 * (bid - ask)
    else:
        half_spread, skew = function(observation, *arguments)
        if row >= 0:
            record.observation[row, step] = observation
            record.mean[row, step, 0] = half_spread
            record.mean[row, step, 1] = skew
        if exploration.half_spread > 0.0:
            half_spread += exploration.half_spread * normal(generator)
        if exploration.skew > 0.0:
            skew += exploration.skew * normal(generator)
        bid, ask = distances(half_spread, skew, venue.no_quote)
    if row >= 0:
        record.action[row, step, 0] = half_spread
        record.action[row, step, 1] = skew
    dither = uniform(generator) if exploration.dither else -1.0
    quote_prices(state, bid, ask, dither, prices)


@njit(cache=True)
def _record_outcome(venue, state, record, row, step, reward, prices, mid2, held):
    order = float(venue.order_size)
    maker = state.maker[0]
    record.reward[row, step] = reward
    record.inventory[row, step + 1] = held / order
    record.mid[row, step + 1] = 0.5 * maker.mid2
    for i in range(2):
        side = 1 - 2 * i
        record.filled[row, step, i] = state.quotes[i].filled / order
        record.distance[row, step, i] = np.inf if prices[i] == NO_PRICE else side * (0.5 * mid2 - prices[i])


@njit(cache=True)
def _run_path(venue, flow, state, quoter, baseline, exploration, seed, path, record, row, summary):
    """One episode; `row` is its row in `record`, or -1 for none."""
    start_path(venue, flow, state, seed, path, exploration.start_inventory)
    maker = state.maker[0]
    generator = np.empty(2, np.uint64)
    observation = np.empty(SIZE, np.float64)
    prices = np.empty(2, np.int64)
    before = wealth(venue, maker)
    first = before
    peak = before
    squared_before = 0.0
    squared_unit = 1.0 / (float(venue.order_size) * float(venue.order_size))
    spread_sum = 0.0
    spread_count = 0
    if row >= 0:
        record.inventory[row, 0] = maker.position / venue.order_size
        record.mid[row, 0] = 0.5 * maker.mid2
        record.start[row] = 0
    for step in range(venue.decisions):
        rekey(state, seed, path, step)
        seed_generator(generator, seed, path, step + 1, _POLICY_STREAM)
        _decide(venue, state, quoter, baseline, exploration, step, generator, observation, record, row, prices)
        mid2 = maker.mid2
        for i in range(2):
            state.quotes[i].filled = 0
        send_quotes(venue, state, prices)
        if state.quotes[0].pending_price != NO_PRICE and state.quotes[1].pending_price != NO_PRICE:
            spread_sum += prices[1] - prices[0]
            spread_count += 1
        summary.events += advance(venue, flow, state, (step + 1) * venue.decision_interval)
        held = maker.position  # at the horizon, what is left to liquidate
        if step == venue.decisions - 1:
            _close(venue, state, summary)
        now = wealth(venue, maker)
        reward = now - before - venue.penalty * squared_unit * (maker.squared - squared_before)
        squared_before = maker.squared
        before = now
        peak = max(peak, now)
        summary.max_drawdown = max(summary.max_drawdown, peak - now)
        if row >= 0:
            _record_outcome(venue, state, record, row, step, reward, prices, mid2, held)
    summary.profit = before - first
    summary.penalty = venue.penalty * squared_unit * maker.squared
    summary.mean_spread = spread_sum / spread_count if spread_count > 0 else np.nan
    # The remainder of the mark-to-market, so that the attribution adds up to the profit.
    summary.inventory = summary.profit - (
        summary.spread + summary.adverse_selection + summary.fees + summary.liquidation
    )


@njit(cache=True)
def _close(venue, state, summary):
    """Liquidate and split the accounts by source."""
    maker = state.maker[0]
    position, cost2, left = liquidate(venue, state)
    unit = venue.price_unit
    summary.terminal_inventory = position / venue.order_size
    summary.unliquidated = left / venue.order_size
    summary.fills = maker.fills
    summary.turnover = maker.lots / venue.order_size
    summary.spread = 0.5 * unit * maker.edge2
    summary.adverse_selection = 0.5 * unit * maker.markout2
    summary.markout = 0.5 * maker.markout2 / maker.markout_lots if maker.markout_lots > 0 else np.nan
    summary.fees = -unit * (venue.maker_fee * maker.maker_notional + venue.taker_fee * maker.taker_notional)
    summary.liquidation = 0.5 * unit * cost2
    summary.rejected = maker.rejected
    summary.markout_lost = maker.markout_lost


@njit(cache=True, nogil=True)
def _run_block(venue, flow, state, quoter, baseline, exploration, seed, first, record, first_row, summaries):
    """Paths `first`, `first + 1`, ... into `summaries`; into `record` from `first_row` on unless that is -1."""
    for k in range(summaries.size):
        row = first_row + k if first_row >= 0 else -1
        _run_path(
            venue, flow, state, quoter, baseline, exploration, seed, first + k, record, row, summaries[k]
        )


def allocate_rollout(paths: int, decisions: int) -> Rollout:
    """Buffers for `paths` episodes; with paths = 0 the empty record of an evaluation."""
    shape = (paths, decisions)
    return Rollout(
        observation=np.zeros((*shape, SIZE), np.float32),
        mean=np.zeros((*shape, 2), np.float32),
        action=np.zeros((*shape, 2), np.float32),
        reward=np.zeros(shape, np.float32),
        inventory=np.zeros((paths, decisions + 1), np.float32),
        filled=np.zeros((*shape, 2), np.float32),
        distance=np.zeros((*shape, 2), np.float32),
        mid=np.zeros((paths, decisions + 1), np.float64),
        start=np.zeros(paths, np.int64),
    )


def run_paths(
    venue: Venue,
    flow: PoissonFlow,
    memory: tuple[int, int],
    quoter: Quoter,
    baseline: np.ndarray,
    exploration: Exploration,
    *,
    paths: int,
    seed: int,
    threads: int | None = None,
    record: Rollout | None = None,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Run `paths` episodes over threads; the result does not depend on their number. Returns SUMMARY (paths,).

    `memory` is (window ticks, capacity in orders) of the book that each thread keeps. Raises InputError when a book
    had no room for an order, or a markout horizon held more fills than the ring: nothing is dropped unsaid.
    """
    summaries = np.zeros(paths, SUMMARY)
    buffers = allocate_rollout(0, 0) if record is None else record
    idle: list[PathState] = []

    def run(first: int, last: int) -> None:
        state = idle.pop() if idle else allocate_path(*memory)
        row = -1 if record is None else first
        _run_block(
            venue, flow, state, quoter, baseline, exploration, seed, first, buffers, row, summaries[first:last]
        )
        idle.append(state)

    for_each_block(run, paths, threads, block=min(64, max(1, paths // 8)), progress=progress)
    full = sum(int(state.flow.refused[0]) for state in idle)
    require(full == 0, "market.venue.capacity", memory[1], f"larger: the book was full for {full} orders")
    lost = int(summaries["markout_lost"].sum())
    require(lost == 0, "market.venue.markout", venue.markout, f"shorter: {lost} fills had no room for their markout")
    return summaries
