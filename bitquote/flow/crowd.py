"""The crowd: every flow model at work in one book, as rates that add up and a draw among them.

A model that a market does not name has a rate of zero and costs next to nothing. Events come one at a time:
`total_rate` says how fast, `flow_event` draws which. What goes by the clock (price moves, slices of metaorders, bursts)
happens in `price_step`, at regular times.
"""

import math
from typing import NamedTuple

import numpy as np

from bitquote.book.matching import live_count
from bitquote.compilation import inlined, kernel, merged
from bitquote.flow.cascade import Cascade, liquidation, trigger
from bitquote.flow.hawkes import Hawkes, begin_excitation, decay_to, excite, excited_kind
from bitquote.flow.informed import informed_trade
from bitquote.flow.metaorder import Metaorders, begin_parent, send_slice
from bitquote.flow.momentum import Momentum, follow_trend, momentum_trade
from bitquote.flow.orders import cancel_any, cancel_of_side, pull_stale, take, take_called
from bitquote.flow.poisson import PoissonFlow, diffuse, fill_book, market_size, place_limit, place_limit_called
from bitquote.flow.queue_reactive import QueueReactive, fill_queues, follow_mid, queue_event, queue_rate
from bitquote.flow.random import next_word, uniform
from bitquote.flow.regime import Regime, carry_price
from bitquote.flow.state import (
    BACKGROUND,
    CANCEL_ASK,
    CANCEL_BID,
    LIMIT_ASK,
    LIMIT_BID,
    MARKET_ASK,
    MARKET_BID,
    QUANTILES,
)
from bitquote.flow.stuffing import Stuffing, begin_burst, stuff, unstuff
from bitquote.flow.wash import Wash, wash_trade

NO_KIND, RARER = -1, -2


class Crowd(NamedTuple):
    """Parameters of all models."""

    poisson: PoissonFlow
    hawkes: Hawkes
    queues: QueueReactive
    momentum: Momentum
    metaorders: Metaorders
    regime: Regime
    cascade: Cascade
    stuffing: Stuffing
    wash: Wash
    by_the_clock: bool  # whether a model acts, or changes its rate, at regular times


@merged
def begin_flow(crowd, state, book, time):
    """Start a path at `time` (s, negative: the warm-up): seed the book, forget what went before."""
    now = state.now[0]
    refused = now.refused  # of all paths
    state.now[:] = np.zeros_like(state.now)
    now.refused = refused
    now.efficient = crowd.poisson.price
    now.low = crowd.poisson.price
    now.burst_end = -np.inf
    begin_excitation(crowd.hawkes, state, time)
    fill_book(crowd.poisson, state, book)
    fill_queues(crowd.queues, state, book)


@inlined
def constant_rate(crowd):
    """Events per second of the models whose rate never changes."""
    poisson = crowd.poisson
    return (
        2.0 * (poisson.limit_rate + poisson.stale_cancel_rate)
        + poisson.market_rate_bid
        + poisson.market_rate_ask
        + poisson.informed_rate
        + crowd.momentum.rate
        + crowd.wash.rate
    )


@inlined
def total_rate(crowd, state, book, rate):
    """Events per second as things stand, an upper bound until the next event; `rate` is `constant_rate(crowd)`."""
    now = state.now[0]
    total = rate + crowd.poisson.cancel_rate * live_count(book) + now.other_rate + now.excited
    if crowd.queues.market.size > 0:
        total += queue_rate(crowd.queues, state, book)
    return total


@merged
def _other_rates(crowd, state):
    """Events per second of the models whose rate depends on their own state, except Hawkes and queues."""
    now = state.now[0]
    rate = abs(now.move_rate) + now.stuffed / crowd.stuffing.life
    if now.backlog >= 1.0:
        rate += crowd.cascade.rate
    return rate


@inlined
def price_step(crowd, state, book, time, seconds):
    """What goes by the clock, at the end (s) of a step of `seconds`. The book's trades are those of a metaorder."""
    diffuse(crowd.poisson, state, seconds)
    if crowd.by_the_clock:
        _clock_step(crowd, state, book, time, seconds)


