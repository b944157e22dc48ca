"""L1 logistic regression through the parameter server, the first experiment of Li et al. (2013).

    python scripts/experiments/l1_logistic_regression.py --output runs/l1
    python scripts/experiments/l1_logistic_regression.py --data a9a.xz --engine ray --workers 1 2 4

Minimises (1/n) sum_i log(1 + exp(-y_i x_i.w)) + l1 |w|_1, without an intercept, by the delayed proximal gradient: the
rows are split among the workers, each pushes the gradient of its rows, and the server steps on the sum of the latest
gradients with step 1/((1 + tau) L + eps) and soft-thresholds. The gate holds clocks together within tau; a gradient of
W workers may then be (W - 1)(2 tau + 1) pushes old at worst, and the table shows how old they were. Three tables:

1. every number of workers with every tau, against scikit-learn's solvers of the same function;
2. every filter on the wire, with the bytes that it saves (two workers, tau 4);
3. the step at 1, 2 and 4 times its bound, with gradients that are exactly tau pushes old (inproc, tau + 1 workers that
   push whole gradients in turn).

The data are LIBSVM's text format, plain or .xz, .gz, .bz2. Without --data: ../shared/data/a9a.xz beside the checkout
when it is there, else scikit-learn's breast cancer set, standardised.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from command import cell, check, first_at_most, numbers, parser, run, runs_table, surroundings, tracked, write
from harness import Setup, Trace, descend, exact_delay, marks, measured, objectives, step_bound, train
from logistic import LogisticRegression, breast_cancer, read_libsvm, solve
from matplotlib.figure import Figure
from pictures import Curve, against_time, colours, plain_ticks
from rich.console import Console
from rich.table import Table

from bitquote.errors import require_integer, require_number

BESIDE = Path(__file__).parents[3] / "shared" / "data" / "a9a.xz"
GAP, NEAR = 1e-4, 1e-3
"""Above the solver's objective: what counts as having reached it, and what slower runs reach too."""
MULTIPLES = (1, 2, 4)
FILTERED = {"workers": 2, "tau": 4}
COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "above best": lambda row: f"{row['gap']:.2e}",
    "nonzero": lambda row: str(row["nonzero"]),
    f"s to {NEAR:g}": lambda row: cell(row["seconds_to_1e-3"]),
    f"s to {GAP:g}": lambda row: cell(row["seconds_to_1e-4"]),
}


def setup(problem: LogisticRegression, lipschitz: float, tau: int, **changes: Any) -> Setup:
    """A run at the bound of the step."""
    prox = {"kind": "l1", "strength": problem.l1}
    common = {"engine": "inproc", "workers": 1, "rounds": 1, "step_size": step_bound(lipschitz, tau)}
    return Setup(tau=tau, lipschitz=lipschitz, prox=prox, **(common | changes))


def summary(problem: LogisticRegression, best: float, made: Setup, trace: Trace) -> dict[str, Any]:
    """One run for results.json."""
    values = objectives(problem, trace.weights)
    gap = values - best
    return measured(made, trace, values) | {
        "gap": float(gap[-1]),
        "nonzero": int(np.count_nonzero(trace.weights[-1])),
        "seconds_to_1e-3": first_at_most(gap, NEAR, trace.seconds),
        "seconds_to_1e-4": first_at_most(gap, GAP, trace.seconds),
        "bytes_pulled": trace.statistics["bytes_sent"],
        "bytes_pulled_raw": trace.statistics["bytes_raw_sent"],
        "curve": {"rounds": trace.at.tolist(), "seconds": numbers(trace.seconds), "gap": numbers(gap)},
    }


def filters(l1: float) -> dict[str, dict[str, Any]]:
    """The server's settings for every filter by itself."""
    return {
        "none": {},
        "KKT, slack l1/10": {"kkt_slack": l1 / 10.0},
        "significantly modified, 1e-3": {"significance": 1e-3},
        "random skip, q = 1/2": {"random_skip": 0.5},
        "ternary gradients": {"ternary_gradients": True},
    }


class Step(NamedTuple):
    """One cell of the sweep over step sizes."""

    tau: int
    multiple: int


