"""What a policy sees in the order book: one float64 vector a decision, in physical units.

Scales are fixed (`RANGES`) and travel with the policy; there is no running normaliser, so that a quote
depends on nothing but the observation.
"""

import math

import numpy as np

from bitquote.book.matching import NO_PRICE, ahead_of, next_price
from bitquote.compilation import kernel
from bitquote.market.venue import others_best, others_quantity

# name, range that the policy's input quantiser covers
FEATURES = (
    ("inventory", 10.0),  # orders
    ("time_left", 1.0),  # fraction of the horizon
    ("inventory_time_left", 10.0),  # orders
    ("constant", 1.0),
    ("spread", 16.0),  # ticks
    ("imbalance_1", 1.0),  # (bid - ask) / (bid + ask) quantity at the best level
    ("imbalance_3", 1.0),  # over three occupied levels
    ("imbalance_5", 1.0),  # over five
    ("microprice", 4.0),  # microprice - mid, ticks
    ("flow_fast", 10.0),  # signed traded quantity in orders, decaying over 1 decision
    ("flow_medium", 20.0),  # over 5 decisions
    ("flow_slow", 40.0),  # over 20 decisions
    ("activity", 20.0),  # trades a decision, decaying over 5 decisions
    ("volatility", 8.0),  # root mean square change of the mid a decision, ticks, decaying over 20 decisions
    ("momentum", 8.0),  # change of the mid since the last decision, ticks
    ("queue_ahead_bid", 20.0),  # orders ahead of the own bid, 0 without one
    ("queue_ahead_ask", 20.0),
    ("quote_age_bid", 1.0),  # 1 - exp(-decisions since the bid was placed / 5), 0 without one
    ("quote_age_ask", 1.0),
    ("markout", 8.0),  # mean signed move of the mid after own fills, ticks, decaying over the last 10 fills
    ("glft_half_spread", 0.0),  # the baseline's own quotes, ticks; the market sets the range from its table
    ("glft_skew", 0.0),
)
NAMES = tuple(name for name, _ in FEATURES)
RANGES = tuple(limit for _, limit in FEATURES)
SIZE = len(NAMES)

INVENTORY, TIME_LEFT, INVENTORY_TIME_LEFT = 0, 1, 2
GLFT_HALF_SPREAD, GLFT_SKEW = NAMES.index("glft_half_spread"), NAMES.index("glft_skew")
_SPREAD, _IMBALANCE, _MICROPRICE, _FLOW = 4, 5, 8, 9
_ACTIVITY, _VOLATILITY, _MOMENTUM, _QUEUE, _AGE, _MARKOUT = 12, 13, 14, 15, 17, 19

_FAST, _MEDIUM, _SLOW = math.exp(-1.0), math.exp(-1.0 / 5.0), math.exp(-1.0 / 20.0)
_LEVELS = (1, 3, 5)


@kernel
def look_up(table, step, inventory):
    """The two entries of `table` (2, steps, 2Q+1) at the whole order nearest to `inventory`."""
    bound = (table.shape[2] - 1) // 2
    column = min(max(int(np.rint(inventory)) + bound, 0), 2 * bound)
    return table[0, step, column], table[1, step, column]


@kernel
def observe(venue, state, n, step, table, observation):
    """Fill `observation` (float64[SIZE]) of maker `n` at the decision `step`, and roll the decaying statistics on."""
    maker = state.maker[n]
    order = float(venue.order_size)
    maker.flow_fast = _FAST * maker.flow_fast + maker.net_volume / order
    maker.flow_medium = _MEDIUM * maker.flow_medium + maker.net_volume / order
    maker.flow_slow = _SLOW * maker.flow_slow + maker.net_volume / order
    maker.activity = _MEDIUM * maker.activity + (1.0 - _MEDIUM) * maker.trades
    maker.change = 0.5 * (maker.mid2 - maker.decision_mid2)
    maker.variance = _SLOW * maker.variance + (1.0 - _SLOW) * maker.change * maker.change
    maker.net_volume = 0
    maker.trades = 0
    maker.decision_mid2 = maker.mid2
    look(venue, state, n, step, table, observation)


@kernel
def look(venue, state, n, step, table, observation):
    """Fill `observation` between two decisions: the statistics stay, and what has happened since is added to them."""
    maker = state.maker[n]
    book = state.book
    bid = others_best(state, n, 1)
    ask = others_best(state, n, -1)
    order = float(venue.order_size)

    observation[TIME_LEFT] = 1.0 - step / venue.decisions
    observation[3] = 1.0
    observation[_SPREAD] = float(ask - bid) if bid != NO_PRICE and ask != NO_PRICE else 0.0
    _observe_depth(state, n, bid, ask, observation)

    since = maker.net_volume / order
    observation[_FLOW] = maker.flow_fast + since
    observation[_FLOW + 1] = maker.flow_medium + since
    observation[_FLOW + 2] = maker.flow_slow + since
    observation[_ACTIVITY] = maker.activity
    observation[_VOLATILITY] = math.sqrt(maker.variance)
    observation[_MOMENTUM] = maker.change + 0.5 * (maker.mid2 - maker.decision_mid2)

    for i in range(2):
        quote = state.quotes[n, i, 0]  # the best of the ladder
        observation[_QUEUE + i] = 0.0
        observation[_AGE + i] = 0.0
        if quote.slot >= 0:
            observation[_QUEUE + i] = ahead_of(book, quote.slot) / order
            decisions = (maker.clock - quote.since) / venue.decision_interval
            observation[_AGE + i] = 1.0 - math.exp(-decisions / 5.0)
    observation[_MARKOUT] = maker.recent_markout

    inventory = maker.position / order
    observation[INVENTORY] = inventory
    observation[INVENTORY_TIME_LEFT] = inventory * observation[TIME_LEFT]
    observation[GLFT_HALF_SPREAD], observation[GLFT_SKEW] = look_up(table, step, inventory)


@kernel
def _observe_depth(state, n, bid, ask, observation):
    """Imbalance over 1, 3 and 5 occupied levels from others' best prices on, and the microprice against the mid."""
    bids = 0.0
    asks = 0.0
    level = 0
    bid_price = bid
    ask_price = ask
    for k in range(len(_LEVELS)):
        while level < _LEVELS[k]:
            if bid_price != NO_PRICE:
                bids += others_quantity(state, n, 1, bid_price)
                bid_price = next_price(state.book, 1, bid_price)
            if ask_price != NO_PRICE:
                asks += others_quantity(state, n, -1, ask_price)
                ask_price = next_price(state.book, -1, ask_price)
            level += 1
        total = bids + asks
        observation[_IMBALANCE + k] = (bids - asks) / total if total > 0.0 else 0.0
    observation[_MICROPRICE] = 0.5 * observation[_SPREAD] * observation[_IMBALANCE]
