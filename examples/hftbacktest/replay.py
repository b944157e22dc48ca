"""A trained policy quotes on a Binance recording in hftbacktest; where its profit comes from, beside the simulator.

    python replay.py --recording FILE --run DIRECTORY

Both columns are bitquote's own attribution of episodes of the same length, from flat to liquidated, under the same
fees and latencies, in the same money. A recording of minutes has few episodes, and they are neighbours: read the range
that as many simulated ones would show before any difference.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from attribution import Replayed, attribute
from convert import Converted, convert
from hftbacktest import BacktestAsset, HashMapMarketDepthBacktest
from mirror import Scale
from strategy import END_OF_DATA, Memory, Rules, allocate, replay

from bitquote.errors import InputError, require, require_integer, require_number
from bitquote.evaluation.attribution import PARTS, markout_per_fill, simulated_attribution
from bitquote.market import OrderBookMarket, Simulation, build
from bitquote.market.function_pointer import function_and_arguments
from bitquote.quoting import glft_shifted
from bitquote.run import CONFIG, POLICY, existing_directory, read_json
from bitquote.ternary import load_policy

QUEUE_MODELS = {
    "power": lambda asset: asset.power_prob_queue_model(3.0),  # cancellations mostly behind us
    "log": lambda asset: asset.log_prob_queue_model2(),
    "risk_averse": lambda asset: asset.risk_adverse_queue_model(),  # cancellations all behind us
}
WARM_UP = 1.0  # s after the depth snapshot at which the first episode begins
SECONDS = 10**9  # in ns


class Models(NamedTuple):
    """What hftbacktest is told beside the data."""

    entry: float  # s from a decision to the exchange
    response: float  # s back
    queue: str  # of QUEUE_MODELS


def load_run(directory: str | Path) -> tuple[OrderBookMarket, Any]:
    """The market that a run directory's policy was trained in, with the baseline it observes, and the policy."""
    directory = existing_directory(str(directory))
    with open(directory / CONFIG, encoding="utf-8") as file:
        market = build(yaml.safe_load(file)["market"])
    if not isinstance(market, OrderBookMarket):
        raise InputError(f"{directory} is a run of the game: hftbacktest needs a policy of an order-book market")
    tuned = read_json(directory / "tuning.json", "shift", "scale")
    market = market.with_baseline(glft_shifted(market.game, tuned["shift"], tuned["scale"]))
    return market, load_policy(directory / POLICY)


def run(market: OrderBookMarket, quoter: Any, converted: Converted, models: Models) -> tuple[Memory, Replayed]:
    """Replay the recording with a policy, or any quoter that `market.simulate` takes but a table."""
    kernel, arguments = function_and_arguments(quoter, market.observation_size)
    scale = _scale(market, converted, models)
    rules = market.venue
    length = rules.decision_interval * rules.decisions
    events = converted.events
    seconds = (int(events["local_ts"].max()) - int(events["local_ts"].min())) / SECONDS - WARM_UP
    require(seconds > length, "the recording", f"{seconds:.1f} s", f"longer than one episode of {length:g} s")
    memory = allocate(market.window, int(seconds / length), rules.decisions)
    hbt = HashMapMarketDepthBacktest([_asset(market, converted, models)])
    try:
        setting = Rules(rules, market.baseline_features(), scale)
        code = replay(hbt, kernel, arguments, setting, memory, round(WARM_UP * SECONDS))
    finally:
        hbt.close()
    if code not in (0, END_OF_DATA):
        raise RuntimeError(f"hftbacktest stopped with its error code {code}")
    require(memory.done[0] > 0, "the recording", f"{seconds:.1f} s", f"longer than one episode of {length:g} s")
    return memory, attribute(market, converted.recording, memory, scale.quantity)


def _scale(market: OrderBookMarket, converted: Converted, models: Models) -> Scale:
    rules, tick = market.venue, converted.recording.tick.size
    for name, value in (("--entry", models.entry), ("--response", models.response)):
        require_number(name, value, 1e-6)
    round_trip = models.entry + models.response
    require(round_trip < rules.decision_interval, "the round trip of an order", f"{round_trip:g} s",
            f"below the decision interval of {rules.decision_interval:g} s")  # fmt: skip
    quantity = rules.order_size * market.lot
    for name, value, unit in (
        ("the market's tick", market.tick, tick),
        ("the market's order size", quantity, converted.lot),
    ):
        whole = round(value / unit)
        require(whole >= 1 and abs(value / unit - whole) < 1e-6, name, value, f"a multiple of the recording's {unit:g}")
    return Scale(round(market.tick / tick), tick, market.lot, quantity, round(round_trip * SECONDS))


def _asset(market: OrderBookMarket, converted: Converted, models: Models) -> BacktestAsset:
    asset = (
        BacktestAsset()
        .data(converted.events)
        .linear_asset(1.0)
        .constant_order_latency(round(models.entry * SECONDS), round(models.response * SECONDS))
        .tick_size(converted.recording.tick.size)
        .lot_size(converted.lot)
        .trading_value_fee_model(market.venue.maker_fee, market.venue.taker_fee)
        .no_partial_fill_exchange()  # 2.4.4 loses partial fills: see README.md
        .last_trades_capacity(10_000)
    )
    return QUEUE_MODELS[models.queue](asset)


# ---- what is printed


