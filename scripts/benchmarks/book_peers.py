"""Order books of PyPI under the messages of `book.py`, each through its own Python face; a replace is cancel and limit.

    pip install limit_order_book cython_orderbook akhil4n-orderbook fastlob liquibook

Every function takes messages (MESSAGE) and returns seconds; the rows are made into Python's integers before the clock
starts. None of them has immediate-or-cancel but Liquibook: there the few such orders rest, which changes little.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

LIMIT, MARKET, CANCEL, _, REPLACE = range(5)
IMMEDIATE = 2


def play_limit_order_book(messages: np.ndarray) -> float:
    """Seconds of limit_order_book (C++ behind ctypes)."""
    from limit_order_book import LimitOrderBook

    book = LimitOrderBook()
    sells: dict[int, bool] = {}
    rows = messages.tolist()
    start = time.perf_counter()
    for _, kind, side, order_id, price, quantity, _ in rows:
        if kind == LIMIT:
            sells[order_id] = side < 0
            book.limit(side < 0, order_id, quantity, price)
        elif kind == MARKET:
            book.market(side < 0, order_id, quantity)
        elif book.has(order_id):
            book.cancel(order_id)
            if kind == REPLACE:
                book.limit(sells[order_id], order_id, quantity, price)
    return time.perf_counter() - start


def play_cython_orderbook(messages: np.ndarray) -> float:
    """Seconds of cython_orderbook; it keeps a log of its trades."""
    return _play_akhil4n(importlib.import_module("cython_orderbook"), messages)


def play_akhil4n_orderbook(messages: np.ndarray) -> float:
    """Seconds of akhil4n-orderbook, pure Python; it keeps a log of its trades."""
    return _play_akhil4n(importlib.import_module("orderbook"), messages)


def _play_akhil4n(package: Any, messages: np.ndarray) -> float:
    book = package.OrderBook()
    order = package.Order
    sides = {1: package.OrderSide.BID, -1: package.OrderSide.ASK}
    known = {}
    rows = messages.tolist()
    start = time.perf_counter()
    for _, kind, side, order_id, price, quantity, _ in rows:
        if kind == MARKET:
            book.add_market_order(order(side=sides[side], price=0, original_quantity=quantity))
            continue
        its_side = sides[side]
        if kind in (CANCEL, REPLACE):
            its_side = known[order_id].side
            book.cancel_order(known.pop(order_id).order_id)
        if kind in (LIMIT, REPLACE):
            known[order_id] = order(side=its_side, price=price, original_quantity=quantity)
            book.add_limit_order(known[order_id])
    return time.perf_counter() - start


def play_fastlob(messages: np.ndarray) -> float:
    """Seconds of fastlob, pure Python; it has no market order, so that one is a limit order at the last price there is,
    and its rest is cancelled."""
    import logging

    from fastlob import Orderbook, OrderParams, OrderSide

    logging.getLogger("[LOB-1]").setLevel(logging.CRITICAL)  # it warns of every cancel of a filled order
    sides = {1: OrderSide.BID, -1: OrderSide.ASK}
    ends = {1: 10**9, -1: 1}
    known = {}
    rows = messages.tolist()
    with Orderbook() as book:
        start = time.perf_counter()
        for _, kind, side, order_id, price, quantity, _ in rows:
            its_side = sides[side]
            if kind == MARKET:
                result = book(OrderParams(its_side, ends[side], quantity))
                if result.kind().in_limit():
                    book.cancel(result.orderid())
                continue
            if kind in (CANCEL, REPLACE):
                its_side, name = known[order_id]
                with suppress(KeyError):  # version 0.0.24 fails where the order's price level is gone already
                    book.cancel(name)
            if kind in (LIMIT, REPLACE):
                known[order_id] = its_side, book(OrderParams(its_side, price, quantity)).orderid()
        return time.perf_counter() - start


def play_liquibook(messages: np.ndarray) -> float:
    """Seconds of Liquibook (C++ behind SWIG), without a listener."""
    import liquibook

    book = liquibook.DepthOrderBook()
    order = liquibook.SimpleOrder
    immediate = liquibook.oc_immediate_or_cancel
    known = {}
    rows = messages.tolist()
    start = time.perf_counter()
    for _, kind, side, order_id, price, quantity, flags in rows:
        buys = side > 0
        if kind == MARKET:
            book.add(order(buys, 0, quantity), immediate)
            continue
        if kind in (CANCEL, REPLACE):
            buys = known[order_id].is_buy()
            book.cancel(known.pop(order_id))
        if kind in (LIMIT, REPLACE):
            known[order_id] = order(buys, price, quantity)
            book.add(known[order_id], immediate if flags & IMMEDIATE else liquibook.oc_no_conditions)
    return time.perf_counter() - start


PEERS: dict[str, tuple[str, Callable[[np.ndarray], float]]] = {
    "limit_order_book": ("limit_order_book", play_limit_order_book),
    "cython_orderbook": ("cython_orderbook", play_cython_orderbook),
    "akhil4n-orderbook": ("orderbook", play_akhil4n_orderbook),
    "fastlob": ("fastlob", play_fastlob),
    "liquibook": ("liquibook", play_liquibook),
}
"""Name in the package index: module, and what plays messages on it."""
