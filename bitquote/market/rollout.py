"""The rollout of the order-book market: book, flow, quoter, accounts and buffer writes in one compiled loop.

Training, benchmark and deployment call this kernel. A quoter is a table, or a compiled function
`(observation, *arguments) -> (half_spread, skew)` that is passed as a pointer with its arguments: the kernel is
compiled once for all of them, and Python is entered once a block of paths.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit

from bitquote.book.matching import NO_PRICE
from bitquote.compilation import merged
from bitquote.errors import require
from bitquote.flow.crowd import Crowd
from bitquote.flow.random import normal, seed_generator, uniform
from bitquote.market.accounts import liquidate, wealth, withdraw_all
from bitquote.market.action import distances, quote_prices, size_of
from bitquote.market.clock import quote_delay, send_quotes
from bitquote.market.observation import SIZE, look, look_up, observe
from bitquote.market.path import POLICY_STREAM, check_room, market_kernels, rekey, start_path, state_for
from bitquote.market.simulation import Rollout, for_each_block
from bitquote.market.venue import Venue

SUMMARY = np.dtype(
    [
        (name, np.float64)
        for name in (
            "profit", "penalty", "terminal_inventory", "fills", "turnover", "max_drawdown", "mean_spread",
            "spread", "adverse_selection", "inventory", "fees", "liquidation",
            "markout", "unliquidated", "rejected", "events", "markout_lost",
            "quoted_spread", "effective_spread", "depth", "two_sided", "realised_volatility", "volume",
            "metaorders", "metaorder_lots", "metaorder_cost",
        )
    ]
)  # fmt: skip
"""What a path is summed up in, for each maker; from `quoted_spread` on, the market that all of them share.

Money in price x order size; `mean_spread` and `markout` (of a maker) and `quoted_spread` and `effective_spread` (of
the market: time-weighted, and volume-weighted twice the distance of trades from the mid) in ticks; `depth` lots at the
two best prices; `two_sided` share of the time with a bid and an ask; `realised_volatility` ticks per square root of a
second, over the steps of the clock; `volume` and `metaorder_lots` lots; `metaorder_cost` ticks a lot above the mid at
the arrival of the metaorder.
"""
TALLY = np.dtype(
    [(name, np.float64) for name in ("first", "wealth", "peak", "squared", "spread_sum", "spreads")]
)  # of one maker, in price x order size, lots^2 s and ticks


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
def wanted(venue, quoter, observation, step):
    """(half-spread, skew, bid, ask, lots) that a quoter asks for; distances from the mid in ticks."""
    table, function, arguments = quoter
    if table.shape[1] > 0:
        bid, ask = look_up(table, step, observation[0])
        return 0.5 * (bid + ask), 0.5 * (bid - ask), bid, ask, venue.order_size
    action = function(observation, *arguments)
    bid, ask = distances(action[0], action[1], venue.no_quote)
    return action[0], action[1], bid, ask, size_of(action, venue.order_size)


@merged
def quote(venue, flow, state, n, bid, ask, size, dither, prices):
    """Send a ladder of `size` lots a level that begins at these distances from the mid of maker `n` (ticks).

    `dither` is that of the rounding to ticks, below 0 for none. `prices` (int64[2]) receives those of the best level,
    NO_PRICE for what is not quoted, as where a fill would pass the position limit.
    """
    quote_prices(state, n, bid, ask, dither, prices)
    for i in range(2):
        if size <= 0 or (1 - 2 * i) * state.maker[n].position + size > venue.max_position:
            prices[i] = NO_PRICE
    send_quotes(venue, state, n, prices, size, quote_delay(flow, state))


@merged
def ask_one(venue, flow, state, n, quoter, baseline, step, shift, dither, decides, observation, prices):
    """Ask maker `n` and `quote`; returns the (half-spread, skew) that it asked for, in ticks, less the noise `shift`.

    `decides` says whether this is a decision of its own, at which the statistics that are observed move on.
    """
    if decides:
        observe(venue, state, n, step, baseline, observation)
    else:
        look(venue, state, n, step, baseline, observation)
    half_spread, skew, bid, ask, size = wanted(venue, quoter, observation, step)
    if shift[0] != 0.0 or shift[1] != 0.0:
        bid, ask = distances(half_spread + shift[0], skew + shift[1], venue.no_quote)
    quote(venue, flow, state, n, bid, ask, size, dither, prices)
    return half_spread, skew


@njit(cache=True)
def ask_all(venue, flow, state, quoters, baseline, step, shifts, decides):
    """Ask every maker, with the exploration noise `shifts` (makers, 2) of its last decision."""
    observation = np.empty(SIZE, np.float64)
    prices = np.empty(2, np.int64)
    for n in range(len(quoters)):
        ask_one(venue, flow, state, n, quoters[n], baseline, step, shifts[n], -1.0, decides, observation, prices)
    state.public[0].asked = state.maker[0].clock
    state.public[0].wake = np.inf


@merged
def _explore(exploration, is_table, generator, shift):
    """Draw a decision's noise into `shift`, for a table none; returns that of the rounding, -1 for none."""
    if exploration.half_spread > 0.0 and not is_table:
        shift[0] = exploration.half_spread * normal(generator)
    if exploration.skew > 0.0 and not is_table:
        shift[1] = exploration.skew * normal(generator)
    return uniform(generator) if exploration.dither else -1.0


