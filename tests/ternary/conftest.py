"""Networks and observations that the tests of this room share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from bitquote.ternary import QuoteNetwork

RANGES = (20.0, 1.0, 20.0, 1.0, 2.0, 0.5)
NAMES = ("inventory", "time_left", "inventory_time_left", "constant", "glft_half_spread", "glft_skew")


def build(inputs: int = 6, hidden: tuple[int, ...] = (64, 64), architecture="ternary", **options) -> QuoteNetwork:
    """A network with a random head; the first six features are those of the game, the others have range 1."""
    torch.manual_seed(options.pop("seed", 0))
    names = (*NAMES, *(f"feature_{i}" for i in range(6, inputs)))[:inputs]
    ranges = (*RANGES, *(1.0 for _ in range(6, inputs)))[:inputs]
    options = {"no_quote": 50.0, "action_scale": (0.5, 0.25), "base_half_spread": 1.5, "zero_head": False} | options
    return QuoteNetwork(names, options.pop("ranges", ranges), hidden=hidden, architecture=architecture, **options)


def adversarial(ranges: tuple[float, ...], count: int = 64, seed: int = 0) -> np.ndarray:
    """float32 (rows, features): random inside and outside the ranges, zeros, exact ties, huge, denormal."""
    generator = np.random.default_rng(seed)
    scale = np.array(ranges)
    rows = [
        generator.normal(size=(count, scale.size)) * scale,
        generator.uniform(-1.5, 1.5, (count, scale.size)) * scale,
        (generator.integers(-128, 128, (count, scale.size)) + 0.5) / 127 * scale,
        generator.choice([0.0, 1.0, -1.0], (count, scale.size)) * scale,
        generator.choice([1e-45, -1e-40, 1e-38, 0.0], (8, scale.size)),
        generator.choice([1e38, -1e38, 3e38], (8, scale.size)),
        np.zeros((1, scale.size)),
    ]
    return np.concatenate(rows).astype(np.float32)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """The networks here are too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(name="build", scope="session")
def build_fixture() -> Callable[..., QuoteNetwork]:
    return build


@pytest.fixture(name="adversarial", scope="session")
def adversarial_fixture() -> Callable[..., np.ndarray]:
    return adversarial
