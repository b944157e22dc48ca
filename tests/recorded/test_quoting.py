"""A maker beside a recording: against a slow twin, by hand, and on the real recordings."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from naive_quoting import Levels, NaiveMaker, Orders, random_table
from order_files import bitstamp_text, lobster_texts, session, write_lobster
from recordings import data_file, real_recording, synthetic_lines, write

from bitquote.book.order_book import CANCEL, LIMIT, REDUCE, REPLACE
from bitquote.errors import InputError
from bitquote.market import OrderBookMarket, build, shipped_configuration
from bitquote.quoting import QuoteTable
from bitquote.quoting.table import no_quote
from bitquote.recorded import (
    LevelRecording,
    OrderRecording,
    Quoted,
    quote_into,
    quoting,
    read_binance_levels,
    read_bitstamp,
    read_lobster,
    replay,
)
from bitquote.recorded.levels import LEVEL, TRADE, UPDATE
from bitquote.recorded.orders import BEST, EVENT, EXECUTE, PRINT

Recording = OrderRecording | LevelRecording
RULES = {
    "decision_interval": 0.0103, "decisions": 20, "latency_new": 0.0021, "latency_cancel": 0.0013, "markout": 0.0117,
    "maker_fee": 0.0001, "taker_fee": 0.0003, "no_quote": 1000,
}  # fmt: skip
KINDS = (0.5, 0.12, 0.2, 0.1, 0.08)


def market(tick: float, lot: float, **rules: Any) -> OrderBookMarket:
    """A market of these rules; what its own crowd would do is of no account."""
    config = shipped_configuration("order_book")
    config["venue"] |= {"order_size": 25, **RULES, "tick": tick, "lot": lot, **rules}
    config["closed_form"] |= {"max_inventory": 3}
    return build(config)


def constant(market: OrderBookMarket, bid: float, ask: float) -> QuoteTable:
    """Distances in the market's ticks."""
    return QuoteTable(*(np.full(market.game.shape, ticks * market.tick) for ticks in (bid, ask)))


def step_of(recording: Recording) -> tuple[float, float]:
    tick = recording.tick if isinstance(recording, OrderRecording) else recording.recording.tick.size
    return tick, recording.lot


def agrees_with_naive(recording: Recording, scale: int, seed: int, proportional: bool = True) -> Quoted:
    """Run both and compare; the result."""
    tick, lot = step_of(recording)
    rules = market(tick * scale, lot, order_size=5 if isinstance(recording, LevelRecording) else 25)
    table = random_table(rules, seed)
    model = "proportional" if proportional else "conservative"
    quoted = quote_into(recording, rules, table, start=0.0504, queue_model=model)
    world = Orders(recording) if isinstance(recording, OrderRecording) else Levels(recording, proportional)
    naive = NaiveMaker(world, rules, scale, table)
    fills = []
    for episode, start in enumerate(quoted.start.tolist()):
        naive.run(start)
        fills += naive.fills
        for name, value in naive.results(tick).items():
            assert getattr(quoted.simulation, name)[episode] == pytest.approx(value, rel=1e-9, abs=1e-9), name
        assert quoted.rejected[episode] == naive.rejected
    columns = ["time", "line", "side", "price", "quantity", "mid2"]
    assert quoted.fills[columns].tolist() == fills
    parts = ("spread", "adverse_selection", "inventory", "fees", "liquidation")
    total = sum(getattr(quoted.simulation, part) for part in parts)
    assert np.allclose(total, quoted.simulation.profit)
    return quoted


@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_bitstamp_as_the_naive_twin(tmp_path: Path, seed: int, scale: int) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(bitstamp_text(session(seed, 800, KINDS)))
    assert len(agrees_with_naive(read_bitstamp(path), scale, seed).fills) > 5


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_lobster_as_the_naive_twin(tmp_path: Path, seed: int, scale: int) -> None:
    played = session(seed, 700, (0.6, 0.12, 0.2, 0.08, 0.0))
    recording = read_lobster(*write_lobster(tmp_path, lobster_texts(played, seed, opening=100, levels=60)))
    assert len(agrees_with_naive(recording, scale, seed).fills) > 5