@kernel
def _clock_step(crowd, state, book, time, seconds):
    """The models that act, or change their rates, by the clock."""
    now = state.now[0]
    if crowd.regime.start.size > 0:
        carry_price(crowd.regime, state, time, seconds)
    if crowd.momentum.rate > 0.0:
        follow_trend(crowd.momentum, state, book, seconds)
    if crowd.stuffing.rate > 0.0:
        begin_burst(crowd.stuffing, state, time, seconds)
    if crowd.metaorders.size > 0:
        begin_parent(crowd.metaorders, state, book, time, seconds)
        send_slice(crowd.metaorders, state, book, time, np.int64(time * 1e9))
    if crowd.cascade.density > 0.0:
        trigger(crowd.cascade, state)
    rate = _other_rates(crowd, state)
    if time < now.burst_end:
        rate += crowd.stuffing.orders
    now.other_rate = rate


@inlined
def flow_event(crowd, state, book, time, total):
    """Draw and apply one event at `time` (s); `total` is the `total_rate` that it came at."""
    poisson = crowd.poisson
    stamp = np.int64(time * 1e9)
    if crowd.hawkes.decay.size > 0:
        decay_to(crowd.hawkes, state, time)
    pick = uniform(state.generator) * total
    word = next_word(state.generator)
    kind = _background_event(crowd, state, book, stamp, pick, word)
    if kind == RARER:
        kind = _rarer_event(crowd, state, book, stamp, time, pick - _background_rate(poisson, book), word)
    if crowd.hawkes.decay.size > 0 and kind >= 0:
        excite(crowd.hawkes, state, kind)


@inlined
def _background_rate(poisson, book):
    """Events per second of zero intelligence and informed traders."""
    return (
        2.0 * (poisson.limit_rate + poisson.stale_cancel_rate)
        + poisson.market_rate_bid
        + poisson.market_rate_ask
        + poisson.informed_rate
        + poisson.cancel_rate * live_count(book)
    )


@inlined
def _background_event(crowd, state, book, stamp, pick, word):
    """Apply the event of zero intelligence or of an informed trader that `pick` names.

    Returns its kind if it is one of the six that excite, NO_KIND if it is not, RARER if `pick` lies above all their
    rates.
    """
    poisson = crowd.poisson
    if pick < 2.0 * poisson.limit_rate:
        side = 1 if pick < poisson.limit_rate else -1
        place_limit(poisson, state, book, stamp, side, word)
        return LIMIT_BID if side > 0 else LIMIT_ASK
    pick -= 2.0 * poisson.limit_rate
    market_rate = poisson.market_rate_bid + poisson.market_rate_ask
    if pick < market_rate:
        side = -1 if pick < poisson.market_rate_bid else 1
        take(book, stamp, side, market_size(poisson, word), poisson.market_reach, BACKGROUND)
        return MARKET_BID if side < 0 else MARKET_ASK
    pick -= market_rate
    if pick < 2.0 * poisson.stale_cancel_rate:
        pull_stale(state, book, 1 if pick < poisson.stale_cancel_rate else -1)
        return NO_KIND
    pick -= 2.0 * poisson.stale_cancel_rate
    if pick < poisson.informed_rate:
        kind = informed_trade(book, stamp, state.now[0].efficient, market_size(poisson, word), BACKGROUND)
        return kind if crowd.hawkes.informed else NO_KIND
    if pick - poisson.informed_rate < poisson.cancel_rate * live_count(book):
        side = cancel_any(book, word)
        if side != 0:
            return CANCEL_BID if side > 0 else CANCEL_ASK
        return NO_KIND
    return RARER


