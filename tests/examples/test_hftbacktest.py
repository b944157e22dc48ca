"""The hftbacktest example, in the environment that scripts/hftbacktest makes: elsewhere everything here is skipped."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from numba import njit
from recordings import real_recording, synthetic_lines, write

from bitquote.errors import InputError
from bitquote.evaluation.attribution import PARTS
from bitquote.market import OrderBookMarket, build, shipped_configuration
from bitquote.market.observation import NAMES
from bitquote.ternary import Policy, PolicyDescription

hftbacktest = pytest.importorskip("hftbacktest", reason="has an environment of its own: run scripts/hftbacktest")

EXAMPLE = Path(__file__).parents[2] / "examples" / "hftbacktest"
MODULES = ("mirror", "convert", "strategy", "attribution", "replay")
MS = 10**6


@pytest.fixture(scope="module")
def example() -> Iterator[SimpleNamespace]:
    """The modules of the example, importable as if one of them had been started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        modules: dict[str, ModuleType] = {name: import_module(name) for name in MODULES}
        yield SimpleNamespace(**modules)
        for name in MODULES:
            sys.modules.pop(name, None)


@njit
def constant(observation: np.ndarray, half_spread: float, lean: float) -> tuple[float, float]:
    return half_spread, lean * observation[0]


@njit
def silent(observation: np.ndarray) -> tuple[float, float]:
    return math.inf, 0.0


def market(**venue: Any) -> OrderBookMarket:
    """Ticks of 1, of two exchange ticks of 0.5; orders of 10 lots of 0.01."""
    settings = shipped_configuration("order_book")
    rules = {"tick": 1.0, "lot": 0.01, "order_size": 10, "decision_interval": 0.1, "decisions": 20, "markout": 0.5}
    rules |= {"latency_new": 0.005, "latency_cancel": 0.005, "maker_fee": 0.001, "taker_fee": 0.002, "no_quote": 30}
    settings["venue"] |= rules | venue
    settings["closed_form"] |= {"k": 1.0, "sigma": 1.0}
    settings["flow"]["price"] = 100.0
    return build(settings)


def random_policy(market: OrderBookMarket, half_spread: float, action: float, seed: int = 0) -> Policy:
    """A ternary network with random weights, around a half-spread."""
    description = PolicyDescription(
        market.observation_names, market.observation_ranges, (64, 64), base_half_spread=half_spread,
        action_scale=(action, action), no_quote=market.venue.no_quote,
    )  # fmt: skip
    random = np.random.default_rng(seed)
    tensors = {}
    for name, (dtype, shape) in description.layout().items():
        if dtype == np.int8:
            tensors[name] = random.integers(-1, 2, shape).astype(np.int8)
        else:
            tensors[name] = np.full(shape, 0.5, np.float32) if name.endswith("scale") else np.zeros(shape, np.float32)
    tensors["head.weight"] = (0.1 * random.normal(size=tensors["head.weight"].shape)).astype(np.float32)
    return Policy(description, {}, tensors)


# ---- conversion


@pytest.fixture(scope="module", params=["spot", "usdm"])
def converted(request: pytest.FixtureRequest, example: SimpleNamespace, tmp_path_factory: Any) -> Any:
    """A synthetic recording of 30 s: prices near 50 on a tick of 0.05."""
    path = tmp_path_factory.mktemp("recordings") / f"{request.param}.gz"
    return example.convert.convert(write(path, synthetic_lines(request.param, updates=3000)))


def test_events_are_what_the_recording_says(converted: Any) -> None:
    events, recording = converted.events, converted.recording
    local = (events["ev"] & hftbacktest.LOCAL_EVENT) != 0
    exchange = (events["ev"] & hftbacktest.EXCH_EVENT) != 0
    assert (local | exchange).all()
    for chosen, clock in ((local, "local_ts"), (exchange, "exch_ts")):
        assert (np.diff(events[clock][chosen]) >= 0).all()
        trades = events[chosen & ((events["ev"] & 0xFF) == hftbacktest.TRADE_EVENT)]
        tape = recording.tape
        first = tape.trade_time.size - trades.size  # those before the snapshot are left out
        assert 0 <= first < 20
        np.testing.assert_array_equal(trades["px"], tape.trade_price[first:])
        bought = (trades["ev"] & hftbacktest.BUY_EVENT) != 0
        np.testing.assert_array_equal(np.where(bought, 1, -1), tape.trade_aggressor[first:])
        if clock == "exch_ts":
            np.testing.assert_allclose((trades["exch_ts"] - recording.start) * 1e-9, tape.trade_time[first:])
    assert (events["local_ts"] >= events["exch_ts"]).all()
    assert converted.lot == 0.001