@pytest.mark.parametrize("proportional", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_binance_as_the_naive_twin(tmp_path: Path, kind: str, seed: int, proportional: bool) -> None:
    recording = read_binance_levels(write(tmp_path / "recording.gz", synthetic_lines(kind, 400, seed)))
    assert len(agrees_with_naive(recording, 1, seed, proportional).fills) > 5


# ---- by hand: ticks and lots of 1, events some milliseconds apart, decisions every 100 ms and messages 10 ms later

MS = 10**6
BID, ASK = 1, -1
HAND = {"order_size": 10, "decision_interval": 0.1, "decisions": 5, "latency_new": 0.01, "latency_cancel": 0.01,
        "markout": 0.05, "maker_fee": 0.0, "taker_fee": 0.0}  # fmt: skip


def orders(*rows: tuple[int, int, int, int, int, int]) -> OrderRecording:
    """Rows (ms, kind, side, order id, price, quantity) after a book of 10 at 98 and 99 and at 101 and 102."""
    book = [(0, LIMIT, BID, 1, 99, 10), (0, LIMIT, BID, 2, 98, 10), (0, LIMIT, ASK, 3, 101, 10),
            (0, LIMIT, ASK, 4, 102, 10)]  # fmt: skip
    last = (700, PRINT, BID, 0, 100, 1)
    events = [(ms * MS, *row, 0, line) for line, (ms, *row) in enumerate((*book, *rows, last), 1)]
    return OrderRecording(
        path=Path("hand"), exchange="lobster", symbol="", origin="midnight", tick=1.0, lot=1.0,
        events=np.array(events, EVENT), opening=np.empty(0, EVENT), best=None, rounding=0, counts={}, notes={},
    )  # fmt: skip


def by_hand(recording: OrderRecording, bid: float, ask: float, **rules: Any) -> list[tuple[int, ...]]:
    """(line, side, price, quantity) of the fills of constant quotes from 50 ms on; the others' book is untouched."""
    rules_of = market(1.0, 1.0, **{**HAND, **rules})
    quoted = quote_into(recording, rules_of, constant(rules_of, bid, ask), start=0.05)
    assert len(quoted.start) == 1
    return quoted.fills[["line", "side", "price", "quantity"]].tolist()


FAR = 900.0


def test_an_order_waits_for_those_who_came_before_and_not_for_those_who_came_later() -> None:
    # The maker joins 99 at 60 ms, behind 10 lots; 7 more come behind it.
    late = (70, LIMIT, BID, 5, 99, 7)
    assert by_hand(orders(late, (80, LIMIT, ASK, 6, 99, 10)), 1, FAR) == []
    assert by_hand(orders(late, (80, LIMIT, ASK, 6, 99, 13)), 1, FAR) == [(6, BID, 99, 3)]
    twice = (80, LIMIT, ASK, 6, 99, 13), (85, LIMIT, ASK, 7, 99, 4)
    assert by_hand(orders(late, *twice), 1, FAR) == [(6, BID, 99, 3), (7, BID, 99, 4)]
    assert by_hand(orders(late, (80, LIMIT, ASK, 6, 98, 100)), 1, FAR) == [(6, BID, 99, 10)]


def test_a_cancellation_counts_where_it_was_in_the_queue() -> None:
    late = (70, LIMIT, BID, 5, 99, 7)
    taker = (90, LIMIT, ASK, 6, 99, 4)
    assert by_hand(orders(late, (80, CANCEL, BID, 5, 99, 7), taker), 1, FAR) == []
    assert by_hand(orders(late, (80, CANCEL, BID, 1, 99, 10), taker), 1, FAR) == [(7, BID, 99, 4)]
    assert by_hand(orders(late, (80, REDUCE, BID, 1, 99, 7), taker), 1, FAR) == [(7, BID, 99, 1)]
    # Of the execution of an order that is ahead nothing is the maker's; of one behind it, all that it has left.
    assert by_hand(orders(late, (80, EXECUTE, BID, 1, 99, 10)), 1, FAR) == []
    both = (80, EXECUTE, BID, 1, 99, 10), (81, EXECUTE, BID, 5, 99, 7)
    assert by_hand(orders(late, *both), 1, FAR) == [(7, BID, 99, 7)]


def test_a_message_takes_its_time() -> None:
    taker = (59, LIMIT, ASK, 6, 99, 15)
    assert by_hand(orders(taker), 1, FAR) == []
    assert by_hand(orders(taker), 1, FAR, latency_new=0.005) == [(5, BID, 99, 5)]
    # What rests in the way of a quote when it arrives has it refused.
    assert by_hand(orders((55, LIMIT, ASK, 6, 100, 5), (58, LIMIT, ASK, 7, 100, 5)), 0, FAR) == []


def test_inside_the_spread_the_maker_is_met_first_and_what_rests_there_meets_it() -> None:
    assert by_hand(orders((80, LIMIT, ASK, 6, 99, 4)), 0, FAR) == [(5, BID, 100, 4)]
    # An order that would rest at the maker's price trades with it; in the recorded book it rests all the same.
    recording = orders((80, LIMIT, ASK, 6, 100, 12))
    assert by_hand(recording, 0, FAR) == [(5, BID, 100, 10)]
    assert replay(recording).best["ask"][-1] == 100
    # No trade and no order that reaches the price: nothing.
    assert by_hand(orders((80, CANCEL, BID, 1, 99, 10), (85, LIMIT, BID, 7, 97, 5)), 1, FAR) == []
    # A ladder: the better level is met first, and both are behind the recorded orders of their prices.
    assert by_hand(orders((80, LIMIT, ASK, 6, 99, 22)), 0, FAR, levels=2) == [(5, BID, 100, 10), (5, BID, 99, 2)]


def test_accounts_by_hand() -> None:
    rules = market(1.0, 1.0, **{**HAND, "maker_fee": 0.001, "taker_fee": 0.002})
    recording = orders((80, LIMIT, ASK, 6, 100, 4), (100, CANCEL, ASK, 6, 100, 4), (110, LIMIT, BID, 7, 100, 3))
    simulation = quote_into(recording, rules, constant(rules, 0, FAR), start=0.05).simulation
    # 4 bought at the mid of 100; at 130 ms the mid is 100.5; at 150 ms the bid of 10 is renewed, at the end 3 sell at
    # 100 and 1 at 99. Money is in price x 10 lots.
    assert simulation.fills.tolist() == [1.0]
    assert simulation.spread[0] == pytest.approx(0.0)
    assert simulation.adverse_selection[0] == pytest.approx(0.4 * 0.5)
    assert simulation.liquidation[0] == pytest.approx(-(3 * 0.5 + 1 * 1.5) / 10)
    assert simulation.fees[0] == pytest.approx(-(400 * 0.001 + 399 * 0.002) / 10)
    assert simulation.profit[0] == pytest.approx((399 - 400) / 10 - (0.4 + 0.798) / 10)


def levels(*rows: tuple[int, int, int, int, int]) -> LevelRecording:
    """Rows (ms, kind, side, price, quantity) after levels of 10 bid at 98 and 99, and asked at 101 and 102."""
    book = [(0, 98, 10, 1, 1, LEVEL), (0, 99, 10, 1, 1, LEVEL), (0, 101, 10, 1, -1, LEVEL), (0, 102, 10, 1, -1, LEVEL)]
    updates = [(0, LEVEL, BID, 98, 10), *rows, (700, LEVEL, BID, 98, 10)]
    changed = [(ms * MS, price, lots, line, side, kind) for line, (ms, kind, side, price, lots) in enumerate(updates)]
    recording: Any = SimpleNamespace(path=Path("hand"), tick=SimpleNamespace(size=1.0))
    return LevelRecording(recording, 1.0, np.array(book, UPDATE), np.array(changed, UPDATE), np.empty(0, np.int64),
                          np.empty(0, np.int32), np.empty(0, BEST))  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "proportional", "conservative"),
    [
        # 10 ahead: a trade of 12 reaches the maker for 2, the next for all of its 5.
        ([(70, TRADE, ASK, 99, 12), (80, TRADE, ASK, 99, 5)], [2, 5], [2, 5]),
        # 10 join behind. Then 8 of 20 go without a trade: 4 of them were ahead, or none.
        ([(70, LEVEL, BID, 99, 20), (80, LEVEL, BID, 99, 12), (90, TRADE, ASK, 99, 8)], [2], []),
        # Trades explain the first 6 of the decrease; of the other 4, out of 14, 1 of the 4 ahead.
        ([(70, LEVEL, BID, 99, 20), (80, TRADE, ASK, 99, 6), (81, LEVEL, BID, 99, 10), (90, TRADE, ASK, 99, 5)],
         [2], [1]),
        # Never is more ahead than the level holds.
        ([(70, LEVEL, BID, 99, 3), (90, TRADE, ASK, 99, 5)], [2], [2]),
        # A trade beyond the price fills, but for no more than was traded; a trade on the other side, or above, not.
        ([(70, TRADE, ASK, 98, 4), (80, TRADE, ASK, 98, 9)], [4, 6], [4, 6]),
        ([(70, TRADE, BID, 101, 9), (80, TRADE, ASK, 100, 30), (85, TRADE, BID, 99, 30)], [], []),
        # Without a trade there is no fill, wherever the levels go.
        ([(70, LEVEL, BID, 99, 0), (71, LEVEL, ASK, 99, 50)], [], []),
        # A trade of the same moment stands before the diff that shows it, whichever the file tells first.
        ([(80, LEVEL, BID, 99, 4), (80, TRADE, ASK, 99, 6), (90, TRADE, ASK, 99, 5)], [1], [1]),
    ],
)  # fmt: skip
def test_the_estimated_place_by_hand(
    rows: list[tuple[int, int, int, int, int]], proportional: list[int], conservative: list[int]
) -> None:
    rules = market(1.0, 1.0, **HAND)
    for model, expected in (("proportional", proportional), ("conservative", conservative)):
        quoted = quote_into(levels(*rows), rules, constant(rules, 1, FAR), start=0.05, queue_model=model)
        assert quoted.fills["quantity"].tolist() == expected, model
        assert set(quoted.fills["price"]) <= {99}


