"""Collectives and shared work: answers, repeated requests, members that go, a server set back by a crash."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitquote.errors import InputError
from bitquote.server.errors import Rejected
from bitquote.server.meeting import KEYS_KEPT, ROUNDS_KEPT, Meeting, Released, Shares


def stored(meeting: Meeting) -> Meeting:
    return Meeting.from_dict(json.loads(json.dumps(meeting.as_dict())))


def test_all_get_the_values_of_all():
    meeting = Meeting()
    live = {0, 1, 2}
    assert meeting.collect(2, 1, "mean", 0.5, None, live) is None
    assert meeting.collect(0, 1, "mean", 1.5, None, live) is None
    assert meeting.results(live) == []
    values = {"0": 1.5, "1": [1], "2": 0.5}
    assert meeting.collect(1, 1, "mean", [1], None, live) == values
    assert meeting.results(live) == [Released(0, 1, values, None), Released(2, 1, values, None)]
    assert meeting.round == 2 and meeting.results(live) == meeting.results(set()) == []  # nobody waits any more


def test_the_first_meeting_waits_for_workers_that_have_yet_to_join():
    meeting = Meeting()
    assert meeting.collect(0, 1, "start", 0, None, {0}, missing=1) is None
    assert meeting.results({0}, missing=1) == []
    assert meeting.collect(1, 1, "start", 1, None, {0, 1}, missing=0) == {"0": 0, "1": 1}


def test_a_repeated_request_is_answered_as_the_first():
    meeting = Meeting()
    assert meeting.collect(0, 1, "a", 1, None, {0, 1}) is None
    assert meeting.collect(0, 1, "a", 1, None, {0, 1}) is None
    values = meeting.collect(1, 1, "a", 2, None, {0, 1})
    assert [released.worker for released in meeting.results({0, 1})] == [0]
    assert meeting.collect(1, 1, "a", 2, None, {0, 1}) == values == meeting.collect(0, 1, "a", 1, None, {0, 1})
    assert meeting.round == 2 and meeting.results({0, 1}) == []


def test_who_is_gone_is_not_waited_for_and_does_not_count():
    meeting = Meeting()
    meeting.collect(0, 1, "a", "x", None, {0, 1, 2})
    meeting.collect(1, 1, "a", "y", None, {0, 1, 2})
    meeting.forget(1)
    assert meeting.results({0, 2}) == []
    meeting.forget(2)
    assert meeting.results({0}) == [Released(0, 1, {"0": "x"}, None)]
    # Who leaves as the only one that came takes the name along.
    meeting.collect(0, 2, "b", 0, None, {0, 3})
    meeting.forget(0)
    assert meeting.collect(3, 2, "c", 3, None, {3}) == {"3": 3}


def test_different_names_fail_for_everyone_of_the_round():
    meeting = Meeting()
    live = {0, 1, 2}
    meeting.collect(0, 1, "save", 0, None, live)
    with pytest.raises(Rejected, match="workers disagree: 'save' and 'stop'"):
        meeting.collect(1, 1, "stop", 1, None, live)
    (released,) = meeting.results(live)
    assert released.worker == 0 and released.error == "workers disagree: 'save' and 'stop'"
    with pytest.raises(Rejected, match="workers disagree"):
        meeting.collect(2, 1, "save", 2, None, live)
    assert meeting.round == 2


def test_a_forgotten_round_is_refused_and_a_recent_one_answered():
    meeting = Meeting()
    for round in range(1, ROUNDS_KEPT + 2):
        meeting.collect(0, round, "a", round, None, {0})
    assert meeting.collect(0, 2, "a", 0, None, {0}) == {"0": 2}
    with pytest.raises(Rejected, match="round 1 of the collectives is over"):
        meeting.collect(0, 1, "a", 0, None, {0})


@pytest.mark.parametrize("bad", [{"round": 0}, {"round": True}, {"name": 7}, {"name": "x" * 300}, {"previous": [1]}])
def test_a_malformed_collective_changes_nothing(bad):
    meeting = Meeting()
    before = meeting.as_dict()
    with pytest.raises(InputError):
        meeting.collect(**{"worker": 0, "round": 1, "name": "a", "value": 0, "previous": None, "live": {0}, **bad})
    assert meeting.as_dict() == before


def test_a_server_set_back_learns_the_result_that_one_member_missed():
    meeting = Meeting()
    meeting.collect(0, 1, "a", 0, None, {0, 1})
    set_back = stored(meeting)
    first = meeting.collect(1, 1, "a", 1, None, {0, 1})
    # The crash: worker 1 has the result and goes on, worker 0 asks again.
    assert set_back.collect(0, 1, "a", 0, None, {0, 1}) is None
    assert set_back.collect(1, 2, "b", 1, first, {0, 1}) is None
    assert set_back.results({0, 1}) == [Released(0, 1, first, None)]
    assert set_back.collect(0, 2, "b", 0, first, {0, 1}) == {"0": 0, "1": 1}
    # Or it says so when it joins again, and never meets anybody any more.
    set_back = stored(stored(Meeting()))
    assert set_back.collect(0, 1, "a", 0, None, {0, 1}) is None
    set_back.recall(1, first)
    set_back.recall(1, {"0": "stale news change nothing"})
    assert set_back.results({0, 1}) == [Released(0, 1, first, None)]


def test_several_rounds_back():
    meeting = Meeting()
    assert meeting.collect(1, 7, "a", "one", {"0": "r"}, {0, 1}) is None
    assert meeting.collect(0, 6, "a", "zero", None, {0, 1}) == {"0": "r"}
    assert meeting.collect(0, 7, "a", "zero", {"0": "r"}, {0, 1}) == {"0": "zero", "1": "one"}


@given(data=st.data(), workers=st.integers(1, 5), rounds=st.integers(1, 6))
@settings(max_examples=60)
def test_everyone_gets_the_same_in_any_order_with_repeats_deaths_and_crashes(data, workers, rounds):
    """A model: each worker repeats its collect until it is answered; the server may be set back to any stored state."""
    meeting, states = Meeting(), [Meeting().as_dict()]
    live = set(range(workers))
    stands = dict.fromkeys(live, 1)  # the round in which a worker is
    got: dict[int, dict[int, dict]] = {worker: {} for worker in live}

    def note(worker, round, values):
        got[worker].setdefault(round, values)
        assert got[worker][round] == values
        stands[worker] = max(stands[worker], round + 1)

    for _ in range(2000):
        unfinished = sorted(worker for worker in live if stands[worker] <= rounds)
        if not unfinished:
            break
        what = data.draw(st.sampled_from(["collect"] * 12 + ["die", "store", "crash"]))
        if what == "die" and len(live) > 1:
            worker = data.draw(st.sampled_from(sorted(live)))
            live.discard(worker)
            meeting.forget(worker)
        elif what == "store":
            states.append(meeting.as_dict())
        elif what == "crash":
            meeting = Meeting.from_dict(json.loads(json.dumps(data.draw(st.sampled_from(states)))))
            for worker in range(workers):
                if worker not in live:
                    meeting.forget(worker)
            for worker in sorted(live):  # they join again and say what they know
                if stands[worker] > 1:
                    meeting.recall(stands[worker] - 1, got[worker][stands[worker] - 1])
        else:
            worker = data.draw(st.sampled_from(unfinished))
            round = stands[worker]
            previous = got[worker].get(round - 1)
            values = meeting.collect(worker, round, f"round {round}", [worker, round], previous, live)
            if values is not None:
                note(worker, round, values)
        for released in meeting.results(live):
            assert released.error is None
            if released.worker in live:
                note(released.worker, released.round, released.values)
    for round in range(1, rounds + 1):
        results = [got[worker][round] for worker in range(workers) if round in got[worker]]
        assert all(result == results[0] for result in results)
        assert all(value == [int(worker), round] for result in results for worker, value in result.items())


def everything(shares: Shares, key: str, order: list[int], total: int, block: int, live: set[int], steal: bool):
    """Draw in this order of workers, then each worker until it gets nothing; what everyone got."""
    got: dict[int, list[int]] = {worker: [] for worker in live}
    for worker in [*order, *(worker for worker in sorted(live) for _ in range(total + 1))]:
        index = shares.draw(key, worker, total, block, live, steal)
        if index is not None:
            got[worker].append(index)
    return got


@given(
    total=st.integers(0, 30),
    block=st.integers(1, 4),
    live=st.sets(st.integers(0, 9), min_size=1, max_size=4),
    steal=st.booleans(),
    order=st.lists(st.integers(0, 3), max_size=30),
)
def test_every_piece_is_handed_out_once(total, block, live, steal, order):
    workers = sorted(live)
    got = everything(Shares(), "k", [workers[i % len(workers)] for i in order], total, block, live, steal)
    assert sorted(index for indices in got.values() for index in indices) == list(range(0, total, block))
    for r, worker in enumerate(workers):
        own = list(range(r * block, total, block * len(workers)))
        assert got[worker][:1] == own[:1] or not own
        if not steal:
            assert got[worker] == own


def test_the_slowest_is_relieved_of_its_last_piece_and_keeps_its_first():
    shares = Shares()
    live = {0, 1}
    assert [shares.draw("k", 1, 8, 1, live, True) for _ in range(8)] == [1, 3, 5, 7, 6, 4, 2, None]
    assert shares.draw("k", 0, 8, 1, live, True) == 0
    assert shares.draw("k", 0, 8, 1, live, True) is None
    fresh = Shares()
    assert [fresh.draw("k", 1, 2, 1, live, True) for _ in range(2)] == [1, None]


def test_pieces_of_the_gone_are_taken_over_also_under_bsp():
    shares = Shares()
    assert shares.draw("k", 0, 9, 1, {0, 1, 2}, False) == 0
    assert shares.draw("k", 1, 9, 1, {0, 1, 2}, False) == 1
    assert [shares.draw("k", 0, 9, 1, {0, 2}, False) for _ in range(5)] == [3, 6, 4, 7, None]
    assert [shares.draw("k", 5, 9, 1, {0, 5}, False) for _ in range(4)] == [2, 5, 8, None]  # a late joiner helps


def test_a_repeated_draw_gives_the_same_piece_and_a_forgotten_key_nothing():
    shares = Shares()
    assert [shares.draw("k", 0, 9, 2, {0}, True, (4, n)) for n in (1, 1, 2, 2, 3)] == [0, 0, 2, 2, 4]
    again = Shares.from_dict(json.loads(json.dumps(shares.as_dict())))
    assert again.draw("k", 0, 9, 2, {0}, True, (4, 3)) == 4
    assert again.draw("k", 0, 9, 2, {0}, True, (5, 1)) == 6
    shares.forget(0)
    assert shares.draw("k", 0, 9, 2, {0}, True, (4, 3)) == 6
    for n in range(KEYS_KEPT):
        shares.draw(f"k{n}", 0, 9, 2, {0}, True)
    assert shares.draw("k", 0, 9, 2, {0}, True) is None
    assert shares.draw("k1", 0, 9, 2, {0}, True) == 2


def test_a_server_set_back_does_not_hand_out_a_workers_own_pieces_again():
    shares = Shares()
    shares.draw("k", 1, 12, 2, {0, 1}, True)
    set_back = Shares.from_dict(shares.as_dict())
    assert [shares.draw("k", 1, 12, 2, {0, 1}, True) for _ in range(2)] == [6, 10]
    assert set_back.draw("k", 1, 12, 2, {0, 1}, False, previous=10) is None
    assert set_back.draw("k", 0, 12, 2, {0, 1}, False, previous=10) == 0  # not its own: no news
    assert set_back.draw("k", 0, 12, 2, {0, 1}, False, previous=1000) == 4


def test_disagreement_and_nonsense_are_refused():
    shares = Shares()
    shares.draw("k", 0, 9, 2, {0}, True)
    with pytest.raises(Rejected, match="disagree about the work 'k': 9 items in blocks of 2, and 9 in blocks of 3"):
        shares.draw("k", 0, 9, 3, {0}, True)
    before = shares.as_dict()
    for key, total, block, previous in [("k", -1, 1, None), ("k", 1, 0, None), ("k", 1.5, 1, None), (3, 1, 1, None),
                                        ("k", 9, 2, "x"), ("k", 9, 2, -3)]:  # fmt: skip
        with pytest.raises(InputError):
            shares.draw(key, 0, total, block, {0}, True, previous=previous)
    assert shares.as_dict() == before
