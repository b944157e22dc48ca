"""The soak finds nothing in a sound book, and every fault that is planted in one."""

from __future__ import annotations

import numpy as np
import pytest
from scripts_as_modules import load_script
from structure import check_structure

from bitquote.book.matching import allocate, best_slot, live_count
from bitquote.book.state import NONE


@pytest.fixture(scope="module")
def soak():
    return load_script("experiments/book_soak.py")


def soaked(soak, seed=0, ticks=64):
    """A book after some events, and its soak."""
    book, state = allocate(ticks, 1600), soak.allocate_soak(seed)
    soak.run(book, state, 100, 20_000, 50)
    return book, state


@pytest.mark.parametrize("ticks", [4, 64, 4096])
def test_a_sound_book(soak, ticks):
    book, state = soaked(soak, ticks=ticks)
    assert not state.violations.any()
    check_structure(book)  # the slow twin agrees
    entered, traded, left = state.account.tolist()
    assert min(entered, traded, left) > 0
    assert entered == 2 * traded + left + book.orders["quantity"][book.live[: live_count(book)]].sum()


def test_every_kind_of_event_happens(soak):
    book, state = soaked(soak)
    assert state.clock[0] == 20_000
    assert live_count(book) > 30
    assert book.sides["overflow"].sum() > 0


def slots(book, index):
    """The slots of a side's window with at least two orders in their level: the first of each such level."""
    heads = book.levels["head"][index * len(book.levels) // 2 :][: len(book.levels) // 2]
    return [slot for slot in heads if slot != NONE and book.orders["next"][slot] != NONE]


def level_of(book, slot):
    return int(np.flatnonzero(book.levels["head"] == slot)[0])


def swap_queue(book):
    first = slots(book, 0)[0]
    second = book.orders["next"][first]
    arrivals = book.orders["arrival"]
    arrivals[[first, second]] = arrivals[[second, first]]


def lose_level(book):
    level = level_of(book, best_slot(book, 1))
    book.occupied[level >> 6] ^= np.uint64(1 << (level & 63))


def swap_heap(book):
    index = int(np.argmax(book.sides["overflow"]))
    heap = book.overflow[index * len(book.live) :]
    heap[[0, 1]] = heap[[1, 0]]


FAULTS = {
    "CROSSED": lambda book: book.sides["best"].__setitem__(0, -10 - book.sides["best"][1]),
    "OVERFULL": lambda book: book.counters["live"].__setitem__(0, 1601),
    "LIVE": lambda book: book.live.__setitem__(0, book.live[1]),
    "LEVEL": lambda book: book.levels["quantity"].__setitem__(level_of(book, best_slot(book, 1)), 10**6),
    "LINKS": lambda book: book.orders["previous"].__setitem__(best_slot(book, -1), 3),
    "ARRIVAL": swap_queue,
    "BITMAP": lose_level,
    "BEST": lambda book: book.sides["best"].__setitem__(0, book.sides["best"][0] + 1),
    "HEAP": swap_heap,
    "ORDERS": lambda book: book.orders["side"].__setitem__(best_slot(book, 1), -1),
    "CONSERVED": lambda book: book.orders["quantity"].__setitem__(best_slot(book, 1), 10**6),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(soak, fault):
    book, state = soaked(soak)
    FAULTS[fault](book)
    if fault in ("CROSSED", "OVERFULL"):
        soak.check_event(book, state)
    else:
        soak.check(book, state)
    assert state.violations[getattr(soak, fault)] > 0


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [("DISORDER", "aggressor", -1), ("DISORDER", "price", 10**6), ("NEGATIVE", "quantity", 0)],
)
def test_a_false_trade_is_found(soak, name, field, value):
    book, state = soaked(soak)
    book.counters["trades"] = 2
    book.trades["price"][:2] = 5, 6
    book.trades["aggressor"][:2] = 1
    book.trades["quantity"][:2], book.trades["remaining"][:2] = 3, 0
    assert soak.settle_trades(book, state, 1, 6) == 6
    assert not state.violations.any()
    book.counters["trades"] = 2
    book.trades[field][1] = value
    soak.settle_trades(book, state, 1, 6)
    assert state.violations[getattr(soak, name)] > 0
