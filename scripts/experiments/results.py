"""Every table and figure of docs/results.md, by one command that goes on where it was interrupted.

    python scripts/experiments/results.py [--output runs/results] [suite ...]

Runs the suites (default: all that are named below), each into a folder of its own: `learned` trains ten policies from
scratch and ten residual ones, and `scenarios` judges the ten from scratch in every market. `peers` times the order book
beside those of PyPI that are installed. Writes docs/results.json, docs/results.md, which is drawn from it and from
nothing else, and a picture for each suite.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitquote.report.numbers import decimals_for, number
from bitquote.report.provenance import provenance
from bitquote.report.suite import pair_lines
from bitquote.report.table import p_value_text

DOCS = Path(__file__).parents[2] / "docs"
SUITES = {
    "learned": "In the order book: what is learned against closed forms",
    "scenarios": "In every regime: the policies from scratch, judged where they were not trained",
    "ternary": "Ternary weights against fp32",
    "published": "Closed forms alone: the published game and the order book",
    "game_gamma": "The exact game over the risk aversion",
    "calibrated": "Markets calibrated from recordings",
}
"""What each suite shows, in the order of the page."""
PEERS = "peers"
BOOK = Path(__file__).parents[1] / "benchmarks" / "book.py"
FROM_SCRATCH = "learned/runs/from_scratch"
QUOTERS = (
    "no_quote", "symmetric_constant", "avellaneda_stoikov", "glft_asymptotic", "glft", "glft_tuned",
    "dynamic_program_penalty", "policy",
)  # fmt: skip
_TUNING = ("shift", "shift_unit", "scale", "trials", "paths", "untuned")
_SHORT = {"symmetric_constant": "best constant", "dynamic_program_penalty": "dynamic program"}


def run_suite(name: str, output: Path) -> Path:
    """Run one suite into its folder; returns it."""
    words = [f"suite={name}", f"output={output / name}"]
    if name == "scenarios":
        runs = sorted((output / FROM_SCRATCH).iterdir(), key=lambda path: int(path.name))
        words.append("run=" + ",".join(str(path) for path in runs))
    subprocess.run([sys.executable, "-m", "train", "benchmark", *words], check=True)
    return output / name


def time_peers(output: Path) -> dict[str, Any]:
    """Rates of the order book and of its peers."""
    output.mkdir(parents=True, exist_ok=True)
    path = output / "peers.json"
    subprocess.run([sys.executable, str(BOOK), "--json", str(path)], check=True)
    return json.loads(path.read_text())


def collect(folder: Path) -> dict[str, Any]:
    """What the page tells of a finished suite: its common table, and how each cell's baseline was tuned."""
    summary = json.loads((folder / "suite.json").read_text())
    for name, cell in summary["markets"].items():
        tuning = json.loads((folder / f"{name}.json").read_text())["tuning"]
        cell["tuning"] = {key: tuning.get(key) for key in _TUNING}
        if "shifts" in tuning:
            ends = {axis: [tuning[axis][0], tuning[axis][-1]] for axis in ("shifts", "scales")}
            cell["tuning"] |= ends
        cell["rows"] = [row for row in cell["rows"] if not row["quoter"].startswith("policy:")]
    return summary


def page(results: Mapping[str, Any]) -> str:
    """docs/results.md."""
    made = results["hardware"]
    lines = [
        "# Results",
        "",
        "Made by `python scripts/experiments/results.py`, which writes docs/results.json; this page is drawn from that",
        f"file and a test holds the two together. bitquote {made['bitquote']}, Python {made['python']}, numba",
        f"{made['numba']}, torch {made['torch']}, {made['processor']}, {made['cores']} cores.",
        "",
        "Objective: mean profit less the inventory penalty, in price × order size. Margins are 95 % intervals, paired",
        "over the paths and, where policies are pooled, over training seeds too; p-values are corrected for the number",
        "of lines of their table (Holm). The reference is `glft_tuned` in an order book, the optimum in the game.",
    ]
    for name, title in SUITES.items():
        if name in results["suites"]:
            lines += ["", f"## {title}", "", *_suite(name, results["suites"][name])]
    if PEERS in results:
        lines += ["", "## The order book beside others", "", *_peers(results[PEERS])]
    lines += ["", "## What was lost", "", *_lost(results["suites"]), ""]
    return "\n".join(lines)


def _suite(name: str, summary: Mapping[str, Any]) -> list[str]:
    cells = summary["markets"]
    shown = [quoter for quoter in QUOTERS if any(_row(cell, quoter) for cell in cells.values())]
    lines = [
        f"`bitquote benchmark suite={name}`", "",
        "| cell | " + " | ".join(_SHORT.get(quoter, quoter) for quoter in shown) + " |",
        "|---" * (len(shown) + 1) + "|",
    ]  # fmt: skip
    for cell_name, cell in cells.items():
        values = [(_row(cell, quoter) or {}).get("objective") for quoter in shown]
        largest = max((value for value in values if value is not None), key=abs, default=None)
        places = decimals_for([largest], 5)  # closed forms of the game differ in the fifth
        best = max((value for value in values if value is not None), default=None)
        texts = [f"**{number(value, places)}**" if value == best else number(value, places) for value in values]
        lines.append(f"| `{cell_name}` | " + " | ".join(texts) + " |")
    if "policy" in shown:
        lines += ["", "| cell | policy − reference | p, Holm | earns more on | seeds | paths |", "|---" * 6 + "|"]
        lines += [_margin(cell_name, cell) for cell_name, cell in cells.items() if _row(cell, "policy")]
    lines += [text for line in pair_lines(summary) for text in ("", f"{line}.")]
    lines += ["", "Tuned: half-spread shift in units of 1/k, factor of the skew; the grid after it had widened.", ""]
    lines += ["| cell | shift | scale | shifts tried | scales tried | trials |", "|---" * 6 + "|"]
    lines += [_tuning(cell_name, cell["tuning"]) for cell_name, cell in cells.items()]
    return [*lines, "", f"![objective of each quoter in each cell of {name}](results_{name}.png)"]