def test_only_what_may_fill_bounds_the_money() -> None:
    rules = market(1.0, 1.0, **HAND)
    words = {"quoter": constant(rules, 1, FAR), "start": 0.05}
    assert len(quote_into(levels((70, LEVEL, BID, 97, 10**17)), rules, **words).fills) == 0
    with pytest.raises(InputError, match="the money"):
        quote_into(levels((70, TRADE, ASK, 97, 10**17)), rules, **words)


# ---- what holds of any recording


def test_the_others_book_is_that_of_the_plain_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(bitstamp_text(session(7, 800, KINDS)))
    recording = read_bitstamp(path)
    plain = replay(recording)
    rules = market(recording.tick, recording.lot)
    stages = []
    run = quoting._run
    monkeypatch.setattr(quoting, "_run", lambda stage, *words: stages.append(stage) or run(stage, *words))
    for table in (no_quote(rules.game), constant(rules, 0, 0), random_table(rules, 1)):
        quoted = quote_into(recording, rules, table, start=0.05)
        feed = stages.pop().feed
        played = int(np.searchsorted(recording.events["time"], quoted.start[-1] + round(rules.game.horizon * 1e9)))
        assert np.array_equal(feed.best[:played], plain.best[:played])
        assert np.array_equal(feed.outcome[:played], plain.outcome[:played])
        assert played > 600
    assert len(quoted.fills) > 0


