"""Queue-reactive tables: planted birth-death queues, their invariant law, spells of a small book worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planted_flow import BIRTH, CANCELLED, SIZES, TAKEN, planted_spells

from bitquote.calibration.order_flow import CANCEL, LIMIT, MARKET
from bitquote.calibration.queue_reactive import (
    CENSORED,
    Spells,
    fit_queue_reactive,
    flow_tables,
    invariant_distribution,
    queue_spells,
)
from bitquote.errors import InputError
from bitquote.market.simulation import Tape
from bitquote.recorded.depth import DepthChanges


def test_intervals_cover_planted_values_as_often_as_they_say() -> None:
    samples = 60
    covered = np.zeros((3, 2, SIZES))
    for seed in range(samples):
        fit = fit_queue_reactive(planted_spells(seed), 2, SIZES)
        for i, (table, truth) in enumerate(((fit.limit, BIRTH), (fit.cancel, CANCELLED), (fit.market, TAKEN))):
            covered[i] += table.contains(truth)
        assert (fit.distance < 0.15).all()  # the law that generated them
    assert covered.mean() >= 0.94 * samples
    assert (covered >= 0.86 * samples).all()  # 95 %, less three standard errors of 60 samples


def test_the_invariant_distribution_balances_the_flow() -> None:
    share = invariant_distribution(BIRTH, CANCELLED + TAKEN)
    np.testing.assert_allclose(share.sum(axis=1), 1.0)
    up, down = share[:, :-1] * BIRTH[:, :-1], share[:, 1:] * (CANCELLED + TAKEN)[:, 1:]
    np.testing.assert_allclose(up, down)  # detailed balance
    fit = fit_queue_reactive(planted_spells(3, 20_000.0), 2, SIZES)
    np.testing.assert_allclose(fit.observed, share, atol=0.02)
    np.testing.assert_allclose(fit.invariant, share, atol=0.02)


def test_sizes_that_nothing_reaches_or_leaves() -> None:
    birth, death = np.array([[1.0, 0.0, 2.0]]), np.array([[0.0, 1.0, np.nan]])
    assert invariant_distribution(birth, death).tolist() == [[0.5, 0.5, 0.0]]
    assert np.isnan(invariant_distribution(np.array([[1.0, 0.0]]), np.array([[0.0, 0.0]]))).all()


def test_a_queue_of_the_wrong_law_is_found_out() -> None:
    """A queue that jumps by two: what was measured as birth and death does not keep it where it is."""
    spells = planted_spells(1, 4000.0)
    doubled = spells._replace(size=2 * spells.size)
    assert fit_queue_reactive(spells, 2, SIZES).distance.max() < 0.05
    lame = fit_queue_reactive(doubled, 2, 2 * SIZES)
    assert not (lame.distance < 0.3).any()


def small_book() -> tuple[Tape, DepthChanges]:
    """The mid is 100.5 until 4 s, then 101.5; steps of one; the bid queue holds 3 at 100, the ask queue 2 at 101."""
    tape = Tape(
        trade_time=np.array([2.001]), trade_price=np.array([100.0]), trade_quantity=np.array([1.0]),
        trade_aggressor=np.array([-1], np.int8), quote_time=np.array([0.0, 4.0]),
        bid=np.array([100.0, 101.0]), ask=np.array([101.0, 102.0]), bid_quantity=np.ones(2), ask_quantity=np.ones(2),
        snapshot_time=np.array([0.5]), depth=np.array([[[[100.0, 3.0]], [[101.0, 2.0]]]]),
    )  # fmt: skip
    rows = [
        (0.4, 1, 100.0, 9.0, 3.0),  # before the picture
        (1.0, -1, 101.0, 2.0, 4.0),
        (2.0, 1, 100.0, 3.0, 2.0),  # the taker's
        (3.0, 1, 100.0, 2.0, 1.0),
        (3.5, 1, 90.0, 7.0, 5.0),  # too far; never pictured
        (4.0, -1, 101.0, 4.0, 0.0),  # the reference moves with it
        (5.0, 1, 101.0, 0.0, 1.0),
    ]
    return tape, DepthChanges(*np.array(rows).T)


def test_spells_of_a_small_book() -> None:
    tape, changes = small_book()
    spells = queue_spells(tape, changes, 1.0, 1, 2.0)
    found = list(zip(spells.size.tolist(), spells.duration.tolist(), spells.end.tolist(), strict=True))
    assert found == [
        (1, 0.5, LIMIT),  # the ask, 2 / 2
        (2, 1.5, MARKET),  # the bid, 3 / 2
        (1, 1.0, CANCEL),
        (1, 1.0, CENSORED),  # both sides at 4 s; what is left of the ask at 101 is now too near
        (2, 3.0, CENSORED),
        (0, 1.0, LIMIT),  # the new bid queue
        (1, 0.0, CENSORED),  # both sides where the changes end
        (0, 1.0, CENSORED),
    ]
    far = queue_spells(tape, changes, 1.0, 12, 2.0)
    huge = far.size > 2  # 7 / 2 at 90, known from its own first change, then 5 / 2
    assert far.distance[huge].tolist() == [10, 10, 11]
    assert (far.size >= 0).all()


def test_queues_that_nothing_touches_are_seen_all_the_same() -> None:
    tape, changes = small_book()
    still = tape._replace(bid=tape.bid[[0, 0]], ask=tape.ask[[0, 0]])
    changes = DepthChanges(*(field[[4]] for field in changes))  # too far
    spells = queue_spells(still, changes, 1.0, 1, 2.0)
    assert (spells.size.tolist(), spells.duration.tolist()) == ([2, 1], [3.0, 3.0])
    assert (spells.end == CENSORED).all()


def test_the_flow_takes_every_size() -> None:
    spells = planted_spells(2)
    fit = fit_queue_reactive(spells, 2, SIZES + 3)
    flow = flow_tables(fit, 40)
    assert np.isfinite(flow["limit"]).all()
    assert np.shape(flow["limit"]) == np.shape(flow["cancel"]) == (2, SIZES + 3)
    assert flow["limit"][0][-1] == flow["limit"][0][SIZES - 1]
    assert np.shape(flow["market"]) == (SIZES + 3,)
    assert flow["unit"] == 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": np.array([-1, 0])}, "size is -1"),
        ({"duration": np.array([1.0, -2.0])}, "duration"),
        ({"duration": np.array([1.0, np.nan])}, "duration"),
        ({"end": np.array([0, 7], np.int8)}, "end is"),
        ({"size": np.array([1.0, 2.0])}, "integers"),
        ({"size": np.array([1])}, "of the shape of duration"),
        ({"distance": np.array([1, 1])}, "the time seen at distance 0"),
    ],
)
def test_bad_spells_are_one_line(change: dict[str, Any], message: str) -> None:
    whole = Spells(np.zeros(2, int), np.ones(2, int), np.ones(2), np.zeros(2, np.int8))
    with pytest.raises(InputError, match=message):
        fit_queue_reactive(whole._replace(**change), 1, 3)
