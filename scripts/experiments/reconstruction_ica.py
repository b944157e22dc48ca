"""Reconstruction ICA of image patches through the parameter server, the second experiment of Li et al. (2013).

    python scripts/experiments/reconstruction_ica.py --output runs/ica
    python scripts/experiments/reconstruction_ica.py --engine inproc --rounds 100 --patches 2000

Minimises, over W of shape (features, components) and m white patches x_i,

    (1/m) sum_i ( |W'W x_i - x_i|^2 / 2 + l1 sum_j sqrt((W x_i)_j^2 + smoothing) ),

the objective of Le, Karpenko, Ngiam and Ng, "ICA with Reconstruction Cost for Efficient Overcomplete Feature Learning"
(2011), scaled as in Stanford's UFLDL tutorial ("RICA") and without its rescaling of rows. The function is not convex:
the step is 1/((1 + tau) L + eps) with L the largest curvature at the start, where W has orthonormal rows or columns.

The patches are 12 x 12 pixels of scikit-learn's two sample images in grey, each less its own mean, as their first
principal components of unit variance. They are split among the workers; each pushes the gradient of its share and the
server steps on the sum of the latest. The reference is gradient descent in one process with the same step and as many
steps as a worker has rounds. A second table does the same with ternary gradients for the smallest and the largest tau;
they are noisy, so the step is a quarter, and so is that of their reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from command import cell, check, first_at_most, numbers, parser, run, runs_table, surroundings, tracked, write
from harness import Setup, Trace, descend, marks, measured, needed, objectives, step_bound, train
from matplotlib.figure import Figure
from pictures import Curve, against_time
from rich.console import Console

from bitquote.errors import require_integer, require_number

SIDE = 12
"""Pixels of a patch's edge."""
TOLERANCE = 1e-4
"""Relative: an objective that is at most this much above the reference's has reached it."""
TERNARY_CAUTION = 4.0
"""By what the step is divided under ternary gradients, whose squared length is a few times the gradient's."""
COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "objective": lambda row: f"{row['objective']:.5f}",
    "reference": lambda row: f"{row['reference']:.5f}",
    "difference": lambda row: f"{row['difference']:+.1e}",
    "s to ref.": lambda row: cell(row["seconds_to_reference"]),
    "MB": lambda row: f"{row['bytes_pushed'] / 1e6:.1f}",
    "of plain": lambda row: f"{row['bytes_pushed'] / max(row['bytes_pushed_raw'], 1):.1%}",
}


@dataclass(frozen=True)
class ReconstructionICA:
    """The function above over `rows` patches, of which these are a share (see harness.Problem).

    Weights are W, flat, row by row.
    """

    patches: np.ndarray
    """float32 (share, components), white."""
    features: int
    rows: int
    l1: float
    smoothing: float

    @property
    def size(self) -> int:
        return self.features * self.patches.shape[1]

    def gradient(self, weights: np.ndarray) -> np.ndarray:
        """Of this share: (1/rows) sum_i (W r_i + l1 h_i/sqrt(h_i^2 + smoothing)) x_i' + h_i r_i', where h_i = W x_i
        and r_i = W'h_i - x_i; float32 (size,)."""
        matrix = weights.reshape(self.features, -1)
        hidden = self.patches @ matrix.T  # (share, features)
        residual = hidden @ matrix - self.patches  # (share, components)
        outer = residual @ matrix.T  # (share, features)
        outer += np.float32(self.l1) * hidden / np.sqrt(hidden * hidden + np.float32(self.smoothing))
        gradient = outer.T @ self.patches
        gradient += hidden.T @ residual
        gradient *= np.float32(1.0 / self.rows)
        return gradient.ravel()

    def objective(self, weights: np.ndarray) -> float:
        """Of a problem that holds all patches; products in the weights' precision, sums in float64."""
        matrix = weights.reshape(self.features, -1)
        hidden = self.patches @ matrix.T
        residual = hidden @ matrix - self.patches
        sparsity = np.sqrt(hidden * hidden + np.float32(self.smoothing)).sum(dtype=np.float64)
        return float((0.5 * np.square(residual).sum(dtype=np.float64) + self.l1 * sparsity) / self.rows)

    def share(self, rank: int, workers: int) -> ReconstructionICA:
        """Every `workers`-th patch from `rank` on."""
        return replace(self, patches=np.ascontiguousarray(self.patches[rank::workers]))

    def curvature(self, weights: np.ndarray, iterations: int = 30) -> float:
        """The largest eigenvalue of the Hessian at `weights`, by power iteration on differences of gradients."""
        direction = np.random.default_rng(0).standard_normal(self.size).astype(np.float32)
        largest = 0.0
        for _ in range(iterations):
            direction *= np.float32(1e-2 / np.linalg.norm(direction))
            direction = self.gradient(weights + direction) - self.gradient(weights - direction)
            largest = float(np.linalg.norm(direction)) / 2e-2
        return largest


