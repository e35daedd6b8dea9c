"""
The ledger: who is given an event, who may try it, and what is left when somebody dies in the middle of it.
"""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from pydrm.core import events
from pydrm.core.answers import Answer, Done, Reason, Refused
from pydrm.core.commands import AddResources, PauseResources, Place, RemoveResources
from pydrm.core.decide_ledger import BEHIND, UNKNOWN
from pydrm.core.events import PAYLOAD_BYTES_MAX, Delivery, DeliveryState
from pydrm.core.ledger_commands import (
    Claim,
    ClaimDeliveries,
    ForgetPublished,
    Publish,
    Publisher,
    ReplayDeliveries,
    SettleDeliveries,
    Settlement,
    Verdict,
)
from pydrm.core.placement import unfinished
from pydrm.core.records import Holder, Phase
from tests.core.build import Cluster, cluster, define, numbered, through_bytes


def subscribe(house: Cluster, *names: str, topics: tuple[str, ...] = ("a.#",), overlap: bool = False) -> None:
    house.apply(AddResources(tuple(replace(define(name, overlap=overlap), topics=topics) for name in names)))


def house_with(*names: str, nodes: str = "ab", checked: bool = True) -> Cluster:
    house = cluster(*nodes, checked=checked)
    subscribe(house, *names)
    return house


def publish(house: Cluster, id: str = "e1", topic: str = "a.b", payload: bytes = b"{}", **more: object) -> Answer:
    return house.do(Publish(id, topic, payload, "application/json", known=True, **more))  # type: ignore[arg-type]


def newest(house: Cluster) -> int:
    """The number of the event that was published last."""
    return max(house.state.ledger.events)


def delivery(house: Cluster, name: str = "r", event: int | None = None) -> Delivery:
    found = house.state.ledger.delivery(name, event or newest(house))
    assert found is not None
    return found


def claim(
    house: Cluster, name: str = "r", holder: Holder | None = None, event: int | None = None, once: bool = False
) -> bool:
    """The holder, or another one, claims the next attempt; whether it was granted."""
    holder = holder or house.claim(name)
    event = event or newest(house)
    attempt = delivery(house, name, event).attempt + 1
    claimed = Claim(name, 0, holder.token, event, attempt, once)
    house.do(ClaimDeliveries(holder.node, holder.incarnation, (claimed,)))
    after = delivery(house, name, event)
    mine = (after.node, after.incarnation, after.token, after.attempt)
    return mine == (holder.node, holder.incarnation, holder.token, attempt)


def settle(
    house: Cluster, verdict: Verdict, name: str = "r", holder: Holder | None = None, delay_ms: int = 0, event: int = 0
) -> Answer:
    holder = holder or house.claim(name)
    event = event or newest(house)
    attempt = delivery(house, name, event).attempt
    settlement = Settlement(name, holder.token, event, attempt, verdict, delay_ms, "why")
    return house.do(SettleDeliveries(holder.node, holder.incarnation, (settlement,)))


# --- publishing ------------------------------------------------------------------------------------------------------


def test_an_event_is_for_those_who_want_its_topic_when_it_is_published() -> None:
    """Whoever subscribes later gets what comes later."""
    house = house_with("r", "s")
    subscribe(house, "t", topics=("b",))

    assert publish(house) == Done(created=2)
    subscribe(house, "u")

    assert sorted(d.resource for d in house.state.ledger.deliveries()) == ["r", "s"]
    assert delivery(house, "r") == Delivery("r", newest(house))


def test_an_event_that_nobody_wants_is_not_kept() -> None:
    """Its id is, so that it is not published a second time for somebody who came later."""
    house = house_with()
    assert publish(house) == Done()
    subscribe(house, "r")

    assert publish(house) == Done(unchanged=1)
    assert len(house.state.ledger.events) == 0


