"""A maker beside a recording: against a slow twin, by hand, and on the real recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from naive_quoting import Levels, NaiveMaker, Orders, random_table
from order_files import bitstamp_text, lobster_texts, session, write_lobster
from recordings import START_MS, data_file, real_recording, synthetic_lines, write

from bitquote.errors import InputError
from bitquote.market import OrderBookMarket, build, shipped_configuration
from bitquote.quoting import QuoteTable
from bitquote.quoting.table import no_quote
from bitquote.recorded import (
    LevelRecording,
    OrderRecording,
    Quoted,
    quote_into,
    read_binance_levels,
    read_bitstamp,
    read_lobster,
    replay,
)
from bitquote.recorded.level_feed import LevelFeed
from bitquote.recorded.levels import LEVEL, TRADE, UPDATE
from bitquote.recorded.orders import BEST, EVENT, EXECUTE

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