class White(NamedTuple):
    """Patches as principal components of unit variance."""

    patches: np.ndarray
    """float32 (patches, components)."""
    basis: np.ndarray
    """float64 (components, pixels): what of the image one unit of each component is."""
    kept: float
    """Share of the patches' variance that these components hold."""


def white_patches(images: Sequence[np.ndarray], count: int, components: int, generator: np.random.Generator) -> White:
    """`count` random patches of grey images (height, width), less their means, reduced and whitened."""
    drawn = np.empty((count, SIDE * SIDE))
    for row, which in zip(drawn, generator.integers(len(images), size=count), strict=True):
        top, left = (generator.integers(edge - SIDE + 1) for edge in images[which].shape)
        row[:] = images[which][top : top + SIDE, left : left + SIDE].ravel()
    drawn -= drawn.mean(axis=1, keepdims=True)
    drawn -= drawn.mean(axis=0)
    variance, directions = np.linalg.eigh(drawn.T @ drawn / count)  # ascending
    largest = slice(-1, -components - 1, -1)
    deviation, kept = np.sqrt(variance[largest]), directions[:, largest]
    share = float(variance[largest].sum() / variance.sum())
    return White((drawn @ (kept / deviation)).astype(np.float32), (kept * deviation).T, share)


def sample_images() -> list[np.ndarray]:
    """scikit-learn's two photographs in grey, float64 (427, 640), from 0 to 1."""
    images = needed("sklearn.datasets").load_sample_images().images
    return [image.mean(axis=2) / 255.0 for image in images]


def orthonormal(features: int, components: int, generator: np.random.Generator) -> np.ndarray:
    """A random W with orthonormal rows, or columns if those are fewer; float32 (features * components,)."""
    drawn = generator.standard_normal((max(features, components), min(features, components)))
    matrix = np.linalg.qr(drawn)[0]
    return (matrix if features >= components else matrix.T).astype(np.float32).ravel()


def summary(problem: ReconstructionICA, reference: float, made: Setup, trace: Trace) -> dict[str, Any]:
    """One run for results.json, against the objective that the reference with the same step has reached."""
    values = objectives(problem, trace.weights)
    return measured(made, trace, values) | {
        "reference": reference,
        "difference": float(values[-1] / reference - 1.0),
        "seconds_to_reference": first_at_most(values, reference * (1.0 + TOLERANCE), trace.seconds),
        "curve": {"rounds": trace.at.tolist(), "seconds": numbers(trace.seconds), "objective": numbers(values)},
    }


class Case(NamedTuple):
    """One cell of the tables."""

    workers: int
    tau: int
    ternary: bool

    def __str__(self) -> str:
        words = f"{self.workers} workers, tau {self.tau}" if self.workers else f"step of tau {self.tau}"
        return words + (", ternary" if self.ternary else "")


