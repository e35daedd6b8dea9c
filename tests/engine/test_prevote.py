"""Asking before standing: who says yes, and how many are enough."""

from __future__ import annotations

import pytest

from pydrm.engine.frames import PreVote, PreVoteAnswer
from pydrm.engine.prevote import PreVotes

LOYALTY_S = 0.24


def test_a_majority_with_the_asker_itself_is_enough():
    votes = PreVotes(5, LOYALTY_S)
    votes.ask(7, last_index=10, last_term=3)

    heard = [votes.answered(peer, PreVoteAnswer(7, granted=True)) for peer in "bcd"]

    assert heard == [False, True, True]


def test_one_peer_that_answers_twice_is_one():
    votes = PreVotes(5, LOYALTY_S)
    votes.ask(7, last_index=10, last_term=3)

    assert [votes.answered("b", PreVoteAnswer(7, granted=True)) for _ in range(4)] == [False] * 4


def test_refusals_and_answers_to_an_earlier_question_do_not_count():
    votes = PreVotes(3, LOYALTY_S)
    votes.ask(6, last_index=10, last_term=3)
    votes.ask(7, last_index=10, last_term=3)

    assert not votes.answered("b", PreVoteAnswer(6, granted=True))
    assert not votes.answered("b", PreVoteAnswer(7, granted=False))
    assert votes.answered("b", PreVoteAnswer(7, granted=True))


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (PreVote(7, last_index=10, last_term=3), True),
        (PreVote(7, last_index=11, last_term=3), True),
        (PreVote(7, last_index=2, last_term=4), True),
        (PreVote(7, last_index=9, last_term=3), False),
        (PreVote(7, last_index=99, last_term=2), False),
    ],
)
def test_only_whose_log_is_at_least_as_long_would_be_voted_for(asked: PreVote, granted: bool):
    """Raft, section 5.4.1: the later last term is the longer log, and of equal terms the larger index."""
    answer = PreVotes(3, LOYALTY_S).answer(asked, now=100.0, leads=False, last_index=10, last_term=3)

    assert answer == PreVoteAnswer(7, granted)


@pytest.mark.parametrize(("seconds_since", "granted"), [(0.0, False), (0.23, False), (0.25, True)])
def test_nobody_would_replace_a_leader_heard_of_a_moment_ago(seconds_since: float, granted: bool):
    votes = PreVotes(3, LOYALTY_S)
    votes.heard_leader(100.0)

    answer = votes.answer(PreVote(7, 10, 3), now=100.0 + seconds_since, leads=False, last_index=10, last_term=3)

    assert answer.granted is granted


def test_a_leader_would_not_replace_itself():
    answer = PreVotes(3, LOYALTY_S).answer(PreVote(7, 10, 3), now=1.0, leads=True, last_index=10, last_term=3)

    assert answer == PreVoteAnswer(7, granted=False)
