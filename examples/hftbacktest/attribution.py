"""A replay's fills as bitquote's per-episode results, so that bitquote's own attribution can be taken of them.

The parts are those of the simulator (`market/venue.py`), each in price x order size: the edge of own fills to the mid
just before them, the markout to the market's horizon or to the end of the episode, fees, the cost of the liquidation
against the mid, and the inventory as what remains of the profit. The mid is the recorded best bid and offer on the
exchange's clock, at the exchange's tick.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from strategy import NO_PRICE, Memory

from bitquote.market import OrderBookMarket, Simulation
from bitquote.market.venue import Venue
from bitquote.recorded import Recording


@dataclass(frozen=True)
class Replayed:
    """A replay as bitquote's results.

    Attributes:
        simulation: one entry an episode, the fields and units of a simulated market.
        recording_seconds: length of the recording.
        unexplained: largest difference of an episode's profit from hftbacktest's own account of it, the same units.
        rejected: own messages that the exchange refused.
        walk: mean of what liquidations would cost more through the book, where hftbacktest fills all at the best price.
    """

    simulation: Simulation
    recording_seconds: float
    unexplained: float
    rejected: int
    walk: float


class Mid:
    """The recorded mid at any time."""

    def __init__(self, recording: Recording) -> None:
        tape = recording.tape
        self.start, self.time, self.price = recording.start, tape.quote_time, 0.5 * (tape.bid + tape.ask)

    def before(self, time: np.ndarray) -> np.ndarray:
        """Price units, just before times in ns on the exchange's clock."""
        quote = np.searchsorted(self.time, (np.asarray(time) - self.start) * 1e-9, side="left") - 1
        return self.price[np.maximum(quote, 0)]


def attribute(market: OrderBookMarket, recording: Recording, memory: Memory, order: float) -> Replayed:
    """Every whole episode of a replay; `order` is the quantity of an order in base units."""
    count, filled = memory.done
    episodes, fills = memory.episodes[:count], memory.fills[:filled]
    mid = Mid(recording)
    rows = [
        _episode(market, mid, episode, memory.decisions[i], fills[fills["episode"] == i], order)
        for i, episode in enumerate(episodes)
    ]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    accounts = np.diff(episodes["balance"] - episodes["fee"], prepend=0.0) / order
    unexplained = float(np.abs(columns["profit"] - accounts).max())
    return Replayed(
        simulation=Simulation(**columns),
        recording_seconds=recording.duration,
        unexplained=unexplained,
        rejected=int(episodes["rejected"].sum()),
        walk=float(episodes["walk"].mean()) / order,
    )


def _episode(
    market: OrderBookMarket, mid: Mid, episode: np.void, decisions: np.ndarray, fills: np.ndarray, order: float
) -> dict[str, float]:
    """The fields of `Simulation` for one episode."""
    rules = market.venue
    signed = fills["side"] * fills["quantity"] / order
    at_fill = mid.before(fills["time"])
    later = np.minimum(fills["time"] + round(rules.markout * 1e9), episode["end"])
    passive = fills["maker"]
    edge = signed * (at_fill - fills["price"])
    notional = np.abs(signed) * fills["price"]
    parts = {
        "spread": edge[passive].sum(),
        "adverse_selection": (signed * (mid.before(later) - at_fill))[passive].sum(),
        "fees": -(notional * np.where(passive, rules.maker_fee, rules.taker_fee)).sum(),
        "liquidation": edge[~passive].sum(),
    }
    profit = parts["fees"] - (signed * fills["price"]).sum()  # flat at the end
    quoted = (decisions["bid"] != NO_PRICE) & (decisions["ask"] != NO_PRICE)
    widths = (decisions["ask"] - decisions["bid"])[quoted] * market.tick
    return parts | {
        "profit": profit,
        "inventory": profit - sum(parts.values()),
        "terminal_inventory": episode["position"] / rules.order_size,
        "fills": float(passive.sum()),
        "turnover": np.abs(signed)[passive].sum(),
        "max_drawdown": _drawdown(mid, np.append(decisions["time"], episode["end"]), fills, signed, rules),
        "mean_spread": widths.mean() if widths.size else np.nan,
        "penalty": rules.penalty * _squared(fills["time"], signed, episode),
    }


def _squared(time: np.ndarray, signed: np.ndarray, episode: np.void) -> float:
    """The integral of the inventory squared up to the horizon, orders^2 s."""
    order = np.argsort(time, kind="stable")
    times = np.clip(np.append(time[order], episode["horizon"]), None, episode["horizon"])
    return float((np.cumsum(signed[order]) ** 2 * np.diff(times)).sum()) * 1e-9


def _drawdown(mid: Mid, times: np.ndarray, fills: np.ndarray, signed: np.ndarray, rules: Venue) -> float:
    """Largest fall of the marked wealth from its running maximum, at decisions and at the end."""
    fee = np.where(fills["maker"], rules.maker_fee, rules.taker_fee)
    cash = -signed * fills["price"] - np.abs(signed) * fills["price"] * fee
    done = fills["time"][None, :] <= times[:, None]  # (times, fills)
    wealth = (done * cash).sum(1) + (done * signed).sum(1) * mid.before(times)
    return float((np.maximum.accumulate(wealth) - wealth).max())