def test_an_id_is_published_once() -> None:
    """The second time is answered like the first, and does nothing."""
    house = house_with("r")
    publish(house)
    digest = house.digest

    assert publish(house, payload=b"other") == Done(created=1, unchanged=1)
    assert house.digest == digest


def test_the_oldest_ids_go_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window is bounded by count."""
    monkeypatch.setattr(events, "PUBLISHED_MAX", 3)
    house = house_with("r")
    for number in range(5):
        publish(house, f"e{number}")

    assert list(house.state.ledger.published) == ["e2", "e3", "e4"]
    assert publish(house, "e0") == Done(created=1)


def test_ids_that_are_too_old_are_forgotten_up_to_a_number() -> None:
    """The window is bounded by age; who proposes it names the newest that is too old."""
    house = house_with("r")
    for id in ("e1", "e2", "e3"):
        publish(house, id)
    through = house.state.ledger.published["e2"].number

    assert house.do(ForgetPublished(through)) == Done(removed=2)
    assert list(house.state.ledger.published) == ["e3"]
    again = house.do(ForgetPublished(through))
    assert isinstance(again, Refused) and again.reason is Reason.STALE


def test_who_publishes_under_a_token_that_is_over_is_refused() -> None:
    """A thawed handler must not say again what its successor has said."""
    house = house_with("r", "feed")
    old = house.claim("feed")
    house.expire(old.node)
    new = house.claim("feed")

    late = publish(house, "late", by=Publisher("feed", 0, old.token))
    assert isinstance(late, Refused) and late.reason is Reason.STALE
    assert publish(house, "now", by=Publisher("feed", 0, new.token)) == Done(created=2)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"payload": bytes(PAYLOAD_BYTES_MAX + 1)}, "the payload has"),
        ({"topic": "a..b"}, "the topic"),
        ({"topic": "a.*"}, "the topic"),
        ({"id": ""}, "an event's id"),
        ({"id": "x" * 129}, "an event's id"),
    ],
)
def test_what_cannot_be_an_event_is_refused(more: dict[str, object], words: str) -> None:
    """Its sender looks first; this is for the others."""
    house = house_with("r")
    refused = publish(house, **more)  # type: ignore[arg-type]

    assert isinstance(refused, Refused) and refused.reason is Reason.INVALID
    assert words in refused.detail


def test_an_event_for_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It becomes a record for each of them, in one step."""
    monkeypatch.setattr(events, "FANOUT_MAX", 2)
    house = house_with("r", "s", "t")

    refused = publish(house)
    assert isinstance(refused, Refused) and refused.reason is Reason.INVALID
    assert refused.detail == "more subscriptions want a.b than one event may be for: 2"


# --- claims and results ----------------------------------------------------------------------------------------------


def test_an_event_is_kept_until_the_last_of_its_deliveries_is_over() -> None:
    """Once, however many want it."""
    house = house_with("r", "s")
    publish(house)
    assert claim(house, "r") and claim(house, "s")
    settle(house, Verdict.DELIVERED, "r")
    assert len(house.state.ledger.events) == 1

    settle(house, Verdict.DELIVERED, "s")
    assert len(house.state.ledger.events) == house.state.ledger.payload_bytes == 0
    assert house.state.ledger.shelves == {}


def test_only_the_holder_may_claim() -> None:
    """Under its token, of its incarnation, the attempt that is next."""
    house = house_with("r")
    publish(house)
    holder = house.claim("r")
    other = "b" if holder.node == "a" else "a"

    assert not claim(house, holder=replace(holder, token=holder.token - 1))
    assert not claim(house, holder=replace(holder, node=other, incarnation=house.incarnation(other)))
    wrong = Claim("r", 0, holder.token, newest(house), attempt=2)
    house.do(ClaimDeliveries(holder.node, holder.incarnation, (wrong,)))
    assert delivery(house).state is DeliveryState.DUE
    assert claim(house)