def book_at(converted: Any, times: np.ndarray, flag: int, clock: str) -> list[tuple[dict, dict]]:
    """The obvious twin: dictionaries price -> quantity (exchange ticks), bids and asks, after the events of `times`."""
    events = converted.events[(converted.events["ev"] & flag) != 0]
    books: tuple[dict, dict] = ({}, {})
    found, i = [], 0
    for time in times:
        while i < events.size and events[clock][i] <= time:
            kind = int(events["ev"][i]) & 0xFF
            if kind != hftbacktest.TRADE_EVENT:
                side = 0 if int(events["ev"][i]) & hftbacktest.BUY_EVENT else 1
                tick = round(float(events["px"][i]) / converted.recording.tick.size)
                books[side].pop(tick, None)
                if events["qty"][i] > 0:
                    books[side][tick] = float(events["qty"][i])
            i += 1
        found.append((dict(books[0]), dict(books[1])))
    return found


def test_the_best_prices_are_the_recorded_ones(converted: Any) -> None:
    recording, tape = converted.recording, converted.recording.tape
    chosen = np.arange(200, tape.quote_time.size - 1, 37)
    between = 0.5 * (tape.quote_time[chosen] + tape.quote_time[chosen + 1])
    times = recording.start + (between * 1e9).astype(np.int64)
    books = book_at(converted, times, hftbacktest.EXCH_EVENT, "exch_ts")
    tick = recording.tick.size
    found = np.array([(max(bids) * tick, min(asks) * tick) for bids, asks in books])
    np.testing.assert_allclose(found, np.stack([tape.bid[chosen], tape.ask[chosen]], 1))


def test_the_depth_is_the_recorded_one(converted: Any) -> None:
    """Every second, behind the best prices, which may be newer than the last depth message."""
    recording, tape = converted.recording, converted.recording.tape
    times = recording.start + np.rint(tape.snapshot_time * 1e9).astype(np.int64)
    compared = 0
    for pictures, books in zip(tape.depth, book_at(converted, times, hftbacktest.EXCH_EVENT, "exch_ts"), strict=True):
        for side, picture, book in zip((1, -1), pictures, books, strict=True):
            levels = picture[~np.isnan(picture[:, 0])]
            recorded = dict(zip(np.rint(levels[:, 0] / recording.tick.size).astype(int), levels[:, 1], strict=True))
            behind = side * max(side * tick for tick in recorded) - side * 10
            chosen = [{t: q for t, q in levels.items() if side * (behind - t) > 0} for levels in (recorded, book)]
            assert chosen[0] == chosen[1]
            compared += len(chosen[0])
    assert compared > 200


# ---- what the policy sees


def models(example: SimpleNamespace, queue: str = "risk_averse") -> Any:
    return example.replay.Models(0.005, 0.005, queue)


def synthetic_market() -> OrderBookMarket:
    """Ticks of 0.1, of two exchange ticks of 0.05; episodes of 5 s."""
    return market(tick=0.1, lot=0.001, decisions=50)


def test_the_observation_is_that_of_the_simulator(example: SimpleNamespace, converted: Any) -> None:
    rules = synthetic_market()
    memory, _ = example.replay.run(rules, silent, converted, models(example))
    decisions = memory.decisions[: memory.done[0]]
    assert decisions.shape[0] >= 4
    times = decisions["time"].ravel()
    seen = {name: decisions["observation"][..., i] for i, name in enumerate(NAMES)}
    books = book_at(converted, times, hftbacktest.LOCAL_EVENT, "local_ts")
    expected = [depth_features(*book, rules) for book in books]
    for name in ("spread", "imbalance_1", "imbalance_3", "imbalance_5", "microprice"):
        np.testing.assert_allclose(seen[name].ravel(), [row[name] for row in expected], atol=1e-9, err_msg=name)
    mids = np.array([row["mid"] for row in expected]).reshape(decisions.shape)
    changes = np.diff(mids, prepend=mids[:, :1], axis=1)
    np.testing.assert_allclose(seen["momentum"], changes, atol=1e-9)
    np.testing.assert_allclose(seen["volatility"], np.sqrt(smoothed(changes**2, 20)), atol=1e-9)
    volume, count = trades_between(converted, decisions["time"])
    np.testing.assert_allclose(seen["activity"], smoothed(count, 5), atol=1e-9)
    for name, memory_of in (("flow_fast", 1), ("flow_medium", 5), ("flow_slow", 20)):
        decayed = smoothed(volume, memory_of) / (1 - math.exp(-1 / memory_of))
        np.testing.assert_allclose(seen[name], decayed, atol=1e-9, err_msg=name)
    steps = np.arange(rules.venue.decisions)
    np.testing.assert_allclose(seen["time_left"], np.broadcast_to(1 - steps / steps.size, decisions.shape))
    for name in ("inventory", "queue_ahead_bid", "quote_age_ask", "markout"):
        assert (seen[name] == 0).all()


