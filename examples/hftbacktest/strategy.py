"""The loop that lets a policy's unchanged kernel quote inside hftbacktest.

Every decision is the simulator's own code: `observe`, the policy's kernel, `distances`, `quote_prices`, `send_quotes`.
Only what they read is of another origin: the book is a mirror of the feed (`mirror.py`), and the statistics that the
simulator keeps between decisions are kept from the feed. What then happens to an order is up to hftbacktest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hftbacktest import BUY_EVENT, GTC, GTX, LIMIT, MARKET
from hftbacktest.order import CANCELED, EXPIRED, FILLED, NEW
from hftbacktest.order import NONE as NO_REQUEST
from mirror import OWN, Scale, best_tick, mirror, quantity_at
from numba import njit

from bitquote.book.matching import NO_PRICE
from bitquote.market.accounts import await_markout, settle_markouts
from bitquote.market.action import distances, quote_prices
from bitquote.market.clock import send_quotes
from bitquote.market.observation import SIZE, observe
from bitquote.market.venue import CANCEL, NOTHING, REPLACE, PathState, Venue, allocate_path

END_OF_DATA, GOT_FEED, GOT_RESPONSE = 1, 2, 3  # what hftbacktest's wait_next_feed returns, besides 0 for its timeout
_BOUGHT = np.uint64(BUY_EVENT)
_MIDS = 4096  # latest changes of the mid that are remembered
_DEEPEST = 100_000  # exchange ticks that a liquidation could walk
_ORDERS = 256  # that the mirrored book has room for

FILL = np.dtype(
    [
        ("episode", np.int64),
        ("time", np.int64),  # at the exchange, ns
        ("side", np.int64),  # +1 bought
        ("price", np.float64),
        ("quantity", np.float64),  # base units
        ("maker", np.bool_),
    ]
)
DECISION = np.dtype(
    [
        ("time", np.int64),  # ns
        ("half_spread", np.float64),  # what the kernel returned, ticks of the market
        ("skew", np.float64),
        ("bid", np.int64),  # ticks of the market, NO_PRICE for none
        ("ask", np.int64),
        ("observation", np.float64, (SIZE,)),
    ]
)
EPISODE = np.dtype(
    [
        ("start", np.int64),  # ns
        ("horizon", np.int64),  # the last moment of quoting
        ("end", np.int64),  # all is sold or covered
        ("position", np.int64),  # lots at the horizon
        ("balance", np.float64),  # hftbacktest's accounts at the end, quote currency
        ("fee", np.float64),
        ("rejected", np.int64),  # own messages that the exchange refused
        ("walk", np.float64),  # what the liquidation would cost more through the book that we saw, quote currency
    ]
)


class Rules(NamedTuple):
    """What does not change during a replay."""

    venue: Venue  # of the market that the policy was trained in
    baseline: np.ndarray  # float64 (2, decisions, 2Q+1), what the market's observations carry
    scale: Scale


class Memory(NamedTuple):
    """What does. A fill is reported late, and its mid is the one before it: hence the latest mids."""

    path: PathState  # the simulator's: mirrored book, accounts, quotes
    own: np.ndarray  # OWN[2]: bid, ask
    mid_time: np.ndarray  # int64 ns, a ring of the changes of the mid as we saw them
    mid2: np.ndarray  # int64 half ticks
    counts: np.ndarray  # int64[3]: start of the episode (ns), last order id, changes of the mid
    decisions: np.ndarray  # DECISION (episodes, decisions)
    episodes: np.ndarray  # EPISODE (episodes,)
    fills: np.ndarray  # FILL (room,)
    done: np.ndarray  # int64[2]: whole episodes, fills


_ORIGIN, _ORDER_ID, _CHANGES = 0, 1, 2
_EPISODES, _FILLS = 0, 1


def allocate(window: int, episodes: int, decisions: int) -> Memory:
    """With room for every fill that can be: two a decision, and the liquidation."""
    return Memory(
        path=allocate_path(window, _ORDERS),
        own=np.zeros(2, OWN),
        mid_time=np.zeros(_MIDS, np.int64),
        mid2=np.zeros(_MIDS, np.int64),
        counts=np.zeros(3, np.int64),
        decisions=np.zeros((episodes, decisions), DECISION),
        episodes=np.zeros(episodes, EPISODE),
        fills=np.zeros(episodes * (2 * decisions + 3), FILL),
        done=np.zeros(2, np.int64),
    )


@njit
def replay(hbt: Any, kernel: Any, arguments: tuple, rules: Rules, memory: Memory, warm_up: int) -> int:
    """Quote in one episode after the other until the data or the memory's room ends; hftbacktest's last code.

    Args:
        hbt: A HashMapMarketDepthBacktest of one asset, not yet begun.
        kernel, arguments: The policy's: `kernel(observation, *arguments) -> (half_spread, skew)` in market ticks.
        rules, memory: See there; what is wanted is in the memory's last fields afterwards.
        warm_up: ns after the first event at which the first episode begins.
    """
    venue, path = rules.venue, memory.path
    observation = np.empty(SIZE, np.float64)
    prices = np.empty(2, np.int64)
    interval = np.int64(np.rint(venue.decision_interval * 1e9))
    code = hbt.elapse(warm_up)
    while code == 0 and memory.done[_EPISODES] < memory.episodes.size:
        _begin(hbt, rules, memory)
        origin = hbt.current_timestamp
        for step in range(venue.decisions):
            _count_trades(hbt, rules, memory)
            mirror(venue, path, hbt.depth(0), memory.own, rules.scale)
            observe(venue, path, 0, step, rules.baseline, observation)
            half_spread, skew = kernel(observation, *arguments)
            bid, ask = distances(half_spread, skew, venue.no_quote)
            quote_prices(path, 0, bid, ask, -1.0, prices)
            send_quotes(venue, path, 0, prices, venue.order_size, 0.0)
            decision = memory.decisions[memory.done[_EPISODES], step]
            decision.time = hbt.current_timestamp
            decision.half_spread, decision.skew = half_spread, skew
            decision.bid, decision.ask = prices[0], prices[1]
            decision.observation[:] = observation
            _transmit(hbt, rules, memory)
            code = _follow(hbt, rules, memory, origin + (step + 1) * interval)
            if code != 0:
                return code
        code = _end(hbt, rules, memory)
    return code


@njit
def _begin(hbt: Any, rules: Rules, memory: Memory) -> None:
    """Fresh accounts; every statistic starts from nothing, as in the simulator."""
    path = memory.path
    path.maker[:] = np.zeros_like(path.maker)
    for i in range(2):
        quote = path.quotes[0, i, 0]
        quote.slot = -1
        quote.price = NO_PRICE
        quote.since = 0.0
        quote.filled = 0
        quote.size = rules.venue.order_size  # an order of this size keeps its place
        quote.pending = NOTHING
        memory.own[i].order_id = 0
    hbt.clear_last_trades(0)
    hbt.clear_inactive_orders(0)
    memory.counts[_ORIGIN] = hbt.current_timestamp
    memory.counts[_CHANGES] = 0
    memory.episodes[memory.done[_EPISODES]].start = hbt.current_timestamp
    _watch_mid(hbt, rules, memory)
    path.maker[0].decision_mid2 = path.maker[0].mid2


# ---- what is kept between decisions


@njit
def _follow(hbt: Any, rules: Rules, memory: Memory, until: int) -> int:
    """Watch the feed up to a time (ns); 0, or hftbacktest's code for the end of the data or an error."""
    while hbt.current_timestamp < until:
        code = hbt.wait_next_feed(True, until - hbt.current_timestamp)
        if code != 0 and code != GOT_FEED and code != GOT_RESPONSE:
            return code
        if code == GOT_RESPONSE:
            _learn(hbt, rules, memory)
        _watch_mid(hbt, rules, memory)
    _learn(hbt, rules, memory)
    return 0


