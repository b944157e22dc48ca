"""Paths that a Ray cluster simulates are those that this process would have simulated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from bitquote.errors import InputError
from bitquote.evaluation import benchmark
from bitquote.evaluation.cluster import SMALLEST, ClusterMarket
from bitquote.quoting import glft, symmetric_constant
from bitquote.server import ServerConfig

ray = pytest.importorskip("ray")

PATHS = 5 * SMALLEST + 3  # pieces of several lengths


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    from bitquote.server.ray.cluster import Cluster

    own = Cluster(ServerConfig(engine="ray", workers=1))
    yield
    own.close()


def test_paths_do_not_depend_on_which_others_are_asked_for(book):
    whole = book.compete([glft(book.game)], 20, 5)
    pieces = [book.compete([glft(book.game)], paths, 5, first=first) for first, paths in ((0, 7), (7, 13))]
    assert np.concatenate(pieces).tobytes() == whole.tobytes()


@pytest.mark.usefixtures("cluster")
class TestCluster:
    def test_summaries_are_the_same_bits(self, book, make_shifted):
        away, done = ClusterMarket(**book.__dict__), []
        for quoter in (glft(book.game), make_shifted(book, 0.5)):
            done.clear()
            rows = away.summaries(quoter, PATHS, 5, progress=done.append)
            assert rows.tobytes() == book.summaries(quoter, PATHS, 5).tobytes()
            assert done == sorted(done) and done[-1] == PATHS and len(done) > 1

    def test_a_benchmark_is_the_same(self, book, make_shifted):
        words = {"paths": 40, "seed": 7, "tuning": {"seed": 8, "paths": 32}}
        policies = {"policy": make_shifted(book, 0.1)}
        assert benchmark(ClusterMarket(**book.__dict__), policies, **words) == benchmark(book, policies, **words)

    def test_the_baseline_travels(self, book, make_shifted):
        table, policy = symmetric_constant(book.game), make_shifted(book, 0.1)
        away = ClusterMarket(**book.__dict__).with_baseline(table)
        assert isinstance(away, ClusterMarket)
        rows = away.summaries(policy, 20, 5)
        assert rows.tobytes() == book.with_baseline(table).summaries(policy, 20, 5).tobytes()
        assert rows.tobytes() != book.summaries(policy, 20, 5).tobytes()

    def test_what_a_task_refuses_is_one_line(self, book):
        full = ClusterMarket(**replace(book, capacity=16).__dict__)
        with pytest.raises(InputError, match=r"^market.venue.capacity is 16: must be larger: .* orders$"):
            full.summaries(glft(book.game), PATHS, 5)
