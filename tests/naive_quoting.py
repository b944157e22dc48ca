"""A slow and obvious twin of `bitquote.recorded.quoting`: one quote a side, every order ahead known by name."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from naive import LIMIT, REPLACE
from naive_replay import NaiveReplay

from bitquote.market import OrderBookMarket
from bitquote.quoting import QuoteTable
from bitquote.recorded.levels import LEVEL, LevelRecording
from bitquote.recorded.orders import EXECUTE, OrderRecording

MET = (
    "rested", "traded", "crosses", "replaced", "ahead", "raised",
    "executed", "not_first", "opening", "too_much", "other_price",
)  # fmt: skip


class Orders:
    """A recording of orders: what is ahead of a place are the very orders that were there before."""

    def __init__(self, recording: OrderRecording) -> None:
        self.replay = NaiveReplay(replace(recording, events=recording.events[:0]))
        self.rows = [(int(event["time"]), int(event["line"]), event) for event in recording.events]

    def depth(self, side: int) -> list[list[int]]:
        return self.replay.book.depth(side)

    def enter(self, place: dict[str, Any]) -> None:
        orders = self.replay.book.side(place["side"])
        place["before"] = [order for order in orders if order.price == place["price"]]

    def apply(self, event: Any, places: list[dict[str, Any]]) -> list[tuple[dict[str, Any], int]]:
        """Apply an event; (place, lots) of what it takes from the maker."""
        side, price, quantity = int(event["side"]), int(event["price"]), int(event["quantity"])
        if event["kind"] == EXECUTE:
            side = -side
        elif event["kind"] == REPLACE:
            order = self.replay.live(int(event["order_id"]))
            quantity = 0 if order is None else min(quantity, order.quantity)
        elif event["kind"] != LIMIT:
            quantity = 0
        hits = []
        for place in places:
            if place["side"] == -side and side * (price - place["price"]) >= 0:
                ahead = sum(
                    order.quantity
                    for order in self.replay.book.side(-side)
                    if side * (place["price"] - order.price) > 0 or any(order is other for other in place["before"])
                )
                hits.append((place, max(0, min(place["left"], quantity - ahead))))
        return hits if self.replay.apply(event) in MET else []


class Levels:
    """A feed of levels and trades: what is ahead of a place is a number."""

    def __init__(self, levels: LevelRecording, proportional: bool) -> None:
        self.proportional = proportional
        self.sides: dict[int, dict[int, int]] = {1: {}, -1: {}}
        for row in levels.opening:
            self.sides[int(row["side"])][int(row["price"])] = int(row["quantity"])
        updates = sorted(levels.updates, key=lambda row: (row["time"], row["kind"] == LEVEL))
        self.rows = [(int(row["time"]), int(row["line"]), row) for row in updates]

    def depth(self, side: int) -> list[list[int]]:
        return [[price, self.sides[side][price]] for price in sorted(self.sides[side], key=lambda p: -side * p)]

    def enter(self, place: dict[str, Any]) -> None:
        place |= {"ahead": self.sides[place["side"]].get(place["price"], 0), "traded": 0}

    def apply(self, row: Any, places: list[dict[str, Any]]) -> list[tuple[dict[str, Any], int]]:
        side, price, quantity = int(row["side"]), int(row["price"]), int(row["quantity"])
        if row["kind"] == LEVEL:
            for place in places:
                if (place["side"], place["price"]) == (side, price):
                    rest = self.sides[side].get(price, 0) - place["traded"]
                    if self.proportional and rest > quantity:
                        place["ahead"] -= (rest - quantity) * place["ahead"] // rest
                    place |= {"ahead": min(place["ahead"], quantity), "traded": 0}
            self.sides[side].pop(price, None)
            if quantity:
                self.sides[side][price] = quantity
            return []
        hits = []
        for place in places:
            if place["side"] == -side and side * (price - place["price"]) > 0:
                place["ahead"] = 0
                hits.append((place, min(place["left"], quantity)))
            elif (place["side"], place["price"]) == (-side, price):
                hits.append((place, min(place["left"], max(0, quantity - place["ahead"]))))
                place["ahead"] = max(0, place["ahead"] - quantity)
                place["traded"] += quantity
        return hits


class NaiveMaker:
    """Runs one episode on construction: `fills` (line, side, price, quantity, mid2), and its accounts as integers."""

    def __init__(self, world: Orders | Levels, market: OrderBookMarket, scale: int, table: QuoteTable) -> None:
        self.world, self.market, self.scale, self.table = world, market, scale, table
        self.places: dict[int, dict[str, Any]] = {}
        self.messages: list[tuple[int, int, str, int, int]] = []  # time, side, kind, price, size
        self.sent: dict[int, tuple[int, int]] = {}
        self.fills: list[tuple[int, ...]] = []
        self.mids: list[tuple[int, int]] = []  # time, best bid + best ask from then on
        self.cash = self.position = self.rejected = self.notional = 0

    def run(self, origin: int) -> NaiveMaker:
        """The episode that begins at a time (ns); events from before are applied, later ones left."""
        venue = self.market.venue
        nanoseconds = round(venue.decision_interval * 1e9)
        self.position = self.cash = self.rejected = self.notional = 0
        self.places, self.messages, self.fills = {}, [], []
        self._play(origin)
        for step in range(venue.decisions):
            self._decide(step, origin + step * nanoseconds)
            self._play(origin + (step + 1) * nanoseconds)
        self.end = origin + venue.decisions * nanoseconds
        return self

    def _play(self, until: int) -> None:
        """Events before a time; messages up to it, each before the event of the same time."""
        while True:
            due = min((message[0] for message in self.messages), default=until + 1)
            event = self.world.rows[0][0] if self.world.rows else until
            if event < min(due, until):
                time, line, row = self.world.rows.pop(0)
                live = [place for place in self.places.values() if place["left"]]
                for place, lots in self.world.apply(row, live):
                    self._fill(time, line, place, lots)
                self._mark(time)
            elif due <= until:
                self._deliver(min(self.messages))
            else:
                return

    def _mark(self, time: int) -> None:
        bids, asks = self.world.depth(1), self.world.depth(-1)
        if bids and asks:
            self.mids.append((time, bids[0][0] + asks[0][0]))

    def mid2(self, time: int | None = None) -> int:
        """The last one before a time; the last of all without."""
        return next(mid2 for at, mid2 in reversed(self.mids) if time is None or at < time)

    def _fill(self, time: int, line: int, place: dict[str, Any], lots: int) -> None:
        if lots:
            side, price = place["side"], place["price"]
            self.fills.append((time, line, side, price, lots, self.mid2()))
            place["left"] -= lots
            self.position += side * lots
            self.cash -= side * price * lots
            self.notional += price * lots

    def _decide(self, step: int, time: int) -> None:
        venue, scale = self.market.venue, self.scale
        best = {side: self.world.depth(side) for side in (1, -1)}
        tick = {side: side * math.floor(side * rows[0][0] / scale) for side, rows in best.items() if rows}
        if len(tick) == 2:
            self.seen2 = tick[1] + tick[-1]
        bound = self.market.game.max_inventory
        column = min(max(round(self.position / venue.order_size) + bound, 0), 2 * bound)
        for side, distances in ((1, self.table.bid), (-1, self.table.ask)):
            distance = distances[step, column] / self.market.tick
            wanted = None
            if distance < venue.no_quote and side * self.position + venue.order_size <= venue.max_position:
                toward = math.floor(side * self.seen2 / 2 - distance + 1e-9)
                if -side in tick:
                    toward = min(toward, side * tick[-side] - 1)
                wanted = side * toward
            rests = side in self.places and self.places[side]["left"] > 0
            kind = ("replace" if wanted is not None else "cancel") if rests else "new"
            if (not rests and wanted is None) or (rests and wanted == self.sent[side]):
                continue
            delay = venue.latency_cancel if kind == "cancel" else venue.latency_new
            self.messages.append((time + round(delay * 1e9), -side, kind, wanted or 0, venue.order_size))

    def _deliver(self, message: tuple[int, int, str, int, int]) -> None:
        self.messages.remove(message)
        _, side, kind, tick, size = message
        side = -side
        price = tick * self.scale
        left = self.places.get(side, {"left": 0})["left"]
        beyond = side * self.position + size > self.market.venue.max_position
        if kind == "replace" and beyond:
            kind = "cancel"
        if kind != "new" and left == 0:
            self.rejected += 1
        elif kind == "cancel":
            self.places[side]["left"] = 0
        else:
            opposite = self.world.depth(-side)
            keeps = kind == "replace" and price == self.places[side]["price"] and size <= left
            crosses = bool(opposite) and side * (price - opposite[0][0]) >= 0
            if (kind == "new" and beyond) or (crosses and not keeps):
                self.rejected += 1
            elif keeps:
                self.places[side]["left"] = size
            else:
                self.places[side] = {"side": side, "price": price, "left": size}
                self.world.enter(self.places[side])
                self.sent[side] = tick

    def results(self, tick: float) -> dict[str, float]:
        """The fields of `Simulation`, by definition; `tick` of the recording."""
        venue, unit = self.market.venue, tick / self.market.venue.order_size
        last = self.mid2()
        horizon = round(venue.markout * 1e9)
        adverse = sum(
            side * lots * ((self.mid2(time + horizon) if time + horizon <= self.end else last) - mid2)
            for time, _, side, _, lots, mid2 in self.fills
        )
        cash, left, taken, cost2 = self.cash, self.position, 0, 0
        for price, quantity in self.world.depth(1 if left > 0 else -1):
            lots = min(abs(left), quantity) * (1 if left > 0 else -1)
            cash, left, taken, cost2 = (
                cash + lots * price, left - lots, taken + abs(lots) * price, cost2 + lots * (2 * price - last)
            )  # fmt: skip
        fees = venue.maker_fee * self.notional + venue.taker_fee * taken
        return {
            "profit": unit * (cash + left * last / 2 - fees),
            "spread": 0.5 * unit * sum(side * lots * (mid2 - 2 * price) for *_, side, price, lots, mid2 in self.fills),
            "adverse_selection": 0.5 * unit * adverse,
            "fees": -unit * fees,
            "liquidation": 0.5 * unit * cost2,
            "fills": len(self.fills),
            "turnover": sum(fill[4] for fill in self.fills) / venue.order_size,
            "terminal_inventory": self.position / venue.order_size,
        }


def random_table(market: OrderBookMarket, seed: int) -> QuoteTable:
    """Distances in half ticks, some beyond the mid, some no quote."""
    random = np.random.default_rng(seed)
    sides = [random.integers(-4, 16, market.game.shape) * 0.5 * market.tick for _ in range(2)]
    for side in sides:
        side[random.random(side.shape) < 0.05] = np.inf
    return QuoteTable(*sides)
