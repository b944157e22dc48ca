"""What a maker does to a market, and what the market's manipulators do to a maker: five questions, with intervals.

    python scripts/experiments/market_quality.py --run runs/direct --paths 500 --output runs/market_quality

1. Do makers narrow spreads and calm prices, and does competition tighten them further?
2. What does a trader pay for 1 000 lots in one block, in ten slices, with and without makers who skew by inventory?
3. How do half-spread and skew respond to a growing inventory?
4. Which flow is toxic to whom?
5. What do stuffing and wash trading do to a policy?

Every comparison is paired over the same random numbers of the crowd; intervals are 95 %. Writes market_quality.json
and market_quality.png. Without --run, the questions about a policy are left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from bitquote.calibration.informed import vpin
from bitquote.calibration.statistics import markout
from bitquote.evaluation import tune_glft
from bitquote.evaluation.market_quality import (
    FIGURES,
    change,
    drift,
    impact_of_metaorder,
    quality,
    response_to_inventory,
)
from bitquote.evaluation.statistics import Interval, student_interval
from bitquote.market import OrderBookMarket, build, shipped_configuration
from bitquote.quoting import QuoteTable, glft, glft_shifted, symmetric_constant
from bitquote.ternary import load_policy

TUNING_SEED, TEST_SEED = 3_000_000, 4_000_000
CALM = ("calm", "order_book", "clustered", "toxic", "tight", "wide")
MANIPULATED = ("order_book", "stuffed", "washed")
MAKERS = (0, 1, 2, 3, 5)
TAPES = ("calm", "order_book", "clustered", "toxic", "stuffed", "washed")
TAPE_SECONDS, BUCKET = 4000.0, 40  # a bucket of VPIN in order sizes
HORIZONS = (0.1, 0.5, 1.0, 5.0, 20.0)  # s


def market_of(name: str, slices: int | None = None) -> OrderBookMarket:
    """A shipped market; its metaorder in another number of slices."""
    config = shipped_configuration(name)
    if slices is not None:
        config["flow"]["metaorder"]["slices"] = slices
    market = build(config)
    assert isinstance(market, OrderBookMarket)
    return market


def entry(interval: Interval) -> dict[str, float]:
    """An interval as JSON carries it."""
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def makers_and_spreads(tuned: Mapping[str, Any], paths: int) -> dict[str, Any]:
    """Question 1: figures without makers, and their change with one, two, three and five tuned ones."""
    answer: dict[str, Any] = {}
    for name in CALM:
        market = market_of(name)
        runs = {count: quality(market, [tuned[name]] * count, paths, TEST_SEED) for count in MAKERS}
        rows = answer[name] = {"without": {}, "change": {}}
        for figure in FIGURES[:-2]:
            rows["without"][figure] = entry(student_interval(runs[0][figure][np.isfinite(runs[0][figure])]))
        for count in MAKERS[1:]:
            rows["change"][count] = {figure: entry(change(runs[0], runs[count], figure)) for figure in FIGURES[:-2]}
        rows["next_maker"] = {
            f"{a} to {b}": entry(change(runs[a], runs[b], "quoted_spread"))
            for a, b in itertools.pairwise(MAKERS)
        }
    return answer


def block_against_slices(paths: int) -> dict[str, Any]:
    """Question 2: ticks a lot above the arrival mid, and the difference that slicing makes, for each sort of maker."""
    answer: dict[str, Any] = {"cost": {}, "slicing": {}, "skewing": {}}
    block, sliced = market_of("whale_block"), market_of("whale_block", slices=10)
    flat, skewed = symmetric_constant(block.game), glft(block.game)
    sorts = {"no maker": [], "one without skew": [flat], "one who skews": [skewed],
             "three without skew": [flat] * 3, "three who skew": [skewed] * 3}  # fmt: skip
    costs = {}
    controls = [drift(market, paths, TEST_SEED) for market in (block, sliced)]
    for sort, makers in sorts.items():
        costs[sort] = [quality(market, makers, paths, TEST_SEED) for market in (block, sliced)]
        for run, control in zip(costs[sort], controls, strict=True):
            run["metaorder_cost"] = run["metaorder_cost"] - control
        answer["cost"][sort] = [entry(student_interval(run["metaorder_cost"])) for run in costs[sort]]
        answer["slicing"][sort] = entry(change(*costs[sort], "metaorder_cost"))
    for count in ("one", "three"):
        flat_costs, skewed_costs = costs[f"{count} without skew"], costs[f"{count} who skews" if count == "one"
                                                                         else "three who skew"]  # fmt: skip
        answer["skewing"][count] = [
            entry(change(a, b, "metaorder_cost")) for a, b in zip(flat_costs, skewed_costs, strict=True)
        ]
    answer["impact"] = {}
    for name, market in (("block", block), ("ten slices", sliced)):
        for sort, maker in (("no maker", None), ("one who skews", skewed)):
            impact = impact_of_metaorder(market, maker, paths, TEST_SEED, 120.0)
            answer["impact"][f"{name}, {sort}"] = {
                "time": impact.time.tolist(), "mean": impact.mean.tolist(), "low": impact.low.tolist(),
                "high": impact.high.tolist(), "resilience": entry(impact.resilience),
            }  # fmt: skip
    return answer


def tape_figures(tuned: Mapping[str, Any]) -> dict[str, Any]:
    """Questions 1 and 4 on the tape: VPIN, and the move of the mid after takers' trades, without and with a maker."""
    answer: dict[str, Any] = {}
    for name in TAPES:
        market = market_of(name)
        bucket = BUCKET * market.venue.order_size * market.lot
        for makers in ([], [_as_at_the_start(tuned.get(name, tuned["order_book"]))]):
            tape = market.tape(TAPE_SECONDS, TEST_SEED, quoters=makers)
            found = vpin(tape, bucket)
            curve = {horizon: markout(tape, 0.0, horizon) / market.tick for horizon in HORIZONS}
            answer.setdefault(name, {})["a maker" if makers else "none"] = {
                "vpin": entry(Interval(found.value, found.low, found.high)), "markout": curve,
            }  # fmt: skip
    return answer


