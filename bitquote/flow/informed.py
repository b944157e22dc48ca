"""Informed traders: they know the efficient price and take every quote that it has passed.

Sources: Glosten & Milgrom 1985; Kyle 1985. The dial is the rate at which they arrive: at zero nobody acts
on the efficient price, and a maker's losses are those of inventory alone.
"""

import math

import numpy as np
from bitquote.compilation import inlined, kernel

from bitquote.book.matching import IMMEDIATE, NO_PRICE, best_price, limit_order


@inlined
def informed_trade(book, time, efficient, quantity, owner):
    """Buy below, or sell above, the `efficient` price (ticks) if somebody quotes there; else do nothing."""
    ask = best_price(book, -1)
    if ask != NO_PRICE and ask < efficient:
        limit_order(book, time, 1, np.int64(math.floor(efficient)), quantity, 0, owner, IMMEDIATE)
        return
    bid = best_price(book, 1)
    if bid != NO_PRICE and bid > efficient:
        limit_order(book, time, -1, np.int64(math.ceil(efficient)), quantity, 0, owner, IMMEDIATE)