def depth_features(bids: dict[int, float], asks: dict[int, float], rules: OrderBookMarket) -> dict[str, float]:
    """From the dictionaries of the exchange's ticks, two to a tick of the market."""
    coarse: list[dict[int, int]] = []
    for side, book in ((1, bids), (-1, asks)):
        sums: dict[int, float] = {}
        for tick, quantity in book.items():
            price = side * math.floor(side * tick / 2)
            sums[price] = sums.get(price, 0.0) + quantity
        lots = {price: round(total / rules.lot) for price, total in sums.items()}
        coarse.append(dict(sorted(lots.items(), key=lambda level: -side * level[0])))
    best = [next(iter(side)) for side in coarse]
    row = {"spread": best[1] - best[0], "mid": 0.5 * sum(best)}
    for levels in (1, 3, 5):
        bid, ask = (sum(list(side.values())[:levels]) for side in coarse)
        row[f"imbalance_{levels}"] = (bid - ask) / (bid + ask)
    row["microprice"] = 0.5 * row["spread"] * row["imbalance_1"]
    return row


def smoothed(values: np.ndarray, decisions: int) -> np.ndarray:
    """Exponential average along the last axis, from 0."""
    decay, state, rows = math.exp(-1 / decisions), 0.0, []
    for column in np.moveaxis(values, -1, 0):
        state = decay * state + (1 - decay) * column
        rows.append(state)
    return np.moveaxis(np.array(rows), 0, -1)