@njit
def _watch_mid(hbt: Any, rules: Rules, memory: Memory) -> None:
    """Let the mid follow the feed, and settle the markouts that are due."""
    depth, fine = hbt.depth(0), rules.scale.fine
    maker = memory.path.maker[0]
    now = hbt.current_timestamp
    maker.clock = (now - memory.counts[_ORIGIN]) * 1e-9
    settle_markouts(memory.path, 0, maker.clock)
    mid2 = best_tick(depth, 1, fine) + best_tick(depth, -1, fine)
    if mid2 != maker.mid2:
        at = memory.counts[_CHANGES] % _MIDS
        memory.mid_time[at], memory.mid2[at] = now, mid2
        memory.counts[_CHANGES] += 1
    maker.mid2 = mid2


@njit
def _mid2_before(memory: Memory, time: int) -> int:
    """The mid that we saw last before `time`."""
    change = memory.counts[_CHANGES] - 1
    oldest = max(change + 1 - _MIDS, 0)
    while change > oldest and memory.mid_time[change % _MIDS] >= time:
        change -= 1
    return memory.mid2[change % _MIDS]


@njit
def _count_trades(hbt: Any, rules: Rules, memory: Memory) -> None:
    """Add up the trades since the last decision, and move our orders forward in their queues.

    The place in a queue is an estimate for the observation alone: trades at our price come off the front, and what is
    ahead cannot be more than what is there. hftbacktest keeps its own, which it does not show.
    """
    scale, own = rules.scale, memory.own
    maker, quotes = memory.path.maker[0], memory.path.quotes[0]
    for trade in hbt.last_trades(0):
        aggressor = 1 if trade.ev & _BOUGHT else -1
        maker.net_volume += aggressor * np.int64(np.rint(trade.qty / scale.lot))
        maker.trades += 1
        i = 0 if aggressor < 0 else 1
        if np.int64(np.rint(trade.px / scale.tick)) == quotes[i, 0].price * scale.fine:
            own[i].ahead = max(own[i].ahead - trade.qty, 0.0)
    hbt.clear_last_trades(0)
    for i in range(2):
        if own[i].order_id != 0:
            beside = quantity_at(hbt.depth(0), 1 - 2 * i, quotes[i, 0].price * scale.fine)
            own[i].ahead = min(own[i].ahead, beside)


