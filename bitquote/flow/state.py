"""What of the flow evolves along a path, and the parameters of all its models together.

Inside the kernels prices are ticks, times seconds since the maker's first decision, sizes lots.
"""

from typing import NamedTuple

import numpy as np

QUANTILES = 1024  # a draw from a distribution is one look-up in a table of this many quantiles
TEN_BITS = np.uint64(QUANTILES - 1)

# Owners of orders; makers are 1, 2, ...
BACKGROUND = 0
STUFFER = -1
WASHER = -2
INSTITUTION = -3  # who works a metaorder

# Kinds of background events, in the order of a Hawkes matrix.
MARKET_BID, MARKET_ASK, LIMIT_BID, LIMIT_ASK, CANCEL_BID, CANCEL_ASK = range(6)
KINDS = ("market_bid", "market_ask", "limit_bid", "limit_ask", "cancel_bid", "cancel_ask")
MOST_TERMS = 4  # exponentials in a Hawkes kernel
MOST_STUFFED = 256  # orders of a stuffer that rest at one time

FLOW = np.dtype(
    [
        ("efficient", np.float64),  # the efficient price
        ("refused", np.int64),  # limit orders for which the book had no room: its capacity is too small
        ("hazard", np.float64),  # left until the next event, in units of its mean
        ("other_rate", np.float64),  # events per second of the models whose rate changes, Hawkes and queues apart
        ("excited", np.float64),  # sum of the Hawkes excitations as of `decayed`
        ("decayed", np.float64),  # s
        ("mean_mid", np.float64),  # exponential average of the mid, ticks; momentum.py
        ("trend", np.float64),  # mid less its average
        ("move_rate", np.float64),  # takers who run after a move of regime.py, 1/s, negative when they sell
        ("low", np.float64),  # the lowest efficient price so far; cascade.py
        ("backlog", np.float64),  # lots to be liquidated
        ("liquidated", np.int64),  # lots
        ("parent_side", np.int64),  # of the metaorder at work, 0 without one; metaorder.py
        ("parent_left", np.int64),  # lots not yet sent
        ("parent_sent", np.int64),
        ("parent_due", np.float64),  # s, of the next slice
        ("parent_mid2", np.int64),  # arrival mid, half ticks
        ("parents", np.int64),  # metaorders begun
        ("parent_filled", np.int64),  # lots of all metaorders
        ("parent_cost2", np.int64),  # their cost against the arrival mid, half ticks x lots
        ("burst_end", np.float64),  # s; stuffing.py
        ("burst_side", np.int64),
        ("stuffed", np.int64),  # orders of the stuffer that rest
        ("serial", np.int64),  # ids given to orders of the stuffer
        ("queue_mid2", np.int64),  # best bid + best ask after the latest event; queue_reactive.py
    ],
    align=True,
)


class FlowState(NamedTuple):
    """What of the flow evolves along a path."""

    now: np.ndarray  # FLOW[1]
    generator: np.ndarray  # uint64[2], of the events: every event takes the same number of words
    price_generator: np.ndarray  # uint64[2], of what happens whoever quotes: price, metaorders, bursts
    excitation: np.ndarray  # float64 (MOST_TERMS, 6), Hawkes intensities above the base, 1/s
    rates: np.ndarray  # float64 (queues.cumulative.size,), running sums over the queue-reactive rates
    stuffed: np.ndarray  # int64 (MOST_STUFFED, 2), (slot, id) of a stuffer's orders


def allocate_flow(queue_levels: int = 0) -> FlowState:
    """State of a flow; `queue_levels` are the distances that a queue-reactive model knows."""
    return FlowState(
        now=np.zeros(1, FLOW),
        generator=np.zeros(2, np.uint64),
        price_generator=np.zeros(2, np.uint64),
        excitation=np.zeros((MOST_TERMS, len(KINDS))),
        rates=np.zeros(4 * queue_levels + 2),
        stuffed=np.zeros((MOST_STUFFED, 2), np.int64),
    )