@merged
def _record_outcome(venue, state, record, row, step, reward, prices, mid2, held):
    order = float(venue.order_size)
    maker = state.maker[0]
    record.reward[row, step] = reward
    record.inventory[row, step + 1] = held / order
    record.mid[row, step + 1] = 0.5 * maker.mid2
    for i in range(2):
        side = 1 - 2 * i
        filled = 0
        for level in range(state.quotes.shape[2]):
            filled += state.quotes[0, i, level].filled
        record.filled[row, step, i] = filled / order
        record.distance[row, step, i] = np.inf if prices[i] == NO_PRICE else side * (0.5 * mid2 - prices[i])


@merged
def _run_path(kernels, venue, flow, state, quoters, baseline, exploration, seed, path, record, row, summaries):
    """One episode into `summaries` (makers,); `row` is the first maker's row in `record`, or -1 for none."""
    start_path(kernels, venue, flow, state, seed, path, exploration.start_inventory)
    makers = len(quoters)
    generator = np.empty(2, np.uint64)
    observation = np.empty(SIZE, np.float64)
    prices = np.empty(2, np.int64)
    first_prices = np.empty(2, np.int64)
    shifts = np.zeros((makers, 2))
    tallies = np.zeros(makers, TALLY)
    for n in range(makers):
        tallies[n].first = tallies[n].wealth = tallies[n].peak = wealth(venue, state.maker[n])
    maker = state.maker[0]
    if row >= 0:
        record.inventory[row, 0] = maker.position / venue.order_size
        record.mid[row, 0] = 0.5 * maker.mid2
        record.start[row] = 0
    for step in range(venue.decisions):
        rekey(state, seed, path, step)
        state.public[0].asked = maker.clock
        state.public[0].wake = np.inf
        state.public[0].turn = (step + path) % makers
        for n in range(makers):
            seed_generator(generator, seed, path, step + 1, POLICY_STREAM + 16 * n)
            for i in range(2):
                for level in range(state.quotes.shape[2]):
                    state.quotes[n, i, level].filled = 0
            quoter = quoters[n]
            is_table = quoter.table.shape[1] > 0
            dither = _explore(exploration, is_table, generator, shifts[n]) if n == 0 else -1.0
            half_spread, skew = ask_one(
                venue, flow, state, n, quoter, baseline, step, shifts[n], dither, True, observation, prices
            )
            if prices[0] != NO_PRICE and prices[1] != NO_PRICE:
                tallies[n].spread_sum += prices[1] - prices[0]
                tallies[n].spreads += 1
            if n == 0 and row >= 0:
                record.action[row, step, 0] = half_spread + shifts[n, 0]
                record.action[row, step, 1] = skew + shifts[n, 1]
                if not is_table:
                    record.observation[row, step] = observation
                    record.mean[row, step, 0] = half_spread
                    record.mean[row, step, 1] = skew
            if n == 0:
                first_prices[:] = prices
        mid2 = maker.mid2
        until = (step + 1) * venue.decision_interval
        while True:
            summaries[0].events += kernels.advance(venue, flow, state, until)
            if maker.clock >= until:
                break
            ask_all(venue, flow, state, quoters, baseline, step, shifts, False)
        held = maker.position  # at the horizon, what is left to liquidate
        if step == venue.decisions - 1:
            _sum_up_market(venue, state, summaries)
            withdraw_all(state)
            for k in range(makers):
                n = (state.public[0].turn + k) % makers
                position, cost2, left = liquidate(venue, state, n)
                split_accounts(venue, state.maker[n], position, cost2, left, summaries[n])
        for n in range(makers):
            reward = tally_decision(venue, state.maker[n], tallies[n], summaries[n])
            if row >= 0 and n == 0:
                _record_outcome(venue, state, record, row, step, reward, first_prices, mid2, held)
    for n in range(makers):
        sum_up(venue, state.maker[n], tallies[n], summaries[n])


