"""Synthetic recordings of orders with a known truth: a random session of a book, written as an exchange shows it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from naive import CANCEL, IMMEDIATE_OR_CANCEL, LIMIT, MARKET, REDUCE, REPLACE, NaiveBook

from bitquote.book import MESSAGE

START_MS = 1_430_438_400_000
HEADER = "id,timestamp,exchange.timestamp,price,volume,action,direction"


class Session(NamedTuple):
    """What happened: `messages` (MESSAGE) to a book, and each one's trades (the fields of TRADE)."""

    messages: np.ndarray
    trades: list[list[tuple[int, ...]]]


def session(seed: int, length: int, kinds: tuple[float, ...], step: int = 10**6) -> Session:
    """A session in which every message makes sense; `kinds` are the shares of limit, market, cancel, reduce, replace.

    Messages are `step` ns apart. A replacement has another price and at most the quantity.
    """
    random = np.random.default_rng(seed)
    book = NaiveBook(10**6)
    messages, trades = [], []
    for i in range(length):
        kind = int(random.choice(5, p=kinds))
        live = book.resting
        if kind in (CANCEL, REDUCE, REPLACE) and not live:
            kind = LIMIT
        side = int(random.choice([1, -1]))
        order_id, price = 1000 + i, 2000 - side * int(random.integers(-3, 20))
        quantity, flags = int(random.integers(1, 60)), 0
        if kind == LIMIT and random.random() < 0.05:
            flags = IMMEDIATE_OR_CANCEL
        if kind in (CANCEL, REDUCE, REPLACE):
            order = live[int(random.integers(len(live)))]
            side, order_id = order.side, order.order_id
            if kind == REPLACE:
                price = order.price + int(random.choice([-2, -1, 1, 2]))
                quantity = int(random.integers(1, order.quantity + 1))
            if kind == REDUCE:
                kind = REDUCE if order.quantity > 1 else CANCEL
                quantity = int(random.integers(1, max(order.quantity, 2)))
        message = (START_MS * 10**6 + i * step, kind, side, order_id, price, quantity, flags)
        trades.append(book.apply(message))
        messages.append(message)
    return Session(np.array(messages, MESSAGE), trades)


def bitstamp_text(played: Session) -> str:
    """The session as Bitstamp shows it: executions twice, the rest of a market order deleted, replacements changed."""
    left: dict[int, int] = {}
    about: dict[int, tuple[int, int]] = {}  # side and price
    rows = [HEADER]

    def show(time: int, order_id: int, volume: int, action: str) -> None:
        side, price = about[order_id]
        second = START_MS + (time // 10**6 - START_MS) // 1000 * 1000
        direction = "bid" if side > 0 else "ask"
        rows.append(f"{order_id},{time // 10**6},{second},{price / 100:.2f},{volume},{action},{direction}")

    for message, trades in zip(played.messages.tolist(), played.trades, strict=True):
        time, kind, side, order_id, price, quantity, flags = message
        if kind in (LIMIT, MARKET):
            about[order_id] = side, (price if kind == LIMIT else 10**7 if side > 0 else 1)
            left[order_id] = quantity
            show(time, order_id, quantity, "created")
        elif kind == REPLACE:
            about[order_id], left[order_id] = (side, price), quantity
            show(time, order_id, quantity, "changed")
        elif kind == CANCEL:
            show(time, order_id, left.pop(order_id), "deleted")
        for _, maker, taker, _, traded, _ in trades:
            for party in (maker, taker):
                left[party] -= traded
                show(time, party, left[party], "changed" if left[party] else "deleted")
        if (kind == MARKET or flags) and left[order_id]:
            show(time, order_id, left[order_id], "deleted")
    return "\n".join(rows) + "\n"


def lobster_texts(played: Session, seed: int, opening: int = 0, levels: int = 3) -> tuple[str, str]:
    """The session as LOBSTER shows it, a message file and an order-book file of some levels.

    Prints and halts are thrown in. The first `opening` messages are left out: what they did is in the book already.
    """
    random = np.random.default_rng(seed)
    book = NaiveBook(10**6)
    rows: list[str] = []
    books: list[str] = []

    def show(time: int, kind: int, order_id: int, size: int, price: int, side: int) -> None:
        seconds = 34_200 + (time - START_MS * 10**6) / 1e9
        rows.append(f"{seconds:.9f},{kind},{order_id},{size},{price},{side}")
        asks, bids = (
            [*((100 * price, size) for price, size in book.depth(index)), *levels * [(-index * 9_999_999_999, 0)]]
            for index in (-1, 1)
        )
        asks, bids = asks[:levels], bids[:levels]
        books.append(",".join(f"{ask[0]},{ask[1]},{bid[0]},{bid[1]}" for ask, bid in zip(asks, bids, strict=True)))

    for i, (time, kind, side, order_id, price, quantity, flags) in enumerate(played.messages.tolist()):
        if i < opening:
            book.apply((time, kind, side, order_id, price, quantity, flags))
            continue
        if random.random() < 0.03:
            show(time, 5, 0, 7, 200_050, 1)
        if random.random() < 0.02:
            show(time, 6, -1, 500, 200_000, -1)
        if random.random() < 0.01:
            for state in (-1, 0, 1):
                show(time, 7, 0, 0, state, -1)
        rests = quantity
        while kind in (LIMIT, MARKET):  # one execution at a time: the book after each is a row
            makers = book.side(-side)
            if not (rests and makers and (kind == MARKET or side * (price - makers[0].price) >= 0)):
                break
            maker = makers[0].order_id, makers[0].price
            traded = min(rests, makers[0].quantity)
            book.apply((time, MARKET, side, order_id, 0, traded, 0))
            rests -= traded
            show(time, 4, maker[0], traded, 100 * maker[1], -side)
        if kind in (LIMIT, MARKET):
            if kind == LIMIT and rests and not flags:
                book.apply((time, LIMIT, side, order_id, price, rests, 0))
                show(time, 1, order_id, rests, 100 * price, side)
            continue
        order = next(order for order in book.resting if order.order_id == order_id)
        size = order.quantity if kind == CANCEL else quantity
        book.apply((time, kind, side, order_id, price, quantity, flags))
        show(time, 3 if kind == CANCEL else 2, order_id, size, 100 * order.price, side)
    return "\n".join(rows) + "\n", "\n".join(books) + "\n"


def write_lobster(folder: Path, texts: tuple[str, str]) -> tuple[Path, Path]:
    """Write the two files under LOBSTER's names."""
    paths = tuple(folder / f"ABC_2015-05-01_34200000_57600000_{name}_3.csv" for name in ("message", "orderbook"))
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths[0], paths[1]
