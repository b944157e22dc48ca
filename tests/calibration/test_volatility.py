"""The volatility of planted diffusions."""

from __future__ import annotations

import numpy as np
import pytest
from planted import planted_tape

from bitquote.calibration.volatility import fit_volatility, signature
from bitquote.errors import InputError


def test_the_interval_covers_the_planted_sigma_as_often_as_it_says() -> None:
    covered = [fit_volatility(planted_tape(seed, sigma=3.0)).contains(3.0) for seed in range(200)]
    assert 0.91 <= np.mean(covered) <= 0.99  # 95 %, four standard errors about


def test_a_bounce_of_the_quotes_does_not_raise_it() -> None:
    tapes = [planted_tape(seed, sigma=3.0, bounce=2.0) for seed in range(20)]
    assert np.mean([fit_volatility(tape).value for tape in tapes]) == pytest.approx(3.0, rel=0.03)
    raw = np.mean([signature(tape, np.array([1.0]))[0] for tape in tapes])
    assert raw > 3.8  # sqrt(sigma^2 + 2 bounce^2 / 1 s)


def test_the_signature_of_a_diffusion_is_flat() -> None:
    points = signature(planted_tape(1, sigma=3.0, seconds=1000.0), np.array([0.1, 0.5, 2.0]))
    np.testing.assert_allclose(points, 3.0, rtol=0.06)


def test_a_stretch_that_is_too_short_is_refused() -> None:
    with pytest.raises(InputError, match="too short for a volatility"):
        fit_volatility(planted_tape(0, seconds=5.0))


def test_a_mid_that_never_moves_is_refused() -> None:
    with pytest.raises(InputError, match="there is no volatility"):
        fit_volatility(planted_tape(0, sigma=0.0))