@njit
def _learn(hbt: Any, rules: Rules, memory: Memory) -> None:
    """Take in what the exchange has answered. Without partial fills an order has one fill, which its state holds."""
    maker, own = memory.path.maker[0], memory.own
    origin = memory.counts[_ORIGIN]
    for i in range(2):
        order = hbt.orders(0).get(own[i].order_id)
        if own[i].order_id == 0 or order is None:
            continue
        quote = memory.path.quotes[0, i, 0]
        if order.status == FILLED:
            _enter_fill(rules, memory, i, order)
            own[i].order_id = 0
        elif order.status == EXPIRED or order.status == CANCELED:
            maker.rejected += order.status == EXPIRED
            own[i].order_id = 0
        elif order.status == NEW and order.req == NO_REQUEST:
            price = order.price_tick // rules.scale.fine
            if quote.price != price or quote.since < 0.0:
                quote.price = price
                quote.since = (order.exch_timestamp - origin) * 1e-9


@njit
def _enter_fill(rules: Rules, memory: Memory, i: int, order: Any) -> None:
    """Book the fill of a quote, and wait for its markout."""
    venue = rules.venue
    maker = memory.path.maker[0]
    side = 1 - 2 * i
    maker.position += side * venue.order_size
    due = (order.exch_timestamp - memory.counts[_ORIGIN]) * 1e-9 + venue.markout
    await_markout(memory.path, 0, due, side * venue.order_size, _mid2_before(memory, order.exch_timestamp))
    _write_fill(memory, side, order, True)