def sweep(problem: LogisticRegression, lipschitz: float, at: Step, pushes: int) -> dict[str, Any]:
    """Delayed proximal gradient at a multiple of its step bound, every gradient exactly tau pushes old.

    `swing` is the most by which the objective stood above its lowest value so far, in the second half of the pushes:
    0 means that it only fell.
    """
    step_size = at.multiple * step_bound(lipschitz, at.tau)
    made = setup(problem, lipschitz, at.tau, step_size=step_size)
    every = np.arange(0, pushes + 1, max(1, pushes // 300))
    trace = exact_delay(problem, np.zeros(problem.size, np.float32), made, np.union1d(every, [pushes]))
    values = objectives(problem, trace.weights)
    return {
        "tau": at.tau,
        "multiple": at.multiple,
        "step_size": step_size,
        "objective": float(values[-1]),
        "swing": float((values - np.minimum.accumulate(values))[values.size // 2 :].max()),
        "version_delay": trace.statistics["version_delay"],
        "curve": {"pushes": trace.at.tolist(), "objective": numbers(values)},
    }


def filters_table(runs: list[dict[str, Any]]) -> Table:
    table = Table(title=f"filters: {runs[0]['workers']} workers, τ = {runs[0]['tau']}")
    table.add_column("filter")
    for name in ("above best", "MB pushed", "of plain", "MB pulled", "of plain", "seconds"):
        table.add_column(name, justify="right")
    for row in runs:
        cells = []
        for way in ("pushed", "pulled"):
            share = row[f"bytes_{way}"] / max(row[f"bytes_{way}_raw"], 1)
            cells += [f"{row[f'bytes_{way}'] / 1e6:.2f}", f"{share:.1%}"]
        table.add_row(row["filter"], f"{row['gap']:.2e}", *cells, f"{row['seconds']:.2f}")
    return table


def sweep_table(rows: list[dict[str, Any]], pushes: int) -> Table:
    table = Table(title=f"step against its bound 1/((1 + τ) L): objective after {pushes} pushes, exact delay τ")
    table.add_column("τ", justify="right")
    for multiple in MULTIPLES:
        table.add_column(f"{multiple}x", justify="right")
        table.add_column("swing", justify="right")
    by_step = {Step(row["tau"], row["multiple"]): row for row in rows}
    for tau in sorted({row["tau"] for row in rows}):
        found = [by_step[Step(tau, multiple)] for multiple in MULTIPLES]
        cells = [text for row in found for text in (f"{row['objective']:.4f}", f"{row['swing']:.4f}")]
        table.add_row(str(tau), *cells)
    return table


def sweep_figure(rows: list[dict[str, Any]], best: float) -> Figure:
    """A panel for each multiple of the bound, a line for each tau."""
    figure = Figure(figsize=(12.0, 4.2), layout="constrained")
    axes = figure.subplots(1, len(MULTIPLES), sharex=True, sharey=True)
    colour = colours([row["tau"] for row in rows])
    for axis, multiple in zip(axes, MULTIPLES, strict=True):
        for row in rows:
            if row["multiple"] == multiple:
                curve = row["curve"]
                axis.plot(
                    curve["pushes"],
                    curve["objective"],
                    color=colour[row["tau"]],
                    label=f"τ = {row['tau']}",
                    linewidth=1.0,
                )
        axis.axhline(best, color="#555555", linewidth=0.8, linestyle="--")
        axis.set_yscale("log")
        axis.set_title(f"{multiple} x the bound" if multiple > 1 else "the bound 1/((1 + τ) L)")
        axis.set_xlabel("pushes")
        axis.grid(alpha=0.25)
    plain_ticks(axes[0])
    axes[0].set_ylabel("objective (dashed: scikit-learn)")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def arguments() -> Any:
    words = parser(__doc__, rounds=8000)
    words.add_argument("--data", type=Path, help="a file in LIBSVM's format")
    words.add_argument("--l1", type=float, help="strength of the L1 term (1e-4; breast cancer: 2e-2)")
    words.add_argument("--sweep-pushes", type=int, default=600, help="of the sweep over steps (600; 0: no sweep)")
    words.add_argument("--sweep-tau", type=int, nargs="+", default=[0, 1, 4, 8, 16], help="(0 1 4 8 16)")
    words.add_argument("--no-filters", action="store_true", help="leave the filters out")
    options = words.parse_args()
    check(options)
    require_integer("--sweep-pushes", options.sweep_pushes, 0)
    for tau in options.sweep_tau:
        require_integer("--sweep-tau", tau, 0, 1023)
    if options.l1 is not None:
        require_number("--l1", options.l1, 0.0, above=True)
    if options.quick:
        options.rounds, options.sweep_pushes = min(options.rounds, 400), min(options.sweep_pushes, 60)
    return options


def load(options: Any) -> tuple[str, LogisticRegression]:
    """Name of the data, and the problem."""
    path = options.data or (BESIDE if BESIDE.exists() else None)
    name = path.name if path else "breast cancer"
    features, labels = read_libsvm(path) if path else breast_cancer()
    l1 = options.l1 or (1e-4 if path else 2e-2)
    return name, LogisticRegression(features, labels, l1, features.shape[0])


def main() -> None:
    options, console = arguments(), Console(width=120)
    name, problem = load(options)
    lipschitz, solvers = problem.lipschitz(), solve(problem)
    best = min(solvers.values())
    start, at = np.zeros(problem.size, np.float32), marks(options.rounds, 150, logarithmic=True)
    shape = f"{problem.rows:,} rows, {problem.size} features, l1 = {problem.l1:g}, L = {lipschitz:.4g}"
    console.print(f"{name}: {shape}", highlight=False)
    found = ", ".join(f"{solver} {value:.6f}" for solver, value in solvers.items())
    console.print(f"scikit-learn's objective: {found}", highlight=False)
    seconds, weights = descend(problem, start, step_bound(lipschitz, 0), at, l1=problem.l1)
    alone = problem.objective(weights[-1]) - best
    console.print(f"one process without a server: {alone:.2e} above that in {seconds[-1]:.2f} s", highlight=False)

    def trained(tau: int, **changes: Any) -> dict[str, Any]:
        made = setup(problem, lipschitz, tau, engine=options.engine, rounds=options.rounds, **changes)
        return summary(problem, best, made, train(problem, start, made, at))

    grid = [(workers, tau) for workers in options.workers for tau in options.tau]
    cells = tracked(grid, lambda pair: f"{pair[0]} workers, tau {pair[1]}", console)
    runs = [trained(tau, workers=workers) for workers, tau in cells]
    console.print(runs_table(runs, f"{name} through {options.engine}", COLUMNS))

    chosen = {} if options.no_filters else filters(problem.l1)
    filtered = [
        {"filter": kind} | trained(**FILTERED, options=chosen[kind])
        for kind in tracked(list(chosen), lambda kind: f"filter: {kind}", console)
    ]
    if filtered:
        console.print(filters_table(filtered))

    steps = [Step(tau, multiple) for tau in options.sweep_tau for multiple in MULTIPLES if options.sweep_pushes]
    swept = [
        sweep(problem, lipschitz, step, options.sweep_pushes)
        for step in tracked(steps, lambda step: f"sweep: tau {step.tau}, {step.multiple}x", console)
    ]
    if swept:
        console.print(sweep_table(swept, options.sweep_pushes))

    results = {
        "experiment": "l1_logistic_regression",
        **surroundings(options),
        "data": {"name": name, "rows": problem.rows, "features": problem.size},
        "l1": problem.l1,
        "lipschitz": lipschitz,
        "scikit-learn": solvers,
        "one_process": {"seconds": float(seconds[-1]), "gap": alone},
        "runs": runs,
        "filters": filtered,
        "sweep": swept,
    }
    write(options.output, results, figures(name, runs, swept, best), console)


def figures(name: str, runs: list[dict[str, Any]], swept: list[dict[str, Any]], best: float) -> dict[str, Figure]:
    """By file name."""
    curves = [
        Curve(
            row["workers"],
            row["tau"],
            np.array(row["curve"]["seconds"]),
            np.maximum(row["curve"]["gap"], 1e-9),
            row["seconds_to_1e-3"],
        )
        for row in runs
    ]
    made = {
        "objective_against_time": against_time(
            curves,
            value="objective above scikit-learn's",
            level=NEAR,
            level_name=f"{NEAR:g} above",
            logarithmic=True,
            title=f"L1 logistic regression, {name}",
        )
    }
    return made | ({"step_sizes": sweep_figure(swept, best)} if swept else {})


if __name__ == "__main__":
    run(main)
