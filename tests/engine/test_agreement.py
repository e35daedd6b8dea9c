"""
Which replica must stop when they are not equal.
"""

from __future__ import annotations

import pytest

from pydrm.engine.agreement import DIGEST_EVERY, Agreement

THREE = ("a", "b", "c")
INDEX = 4 * DIGEST_EVERY


def verdicts(said: dict[str, str], voters: tuple[str, ...] = THREE, *, me: str = "a") -> list[str]:
    agreement = Agreement(me)
    return [agreement.note(node, INDEX, digest, voters) for node, digest in said.items()]


def test_equal_replicas_go_on():
    assert verdicts({"a": "x", "b": "x", "c": "x"}) == ["", "", ""]


def test_one_that_a_majority_contradicts_stops():
    """It names those that are right."""
    *before, last = verdicts({"a": "y", "b": "x", "c": "x"})

    assert before == ["", ""]
    assert last == f"as of entry {INDEX} its state differs from that of b, c"


def test_the_majority_goes_on_without_the_one_that_differs():
    assert verdicts({"a": "x", "b": "y", "c": "x"}) == ["", "", ""]


def test_one_other_alone_proves_nothing():
    """Of two that differ nobody knows who is right, until the third has spoken."""
    assert verdicts({"a": "x", "b": "y"}) == ["", ""]


@pytest.mark.parametrize("me", THREE)
def test_when_no_value_can_have_a_majority_all_stop(me: str):
    *_, last = verdicts({"a": "x", "b": "y", "c": "z"}, me=me)

    assert last == f"as of entry {INDEX} no majority of the voters has the same state"


def test_of_two_voters_that_differ_both_stop():
    assert verdicts({"a": "x", "b": "y"}, ("a", "b"))[-1]


def test_a_worker_is_measured_by_the_voters_and_does_not_count_itself():
    assert verdicts({"w": "x", "a": "x", "b": "x"}, me="w") == ["", "", ""]
    assert verdicts({"w": "y", "a": "x", "b": "x"}, me="w")[-1]
    assert verdicts({"w1": "x", "w2": "x", "a": "y"}, me="a") == ["", "", ""]


def test_what_others_say_may_come_before_it_is_known_here():
    """A replica that is behind is compared when it comes to that entry."""
    *before, last = verdicts({"b": "x", "c": "x", "a": "y"})

    assert before == ["", ""]
    assert last


def test_old_indexes_are_forgotten():
    agreement = Agreement("a")
    for number in range(1, 1000):
        agreement.note("b", number * DIGEST_EVERY, "x", THREE)

    assert len(agreement._said) < 20