def _as_at_the_start(table: QuoteTable) -> QuoteTable:
    """The quotes of the first decision at every decision: a tape is far longer than the game, and its end far off."""
    return QuoteTable(*(np.repeat(side[:1], side.shape[0], axis=0) for side in table))


def responses(quoters: Mapping[str, Any], paths: int) -> dict[str, Any]:
    """Question 3: mean half-spread and skew (ticks) by inventory (orders) in the default market."""
    answer = {}
    for name, quoter in quoters.items():
        found = response_to_inventory(market_of("order_book"), quoter, paths, TEST_SEED)
        answer[name] = {field: getattr(found, field).tolist() for field in found._fields}
    return answer


def toxicity(tuned: Mapping[str, Any], policy: Any, baseline: Any, paths: int) -> dict[str, Any]:
    """Question 4: markout, ticks a lot, and objective of each quoter in each flow."""
    answer: dict[str, Any] = {}
    for name in CALM:
        market = market_of(name)
        quoters = {"symmetric_constant": symmetric_constant(market.game), "glft_tuned": tuned[name]}
        if policy is not None:
            quoters["policy"] = policy
            market = market.with_baseline(baseline)
        runs = {quoter_name: market.summaries(quoter, paths, TEST_SEED) for quoter_name, quoter in quoters.items()}
        figures = {
            quoter_name: {"markout": rows["markout"], "objective": rows["profit"] - rows["penalty"]}
            for quoter_name, rows in runs.items()
        }
        tuned_figures = figures["glft_tuned"]
        answer[name] = {
            quoter_name: {
                figure: entry(student_interval(values[np.isfinite(values)])) for figure, values in own.items()
            } | {f"{figure} - glft_tuned": entry(change(tuned_figures, own, figure)) for figure in own}
            for quoter_name, own in figures.items()
        }
    return answer