def _peers(peers: Mapping[str, Any]) -> list[str]:
    rates = peers["million_messages_per_second"]
    own, *others = rates.items()
    installed = sorted((other for other in others if other[1] is not None), key=lambda other: -other[1])
    missing = [name for name, rate in others if rate is None]
    absent = f" Not installed there: {', '.join(missing)}." if missing else ""
    return [
        "`python scripts/benchmarks/book.py`: the same stream through each book's own Python face, about",
        f"{peers['live']} resting orders, medians.{absent}",
        "",
        "| book | million messages a second | bitquote is faster by |",
        "|---" * 3 + "|",
        f"| {own[0]} | {own[1]:.3g} | |",
        *(f"| {name} | {rate:.3g} | {own[1] / rate:.3g} |" for name, rate in installed),
    ]


def _row(cell: Mapping[str, Any], quoter: str) -> Mapping[str, Any] | None:
    return next((row for row in cell["rows"] if row["quoter"] == quoter), None)


def _margin(name: str, cell: Mapping[str, Any]) -> str:
    row = _row(cell, "policy")
    assert row is not None
    if row["regret"] is None:
        return f"| `{name}` | not estimable | | | {len(cell['training_seeds'])} | {cell['paths']} |"
    margin = row["ci_high"] - row["regret"]
    places = decimals_for([row["regret"], margin], 3)
    sign = "+" if row["regret"] < 0.0 else "−"
    improves = row.get("probability_of_improvement")
    often = "-" if improves is None else f"{100.0 * improves['mean']:.0f} % of paths"
    gain = f"{sign}{number(abs(row['regret']), places)} ± {number(margin, places)}"
    seeds = len(cell["training_seeds"])
    p = p_value_text(row.get("p_holm"))  # none where scores are exact
    return f"| `{name}` | {gain} | {p} | {often} | {seeds} | {cell['paths']} |"


def _tuning(name: str, tuning: Mapping[str, Any]) -> str:
    if tuning.get("untuned"):
        return f"| `{name}` | 0 | 1 | the optimum lies beyond the grid: GLFT itself | | |"
    shifts, scales = (f"{tuning[axis][0]:g} to {tuning[axis][1]:g}" for axis in ("shifts", "scales"))
    shift = tuning["shift"] / tuning["shift_unit"]
    return f"| `{name}` | {shift:.3g} | {tuning['scale']:.3g} | {shifts} | {scales} | {tuning['trials']} |"


def _lost(suites: Mapping[str, Any]) -> list[str]:
    """The cells in which a policy is significantly worse than the reference, and where not quoting is best."""
    worse, silent = [], []
    for suite, summary in suites.items():
        for name, cell in summary["markets"].items():
            row = _row(cell, "policy")
            if row and row["regret"] is not None and row["regret"] > 0.0 and (row.get("p_holm") or 1.0) < 0.05:
                worse.append(f"`{name}` ({suite}, −{row['regret']:.3g})")
            best = max(cell["rows"], key=lambda row: -1e300 if row["objective"] is None else row["objective"])
            if best["quoter"] == "no_quote":
                silent.append(f"`{name}`")
    pairs = [pair for summary in suites.values() for pair in summary.get("pairs", {}).values()]
    beaten = [f"`{pair['cells'][0]}` by `{pair['cells'][1]}`" for pair in pairs if (pair["high"] or 0.0) < 0.0]
    judged = any(_row(cell, "policy") for summary in suites.values() for cell in summary["markets"].values())
    losses = ", ".join(worse) or ("no cell" if judged else "no cell, for none has been judged here")
    return [
        f"- The policies are worse than the reference, after correction, in: {losses}.",
        *([f"- Of two cells compared with each other, the first is beaten: {', '.join(beaten)}."] if beaten else []),
        f"- Not quoting at all is best in: {', '.join(silent) or 'no cell'}.",
    ]


def main() -> None:
    """Run what is asked for, add it to docs/results.json, and draw the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*SUITES, PEERS]
    parser.add_argument("suites", nargs="*", default=known, metavar="suite", help=f"among {', '.join(known)}")
    parser.add_argument("--output", type=Path, default=Path("runs/results"))
    options = parser.parse_args()
    unknown = [name for name in options.suites if name not in known]
    if unknown:
        parser.error(f"{unknown[0]} is unknown: must be among {', '.join(known)}")
    trained = (options.output / FROM_SCRATCH).is_dir() or "learned" in options.suites
    if "scenarios" in options.suites and not trained:
        parser.error(f"scenarios needs the policies of learned in {options.output}: run that suite first")
    path = DOCS / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {"version": 1, "suites": {}}
    if PEERS in options.suites:
        results[PEERS] = time_peers(options.output)
    for name in (name for name in options.suites if name in SUITES):
        folder = run_suite(name, options.output)
        results["suites"][name] = collect(folder)
        shutil.copyfile(folder / "suite.png", DOCS / f"results_{name}.png")
    results["suites"] = {name: results["suites"][name] for name in SUITES if name in results["suites"]}
    results["hardware"] = provenance()
    path.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
    (DOCS / "results.md").write_text(page(results))
    print(f"written: {path}, {DOCS / 'results.md'} and the pictures")


if __name__ == "__main__":
    main()
