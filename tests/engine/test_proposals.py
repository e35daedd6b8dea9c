"""
`Proposals`: each caller is told once, and the same request is never two. Times are in virtual seconds.
"""

from __future__ import annotations

import pytest

from pydrm.core.answers import Answer, Done, Reason, Refused
from pydrm.core.commands import Drain, Request, RequestId
from pydrm.engine.codec import decode_entry, encode_command, encode_entry
from pydrm.engine.proposals import RETRY_S, Proposals
from pydrm.errors import DiskFailed, Unavailable

CLIENT = ("a", 7)
START = 1000.0


class Callers:
    """What each caller was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Answer | BaseException]] = []
        self.proposals = Proposals()

    def propose(self, name: str, *, deadline: float = START + 100) -> None:
        """Propose a command that can be told from the others."""
        self.proposals.add(encode_command(Drain(name, 0)), deadline, lambda result: self.told.append((name, result)))

    def due(self, now: float = START) -> list[Request]:
        return decode_entry(encode_entry(self.proposals.due(now)))

    def reasons(self) -> list[tuple[str, str]]:
        """Who was told that nothing is known, and how it was put."""
        assert all(isinstance(result, Unavailable) for _, result in self.told)
        return [(name, str(result)) for name, result in self.told]


def request(name: str, sequence: int, floor: int, client: tuple[str, int] = CLIENT) -> Request:
    return Request(Drain(name, 0), RequestId(*client, sequence, floor))


def joined(*names: str) -> Callers:
    """A client that has these requests under way."""
    callers = Callers()
    callers.proposals.joined(CLIENT)
    for name in names:
        callers.propose(name)
    callers.due()
    return callers


# --- on their way ----------------------------------------------------------------------------------------------------


def test_before_the_node_has_joined_nothing_is_sent():
    """There is nobody in whose name it could be; it waits."""
    callers = Callers()
    callers.propose("x")
    before = callers.due()

    callers.proposals.joined(CLIENT)

    assert before == []
    assert callers.due() == [request("x", 1, 1)]


def test_requests_are_numbered_in_order_and_name_the_lowest_that_is_waited_for():
    """Below the floor, answers can be forgotten."""
    callers = Callers()
    callers.proposals.joined(CLIENT)
    for name in "xyz":
        callers.propose(name)
    first = callers.due()
    callers.proposals.applied(RequestId(*CLIENT, 1, 1), Done())
    callers.proposals.applied(RequestId(*CLIENT, 3, 1), Done())
    callers.propose("v")

    assert first == [request("x", 1, 1), request("y", 2, 1), request("z", 3, 1)]
    assert callers.due() == [request("v", 4, 2)]


def test_what_was_sent_is_not_due_again_at_once():
    """An answer takes a moment."""
    callers = joined("x")

    assert callers.due(START + 0.1) == []
    assert callers.due(START + RETRY_S - 0.1) == []


def test_what_is_not_answered_is_sent_again_under_the_same_id_less_and_less_often():
    """The state machine sees to it that it takes effect once; a busy cluster is not given the same again and again."""
    callers = joined("x")
    sent = []
    for tenth in range(1, 160):
        again = callers.due(START + tenth / 10)
        assert again in ([], [request("x", 1, 1)])
        if again:
            sent.append(tenth / 10)

    assert sent == [1.0, 3.0, 7.0, 15.0]


def test_a_new_leader_is_given_all_that_is_under_way_at_once():
    """The old one may have taken them with it."""
    callers = joined("x", "y")

    callers.proposals.retry_now()

    assert callers.due(START + 0.01) == [request("x", 1, 1), request("y", 2, 1)]
    assert callers.due(START + 0.02) == []


# --- what callers are told -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [Done(created=1), Refused(Reason.NOT_FOUND, "why")])
def test_a_caller_is_told_the_answer_once(answer: Answer):
    """However often the request is applied."""
    callers = joined("x", "y")

    callers.proposals.applied(RequestId(*CLIENT, 2, 1), answer)
    callers.proposals.applied(RequestId(*CLIENT, 2, 1), answer)

    assert callers.told == [("y", answer)]
    assert callers.due(START + RETRY_S) == [request("x", 1, 1)]


@pytest.mark.parametrize("client", [("b", 7), ("a", 6)])
def test_an_answer_to_somebody_else_is_not_this_callers(client: tuple[str, int]):
    """Other nodes, and former processes of this one, number their requests from 1 too."""
    callers = joined("x")

    callers.proposals.applied(RequestId(*client, 1, 1), Done())

    assert callers.told == []


def test_after_its_deadline_a_caller_is_told_that_nothing_is_known():
    """It may still take effect; and once told, it is not sent again."""
    callers = joined()
    callers.propose("x", deadline=START + 2)
    callers.propose("y", deadline=START + 4)
    callers.due()

    callers.proposals.give_up(START + 1.9)
    before = callers.reasons()
    callers.proposals.give_up(START + 2)

    assert before == []
    assert callers.reasons() == [("x", "no majority answered within the deadline; it may still take effect. Repeat it")]
    assert callers.due(START + 3) == [request("y", 2, 1)]
    callers.proposals.applied(RequestId(*CLIENT, 1, 1), Done())
    assert len(callers.told) == 1


def test_what_was_given_up_is_not_waited_for_any_more():
    """The next request's floor says so."""
    callers = joined()
    callers.propose("x", deadline=START + 2)
    callers.due()
    callers.proposals.give_up(START + 2)
    callers.propose("y")

    assert callers.due(START + 2) == [request("y", 2, 2)]


def test_a_caller_whose_request_was_never_sent_is_told_so():
    """Then it will not take effect later either."""
    callers = Callers()
    callers.propose("x", deadline=START + 2)

    callers.proposals.give_up(START + 2)
    callers.proposals.joined(CLIENT)

    assert callers.reasons() == [("x", "no majority could be reached within the deadline; nothing was sent")]
    assert callers.due() == []


def test_a_node_that_lost_its_lease_tells_its_callers():
    """Their requests were made as another incarnation, which is over; they are numbered anew."""
    callers = joined("x")

    callers.proposals.joined(("a", 8))
    callers.propose("y")

    assert callers.reasons() == [
        ("x", "this node lost its lease meanwhile; whether the request took effect is unknown")
    ]
    assert callers.due() == [request("y", 1, 1, ("a", 8))]


def test_joining_as_the_same_again_changes_nothing():
    """What is under way goes on."""
    callers = joined("x")

    callers.proposals.joined(CLIENT)
    callers.propose("y")

    assert callers.told == []
    assert callers.due() == [request("y", 2, 1)]


def test_when_the_engine_stops_every_caller_is_told_why():
    """Those whose request was sent, and those whose was not; and nobody twice."""
    callers = joined("x")
    callers.propose("y")
    failure = DiskFailed("writing failed")

    callers.proposals.abandon(failure)
    callers.proposals.abandon(Unavailable("again"))
    callers.proposals.give_up(START + 1000)

    assert callers.told == [("y", failure), ("x", failure)]