def compare(market: OrderBookMarket, simulated: Simulation, replayed: Replayed) -> dict[str, Any]:
    """Both attributions per minute of quoting, and what as many simulated episodes as there are replayed would show."""
    horizon = market.game.horizon
    minutes = 60.0 / horizon
    sides = {"simulator": simulated, "replay": replayed.simulation}
    result: dict[str, Any] = {
        "market": market.name, "units": market.units, "episode_seconds": horizon,
        "episodes": {name: int(side.profit.size) for name, side in sides.items()},
        "recording_seconds": replayed.recording_seconds, "unexplained": replayed.unexplained,
        "rejected": replayed.rejected, "walk": replayed.walk * minutes,
    }  # fmt: skip
    for name, side in sides.items():
        widths = side.mean_spread[np.isfinite(side.mean_spread)]
        means = simulated_attribution(side) | {"profit": float(side.profit.mean()), "fills": float(side.fills.mean())}
        result[name] = {part: value * minutes for part, value in means.items()} | {
            "markout": markout_per_fill(side),
            "mean_spread": float(widths.mean()) if widths.size else None,
        }
    count = replayed.simulation.profit.size
    result["range"] = {name: _range(getattr(simulated, name) * minutes, count) for name in (*PARTS, "profit", "fills")}
    return result


def _range(values: np.ndarray, count: int) -> list[float]:
    """Where 95 % of the means of `count` simulated episodes lie."""
    blocks = values[: values.size // count * count].reshape(-1, count)
    return np.percentile(blocks.mean(1), (2.5, 97.5)).tolist()


def print_comparison(result: dict[str, Any], market: OrderBookMarket, models: Models) -> None:
    """The table, and what it must not be taken for."""
    simulated, replayed = result["episodes"]["simulator"], result["episodes"]["replay"]
    rules, length = market.venue, result["episode_seconds"]
    print(f"{result['market']}: per minute of quoting, money in {result['units']}")
    print(f"{'':<22}{'simulator':>11}{f'95 % of {replayed} simulated':>26}{'replay':>11}")
    for name in (*PARTS, "profit", "fills"):
        low, high = result["range"][name]
        of = f"{low:.2f} to {high:.2f}"
        print(f"{name:<22}{result['simulator'][name]:>11.2f}{of:>26}{result['replay'][name]:>11.2f}")
    for name, title in (("markout", "markout, price a fill"), ("mean_spread", "quoted spread, price")):
        cells = (result[side][name] for side in ("simulator", "replay"))
        left, right = ("-" if value is None else f"{value:.2f}" for value in cells)
        print(f"{title:<22}{left:>11}{'':>26}{right:>11}")
    for line in (
        f"Simulator: {simulated} episodes of {length:g} s. Replay: {replayed} of them, one after the other, from a",
        f"recording of {result['recording_seconds']:.0f} s and of no other day.",
        f"hftbacktest: latency {1e3 * models.entry:g} ms to the exchange and {1e3 * models.response:g} ms back, queue "
        f"model {models.queue}; {result['rejected']} messages",
        "refused. It fills orders whole, liquidations at the best price: through the book that was seen they",
        f"would cost {result['walk']:.2f} a minute more. Its own balance agrees with the replay's profit to "
        f"{result['unexplained']:.0e}.",
        f"Fees in both: {1e4 * rules.maker_fee:g} (maker) and {1e4 * rules.taker_fee:g} (taker) basis points.",
    ):
        print(line)


def print_observations(market: OrderBookMarket, simulated: np.ndarray, memory: Memory) -> None:
    """What the policy saw: 5 %, 50 % and 95 % of every feature, simulated and replayed."""
    seen = memory.decisions["observation"][: memory.done[0]]
    print(f"\n{'what the policy saw':<22}{'simulator: 5, 50, 95 %':>30}{'replay: 5, 50, 95 %':>30}")
    for i, name in enumerate(market.observation_names):
        cells = ("".join(f"{q:>10.2f}" for q in np.percentile(a[..., i], (5, 50, 95))) for a in (simulated, seen))
        print(f"{name:<22}{'{:>30}{:>30}'.format(*cells)}")


def main(words: list[str] | None = None) -> dict[str, Any]:
    """Replay, simulate, compare; returns what `--output` writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recording", type=Path, required=True, help="file of hftbacktest's Binance collector")
    parser.add_argument("--run", type=Path, required=True, help="run directory of `bitquote train`")
    parser.add_argument("--entry", type=float, help="latency of an order, s (the market's latency_new)")
    parser.add_argument("--response", type=float, help="latency of the answer, s (the same)")
    parser.add_argument("--queue", choices=QUEUE_MODELS, default="power", help="queue model (power)")
    parser.add_argument("--paths", type=int, default=2000, help="simulated episodes (2000)")
    parser.add_argument("--seed", type=int, default=1_000_000, help="of the simulation (1000000, as in the benchmark)")
    parser.add_argument("--threads", type=int, default=1, help="of the simulation (1)")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    options = parser.parse_args(words)
    require_integer("--paths", options.paths, 100)
    market, policy = load_run(options.run)
    latency = market.venue.latency_new
    entry = latency if options.entry is None else options.entry
    models = Models(entry, latency if options.response is None else options.response, options.queue)
    memory, replayed = run(market, policy, convert(options.recording), models)
    require_integer("--paths", options.paths, int(memory.done[0]))  # as many as were replayed: their chance is compared
    simulated = market.simulate(policy, options.paths, options.seed, threads=options.threads)
    result = compare(market, simulated, replayed) | {"models": models._asdict()}
    print_comparison(result, market, models)
    print_observations(market, market.rollout(policy, 64, options.seed, threads=options.threads).observation, memory)
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"replay: {error}")