def test_of_two_claims_of_the_same_attempt_one_is_granted() -> None:
    """A claim that is repeated must not look like another one."""
    house = house_with("r")
    publish(house)
    holder = house.claim("r")
    one = ClaimDeliveries(holder.node, holder.incarnation, (Claim("r", 0, holder.token, newest(house), 1),))

    assert house.apply(one).changes != ()
    assert house.apply(one).changes == ()


def test_who_is_to_let_go_begins_nothing_more() -> None:
    """What it has begun, it may still settle."""
    house = house_with("r")
    publish(house, "e1")
    assert claim(house)
    first = newest(house)
    publish(house, "e2")
    holder = house.claim("r")
    house.drain(holder.node)
    assert house.phase("r") is Phase.RELEASING

    assert not claim(house, holder=holder)
    settle(house, Verdict.DELIVERED, holder=holder, event=first)
    assert house.state.ledger.delivery("r", first) is None


def test_a_claim_that_was_left_open_is_another_attempt_for_the_next_holder() -> None:
    """At least once: nobody knows whether the first was received, so it is sent again, under the same id."""
    house = house_with("r")
    publish(house)
    claim(house)
    house.expire(house.holder("r"))

    assert claim(house)
    assert (delivery(house).attempt, delivery(house).node) == (2, house.holder("r"))


@pytest.mark.parametrize("said_by", ["the first", "the second"])
def test_a_claim_that_was_left_open_is_the_end_if_it_is_to_be_sent_once(said_by: str) -> None:
    """At most once: it is reported as unknown, and never sent again."""
    house = house_with("r")
    publish(house)
    claim(house, once=said_by == "the first")
    house.expire(house.holder("r"))

    assert not claim(house, once=said_by == "the second")
    assert (delivery(house).state, delivery(house).reason) == (DeliveryState.DEAD, UNKNOWN)


def test_an_earlier_run_of_the_same_holder_leaves_its_claims_open_too() -> None:
    """A handler that failed does not know what it had sent."""
    house = house_with("r", "s")
    publish(house)
    claim(house, "r")
    claim(house, "s", once=True)

    assert claim(house, "r")
    assert not claim(house, "s")
    assert delivery(house, "s").state is DeliveryState.DEAD


def test_with_overlap_nobody_takes_what_the_other_one_has_claimed() -> None:
    """Both hold it, and both are at work."""
    house = cluster("a")
    subscribe(house, "r", "s", overlap=True)
    publish(house)
    for name in ("r", "s"):
        claim(house, name)
    house.join("b")
    moving = next(name for name in ("r", "s") if house.assignment(name).target is not None)

    assert not claim(house, moving, holder=house.target(moving))
    settle(house, Verdict.AGAIN, moving)
    assert claim(house, moving, holder=house.target(moving))


def test_a_result_comes_from_who_claimed_it_also_after_it_has_let_go() -> None:
    """It alone knows; unless somebody else has begun meanwhile."""
    house = house_with("r")
    publish(house, "e1")
    claim(house)
    first = newest(house)
    publish(house, "e2")
    claim(house)
    holder = house.claim("r")
    house.drain(holder.node)
    house.release("r")
    assert house.holder("r") != holder.node

    assert claim(house)
    settle(house, Verdict.DELIVERED, holder=holder, event=first)
    settle(house, Verdict.DELIVERED, holder=holder)

    assert house.state.ledger.delivery("r", first) is None
    assert delivery(house).state is DeliveryState.CLAIMED


def test_a_dead_incarnation_says_nothing_any_more() -> None:
    """What it had claimed is for its successor."""
    house = house_with("r")
    publish(house)
    claim(house)
    holder = house.claim("r")
    house.expire(holder.node)

    assert isinstance(settle(house, Verdict.DELIVERED, holder=holder), Refused)
    assert isinstance(house.do(ClaimDeliveries(holder.node, holder.incarnation, ())), Refused)
    assert delivery(house).state is DeliveryState.CLAIMED