@njit
def _write_fill(memory: Memory, side: int, order: Any, maker: bool) -> None:
    fill = memory.fills[memory.done[_FILLS]]
    fill.episode = memory.done[_EPISODES]
    fill.time = order.exch_timestamp
    fill.side = side
    fill.price = order.exec_price
    fill.quantity = order.exec_qty
    fill.maker = maker
    memory.done[_FILLS] += 1


# ---- orders


@njit
def _transmit(hbt: Any, rules: Rules, memory: Memory) -> None:
    """Hand the messages that `send_quotes` has prepared to hftbacktest."""
    scale, own = rules.scale, memory.own
    for i in range(2):
        quote = memory.path.quotes[0, i, 0]
        kind, price = quote.pending, quote.pending_price
        quote.pending = NOTHING
        if kind == NOTHING or (own[i].order_id != 0 and quote.slot < 0):  # or the report of a fill is under way
            continue
        if kind == CANCEL:
            hbt.cancel(0, own[i].order_id, False)
            continue
        own[i].ahead = quantity_at(hbt.depth(0), 1 - 2 * i, price * scale.fine)
        if kind == REPLACE:
            hbt.modify(0, own[i].order_id, price * scale.fine * scale.tick, scale.quantity, False)
            continue
        own[i].order_id = _next_id(memory)
        quote.price = price
        quote.since = -1.0  # until the exchange confirms it
        _submit(hbt, own[i].order_id, 1 - 2 * i, price * scale.fine * scale.tick, scale.quantity, False)


@njit
def _next_id(memory: Memory) -> int:
    memory.counts[_ORDER_ID] += 1
    return memory.counts[_ORDER_ID]


@njit
def _submit(hbt: Any, order_id: int, side: int, price: float, quantity: float, at_market: bool) -> int:
    """A post-only limit order, or a market order whose answer is waited for."""
    force, kind = (GTC, MARKET) if at_market else (GTX, LIMIT)
    if side > 0:
        return hbt.submit_buy_order(0, order_id, price, quantity, force, kind, at_market)
    return hbt.submit_sell_order(0, order_id, price, quantity, force, kind, at_market)


@njit
def _end(hbt: Any, rules: Rules, memory: Memory) -> int:
    """Withdraw the quotes, wait for the answers, sell or cover the position by a market order, and close the episode.

    Returns hftbacktest's code; the episode counts only if it is 0.
    """
    maker = memory.path.maker[0]
    episode = memory.episodes[memory.done[_EPISODES]]
    episode.horizon = hbt.current_timestamp
    episode.position = maker.position
    for i in range(2):
        if memory.own[i].order_id != 0:
            hbt.cancel(0, memory.own[i].order_id, False)
    code = _follow(hbt, rules, memory, hbt.current_timestamp + rules.scale.round_trip + 1)
    if code == 0 and maker.position != 0:
        side = -1 if maker.position > 0 else 1
        order_id = _next_id(memory)
        quantity = abs(maker.position) * rules.scale.lot
        price = hbt.depth(0).best_ask if side > 0 else hbt.depth(0).best_bid
        episode.walk = _walk(hbt.depth(0), side, quantity, rules.scale.tick)
        code = _submit(hbt, order_id, side, price, quantity, True)
        order = hbt.orders(0).get(order_id)
        if code == 0 and order is not None:
            _write_fill(memory, side, order, False)
    if code == 0:
        values = hbt.state_values(0)
        episode.end = hbt.current_timestamp
        episode.balance = values.balance
        episode.fee = values.fee
        episode.rejected = maker.rejected
        memory.done[_EPISODES] += 1
    return code


@njit
def _walk(depth: Any, side: int, quantity: float, tick: float) -> float:
    """What taking `quantity` through the book costs more than taking all of it at the best price."""
    best = depth.best_ask_tick if side > 0 else depth.best_bid_tick
    cost = 0.0
    for k in range(_DEEPEST):
        taken = min(quantity, quantity_at(depth, -side, best + side * k))
        cost += taken * k * tick
        quantity -= taken
        if quantity <= 0.0:
            break
    return cost