@kernel
def _rarer_event(crowd, state, book, stamp, time, pick, word):
    """Apply the event of all other models that `pick` names; its kind if excitation set it off, else NO_KIND."""
    now = state.now[0]
    poisson = crowd.poisson
    if pick < crowd.momentum.rate:
        momentum_trade(crowd.momentum, state, book, stamp, market_size(poisson, word), poisson.market_reach)
        return NO_KIND
    pick -= crowd.momentum.rate
    if pick < crowd.wash.rate:
        wash_trade(crowd.wash, book, stamp, pick / crowd.wash.rate, word)
        return NO_KIND
    pick -= crowd.wash.rate
    if pick < now.other_rate:
        _clockwork_event(crowd, state, book, stamp, time, pick, word)
        return NO_KIND
    pick -= now.other_rate
    if crowd.queues.market.size > 0:
        total = state.rates[state.rates.size - 1]
        if pick < total:
            queue_event(crowd.queues, state, book, stamp, pick)
            follow_mid(crowd.queues, state, book, word)
            return NO_KIND
        pick -= total
    kind = excited_kind(crowd.hawkes, state, pick)
    _excited_event(crowd, state, book, stamp, kind, word)
    return kind


@merged
def _excited_event(crowd, state, book, stamp, kind, word):
    """One more event of a kind of the Poisson flow; NO_KIND, a point that thinning removes, is none."""
    poisson = crowd.poisson
    if kind in (LIMIT_BID, LIMIT_ASK):
        place_limit_called(poisson, state, book, stamp, 1 if kind == LIMIT_BID else -1, word)
    elif kind in (MARKET_BID, MARKET_ASK):
        side = -1 if kind == MARKET_BID else 1
        take_called(book, stamp, side, market_size(poisson, word), poisson.market_reach, BACKGROUND)
    elif kind in (CANCEL_BID, CANCEL_ASK):
        cancel_of_side(book, 1 if kind == CANCEL_BID else -1, word)


@merged
def _clockwork_event(crowd, state, book, stamp, time, pick, word):
    """One event of the models that `price_step` has set going."""
    now = state.now[0]
    poisson = crowd.poisson
    if pick < abs(now.move_rate):
        side = 1 if now.move_rate > 0.0 else -1
        take_called(book, stamp, side, market_size(poisson, word), poisson.market_reach, BACKGROUND)
        return
    pick -= abs(now.move_rate)
    if now.backlog >= 1.0:
        if pick < crowd.cascade.rate:
            liquidation(crowd.cascade, state, book, stamp, poisson.market_reach)
            if now.backlog < 1.0:
                now.other_rate -= crowd.cascade.rate
            return
        pick -= crowd.cascade.rate
    withdrawals = now.stuffed / crowd.stuffing.life
    if pick < withdrawals:
        unstuff(state, book, word)
        now.other_rate -= 1.0 / crowd.stuffing.life
    elif time < now.burst_end:
        before = now.stuffed
        stuff(crowd.stuffing, state, book, stamp)
        now.other_rate += (now.stuffed - before) / crowd.stuffing.life


def without_extras(poisson: PoissonFlow) -> Crowd:
    """A crowd of zero intelligence and informed traders alone."""
    nothing, none = np.zeros(0), np.zeros(1, np.int64)
    return Crowd(
        poisson=poisson,
        hawkes=Hawkes(nothing, np.zeros((0, 6, 6)), np.zeros((0, 6))),
        queues=QueueReactive(1, 0.0, np.zeros((0, 0)), np.zeros((0, 0)), nothing, np.zeros(0, np.int64)),
        momentum=Momentum(0.0, 1.0, 0.0),
        metaorders=Metaorders(0, 1, 1.0, math.inf, 0.0, 0, 0.0, 0),
        regime=Regime(nothing, nothing, nothing, nothing),
        cascade=Cascade(0.0, 0.0, 0.0, 0.0, 0.0, 1),
        stuffing=Stuffing(0.0, 0.0, 0.0, 1.0, 0, 0, 0.0),
        wash=Wash(0.0, np.resize(none, QUANTILES), 0.5),
        by_the_clock=False,
    )
