"""Wash trading: somebody who buys from himself, so that the tape shows a volume that is not there.

Where the spread leaves room, an order is placed inside it and taken at once by its own sender: a print, and a book as
before. Best quotes and inventories do not change; volume, signed flow and trade counts do (Cong, Li, Tang & Yang 2023,
Crypto wash trading). `bias` is the probability that the print looks like a buy: above one half it paints a rally.
"""

from typing import NamedTuple

import numpy as np

from bitquote.book.matching import IMMEDIATE, NO_PRICE, best_price
from bitquote.compilation import kernel
from bitquote.flow.orders import send
from bitquote.flow.state import TEN_BITS, WASHER


class Wash(NamedTuple):
    """Parameters; a rate of zero, none."""

    rate: float  # prints per second
    size: np.ndarray  # int64[QUANTILES], lots
    bias: float  # probability of a print that looks like a buy


@kernel
def wash_trade(wash, book, time, share, word):
    """One print; `share` in [0, 1) decides its direction. A spread of one tick leaves no room, and nothing happens."""
    bid = best_price(book, 1)
    ask = best_price(book, -1)
    if bid == NO_PRICE or ask == NO_PRICE or ask - bid < 2:
        return
    side = 1 if share < wash.bias else -1
    quantity = wash.size[np.int64(word & TEN_BITS)]
    price = (bid + ask) >> 1
    if send(book, time, -side, price, quantity, 0, WASHER, 0) >= 0:
        send(book, time, side, price, quantity, 0, WASHER, IMMEDIATE)
