"""
How requests become entries: what comes first, what is gathered, what is alone.
"""

from __future__ import annotations

import math

import pytest

from pydrm.core.commands import AddVoter, Join, RemoveResources, Renew, Request, RequestId
from pydrm.engine import batches
from pydrm.engine.batches import Batches
from pydrm.engine.codec import decode_entry, encode_request

RENEW = Renew("b", 2, 7, 2000)
OTHER_RENEW = Renew("c", 3, 9, 2000)
JOIN = Join("d", "nonce", 0, 2000)


def asked(sequence: int, *, size: int = 1) -> Request:
    return Request(RemoveResources(("x" * size,)), RequestId("b", 2, sequence, 1))


def entries(from_: Batches, now: float = 0.0, *, leads: bool = True, backlog: int = 0) -> list[list[Request]]:
    due = from_.due(now, leads=leads, backlog=backlog, lease_ttl_s=2.0)
    return [decode_entry(entry) for entry in due]


def test_requests_share_an_entry():
    batches = Batches()
    batches.add([encode_request(asked(1)), encode_request(asked(2))])

    assert entries(batches) == [[asked(1), asked(2)]]
    assert entries(batches) == []


def test_an_entry_is_closed_before_it_would_be_too_long():
    """One request may fill an entry by itself; it is not cut."""
    large = batches._ENTRY_BYTES_AIM
    made = Batches()
    made.add([encode_request(asked(1)), encode_request(asked(2, size=large)), encode_request(asked(3))])

    assert entries(made) == [[asked(1)], [asked(2, size=large)], [asked(3)]]


def test_what_is_under_way_is_bounded():
    """What is not applied yet counts, and so does what this tick has made already."""
    large = batches._ENTRY_BYTES_AIM
    made = Batches()
    made.add([encode_request(asked(number, size=large)) for number in range(10)])

    assert len(entries(made)) == 4
    assert len(entries(made, backlog=3)) == 1
    assert entries(made, backlog=4) == []


def test_what_a_lease_depends_on_does_not_wait_for_the_backlog():
    made = Batches()
    made.add([encode_request(asked(1))])
    made.urgent(encode_request(Request(JOIN)))

    assert entries(made, backlog=4) == [[Request(JOIN)]]


def test_a_node_that_does_not_lead_sends_its_renewal_at_once():
    """It is the leader who gathers."""
    made = Batches()
    made.urgent(encode_request(Request(RENEW)))

    assert entries(made, leads=False) == [[Request(RENEW)]]


def test_a_leader_gathers_renewals_for_a_twentieth_of_the_ttl():
    """Fifty nodes do not make fifty entries."""
    made = Batches()
    made.urgent(encode_request(Request(RENEW)))
    assert entries(made, now=10.0) == []
    made.forwarded([encode_request(Request(OTHER_RENEW))])
    assert entries(made, now=10.09) == []

    assert entries(made, now=10.11) == [[Request(RENEW), Request(OTHER_RENEW)]]
    assert entries(made, now=10.3) == []


def test_renewals_go_along_with_whatever_goes():
    made = Batches()
    made.forwarded([encode_request(Request(RENEW)), encode_request(asked(1))])

    assert entries(made) == [[Request(RENEW), asked(1)]]


def test_renewals_go_along_with_what_else_a_lease_depends_on():
    made = Batches()
    made.forwarded([encode_request(Request(RENEW)), encode_request(Request(JOIN))])

    assert entries(made) == [[Request(RENEW), Request(JOIN)]]


def test_a_change_of_the_voters_is_alone_in_its_entry():
    """There `Raft` finds it; renewals must not hide it either."""
    change = Request(AddVoter("d", "replica-d", "127.0.0.1:7004", 1), RequestId("b", 2, 2, 1))
    made = Batches()
    made.add([encode_request(asked(1)), encode_request(change), encode_request(asked(3))])
    made.forwarded([encode_request(Request(RENEW))])

    assert entries(made) == [[Request(RENEW), asked(1)], [change], [asked(3)]]


def test_it_says_when_there_is_something_to_give():
    """As soon as there is room, or when what renewals there are were gathered for long enough."""
    made = Batches()
    nothing = made.next_at
    made.urgent(encode_request(Request(RENEW)))
    at_once = made.next_at
    entries(made, now=10.0)
    gathering = made.next_at
    made.add([encode_request(asked(1))])
    full = (entries(made, now=10.01, backlog=4), made.next_at)
    given = (len(entries(made, now=10.02)), made.next_at)

    assert (nothing, at_once) == (math.inf, -math.inf)
    assert gathering == pytest.approx(10.1)
    assert full == ([], -math.inf)
    assert given == (1, math.inf)
