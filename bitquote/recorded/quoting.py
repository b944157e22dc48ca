"""A maker quotes into a recording: the simulator's decisions, messages and accounts, with the recorded market for all
others. Nobody in it reacts to the maker: see docs/recorded.md for what that over- and underestimates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit, typeof, types

from bitquote.book.matching import NO_PRICE, BookState
from bitquote.book.order_book import LIMIT, REPLACE
from bitquote.errors import InputError, require, require_choice, require_number
from bitquote.market import OrderBookMarket, Simulation
from bitquote.market.accounts import accrue
from bitquote.market.action import quote_prices
from bitquote.market.clock import send_quotes
from bitquote.market.function_pointer import Pointer
from bitquote.market.observation import SIZE, observe
from bitquote.market.order_book import SIMULATION_FIELDS
from bitquote.market.rollout import SUMMARY, TALLY, Quoter, split_accounts, sum_up, tally_decision, wanted
from bitquote.market.venue import Venue
from bitquote.recorded.level_feed import QUEUE_MODELS, LevelFeed, play_levels
from bitquote.recorded.levels import OUTCOMES as LEVEL_OUTCOMES
from bitquote.recorded.levels import TRADE, LevelRecording, allocate_levels, apply_levels
from bitquote.recorded.order_feed import OrderFeed, play_orders
from bitquote.recorded.orders import BEST, EXECUTE, OrderRecording
from bitquote.recorded.replay import prepare
from bitquote.recorded.seat import FILL, Seat, begin, deliver, next_message, pass_time, see, sell_out, take_seat

START = 1.0  # s after the first event
_LARGEST = 2**62  # of the accounts' integers


@dataclass(frozen=True)
class Quoted:
    """What a maker's quotes in a recording came to.

    Attributes:
        simulation: One entry an episode, the fields and units of a simulated market.
        start: int64 (episodes,), ns on the recording's clock at which each begins.
        fills: FILL, every fill in time, in ticks and lots of the recording.
        rejected: int64 (episodes,), own messages that the exchange refused.
        unliquidated: float64 (episodes,), orders for which the recorded book had no counterpart, marked at the mid.
        queue_model: How a place in a queue is known: "orders", or the estimate's name.
        tick, lot: Of the recording, in price and base units.
    """

    simulation: Simulation
    start: np.ndarray
    fills: np.ndarray
    rejected: np.ndarray
    unliquidated: np.ndarray
    queue_model: str
    tick: float
    lot: float


class _Stage(NamedTuple):
    """A feed, its function, and the book that it keeps."""

    play: Pointer
    feed: OrderFeed | LevelFeed
    book: BookState


def quote_into(
    recording: OrderRecording | LevelRecording,
    market: OrderBookMarket,
    quoter: Any,
    *,
    queue_model: str = "proportional",
    latency: float | None = None,
    start: float = START,
) -> Quoted:
    """Run a maker through a recording, in as many whole episodes of the market as there is room for.

    Tick, order size, limits, fees, latencies and clock are the market's, everybody else is the recorded market. Every
    episode begins flat and with fresh statistics and ends with a liquidation at the recorded prices. The market's own
    crowd and rivals take no part. The maker sees the book in the market's ticks: a recorded bid counts for the tick at
    or below it, an ask for the tick at or above.

    Args:
        recording: What `read_bitstamp`, `read_lobster` or `read_binance_levels` gave.
        market: Its tick is a multiple of the recording's, its order one of the recording's lot.
        quoter: What `market.simulate` takes.
        queue_model: For levels, whose orders are not known: "proportional" or "conservative", see `level_feed`.
        latency: Seconds from a decision to the exchange, instead of the market's two.
        start: Seconds after the first event at which the first episode begins.

    Raises:
        InputError: the two do not fit, or the recording is too short for one episode.
    """
    require_choice("queue_model", queue_model, QUEUE_MODELS)
    of_orders = isinstance(recording, OrderRecording)
    rows, tick, path, kinds = _facts(recording)
    venue, scale = _rules(market, tick, recording.lot, path, latency)
    times = _starts(rows["time"], venue, require_number("start", start, 0.0), path)
    may_fill = np.isin(rows["kind"], kinds)
    most = max(float(rows["quantity"][may_fill].sum(dtype=np.float64)), 2.0 * venue.max_position)
    largest = float(rows["price"].max()) * most
    require(largest < _LARGEST, f"{path}: the money", f"up to {largest:g} ticks x lots", f"below {_LARGEST:g}")
    ready = market.compiled(quoter)
    room = int(may_fill.sum()) * venue.levels
    capacity = 1024
    while True:
        seat = take_seat(venue.levels, room, scale)
        stage = _order_stage(recording, capacity, venue, seat) if of_orders else _level_stage(
            recording, queue_model, venue, seat)  # fmt: skip
        summaries = None if stage is None else _run(stage, venue, seat, ready, market.baseline_features(), times, path)
        if summaries is not None:
            break
        capacity *= 2  # how many orders live at once is not known beforehand
    columns = {name: np.ascontiguousarray(summaries[name]) for name in SIMULATION_FIELDS}
    columns["mean_spread"] *= market.tick
    return Quoted(
        simulation=Simulation(**columns),
        start=times,
        fills=seat.fills[: seat.now["fills"][0]].copy(),
        rejected=summaries["rejected"].astype(np.int64),
        unliquidated=summaries["unliquidated"].copy(),
        queue_model="orders" if of_orders else queue_model,
        tick=tick,
        lot=recording.lot,
    )


def _facts(recording: OrderRecording | LevelRecording) -> tuple[np.ndarray, float, Any, tuple[int, ...]]:
    """Rows, tick and path of a recording, and the kinds of rows that may fill."""
    if isinstance(recording, OrderRecording):
        return recording.events, recording.tick, recording.path, (LIMIT, REPLACE, EXECUTE)
    if isinstance(recording, LevelRecording):
        return recording.updates, recording.recording.tick.size, recording.recording.path, (TRADE,)
    raise InputError(
        f"the recording is {type(recording).__name__}: must be what read_bitstamp, read_lobster or "
        "read_binance_levels gave"
    )


def _rules(market: OrderBookMarket, tick: float, lot: float, path: Any, latency: float | None) -> tuple[Venue, int]:
    """The market's rules in lots of the recording and money of its ticks; how many of these are in a market's."""
    if not isinstance(market, OrderBookMarket):
        raise InputError(f"the market is {type(market).__name__}: must be an order book to quote into a recording")
    venue = market.venue
    require(venue.requote == 0, "market.venue.requote", "other than never", "never: a replay asks at decisions only")
    scale = _multiple("market.venue.tick", market.tick, tick, f"of the tick {tick:g} of {path}")
    order = venue.order_size * market.lot
    lots = _multiple("market.venue.order_size x lot", order, lot, f"of the lot {lot:g} of {path}")
    venue = venue._replace(
        order_size=lots, max_position=market.game.max_inventory * lots, price_unit=tick / lots
    )
    if latency is not None:
        require_number("latency", latency, 0.0)
        require(latency < venue.decision_interval, "latency", latency,
                f"below the decision interval of {venue.decision_interval:g} s")  # fmt: skip
        venue = venue._replace(latency_new=float(latency), latency_cancel=float(latency))
    return venue, scale


def _multiple(name: str, value: float, unit: float, of_what: str) -> int:
    whole = round(value / unit)
    require(whole >= 1 and abs(value / unit - whole) < 1e-6 * whole, name, value, f"a multiple {of_what}")
    return whole


def _starts(times: np.ndarray, venue: Venue, start: float, path: Any) -> np.ndarray:
    """When the episodes begin, ns."""
    require(times.size > 0, f"{path}: its updates", 0, "at least one")
    length = venue.decision_interval * venue.decisions
    seconds = float(times.max() - times[0]) * 1e-9
    count = int((seconds - start) / length)
    require(count >= 1, f"{path}: its length", f"{seconds:g} s",
            f"at least {start + length:g} s for one episode of the market, which begins after {start:g} s")  # fmt: skip
    return times[0] + np.round((start + length * np.arange(count)) * 1e9).astype(np.int64)


def _order_stage(recording: OrderRecording, capacity: int, venue: Venue, seat: Seat) -> _Stage | None:
    """None if the opening needs a larger capacity."""
    ready = prepare(recording, capacity)
    if ready is None:
        return None
    count = len(recording.events)
    feed = OrderFeed(
        ready.state, recording.events, ready.number, ready.fallback, np.zeros(count, np.int8), np.zeros(count, BEST)
    )
    return _Stage(_pointer(play_orders, feed, venue, seat), feed, ready.state.book)


def _level_stage(recording: LevelRecording, queue_model: str, venue: Venue, seat: Seat) -> _Stage:
    book = allocate_levels(recording)
    counts = np.zeros(len(LEVEL_OUTCOMES), np.int64)
    apply_levels(book, recording.opening, recording.stops[:0], recording.best[:0], counts)
    # Trades and diffs come in two streams. On the exchange's clock, a trade stands before the diff that shows it.
    order = np.lexsort((recording.updates["kind"] != TRADE, recording.updates["time"]))
    feed = LevelFeed(book, recording.updates[order], queue_model == "proportional", counts)
    return _Stage(_pointer(play_levels, feed, venue, seat), feed, book)


_POINTERS: dict[Any, Pointer] = {}


def _pointer(play: Any, feed: Any, venue: Venue, seat: Seat) -> Pointer:
    """`play` for arguments of these types, so that the episode's kernel is compiled without it."""
    kind = typeof((feed, venue, seat))
    if kind not in _POINTERS:
        _POINTERS[kind] = Pointer(play, types.void, (feed, venue, seat, 0.0))
    return _POINTERS[kind]


