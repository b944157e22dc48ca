"""Numbers as text."""

from __future__ import annotations

import pytest

from bitquote.report.numbers import decimals_for, number


@pytest.mark.parametrize(
    ("values", "digits", "decimals"),
    [([66.875, 61.2], 6, 4), ([0.0123, None, 0.0], 3, 4), ([123456.0], 4, 0), ([1e-12], 4, 8), ([None, 0.0], 4, 0)],
)
def test_decimals_fit_the_typical_magnitude(values, digits, decimals):
    assert decimals_for(values, digits) == decimals


@pytest.mark.parametrize(("value", "text"), [(1.25, "1.2"), (None, "-"), (-0.01, "0.0"), (-3.0, "-3.0")])
def test_number(value, text):
    assert number(value, 1) == text