def features_figure(weights: np.ndarray, basis: np.ndarray) -> Figure:
    """Every feature as the patch of pixels that it stands for, the strongest first, each in its own scale."""
    patches = weights.reshape(-1, basis.shape[0]).astype(np.float64) @ basis
    strength = np.linalg.norm(patches, axis=1)
    across = int(np.ceil(np.sqrt(len(patches))))
    down = -(-len(patches) // across)
    sheet = np.full((down * (SIDE + 1) + 1, across * (SIDE + 1) + 1), np.nan)
    for place, feature in enumerate(np.argsort(-strength)):
        top, left = (1 + (SIDE + 1) * index for index in divmod(place, across))
        patch = patches[feature].reshape(SIDE, SIDE)
        sheet[top : top + SIDE, left : left + SIDE] = patch / max(np.abs(patch).max(), 1e-12)
    figure = Figure(figsize=(6.0, 6.0 * down / across), layout="constrained")
    axis = figure.add_subplot()
    axis.imshow(sheet, cmap="gray", vmin=-1.0, vmax=1.0, interpolation="nearest")
    axis.set_axis_off()
    return figure


def arguments() -> Any:
    words = parser(__doc__, rounds=600)
    words.add_argument("--patches", type=int, default=10_000)
    words.add_argument("--components", type=int, default=64, help="principal components of the patches (64)")
    words.add_argument("--features", type=int, default=64, help="rows of W (64)")
    words.add_argument("--l1", type=float, default=0.4, help="strength of sparsity (0.4)")
    words.add_argument("--smoothing", type=float, default=1e-2, help="under the root (1e-2)")
    words.add_argument("--no-ternary", action="store_true", help="leave ternary gradients out")
    options = words.parse_args()
    check(options)
    require_integer("--components", options.components, 1, SIDE * SIDE - 1)
    require_integer("--features", options.features, 1, 4096)
    require_integer("--patches", options.patches, 2 * SIDE * SIDE)
    require_number("--l1", options.l1, 0.0)
    require_number("--smoothing", options.smoothing, 1e-9)
    if options.quick:
        options.rounds, options.patches = min(options.rounds, 60), min(options.patches, 2000)
    return options


def main() -> None:
    options, console = arguments(), Console(width=120)
    generator = np.random.default_rng(options.seed)
    white = white_patches(sample_images(), options.patches, options.components, generator)
    problem = ReconstructionICA(white.patches, options.features, options.patches, options.l1, options.smoothing)
    start = orthonormal(options.features, options.components, generator)
    lipschitz, at = problem.curvature(start), marks(options.rounds, 60)
    console.print(
        f"{options.patches:,} patches, {options.components} components with {white.kept:.1%} of the variance, "
        f"{options.features} features, l1 = {options.l1:g}, L = {lipschitz:.4g}",
        highlight=False,
    )

    def step_size(case: Case) -> float:
        return step_bound(lipschitz, case.tau) / (TERNARY_CAUTION if case.ternary else 1.0)

    def alone(case: Case) -> dict[str, float]:
        seconds, weights = descend(problem, start, step_size(case), at)
        return {"seconds": float(seconds[-1]), "objective": problem.objective(weights[-1])}

    def trained(case: Case) -> tuple[dict[str, Any], np.ndarray]:
        made = Setup(options.engine, case.workers, case.tau, options.rounds, step_size(case), lipschitz,
                     options={"ternary_gradients": case.ternary})  # fmt: skip
        trace = train(problem, start, made, at)
        return summary(problem, references[case._replace(workers=0)]["objective"], made, trace), trace.weights[-1]

    cases = [Case(workers, tau, False) for workers in options.workers for tau in options.tau]
    ends = {} if options.no_ternary else dict.fromkeys((min(options.tau), max(options.tau)))
    noisy = [Case(max(options.workers), tau, True) for tau in ends]
    steps = dict.fromkeys(case._replace(workers=0) for case in cases + noisy)
    references = {case: alone(case) for case in tracked(list(steps), lambda case: f"one process: {case}", console)}
    runs = [trained(case) for case in tracked(cases, str, console)]
    console.print(runs_table([row for row, _ in runs], f"reconstruction ICA through {options.engine}", COLUMNS))
    ternary = [trained(case) for case in tracked(noisy, str, console)]
    if ternary:
        title = f"ternary gradients, step / {TERNARY_CAUTION:g}"
        console.print(runs_table([row for row, _ in ternary], title, COLUMNS))

    results = {
        "experiment": "reconstruction_ica",
        **surroundings(options),
        "patches": options.patches,
        "components": options.components,
        "variance_kept": white.kept,
        "features": options.features,
        "l1": options.l1,
        "smoothing": options.smoothing,
        "lipschitz": lipschitz,
        "one_process": [{"tau": case.tau, "ternary": case.ternary} | found for case, found in references.items()],
        "runs": [row for row, _ in runs],
        "ternary": [row for row, _ in ternary],
    }
    made = {
        "objective_against_time": time_figure(results["runs"]),
        "features": features_figure(runs[0][1], white.basis),
    }
    write(options.output, results, made, console)


def time_figure(runs: list[dict[str, Any]]) -> Figure:
    """The objective against time; the level is what one process reaches with the smallest step."""
    slowest = max(runs, key=lambda row: row["tau"])
    level = slowest["reference"] * (1.0 + TOLERANCE)
    curves = []
    for row in runs:
        seconds, values = (np.array(row["curve"][name]) for name in ("seconds", "objective"))
        curves.append(Curve(row["workers"], row["tau"], seconds, values, first_at_most(values, level, seconds)))
    return against_time(
        curves,
        value="objective",
        level=level,
        level_name=f"one process, step of τ = {slowest['tau']}",
        logarithmic=False,
        title="reconstruction ICA",
    )


if __name__ == "__main__":
    run(main)