def _run(
    stage: _Stage, venue: Venue, seat: Seat, quoter: Quoter, baseline: np.ndarray, starts: np.ndarray, path: Any
) -> np.ndarray | None:
    """SUMMARY (episodes,); None if the book needs a larger capacity."""
    summaries = np.zeros(len(starts), SUMMARY)
    for episode, origin in enumerate(starts):
        seat.now["episode"], seat.now["origin"] = episode, origin
        summary = summaries[episode : episode + 1]
        play_episode(stage.play, stage.feed, stage.book, venue, seat, quoter, baseline, summary)
        if seat.now["full"][0]:
            return None
        if seat.account.maker["mid2"][0] == 0:
            raise InputError(f"{path}: has not had both a bid and an ask by the start of the first episode")
    lost = int(summaries["markout_lost"].sum())
    require(lost == 0, "market.venue.markout", venue.markout, f"shorter: {lost} fills had no room for their markout")
    return summaries


@njit(cache=True, nogil=True)
def play_episode(play, feed, book, venue, seat, quoter, baseline, summaries):
    """One episode from the seat's origin on, into `summaries` (1,)."""
    summary = summaries[0]
    begin(seat)
    play(feed, venue, seat, 0.0)
    begin(seat)  # without the trades of before
    account = seat.account.maker[0]
    if account.mid2 == 0:
        return
    see(seat, book)
    seat.seen.maker[0].decision_mid2 = seat.seen.maker[0].mid2
    observation = np.empty(SIZE, np.float64)
    prices = np.empty(2, np.int64)
    tally = np.zeros(1, TALLY)[0]
    for step in range(venue.decisions):
        _decide(book, venue, seat, quoter, baseline, step, observation, prices)
        if prices[0] != NO_PRICE and prices[1] != NO_PRICE:
            tally.spread_sum += prices[1] - prices[0]
            tally.spreads += 1
        until = (step + 1) * venue.decision_interval
        while True:
            time, message = next_message(seat)
            stop = min(time, until)
            play(feed, venue, seat, stop)
            if seat.now[0].full:
                return
            pass_time(seat, stop)
            if time > until:
                break
            deliver(venue, seat, book, message)
        accrue(account)
        if step == venue.decisions - 1:
            _close(book, venue, seat, summary)
        tally_decision(venue, account, tally, summary)
    sum_up(venue, account, tally, summary)


@njit(cache=True)
def _decide(book, venue, seat, quoter, baseline, step, observation, prices):
    """Look at the book, ask the quoter, send its quotes; `prices` (int64[2]) are those of the best level."""
    see(seat, book)
    observe(venue, seat.seen, 0, step, baseline, observation)
    _, _, bid, ask, size = wanted(venue, quoter, observation, step)
    quote_prices(seat.seen, 0, bid, ask, -1.0, prices)
    send_quotes(venue, seat.seen, 0, prices, size, 0.0)


@njit(cache=True)
def _close(book, venue, seat, summary):
    """Liquidate and split the accounts by source, as the simulator's rollout does."""
    position, cost2, left = sell_out(seat, book)
    split_accounts(venue, seat.account.maker[0], position, cost2, left, summary)


__all__ = ["FILL", "QUEUE_MODELS", "Quoted", "quote_into"]