def test_what_failed_is_due_again_after_a_delay() -> None:
    """The delay is in the record; each node counts it from when it applied that."""
    house = house_with("r")
    publish(house)
    claim(house)
    settle(house, Verdict.AGAIN, delay_ms=5000)

    due = delivery(house)
    assert (due.state, due.delay_ms, due.attempt, due.reason) == (DeliveryState.DUE, 5000, 1, "why")


# --- the dead --------------------------------------------------------------------------------------------------------


def test_the_dead_are_kept_and_can_be_replayed() -> None:
    """Their tries are counted anew, and their attempts are not."""
    house = house_with("r")
    publish(house)
    claim(house)
    settle(house, Verdict.DEAD)
    key = ("r", newest(house))
    assert list(house.state.ledger.dead.values()) == [key]

    assert house.do(ReplayDeliveries((key, ("r", 9999)))) == Done(updated=1)
    due = delivery(house)
    assert (due.state, due.attempt, due.series) == (DeliveryState.DUE, 1, 1)
    assert house.do(ReplayDeliveries((key,))) == Done()


def test_of_the_dead_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their events go with them."""
    monkeypatch.setattr(events, "DEAD_MAX", 2)
    house = house_with("r")
    for number in range(4):
        publish(house, f"e{number}")
        claim(house)
        settle(house, Verdict.DEAD)

    kept = [house.state.ledger.events[event].id for _, event in house.state.ledger.dead.values()]
    assert kept == ["e2", "e3"]
    assert len(house.state.ledger.events) == 2


@pytest.mark.parametrize(
    ("limit", "value"), [("EVENTS_MAX", 2), ("DELIVERIES_MAX", 2), ("PAYLOADS_BYTES_MAX", 2 * len(b"{}"))]
)
def test_a_full_ledger_refuses_and_says_what_it_is_full_of(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    """What is not over yet never gives way; what is dead does."""
    monkeypatch.setattr(events, limit, value)
    house = house_with("r")
    publish(house, "e1")
    first = newest(house)
    publish(house, "e2")

    full = publish(house, "e3")
    assert isinstance(full, Refused) and full.reason is Reason.FULL
    assert "the ledger is full" in full.detail
    claim(house, event=first)
    settle(house, Verdict.DEAD, event=first)
    assert publish(house, "e3") == Done(created=1)
    assert house.state.ledger.delivery("r", first) is None


def test_one_receiver_that_is_away_does_not_stop_what_is_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it gets beyond its share is dead at once, and can be replayed."""
    monkeypatch.setattr(events, "BACKLOG_MAX", 1)
    house = house_with("r", "s")
    publish(house, "e1")
    claim(house, "s")
    settle(house, Verdict.DELIVERED, "s")

    assert publish(house, "e2") == Done(created=2)
    assert (delivery(house, "r").state, delivery(house, "r").reason) == (DeliveryState.DEAD, BEHIND)
    assert delivery(house, "s").state is DeliveryState.DUE


# --- subscriptions that end ------------------------------------------------------------------------------------------


def test_what_is_removed_loses_its_deliveries_at_once_and_their_events_soon() -> None:
    """Some hundreds at a time, so that no step takes long."""
    house = house_with("r", "s", checked=False)
    for number in range(1200):
        publish(house, f"e{number}")
    house.do(RemoveResources(("r",)))

    assert house.state.ledger.of("r") == []
    assert len(house.state.ledger.of("s")) == len(house.state.ledger.events) == 1200
    house.do(RemoveResources(("s",)))
    steps = 0
    while unfinished(house.state):
        house.do(Place())
        steps += 1
    assert steps > 3
    assert len(house.state.ledger.events) == len(house.state.ledger.remains) == 0


