"""Informed traders: they know the efficient price and take every quote that it has passed.

Sources: Glosten & Milgrom 1985; Kyle 1985. The dial is the rate at which they arrive: at zero nobody acts
on the efficient price, and a maker's losses are those of inventory alone.
"""

import math

import numpy as np

from bitquote.book.matching import IMMEDIATE, NO_PRICE, best_price, limit_order
from bitquote.compilation import inlined
from bitquote.flow.state import MARKET_ASK, MARKET_BID


@inlined
def informed_trade(book, time, efficient, quantity, owner):
    """Buy below, or sell above, the `efficient` price (ticks) if somebody quotes there; the kind of event, or -1."""
    ask = best_price(book, -1)
    bid = best_price(book, 1)
    buys = ask != NO_PRICE and ask < efficient
    if buys or (bid != NO_PRICE and bid > efficient):
        worst = np.int64(math.floor(efficient) if buys else math.ceil(efficient))
        limit_order(book, time, 1 if buys else -1, worst, quantity, 0, owner, IMMEDIATE)
        return MARKET_ASK if buys else MARKET_BID
    return -1
