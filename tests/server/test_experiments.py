"""The paper's experiments: their mathematics against finite differences and scikit-learn, and tiny runs of each."""

from __future__ import annotations

import json
import lzma
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import sparse

from bitquote.errors import InputError

pytest.importorskip("sklearn", reason="the experiments need bitquote[experiments]")

SCRIPTS = Path(__file__).parents[2] / "scripts" / "experiments"
NAMES = ("command", "harness", "logistic", "pictures", "l1_logistic_regression", "reconstruction_ica")


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    """The modules of scripts/experiments by name, importable as if one of them had been started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield {name: import_module(name) for name in NAMES}
        for name in NAMES:
            sys.modules.pop(name, None)


@pytest.fixture
def logistic(scripts: dict[str, ModuleType]) -> Any:
    """A well-conditioned problem of 300 rows and 8 features."""
    generator = np.random.default_rng(5)
    features = generator.standard_normal((300, 8)).astype(np.float32)
    labels = np.where(features @ generator.standard_normal(8) + generator.standard_normal(300) > 0, 1.0, -1.0)
    module = scripts["logistic"]
    return module.LogisticRegression(sparse.csr_matrix(features), labels.astype(np.float32), 1e-2, 300)


@pytest.fixture
def ica(scripts: dict[str, ModuleType]) -> Any:
    patches = np.random.default_rng(6).laplace(size=(200, 6)).astype(np.float32)
    return scripts["reconstruction_ica"].ReconstructionICA(patches, 5, 200, 0.3, 1e-2)


def slope(problem: Any, weights: np.ndarray, direction: np.ndarray, h: float) -> float:
    return (problem.objective(weights + h * direction) - problem.objective(weights - h * direction)) / (2.0 * h)


def test_gradient_of_logistic_loss_is_the_slope_of_the_objective(scripts, logistic) -> None:
    generator = np.random.default_rng(1)
    weights = generator.standard_normal(8).astype(np.float32)
    for direction in generator.standard_normal((4, 8)):
        expected = slope(logistic, weights.astype(np.float64), direction, 1e-5)
        smooth = expected - logistic.l1 * np.sign(weights) @ direction
        assert logistic.gradient(weights) @ direction == pytest.approx(smooth, rel=1e-4, abs=1e-5)


def test_gradient_of_reconstruction_ica_is_the_slope_of_the_objective(ica) -> None:
    generator = np.random.default_rng(2)
    weights = 0.5 * generator.standard_normal(ica.size).astype(np.float32)
    for direction in generator.standard_normal((4, ica.size)).astype(np.float32):
        found = float(ica.gradient(weights) @ direction)
        assert found == pytest.approx(slope(ica, weights.astype(np.float64), direction, 1e-4), rel=1e-4, abs=1e-4)


def test_reconstruction_objective_is_its_formula(ica) -> None:
    matrix = np.random.default_rng(3).standard_normal((5, 6))
    total = 0.0
    for patch in ica.patches.astype(np.float64):
        hidden = matrix @ patch
        total += 0.5 * np.sum((matrix.T @ hidden - patch) ** 2) + 0.3 * np.sum(np.sqrt(hidden**2 + 1e-2))
    assert ica.objective(matrix.astype(np.float32).ravel()) == pytest.approx(total / 200, rel=1e-5)


def test_gradients_of_shares_add_up(logistic, ica) -> None:
    for problem in (logistic, ica):
        weights = np.random.default_rng(4).standard_normal(problem.size).astype(np.float32)
        parts = [problem.share(rank, 3).gradient(weights) for rank in range(3)]
        np.testing.assert_allclose(np.sum(parts, axis=0), problem.gradient(weights), rtol=2e-4, atol=1e-5)


def test_lipschitz_constant_of_logistic_loss(logistic) -> None:
    features = logistic.features.toarray().astype(np.float64)
    assert logistic.lipschitz() == pytest.approx(np.linalg.eigvalsh(features.T @ features)[-1] / (4 * 300), rel=1e-6)


def test_curvature_is_the_largest_eigenvalue_of_the_hessian(ica) -> None:
    weights = 0.3 * np.random.default_rng(7).standard_normal(ica.size).astype(np.float32)
    columns = []
    for unit in np.eye(ica.size, dtype=np.float32):
        columns.append((ica.gradient(weights + 0.01 * unit) - ica.gradient(weights - 0.01 * unit)) / 0.02)
    largest = np.abs(np.linalg.eigvalsh(np.array(columns, dtype=np.float64))).max()
    assert ica.curvature(weights, iterations=300) == pytest.approx(largest, rel=0.02)


def test_white_patches_have_unit_variance_and_their_basis_restores_them(scripts) -> None:
    generator = np.random.default_rng(8)
    images = [generator.random((40, 50)), generator.random((30, 30))]
    white = scripts["reconstruction_ica"].white_patches(images, 2000, 143, generator)
    np.testing.assert_allclose(white.patches.T @ white.patches / 2000, np.eye(143), atol=2e-3)
    assert white.kept == pytest.approx(1.0)
    restored = white.patches @ white.basis
    np.testing.assert_allclose(restored.mean(axis=1), 0.0, atol=1e-5)  # each patch was taken less its mean
    assert 0.07 < restored.var() < 0.09  # of uniform pixels: 1/12


def test_orthonormal_rows_or_columns(scripts) -> None:
    orthonormal = scripts["reconstruction_ica"].orthonormal
    wide = orthonormal(3, 5, np.random.default_rng(0)).reshape(3, 5)
    tall = orthonormal(7, 4, np.random.default_rng(0)).reshape(7, 4)
    np.testing.assert_allclose(wide @ wide.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(tall.T @ tall, np.eye(4), atol=1e-6)


def test_server_reaches_the_objective_of_scikit_learn(scripts, logistic) -> None:
    harness, module = scripts["harness"], scripts["l1_logistic_regression"]
    best = min(scripts["logistic"].solve(logistic).values())
    made = module.setup(logistic, logistic.lipschitz(), 0, workers=2, rounds=200)
    trace = harness.train(logistic, np.zeros(8, np.float32), made, harness.marks(200, 5))
    assert abs(logistic.objective(trace.weights[-1]) - best) < 1e-4
    # bsp is gradient descent, whoever computes which rows
    _, alone = harness.descend(logistic, np.zeros(8, np.float32), made.step_size, harness.marks(200, 5), l1=1e-2)
    np.testing.assert_allclose(trace.weights, alone, atol=1e-5)


@pytest.mark.parametrize("tau", [0, 1, 5])
def test_exact_delay_is_what_it_says(scripts, logistic, tau) -> None:
    """The server's run is the textbook's delayed proximal gradient, and its histogram shows one delay."""
    harness, module = scripts["harness"], scripts["l1_logistic_regression"]
    made = module.setup(logistic, logistic.lipschitz(), tau)
    at, start = harness.marks(40, 9), np.zeros(8, np.float32)
    trace = harness.exact_delay(logistic, start, made, at)
    _, alone = harness.descend(logistic, start, made.step_size, at, l1=1e-2, delay=tau)
    np.testing.assert_allclose(trace.weights, alone, atol=1e-6)
    delays = trace.statistics["version_delay"]
    assert delays[tau] == 40 - tau and sum(delays) == 40 and not any(delays[tau + 1 :])


def test_step_beyond_its_bound_swings_and_one_at_the_bound_does_not(scripts, logistic) -> None:
    module = scripts["l1_logistic_regression"]
    lipschitz = logistic.lipschitz()
    held = module.sweep(logistic, lipschitz, module.Step(8, 1), 200)
    broken = module.sweep(logistic, lipschitz, module.Step(8, 16), 200)
    assert held["swing"] < 1e-6 and held["objective"] < 0.5
    assert broken["swing"] > 0.1


def test_reconstruction_ica_reaches_its_reference(scripts, ica) -> None:
    harness, module = scripts["harness"], scripts["reconstruction_ica"]
    start = module.orthonormal(5, 6, np.random.default_rng(0))
    step, at = harness.step_bound(ica.curvature(start), 0), harness.marks(50, 6)
    trace = harness.train(ica, start, harness.Setup("inproc", 3, 0, 50, step), at)
    _, alone = harness.descend(ica, start, step, at)
    objective = ica.objective(trace.weights[-1])
    assert objective == pytest.approx(ica.objective(alone[-1]), rel=module.TOLERANCE)
    assert objective < 0.99 * ica.objective(start)


def libsvm(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_reader_reads_plain_and_compressed(scripts, tmp_path) -> None:
    text = "2 1:0.5 3:-1 # comment\n\n1 2:4e0\n"
    plain = libsvm(tmp_path / "data", text)
    packed = tmp_path / "data.xz"
    packed.write_bytes(lzma.compress(text.encode()))
    for path in (plain, packed):
        features, labels = scripts["logistic"].read_libsvm(path)
        assert features.toarray().tolist() == [[0.5, 0.0, -1.0], [0.0, 4.0, 0.0]]
        assert labels.tolist() == [1.0, -1.0] and features.dtype == labels.dtype == np.float32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 1:1\n0 2:x\n", "line 2: must be <label>"),
        ("1 1:1\n0 2\n", "line 2: must be <label>"),
        ("1 2:1 1:1\n", "line 1: must be <label>"),
        ("1 0:1\n", "line 1: must be <label>"),
        ("one 1:1\n", "line 1: must be <label>"),
        ("1 1:nan\n", "line 1: must be <label>"),
        ("1 99999999999:1\n", "line 1: must be <label>"),
        ("1 1:1 2:1\n1 2:1\n", "two different ones"),
        ("1 1:1\n0 1:1\n", "at least 2"),
        ("", "two different ones"),
        ("1 1:1 ü\n", "must be text in LIBSVM's format"),
    ],
)
def test_reader_names_what_is_wrong(scripts, tmp_path, text, message) -> None:
    with pytest.raises(InputError, match=message) as raised:
        scripts["logistic"].read_libsvm(libsvm(tmp_path / "data", text))
    assert "\n" not in str(raised.value)


def test_reader_names_a_file_that_is_not_there_or_cut_short(scripts, tmp_path) -> None:
    read = scripts["logistic"].read_libsvm
    with pytest.raises(InputError, match=r"--data is '.*absent': No such file"):
        read(tmp_path / "absent")
    cut = tmp_path / "cut.xz"
    cut.write_bytes(lzma.compress(b"1 1:1\n0 2:1\n" * 999)[:40])
    with pytest.raises(InputError, match="--data is"):
        read(cut)


def command(scripts: dict[str, ModuleType], patch: pytest.MonkeyPatch, name: str, *words: str) -> None:
    patch.setattr(sys, "argv", [f"{name}.py", *words])
    scripts["command"].run(scripts[name].main)


def test_l1_logistic_regression_writes_the_same_results_twice(scripts, tmp_path, monkeypatch, capsys) -> None:
    data = tmp_path / "data"
    generator = np.random.default_rng(9)
    rows = [(i % 2, generator.standard_normal(4) + (i % 2)) for i in range(60)]
    libsvm(data, "".join(f"{y} " + " ".join(f"{j}:{v:.4f}" for j, v in enumerate(x, 1)) + "\n" for y, x in rows))
    words = ("--engine", "inproc", "--data", str(data), "--rounds", "30", "--tau", "0", "2", "--l1", "0.01")
    found = []
    for run in ("one", "two"):
        output = tmp_path / run
        command(
            scripts,
            monkeypatch,
            "l1_logistic_regression",
            *words,
            "--sweep-pushes",
            "20",
            "--sweep-tau",
            "0",
            "2",
            "--output",
            str(output),
        )
        assert {path.name for path in output.iterdir()} == {
            "results.json",
            "objective_against_time.png",
            "step_sizes.png",
        }
        found.append(json.loads((output / "results.json").read_text()))
    first, second = found
    assert len(first["runs"]) == 4 and len(first["filters"]) == 5 and len(first["sweep"]) == 6
    for kind in ("runs", "filters"):
        assert [row["curve"]["gap"] for row in first[kind]] == [row["curve"]["gap"] for row in second[kind]]
    assert first["sweep"] == second["sweep"]
    saved = {row["filter"]: row["bytes_pushed"] / row["bytes_pushed_raw"] for row in first["filters"]}
    assert saved["none"] == 1.0
    assert "through inproc" in capsys.readouterr().out


def test_reconstruction_ica_command(scripts, tmp_path, monkeypatch, capsys) -> None:
    words = ("--engine", "inproc", "--quick", "--rounds", "15", "--patches", "400", "--tau", "0", "1")
    small = ("--components", "12", "--features", "9", "--output", str(tmp_path / "ica"))
    command(scripts, monkeypatch, "reconstruction_ica", *words, *small)
    found = json.loads((tmp_path / "ica" / "results.json").read_text())
    assert (tmp_path / "ica" / "features.png").stat().st_size > 1000
    for row in found["runs"]:
        if row["tau"] == 0:
            assert abs(row["difference"]) < 1e-4
    for row in found["ternary"]:
        assert row["bytes_pushed"] < 0.2 * row["bytes_pushed_raw"]
    assert "reconstruction ICA through inproc" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--engine", "mpi"), "--engine is 'mpi': must be one of inproc, shm, ray"),
        (("--workers", "0"), "--workers is 0"),
        (("--tau", "-1"), "--tau is -1"),
        (("--data", "/nowhere/a9a"), "--data is '/nowhere/a9a'"),
        (("--l1", "nan"), "--l1 is nan"),
    ],
)
def test_bad_words_end_in_one_line(scripts, monkeypatch, words, message) -> None:
    with pytest.raises(SystemExit) as ended:
        command(scripts, monkeypatch, "l1_logistic_regression", *words)
    text = str(ended.value)
    assert text.startswith("error: ") and message in text and "\n" not in text


def test_benchmark_measures_and_says_who_is_missing(capsys) -> None:
    spec = spec_from_file_location("benchmark_of_server", SCRIPTS.parent / "benchmarks" / "server.py")
    assert spec is not None and spec.loader is not None
    benchmark = module_from_spec(spec)
    spec.loader.exec_module(benchmark)

    def broken(size: int) -> None:
        raise OSError(f"nothing for {size}\nat all")

    known = [found for found in benchmark.CONTENDERS if found.name in ("memory copies", "inproc, 1 worker")]
    contenders = [*known, benchmark.Contender("broken", "peer", broken)]
    console = Console(width=120)
    measured = benchmark.measure(1000, contenders, 2, 0.01, console)
    assert measured["broken"] is None
    assert all(len(measured[found.name]) == 2 and min(measured[found.name]) > 0 for found in known)
    console.print(benchmark.speed_table({1000: measured}, contenders, 0.01))
    printed = capsys.readouterr().out
    assert "broken, 1,000 floats: OSError: nothing for 1000\n" in printed and "at all" not in printed