@merged
def tally_decision(venue, maker, tally, summary):
    """The reward of a maker's last decision, and its drawdown so far."""
    now = wealth(venue, maker)
    unit = 1.0 / (float(venue.order_size) * float(venue.order_size))
    reward = now - tally.wealth - venue.penalty * unit * (maker.squared - tally.squared)
    tally.squared = maker.squared
    tally.wealth = now
    tally.peak = max(tally.peak, now)
    summary.max_drawdown = max(summary.max_drawdown, tally.peak - now)
    return reward


@merged
def sum_up(venue, maker, tally, summary):
    """What a maker's episode came to."""
    unit = 1.0 / (float(venue.order_size) * float(venue.order_size))
    summary.profit = tally.wealth - tally.first
    summary.penalty = venue.penalty * unit * maker.squared
    summary.mean_spread = tally.spread_sum / tally.spreads if tally.spreads > 0 else np.nan
    # The remainder of the mark-to-market, so that the attribution adds up to the profit.
    summary.inventory = summary.profit - (
        summary.spread + summary.adverse_selection + summary.fees + summary.liquidation
    )


@merged
def _sum_up_market(venue, state, summaries):
    """What the market was like for everybody, before the makers leave it."""
    public = state.public[0]
    flow = state.flow.now[0]
    seconds = venue.decisions * venue.decision_interval
    two_sided = public.two_sided_time > 0.0
    for n in range(summaries.size):
        summary = summaries[n]
        summary.quoted_spread = public.spread_time / public.two_sided_time if two_sided else np.nan
        summary.depth = public.depth_time / public.two_sided_time if two_sided else np.nan
        summary.two_sided = public.two_sided_time / seconds
        summary.effective_spread = public.effective2 / public.effective_lots if public.effective_lots > 0 else np.nan
        summary.realised_volatility = 0.5 * np.sqrt(public.squared_moves / seconds)
        summary.volume = public.lots
        summary.metaorders = flow.parents
        summary.metaorder_lots = flow.parent_filled
        summary.metaorder_cost = 0.5 * flow.parent_cost2 / flow.parent_filled if flow.parent_filled > 0 else np.nan


@njit(cache=True)
def split_accounts(venue, maker, position, cost2, left, summary):
    """Split a maker's accounts by source; it held `position` before it sold at `cost2`, but for `left` lots."""
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
def _run_block(kernels, venue, flow, state, quoters, baseline, exploration, seed, first, record, first_row, summaries):
    """Paths `first`, `first + 1`, ... into `summaries`; into `record` from `first_row` on unless that is -1."""
    for k in range(summaries.shape[0]):
        row = first_row + k if first_row >= 0 else -1
        _run_path(
            kernels, venue, flow, state, quoters, baseline, exploration, seed, first + k, record, row, summaries[k]
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
    flow: Crowd,
    memory: tuple[int, int],
    quoters: tuple[Quoter, ...],
    baseline: np.ndarray,
    exploration: Exploration,
    *,
    paths: int,
    seed: int,
    first: int = 0,
    threads: int | None = None,
    record: Rollout | None = None,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Run `paths` episodes over threads; the result does not depend on their number. Returns SUMMARY (paths, makers).

    Random numbers are keyed by the path's number, from `first` on. `memory` is (window ticks, capacity in orders) of
    the book that each thread keeps. `exploration` and `record` are the first quoter's. Raises InputError when a book
    had no room for an order, or a markout horizon held more fills than the ring: nothing is dropped unsaid.
    """
    summaries = np.zeros((paths, len(quoters)), SUMMARY)
    buffers = allocate_rollout(0, 0) if record is None else record
    idle = [state_for(venue, flow, memory, len(quoters))]
    kernels = market_kernels(venue, flow, idle[0])

    def run(begin: int, end: int) -> None:
        state = idle.pop() if idle else state_for(venue, flow, memory, len(quoters))
        row = -1 if record is None else begin
        _run_block(
            kernels, venue, flow, state, quoters, baseline, exploration, seed, first + begin, buffers, row,
            summaries[begin:end],
        )  # fmt: skip
        idle.append(state)

    for_each_block(run, paths, threads, block=min(64, max(4, paths // 32)), progress=progress)
    check_room(idle, memory[1])
    lost = int(summaries["markout_lost"].sum())
    require(lost == 0, "market.venue.markout", venue.markout, f"shorter: {lost} fills had no room for their markout")
    return summaries