def test_who_does_not_quote_has_nothing(tmp_path: Path, recorded: Path) -> None:
    recording = read_binance_levels(recorded)
    rules = market(*step_of(recording))
    quoted = quote_into(recording, rules, no_quote(rules.game), start=0.05)
    assert len(quoted.fills) == 0
    assert not quoted.simulation.profit.any()


def test_what_does_not_fit_is_refused_in_one_line(recorded: Path) -> None:
    recording = read_binance_levels(recorded)
    tick, lot = step_of(recording)
    fitting = market(tick, lot)

    def complaint(rules: Any, quoter: Any = None, data: Any = recording, **words: Any) -> str:
        with pytest.raises(InputError) as caught:
            quote_into(data, rules, no_quote(fitting.game) if quoter is None else quoter, **words)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "a multiple of the tick 0.05" in complaint(market(1.5 * tick, lot))
    assert "a multiple of the lot 0.001" in complaint(market(tick, 0.3 * lot, order_size=1))
    assert "its length is" in complaint(market(tick, lot, decisions=2000))
    assert "must be never" in complaint(market(tick, lot, requote="fill"))
    assert "must be an order book" in complaint(build(shipped_configuration("game")))
    assert "queue_model is 'power'" in complaint(fitting, queue_model="power")
    assert "below the decision interval" in complaint(fitting, latency=1.0)
    assert "start is -1" in complaint(fitting, start=-1)
    assert "the quoter is str" in complaint(fitting, "glft", start=0.05)
    assert "the recording is str" in complaint(fitting, data="file.gz")


# ---- real recordings


def test_the_real_bitstamp_file() -> None:
    recording = read_bitstamp(data_file("bitstamp", "orders.csv.xz"))
    rules = market(0.01, 0.01, decision_interval=1.0, decisions=200, order_size=10)
    quoted = quote_into(recording, rules, constant(rules, 30, 30))
    assert len(quoted.start) == 91
    check_fills(recording.events, quoted, (LIMIT, REPLACE, EXECUTE))


@pytest.mark.slow
def test_the_real_binance_file() -> None:
    recording = read_binance_levels(real_recording("spot"))
    rules = build(shipped_configuration("btcusdt_spot"))
    fills = []
    for model in ("conservative", "proportional"):
        quoted = quote_into(recording, rules, constant(rules, 5, 5), queue_model=model)
        assert len(quoted.start) == 11
        check_fills(recording.updates, quoted, (TRADE,))
        fills.append(quoted.simulation.turnover.sum())
    assert 0 < fills[0] <= fills[1]


def check_fills(rows: np.ndarray, quoted: Quoted, kinds: tuple[int, ...]) -> None:
    """Every fill is of a recorded row of that line that reaches its price and has as much, and the accounts add up."""
    assert len(quoted.fills) > 20
    for fill in quoted.fills:
        (row,) = rows[(rows["line"] == fill["line"]) & np.isin(rows["kind"], kinds)]
        side = -row["side"] if row["kind"] == EXECUTE and len(kinds) > 1 else row["side"]
        assert side == -fill["side"]
        assert side * (row["price"] - fill["price"]) >= 0
        assert 0 < fill["quantity"] <= row["quantity"]
    parts = ("spread", "adverse_selection", "inventory", "fees", "liquidation")
    assert np.allclose(sum(getattr(quoted.simulation, part) for part in parts), quoted.simulation.profit)