def trades_between(converted: Any, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed volume in orders of 0.01, and number of trades, that came between a decision and the one before."""
    events = converted.events[(converted.events["ev"] & hftbacktest.LOCAL_EVENT) != 0]
    events = events[(events["ev"] & 0xFF) == hftbacktest.TRADE_EVENT]
    sign = np.where((events["ev"] & hftbacktest.BUY_EVENT) != 0, 1.0, -1.0)
    totals = np.r_[0.0, np.cumsum(sign * events["qty"] / 0.01)]
    after = np.searchsorted(events["local_ts"], times, side="right")
    before = np.concatenate([after[:, :1], after[:, :-1]], axis=1)
    return totals[after] - totals[before], (after - before).astype(float)


# ---- one story with known numbers


def story(example: SimpleNamespace, at: int = 1450) -> Any:
    """A book that stands still, a trade at our bid, at `at` ms a trade through it, and a book that falls by 2.

    Our bid at 99 has 1.4 before it: 1.0 at 99.5, which counts for 99, and 0.4 at 99. Then 0.5 come behind it.
    """
    buy, sell = hftbacktest.BUY_EVENT, hftbacktest.SELL_EVENT
    depth, trade = hftbacktest.DEPTH_EVENT, hftbacktest.TRADE_EVENT
    rows = [(0, depth | buy, 99.5, 1.0), (0, depth | buy, 99.0, 0.4), (0, depth | buy, 97.5, 0.04)]
    rows += [(0, depth | buy, 97.0, 2.0)]
    rows += [(0, depth | sell, 100.5, 1.0), (0, depth | sell, 101.0, 0.4), (0, depth | sell, 102.0, 2.0)]
    rows += [(1150, depth | buy, 99.0, 0.9), (1250, trade | sell, 99.0, 0.1), (1250, depth | buy, 99.0, 0.8)]
    rows += [(at, trade | sell, 98.5, 5.0), (at + 1, depth | buy, 99.5, 0.0), (at + 1, depth | buy, 99.0, 0.0)]
    rows += [(at + 1, depth | sell, 98.5, 1.0)]
    rows += [(time, depth | buy, 90.0, 1.0 + time) for time in range(1, 4000, 7)]  # the clock goes on
    rows.sort(key=lambda row: row[0])
    events = np.zeros(len(rows), hftbacktest.binding.event_dtype)
    origin = 10**18
    for event, (time, kind, price, quantity) in zip(events, rows, strict=True):
        event["ev"] = kind | hftbacktest.EXCH_EVENT | hftbacktest.LOCAL_EVENT
        event["exch_ts"] = event["local_ts"] = origin + time * MS
        event["px"], event["qty"] = price, quantity
    # The first change is at the time of the fill, whose mid is the one before; the mid dips for 0.2 s later on.
    quote_time = np.array([0, at, at + 400, at + 600]) * MS * 1e-9
    mid = np.array([100.0, 98.0, 97.0, 98.0])
    tape = SimpleNamespace(quote_time=quote_time, bid=mid - 0.5, ask=mid + 0.5)
    recording = SimpleNamespace(start=origin, tape=tape, tick=SimpleNamespace(size=0.5), duration=4.0)
    return example.convert.Converted(events, recording, 0.01)


@pytest.mark.parametrize("at", [1450, 1498])  # the second: the fill's report comes after the next decision
def test_a_fill_is_seen_booked_and_attributed(example: SimpleNamespace, at: int) -> None:
    rules = market()
    memory, replayed = example.replay.run(rules, (constant, (1.0, 0.0)), story(example, at), models(example))
    assert memory.done.tolist() == [1, 2]
    decisions = memory.decisions[0]
    start = decisions["time"][0]

    def first(time: int) -> int:
        """The first decision from a time in ms on."""
        return int(np.searchsorted(decisions["time"], 10**18 + time * MS))

    fall, told = first(at + 1), first(at + 5)
    assert (decisions["bid"][:fall] == 99).all() and (decisions["ask"][:fall] == 101).all()
    assert (decisions["bid"][fall:] == 97).all() and (decisions["ask"][fall:] == 99).all()

    seen = {name: decisions["observation"][:, i] for i, name in enumerate(NAMES)}
    trade = first(1250)
    assert seen["queue_ahead_bid"][0] == 0.0  # not yet there
    assert seen["queue_ahead_bid"][1:trade].tolist() == [14.0] * (trade - 1)
    assert seen["queue_ahead_bid"][trade] == 13.0
    np.testing.assert_allclose(seen["quote_age_bid"][1], 1 - math.exp(-0.95 / 5))
    assert seen["flow_fast"][trade] == -1.0
    assert (seen["inventory"][:told] == 0.0).all() and (seen["inventory"][told:] == 1.0).all()
    assert (seen["quote_age_bid"][fall : told + 1] == 0.0).all()  # filled, and only then quoted again
    np.testing.assert_allclose(seen["quote_age_bid"][told + 1], 1 - math.exp(-0.95 / 5))
    late = first(at + 500)
    assert seen["markout"][late - 1] == 0.0
    np.testing.assert_allclose(seen["markout"][late], 0.1 * -2.0)  # the mid from 100 to 98

    passive, taken = memory.fills[:2]
    assert (passive["price"], passive["side"], passive["quantity"], passive["maker"]) == (99.0, 1, 0.1, True)
    assert passive["time"] == 10**18 + at * MS
    assert (taken["price"], taken["side"], taken["quantity"], taken["maker"]) == (97.5, -1, 0.1, False)
    assert memory.episodes[0]["horizon"] == start + 2000 * MS
    row = {name: getattr(replayed.simulation, name)[0] for name in ("profit", *PARTS, "terminal_inventory", "fills")}
    fees = -(0.001 * 99.0 + 0.002 * 97.5)
    expected = {"spread": 1.0, "adverse_selection": -3.0, "inventory": 1.0, "fees": fees, "liquidation": -0.5}
    expected |= {"profit": fees - 1.5, "terminal_inventory": 1.0, "fills": 1.0}
    assert row == pytest.approx(expected, abs=1e-9)
    assert replayed.unexplained < 1e-9
    assert replayed.walk == pytest.approx(0.06 * 0.5 / 0.1)  # 0.04 at 97.5, the rest at 97
    held = (memory.episodes[0]["horizon"] - passive["time"]) * 1e-9
    assert replayed.simulation.penalty[0] == pytest.approx(rules.venue.penalty * held)
    assert replayed.simulation.max_drawdown[0] == pytest.approx(2.0 + 0.001 * 99.0)


# ---- policies


def check_replay(rules: OrderBookMarket, policy: Policy, memory: Any, replayed: Any) -> None:
    """What holds for every replay of a policy."""
    decisions = memory.decisions[: memory.done[0]]
    for decision in decisions.ravel():
        asked = policy.quote(decision["observation"])
        assert asked == (decision["half_spread"], decision["skew"])
    results = replayed.simulation
    np.testing.assert_allclose(sum(getattr(results, part) for part in PARTS), results.profit, atol=1e-9)
    assert replayed.unexplained < 1e-6
    fills = memory.fills[: memory.done[1]]
    fills = fills[fills["episode"] < memory.done[0]]
    for episode in range(memory.done[0]):
        own = fills[fills["episode"] == episode]
        assert abs((own["side"] * own["quantity"]).sum()) < 1e-9
    assert (results.fills > 0).any()
    assert np.abs(decisions["observation"][..., 0]).max() <= rules.game.max_inventory + 1


def test_a_policy_quotes_unchanged_and_its_accounts_agree(example: SimpleNamespace, converted: Any) -> None:
    rules = synthetic_market()
    policy = random_policy(rules, 1.0, 0.5)
    for queue in example.replay.QUEUE_MODELS:
        memory, replayed = example.replay.run(rules, policy, converted, models(example, queue))
        check_replay(rules, policy, memory, replayed)


def test_fills_are_where_the_market_went(example: SimpleNamespace, converted: Any) -> None:
    rules = synthetic_market()
    memory, _ = example.replay.run(rules, (constant, (1.0, 0.3)), converted, models(example))
    events = converted.events[(converted.events["ev"] & hftbacktest.EXCH_EVENT) != 0]
    fills = memory.fills[: memory.done[1]]
    assert fills["maker"].sum() > 10
    for fill in fills[fills["maker"]]:
        now = events[events["exch_ts"] == fill["time"]]
        against = hftbacktest.SELL_EVENT if fill["side"] > 0 else hftbacktest.BUY_EVENT
        prices = now["px"][(now["ev"] & against) != 0]  # trades against us, or the other side's quotes
        assert (fill["side"] * (prices - fill["price"])).min() <= 1e-9


def test_the_real_recording(example: SimpleNamespace) -> None:
    converted = example.convert.convert(real_recording("spot"))
    rules = build(shipped_configuration("btcusdt_spot"))
    policy = random_policy(rules, 5.0, 1.0)
    memory, replayed = example.replay.run(rules, policy, converted, models(example, "power"))
    assert memory.done[0] == 11
    check_replay(rules, policy, memory, replayed)


# ---- the commands


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """A run directory as far as the example reads it."""
    folder = tmp_path / "run"
    folder.mkdir()
    settings = shipped_configuration("order_book")
    settings["venue"] |= {"tick": 0.1, "lot": 0.001, "order_size": 10, "decision_interval": 0.1, "decisions": 50}
    (folder / "config.yaml").write_text(yaml.safe_dump({"market": settings}))
    (folder / "tuning.json").write_text(json.dumps({"shift": 0.0, "scale": 1.0}))
    random_policy(build(settings), 1.0, 0.5).save(folder / "policy.safetensors")
    return folder


def test_the_command_prints_both_attributions(
    example: SimpleNamespace, run_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = write(tmp_path / "spot.gz", synthetic_lines("spot", updates=2000))
    output = tmp_path / "figures.json"
    words = ["--recording", str(recording), "--run", str(run_directory), "--paths", "100", "--output", str(output)]
    result = example.replay.main(words)
    shown = capsys.readouterr().out
    for word in (*PARTS, "profit", "queue_ahead_bid", f"Replay: {result['episodes']['replay']} of them"):
        assert word in shown
    for side in ("simulator", "replay"):
        assert sum(result[side][part] for part in PARTS) == pytest.approx(result[side]["profit"], abs=1e-6)
    assert json.loads(output.read_text()) == result


@pytest.mark.parametrize(
    ("venue", "given", "message"),
    [
        ({"tick": 0.75}, {}, "the market's tick is 0.75: must be a multiple of the recording's 0.5"),
        ({"lot": 0.0015}, {}, "the market's order size is 0.015"),
        ({}, {"response": 0.095}, "the round trip of an order is '0.1 s': must be below the decision interval"),
        ({}, {"entry": 0.0}, "--entry is 0.0"),
        ({"decisions": 40}, {}, "the recording is '3.0 s': must be longer than one episode of 4 s"),
    ],
)
def test_what_cannot_be_replayed_is_one_line(
    example: SimpleNamespace, venue: dict[str, Any], given: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError) as error:
        example.replay.run(market(**venue), silent, story(example), models(example)._replace(**given))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_recording_is_one_line(example: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "no.gz"
    path.write_text("nothing")
    with pytest.raises(InputError, match="line 1: starts with"):
        example.convert.convert(path)