def manipulation(policy: Any, baseline: Any, paths: int) -> dict[str, Any]:
    """Question 5: what the default market's policy and tuned table lose where somebody stuffs or washes."""
    answer: dict[str, Any] = {}
    scores: dict[str, dict[str, np.ndarray]] = {}
    for name in MANIPULATED:
        market = market_of(name).with_baseline(baseline)
        for quoter_name, quoter in (("glft_tuned", baseline), ("policy", policy)):
            rows = market.summaries(quoter, paths, TEST_SEED)
            scores.setdefault(quoter_name, {})[name] = rows["profit"] - rows["penalty"]
    for name in MANIPULATED:
        own = {quoter: entry(student_interval(values[name])) for quoter, values in scores.items()}
        lost = {
            quoter: entry(student_interval(values[name] - values["order_book"])) for quoter, values in scores.items()
        }
        margin = student_interval(scores["policy"][name] - scores["glft_tuned"][name])
        answer[name] = {"objective": own, "change": lost, "policy - glft_tuned": entry(margin)}
    return answer


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(*header, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console(width=170).print(table)


def text(figure: Mapping[str, float], places: int = 3) -> str:
    """mean and margin."""
    return f"{figure['mean']:.{places}f} ± {figure['high'] - figure['mean']:.{places}f}"


def print_answers(answers: Mapping[str, Any]) -> None:
    """All tables."""
    spreads = answers["makers"]
    show("1. the market without a maker, and the change with one and with five",
         ["market", *FIGURES[:-2], "next maker narrows the quoted spread by"],
         [[name, *(f"{text(rows['without'][f], 2)}; {text(rows['change'][1][f], 3)}; {text(rows['change'][5][f], 3)}"
                   for f in FIGURES[:-2]), "; ".join(text(v) for v in rows["next_maker"].values())]
          for name, rows in spreads.items()])  # fmt: skip
    show("   on the tape: VPIN, and the mid's move against a maker after takers' trades (ticks)",
         ["market", "makers", "VPIN", *(f"{horizon:g} s" for horizon in HORIZONS)],
         [[name, makers, f"{row['vpin']['mean']:.3f} [{row['vpin']['low']:.3f}, {row['vpin']['high']:.3f}]",
           *(f"{row['markout'][horizon]:.2f}" for horizon in HORIZONS)]
          for name, rows in answers["tapes"].items() for makers, row in rows.items()])  # fmt: skip
    block = answers["block"]
    show("2. ticks a lot above the arrival mid, 1000 lots", ["makers", "one block", "ten slices", "slices - block"],
         [[sort, *(text(cost) for cost in costs), text(block["slicing"][sort])]
          for sort, costs in block["cost"].items()])  # fmt: skip
    show("   makers who skew against makers who do not", ["makers", "one block", "ten slices"],
         [[count, *(text(cost) for cost in costs)] for count, costs in block["skewing"].items()])  # fmt: skip
    show("   share of the peak impact that is gone after two minutes", ["metaorder", "resilience"],
         [[name, text(impact["resilience"], 2)] for name, impact in block["impact"].items()])  # fmt: skip
    show("3. quotes by inventory (ticks), and the widest margin of the skew",
         ["quoter", "inventory", "half-spread", "skew", "at most +-"],
         [[name, *(" ".join(f"{v:.1f}" for v in found[field][::4]) for field in ("inventory", "half_spread", "skew")),
           f"{max(found['skew_margin']):.2f}"]
          for name, found in answers["responses"].items()])  # fmt: skip
    show("4. markout (ticks a lot, mean over paths), objective, and both against glft_tuned on the same paths",
         ["market", "quoter", "markout", "objective", "markout - glft_tuned", "objective - glft_tuned"],
         [[name, quoter, *(text(figure, 3) for figure in row.values())]
          for name, rows in answers["toxicity"].items() for quoter, row in rows.items()])  # fmt: skip
    if "manipulation" in answers:
        quoters = ("glft_tuned", "policy")
        show("5. stuffing and wash trading",
             ["market", *(f"{quoter}: {kind}" for quoter in quoters for kind in ("objective", "change")), "difference"],
             [[name, *(text(row[kind][quoter]) for quoter in quoters for kind in ("objective", "change")),
               text(row["policy - glft_tuned"])] for name, row in answers["manipulation"].items()])  # fmt: skip


def draw(answers: Mapping[str, Any]) -> Figure:
    """Four panels: spread against the number of makers, impact, half-spread and skew by inventory, markouts."""
    figure = Figure(figsize=(13.0, 8.4), layout="constrained")
    (spread, impact), (quotes, toxic) = figure.subplots(2, 2)
    for name, rows in answers["makers"].items():
        base = rows["without"]["quoted_spread"]["mean"]
        changes = [rows["change"][count]["quoted_spread"] for count in MAKERS[1:]]
        values = np.array([base, *(base + c["mean"] for c in changes)]) / base
        margins = np.array([0.0, *(c["high"] - c["mean"] for c in changes)]) / base
        spread.errorbar(MAKERS, values, margins, marker="o", markersize=4, capsize=2, label=name)
    spread.set(xlabel="makers (tuned GLFT)", ylabel="quoted spread / without a maker", title="makers and the spread")
    spread.legend(fontsize=8)
    for name, path in answers["block"]["impact"].items():
        line = impact.plot(path["time"], path["mean"], label=name)[0]
        impact.fill_between(path["time"], path["low"], path["high"], color=line.get_color(), alpha=0.2)
    impact.set(xlabel="s since the metaorder began", ylabel="mid against before (ticks)", title="impact of 1000 lots")
    impact.legend(fontsize=8)
    for name, found in answers["responses"].items():
        line = quotes.errorbar(found["inventory"], found["skew"], found["skew_margin"], label=f"{name}: skew")[0]
        look = {"color": line.get_color(), "linestyle": "--", "label": f"{name}: half-spread"}
        quotes.plot(found["inventory"], found["half_spread"], **look)
    quotes.set(xlabel="inventory (orders)", ylabel="ticks", title="quotes against inventory, default market")
    quotes.legend(fontsize=8)
    names = list(answers["toxicity"])
    quoters = list(answers["toxicity"][names[0]])
    for place, quoter in enumerate(quoters):
        rows = [answers["toxicity"][name][quoter]["markout"] for name in names]
        at = np.arange(len(names)) + 0.26 * (place - 0.5 * (len(quoters) - 1))
        margins = [row["high"] - row["mean"] for row in rows]
        toxic.bar(at, [row["mean"] for row in rows], 0.24, yerr=margins, label=quoter, capsize=2)
    toxic.set_xticks(range(len(names)), names)
    toxic.set(ylabel="markout after 1 s (ticks a lot)", title="which flow is toxic to whom")
    toxic.legend(fontsize=8)
    for axis in (spread, impact, quotes, toxic):
        axis.grid(alpha=0.25)
    return figure


def main() -> None:
    """Ask, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="run directory of a policy trained in market=order_book")
    parser.add_argument("--paths", type=int, default=500)
    parser.add_argument("--output", type=Path, default=Path("runs/market_quality"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    tuned = {}
    for name in CALM:
        print(f"tuning GLFT in {name}", flush=True)
        tuned[name] = tune_glft(market_of(name), seed=TUNING_SEED, paths=128).table
    policy = load_policy(options.run / "policy.safetensors") if options.run else None
    baseline = tuned["order_book"]
    if options.run:
        record = json.loads((options.run / "tuning.json").read_text())
        baseline = glft_shifted(market_of("order_book").game, record["shift"], record["scale"])
    print("makers and spreads", flush=True)
    answers = {"makers": makers_and_spreads(tuned, options.paths)}
    print("a block against slices", flush=True)
    answers["block"] = block_against_slices(options.paths)
    print("quotes against inventory, toxicity, manipulation", flush=True)
    quoters = {"glft": glft(market_of("order_book").game), "glft_tuned": tuned["order_book"]}
    answers["tapes"] = tape_figures(tuned)
    answers["responses"] = responses(quoters | ({"policy": policy} if policy is not None else {}), options.paths)
    answers["toxicity"] = toxicity(tuned, policy, baseline, options.paths)
    if policy is not None:
        answers["manipulation"] = manipulation(policy, baseline, options.paths)
    (options.output / "market_quality.json").write_text(json.dumps(answers, indent=1))
    draw(answers).savefig(options.output / "market_quality.png", dpi=110)
    print_answers(answers)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
