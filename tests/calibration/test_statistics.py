"""Spread, depth and markouts of small tapes, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bitquote.calibration.intervals import poisson_interval
from bitquote.calibration.statistics import depth_profile, jump_share, markout, mean_spread
from bitquote.errors import InputError
from bitquote.market.simulation import Tape


@pytest.fixture
def tape() -> Tape:
    """The mid is 100 for 4 s, then 102 for 6 s; one buyer pays 102 at 3.5 s, one seller takes 101 at 8 s."""
    nan = np.nan
    return Tape(
        trade_time=np.array([3.5, 8.0]),
        trade_price=np.array([102.0, 101.0]),
        trade_quantity=np.array([1.0, 1.0]),
        trade_aggressor=np.array([1, -1], np.int8),
        quote_time=np.array([0.0, 4.0, 10.0]),
        bid=np.array([99.0, 101.0, 101.0]),
        ask=np.array([101.0, 103.0, 103.0]),
        bid_quantity=np.ones(3),
        ask_quantity=np.ones(3),
        snapshot_time=np.array([1.0, 5.0]),
        depth=np.array(
            [
                [[[99.0, 4.0], [97.0, 1.0]], [[101.0, 2.0], [nan, nan]]],
                [[[101.0, 6.0], [nan, nan]], [[103.0, 4.0], [105.0, 3.0]]],
            ]
        ),
    )


def test_the_spread_is_averaged_over_time(tape: Tape) -> None:
    wide = tape._replace(ask=np.array([101.0, 106.0, 103.0]))
    assert mean_spread(wide) == pytest.approx((4 * 2 + 6 * 5) / 10)


def test_depth_by_distance(tape: Tape) -> None:
    # Distance 1: 4 + 2 and 6 + 4; distance 3: 1 and 3; two pictures of two sides.
    assert depth_profile(tape, 1.0, 4).tolist() == [4.0, 0.0, 1.0, 0.0]
    assert depth_profile(tape, 2.0, 2).tolist() == [4.0, 1.0]
    with pytest.raises(InputError, match="both a bid and an ask"):
        depth_profile(tape._replace(depth=np.full((1, 2, 2, 2), np.nan)), 1.0)


def test_the_markout_is_the_mids_move_against_the_maker(tape: Tape) -> None:
    assert markout(tape, 0.5) == pytest.approx((-2.0 + 0.0) / 2)  # sold at 102, the mid rose by 2; bought, no move
    assert markout(tape, 2.0) == pytest.approx(-2.0)  # only the buyer reached that far
    with pytest.raises(InputError, match="no taker order reaches 9"):
        markout(tape, 9.0)


def test_jumps_show_in_the_variance() -> None:
    random = np.random.default_rng(4)
    steps = random.normal(0.0, 1.0, 20_000)
    jumps = np.where(random.random(20_000) < 0.01, random.normal(0.0, 20.0, 20_000), 0.0)
    for path, share in ((steps, 0.0), (steps + jumps, 0.8)):
        mid = 1000.0 + np.cumsum(path)
        time = np.arange(20_000.0)
        ones = np.ones(20_000)
        empty = np.zeros(0)
        tape = Tape(*[empty] * 4, time, mid - 1, mid + 1, ones, ones, empty, np.zeros((0, 2, 1, 2)))
        found, rate = jump_share(tape, 1.0)
        assert found == pytest.approx(share, abs=0.08)
        assert rate == pytest.approx(0.01 * (share > 0), abs=0.004)


def test_poisson_intervals_are_exact() -> None:
    low, high = poisson_interval(np.array([0, 1, 10]))
    np.testing.assert_allclose(low, [0.0, 0.025318, 4.795389], rtol=1e-5)
    np.testing.assert_allclose(high, [3.688879, 5.571643, 18.390356], rtol=1e-5)
