"""What two lists of policies are worth against each other."""

from __future__ import annotations

import numpy as np
import pytest

from bitquote.errors import InputError
from bitquote.evaluation.paired import paired_policies
from bitquote.evaluation.statistics import two_level_interval

WORDS = {"objective": "penalty", "paths": 60, "seed": 7}


def test_in_the_order_book_the_paths_are_paired(book, make_shifted):
    near, far = ([make_shifted(book, base + step) for step in (0.0, 0.1, 0.2)] for base in (0.0, 2.0))
    found = paired_policies(book, near, far, **WORDS)
    scores = [[(run := book.simulate(policy, 60, 7)).profit - run.penalty for policy in many] for many in (near, far)]
    assert (found["mean"], found["low"], found["high"]) == two_level_interval(np.subtract(*scores))
    back = paired_policies(book, far, near, **WORDS)
    assert back["mean"] == -found["mean"] and back["p_value"] == found["p_value"]
    none = paired_policies(book, near, near, **WORDS)
    assert none["mean"] == 0.0 and none["p_value"] == 1.0


def test_in_the_game_scores_are_exact(game, make_shifted):
    ones, others = ([make_shifted(game, shift) for shift in shifts] for shifts in ((0.0, 0.01), (0.3, 0.32)))
    found = paired_policies(game, ones, others, **WORDS)
    exact = [game.evaluate(game.tabulate(policy)).objective for policy in [*ones, *others]]
    assert found["mean"] == pytest.approx(0.5 * (exact[0] + exact[1] - exact[2] - exact[3]), rel=1e-12)
    assert found["low"] < found["mean"] < found["high"]


def test_what_the_sample_cannot_tell_is_none(book, make_shifted):
    policies = [make_shifted(book, shift) for shift in (0.0, 0.1)]
    assert paired_policies(book, policies, policies, **WORDS | {"objective": "cara"}) is None


def test_the_lists_must_be_of_one_length(game, make_shifted):
    policies = [make_shifted(game, shift) for shift in (0.0, 0.1, 0.2)]
    with pytest.raises(InputError, match=r"^the policies is \(3, 2\): must be as many in both lists"):
        paired_policies(game, policies, policies[:2], **WORDS)
