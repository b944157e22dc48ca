"""The function of the first experiment, its data, and scikit-learn's solvers of the same function."""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import needed
from scipy import sparse, special
from scipy.sparse.linalg import svds

from bitquote.errors import InputError, require

OPENERS: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
MOST_FEATURES = 2**24


@dataclass(frozen=True)
class LogisticRegression:
    """Mean logistic loss over `rows` rows, of which these are a share, plus l1 |w|_1 (see harness.Problem)."""

    features: sparse.csr_matrix
    """float32 (share, size)."""
    labels: np.ndarray
    """float32 (share,), -1 or 1."""
    l1: float
    rows: int

    @property
    def size(self) -> int:
        return self.features.shape[1]

    def gradient(self, weights: np.ndarray) -> np.ndarray:
        """Of the smooth part: -(1/rows) sum_i y_i sigma(-y_i x_i.w) x_i over this share; float32 (size,)."""
        margins = self.labels * (self.features @ weights)
        return self.features.T @ (self.labels * special.expit(-margins) * np.float32(-1.0 / self.rows))

    def objective(self, weights: np.ndarray) -> float:
        """Of a problem that holds all rows, in float64."""
        weights = weights.astype(np.float64)
        margins = self.labels * (self.features @ weights)
        return float(np.logaddexp(0.0, -margins).mean() + self.l1 * np.abs(weights).sum())

    def share(self, rank: int, workers: int) -> LogisticRegression:
        """Every `workers`-th row from `rank` on."""
        rows = slice(rank, None, workers)
        return replace(self, features=self.features[rows], labels=self.labels[rows])

    def lipschitz(self) -> float:
        """Of the gradient of a problem that holds all rows: the largest eigenvalue of X'X / 4n, as sigma' <= 1/4."""
        largest = svds(self.features.astype(np.float64), k=1, v0=np.ones(min(self.features.shape)))[1][0]
        return float(largest) ** 2 / (4.0 * self.rows)


def read_libsvm(path: Path) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Rows "<label> <index>:<value> ..." with indices ascending from 1, of two labels.

    Returns:
        Features float32 (rows, largest index) and labels float32 (rows,), -1 for the smaller label and 1 for the other.

    Raises:
        InputError: the file cannot be read, or a line is malformed; one line that names it.
    """
    indices: list[int] = []
    values: list[float] = []
    ends, labels = [0], []
    try:
        with OPENERS.get(path.suffix, open)(path, "rt", encoding="ascii") as lines:
            for number, line in enumerate(lines, 1):
                words = line.partition("#")[0].split()
                if words:
                    labels.append(_parsed(words, indices, values, f"{path}, line {number}"))
                    ends.append(len(indices))
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise InputError(f"--data is {str(path)!r}: {getattr(error, 'strerror', None) or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"--data is {str(path)!r}: must be text in LIBSVM's format") from None
    found = sorted(set(labels))
    require(len(found) == 2, f"labels of {path}", found[:4], "two different ones")
    width = max(indices, default=-1) + 1
    require(width >= 2, f"features of {path}", width, "at least 2")
    features = sparse.csr_matrix((np.array(values, np.float32), indices, ends), (len(labels), width))
    return features, np.where(np.array(labels) == found[1], 1.0, -1.0).astype(np.float32)


def _parsed(words: list[str], indices: list[int], values: list[float], where: str) -> float:
    """Append the entries of one line; its label."""
    last = 0
    try:
        for word in words[1:]:
            index, _, value = word.partition(":")
            number, entry = int(index), float(value)
            if not (last < number <= MOST_FEATURES and abs(entry) < 1e30):
                raise ValueError
            indices.append(number - 1)
            values.append(entry)
            last = number
        label = float(words[0])
        if math.isnan(label):
            raise ValueError
        return label
    except ValueError:
        expected = "<label> <index>:<value> ..., finite, indices ascending from 1"
        raise InputError(f"{where}: must be {expected}") from None


def breast_cancer() -> tuple[sparse.csr_matrix, np.ndarray]:
    """scikit-learn's 569 x 30 data set, standardised; as `read_libsvm` returns data."""
    features, labels = needed("sklearn.datasets").load_breast_cancer(return_X_y=True)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    return sparse.csr_matrix(features.astype(np.float32)), np.where(labels == 1, 1.0, -1.0).astype(np.float32)


def solve(problem: LogisticRegression) -> dict[str, float]:
    """Objectives that scikit-learn's solvers of the same function reach, by their names.

    Its function is |w|_1 + C sum_i loss_i, so C = 1/(n l1); without an intercept both functions are the same.
    """
    linear_model, not_converged = needed("sklearn.linear_model"), needed("sklearn.exceptions").ConvergenceWarning
    reached = {}
    for name in ("liblinear", "saga"):
        solver = linear_model.LogisticRegression(
            C=1.0 / (problem.rows * problem.l1),
            l1_ratio=1.0,
            solver=name,
            fit_intercept=False,
            tol=1e-6,
            max_iter=3000,
            random_state=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", not_converged)  # the lower of the two objectives is what counts
            solver.fit(problem.features.astype(np.float64), problem.labels)
        reached[name] = problem.objective(solver.coef_[0])
    return reached