def test_what_is_being_removed_gets_nothing_more_unless_it_was_added_again() -> None:
    """Then what comes is for the new one, and the old one's is gone."""
    house = house_with("r")
    publish(house, "e1")
    house.do(RemoveResources(("r",)))
    assert house.phase("r") is Phase.REMOVING
    assert publish(house, "e2") == Done()

    subscribe(house, "r")
    assert publish(house, "e3") == Done(created=1)
    assert not claim(house)
    house.settle()

    assert [house.state.ledger.events[d.event].id for d in house.state.ledger.of("r")] == ["e3"]
    assert claim(house)


def test_what_is_no_subscription_any_more_has_no_deliveries() -> None:
    """A definition without topics took its place."""
    house = house_with("r")
    publish(house)
    house.apply(AddResources((define("r"),)))

    assert house.state.ledger.of("r") == []
    assert publish(house, "e2") == Done()


def test_other_topics_are_for_what_is_published_from_then_on() -> None:
    """What was published before stays due."""
    house = house_with("r")
    publish(house, "e1", topic="a.b")
    subscribe(house, "r", topics=("c",))

    assert publish(house, "e2", topic="a.b") == Done()
    assert publish(house, "e3", topic="c") == Done(created=1)
    assert len(house.state.ledger.of("r")) == 2


def test_what_is_paused_keeps_what_it_is_given() -> None:
    """It is delivered when somebody resumes it."""
    house = house_with("r")
    house.do(PauseResources(("r",), "maintenance"))
    house.settle()

    assert publish(house) == Done(created=1)
    assert delivery(house).state is DeliveryState.DUE


def test_a_ledger_goes_through_a_snapshot() -> None:
    """Everything of it, and what follows from it."""
    house = house_with("r", "s", "t")
    for number in range(6):
        publish(house, f"e{number}", payload=bytes(100_000))
    numbers = sorted(house.state.ledger.events)
    for event, verdict in zip(numbers, (Verdict.DEAD, Verdict.AGAIN, Verdict.DELIVERED), strict=False):
        claim(house, "s", event=event)
        settle(house, verdict, "s", event=event)
    claim(house, "s", event=numbers[4])
    house.do(RemoveResources(("r",)))

    restored = through_bytes(house.state)

    assert restored.digest == house.digest
    other = Cluster()
    other.state = restored
    assert publish(other, "e9") == publish(house, "e9") == Done(created=2)
    assert other.digest == house.digest


# --- costs -----------------------------------------------------------------------------------------------------------


def seconds(house: Cluster, command: object) -> float:
    began = time.perf_counter()
    house.do(command)  # type: ignore[arg-type]
    return time.perf_counter() - began


def test_one_publication_costs_in_proportion_to_who_wants_it() -> None:
    """Not to how many subscriptions there are."""
    few, many = house_with("r", checked=False), house_with("r", checked=False)
    for start in range(0, 20_000, 500):
        names = numbered(20_000)[start : start + 500]
        subscribe(many, *names, topics=(f"other.{start}.*",))

    def best(house: Cluster) -> float:
        return min(seconds(house, Publish(f"e{n}", "a.b", b"{}", "", known=True)) for n in range(200))

    assert best(many) < 5 * best(few) + 0.001


def test_no_step_takes_long_at_the_bounds() -> None:
    """The worst there is: one event for as many as may be, and the end of all that a ledger can hold."""
    names = numbered(events.FANOUT_MAX)
    house = house_with(*names[:500], checked=False)
    subscribe(house, *names[500:])
    fan_out_s = min(seconds(house, Publish(f"e{n}", "a.b", b"{}", "", known=True)) for n in range(5))
    subscribe(house, *names[500:], topics=("other",))
    while house.state.ledger.deliveries_count + 500 <= events.DELIVERIES_MAX:
        publish(house, f"f{house.state.ledger.deliveries_count}")
    removal_s = seconds(house, RemoveResources(tuple(names[:500])))

    # Five times what is promised: this machine may be busy. benchmarks/webhooks.py prints what they take.
    assert fan_out_s < 0.1
    assert removal_s < 0.1
