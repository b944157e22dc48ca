"""Stylised facts of tapes whose facts are known, and the page that shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from planted import planted_tape
from recordings import real_recording
from scipy import stats

from bitquote.calibration.order_flow import best_quote_flow
from bitquote.calibration.record import fit_takers, order_flow_record
from bitquote.calibration.stylised_facts import (
    LAGS,
    Distribution,
    ks_distance,
    ks_distances,
    stylised_facts,
)
from bitquote.errors import InputError
from bitquote.market import build
from bitquote.market.configuration import shipped_configuration
from bitquote.market.simulation import Tape
from bitquote.recorded import read_binance
from bitquote.report.stylised_page import stylised_page


def with_depth(tape: Tape) -> Tape:
    """The same with two pictures of the depth: 3 and 5 within ten steps of one, the rest beyond."""
    picture = [[[[999.5, 3.0], [900.0, 9.0]], [[1000.5, 5.0], [1100.0, 9.0]]]] * 2
    return tape._replace(snapshot_time=np.array([1.0, 2.0]), depth=np.array(picture))


@pytest.fixture(scope="module")
def tape() -> Tape:
    return with_depth(planted_tape(1))


def test_the_distance_is_the_two_sample_statistic() -> None:
    random = np.random.default_rng(2)
    a, b = np.sort(random.normal(size=200)), np.sort(random.normal(0.3, 1.2, 300))
    pair = [Distribution(x, np.arange(1, len(x) + 1) / len(x)) for x in (a, b)]
    assert ks_distance(*pair) == pytest.approx(stats.ks_2samp(a, b).statistic)
    assert ks_distance(pair[0], pair[0]) == 0.0


def test_facts_of_a_planted_tape(tape: Tape) -> None:
    facts = stylised_facts(tape, 1.0)
    assert facts.depth.value.tolist() == [3.0, 3.0, 5.0, 5.0]
    assert facts.depth.share.tolist() == [0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(facts.spread.value, 1.0)
    assert facts.spread.share[-1] == pytest.approx(1.0)
    np.testing.assert_allclose(facts.signature, 3.0, rtol=0.35)  # sigma, the last intervals are few
    for series, count in ((facts.sign_autocorrelation, facts.takers), (facts.return_autocorrelation, facts.returns)):
        assert len(series) == LAGS
        assert np.mean(np.abs(series) < 2.0 / np.sqrt(count)) > 0.85  # independent: 95 % of the lags
    waits = facts.taker_wait.value
    assert stats.kstest(waits / waits.mean(), "expon").pvalue > 0.01


def test_the_spread_is_weighted_by_time(tape: Tape) -> None:
    short = tape._replace(quote_time=np.where(np.arange(len(tape.quote_time)) == 0, -1e4, tape.quote_time))
    wide = short._replace(ask=np.where(np.arange(len(tape.ask)) == 0, tape.ask + 4.0, tape.ask))
    spread = stylised_facts(wide, 1.0).spread
    assert spread.value[-1] == pytest.approx(5.0)
    assert 1.0 - spread.share[-2] == pytest.approx(1e4 / (1e4 + 299.995), rel=1e-4)


def test_signs_that_persist_show(tape: Tape) -> None:
    signs = np.repeat([1, -1], 50)[np.arange(len(tape.trade_time)) % 100]
    facts = stylised_facts(tape._replace(trade_aggressor=signs.astype(np.int8)), 1.0)
    assert facts.sign_autocorrelation[0] == pytest.approx(0.96, abs=0.02)
    assert facts.sign_autocorrelation[49] == pytest.approx(-1.0, abs=0.1)


def test_a_short_tape_is_refused() -> None:
    with pytest.raises(InputError, match="stylised facts need 100"):
        stylised_facts(with_depth(planted_tape(0, seconds=20.0)), 1.0)
    with pytest.raises(InputError, match="both a bid and an ask"):
        stylised_facts(planted_tape(0)._replace(depth=np.full((1, 2, 2, 2), np.nan)), 1.0)


def test_two_simulations_of_one_market_are_alike_and_the_page_shows_them(tmp_path: Path) -> None:
    market = build(shipped_configuration("btcusdt_spot"))
    one, other = (market.tape(600.0, seed, levels=60) for seed in (1, 2))
    distances = ks_distances(stylised_facts(one, market.tick), stylised_facts(other, market.tick))
    assert set(distances) == {"spread", "depth", "taker_wait", "quote_wait", "taker_size"}
    assert max(distances.values()) < 0.2
    page = tmp_path / "page.png"
    figure = stylised_page(one, other, market.tick, "two seeds", page, takers=fit_takers(best_quote_flow(one)))
    assert len(figure.axes) == 8
    assert page.stat().st_size > 20_000
    assert len(stylised_page(one, other, market.tick, "without a fit").axes) == 8


def test_the_record_says_what_the_data_do_not_allow() -> None:
    record = order_flow_record(planted_tape(3, seconds=30.0, A=0.5))
    assert record["hawkes"]["taker_orders"].startswith("none: events of type")
    assert record["informed"]["pin"].startswith("none: period is 5.0")


def test_the_record_of_a_simulation_is_plain() -> None:
    record = order_flow_record(planted_tape(3, seconds=60.0))
    takers = record["hawkes"]["taker_orders"]
    assert set(takers["goodness"]) == {"market_bid", "market_ask"}
    assert takers["branching_ratio"][1] == pytest.approx(0.0, abs=0.05)  # independent orders
    assert np.shape(takers["excitation"]) == (2, 2, 2)
    low, high = record["informed"]["vpin"][1:]
    assert 0.0 < low < high < 1.0


@pytest.mark.parametrize(("kind", "low", "high"), [("spot", 0.4, 0.8), ("usdm", 0.4, 0.8)])
def test_real_taker_orders_cluster(kind: str, low: float, high: float) -> None:
    fit = fit_takers(best_quote_flow(read_binance(real_recording(kind)).tape))
    assert fit.converged
    assert low < fit.branching_ratio.low < fit.branching_ratio.high < high
    assert fit.aic_gain > 1000.0
