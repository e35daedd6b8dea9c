"""When a delivery is due, what is news, and when an id is too old; by this node's own clock."""

from __future__ import annotations

from pydrm.agent.ledger_watch import PUBLISHED_WINDOW_S, LedgerWatch
from pydrm.core.events import Delivery, Published
from pydrm.core.ledger_changes import DeliveryChanged, DeliveryDropped, IdRemembered, SubscriptionEnded
from pydrm.core.ledger_commands import ForgetPublished
from pydrm.core.state import State, evolve


def waiting(attempt: int = 1, event: int = 7, delay_ms: int = 5000) -> Delivery:
    return Delivery("hook", event, attempt=attempt, delay_ms=delay_ms)


def test_a_wait_is_counted_from_when_this_node_applied_it() -> None:
    """Whoever holds the subscription by then."""
    watch = LedgerWatch()
    watch.note(DeliveryChanged(waiting()), now=100.0)

    assert watch.due_at(waiting()) == 105.0
    assert watch.due_at(Delivery("hook", 8)) == watch.due_at(waiting(attempt=2)) == float("-inf")


def test_nothing_is_kept_of_what_need_not_wait_any_more() -> None:
    """It is delivered, or replayed, or its subscription is gone."""
    watch = LedgerWatch()
    for number in (1, 2, 3):
        watch.note(DeliveryChanged(waiting(event=number)), now=0.0)
    watch.note(DeliveryDropped("hook", 1), now=1.0)
    watch.note(DeliveryChanged(waiting(event=2, delay_ms=0)), now=1.0)
    assert list(watch._due_at["hook"]) == [3]

    watch.note(SubscriptionEnded("hook", 9), now=1.0)
    assert watch._due_at == {}


def test_what_was_counted_goes_on_when_the_state_comes_from_a_snapshot() -> None:
    """And what is not known is counted from then."""
    state = State()
    for change in (DeliveryChanged(waiting(event=1)), DeliveryChanged(waiting(event=2, attempt=3))):
        state.ledger.put(change.delivery)
    watch = LedgerWatch()
    watch.note(DeliveryChanged(waiting(event=1)), now=100.0)
    watch.note(DeliveryChanged(waiting(event=2, attempt=2)), now=100.0)

    watch.restored(state, now=103.0)

    assert watch.due_at(waiting(event=1)) == 105.0
    assert watch.due_at(waiting(event=2, attempt=3)) == 108.0


def test_news_is_what_becomes_due_where_somebody_watches() -> None:
    """The others need not hear of it."""
    watch = LedgerWatch()
    watch.watched["hook"] = 1
    mine, other = Delivery("hook", 1), Delivery("elsewhere", 1)
    watch.note(DeliveryChanged(mine), now=0.0)
    watch.note(DeliveryChanged(other), now=0.0)

    assert watch.news() == [mine]
    assert watch.news() == []


def remember(watch: LedgerWatch, number: int, now: float) -> None:
    watch.note(IdRemembered(Published(f"e{number}", number, 1)), now)


def test_ids_are_forgotten_when_the_window_is_over_by_whoever_leads() -> None:
    """Those of one minute together, never too early."""
    watch = LedgerWatch()
    for number in range(1, 200):
        remember(watch, number, now=float(number))
    over = PUBLISHED_WINDOW_S + 199

    assert watch.due(PUBLISHED_WINDOW_S, leads_since=0.0) is None
    assert watch.due(over, leads_since=None) is None
    assert watch.due(over, leads_since=0.0) == ForgetPublished(199)
    assert watch.due(over + 0.1, leads_since=0.0) is None
    watch.forgot(199)
    assert watch.due(over + 10, leads_since=0.0) is None


def test_no_id_is_forgotten_before_its_own_time() -> None:
    """Whatever minute it is counted with."""
    for now in range(0, 400, 7):
        watch = LedgerWatch()
        known = {number: float(number) for number in range(1, 200)}
        for number, at in known.items():
            remember(watch, number, at)
        forget = watch.due(PUBLISHED_WINDOW_S + now, leads_since=0.0)
        if forget is not None:
            assert all(now >= known[number] for number in known if number <= forget.through)


def test_what_a_day_of_ids_takes_is_bounded() -> None:
    """However many there are."""
    watch = LedgerWatch()
    for number in range(20_000):
        remember(watch, number, now=number / 10)

    assert len(watch._published) < 40


def test_a_snapshot_s_ids_are_counted_from_when_it_was_read() -> None:
    """Longer than needed, never shorter."""
    state = State()
    evolve(state, IdRemembered(Published("e5", 5, 1)))
    watch = LedgerWatch()
    watch.restored(state, now=50.0)

    assert watch.due(PUBLISHED_WINDOW_S + 49, leads_since=0.0) is None
    assert watch.due(PUBLISHED_WINDOW_S + 50, leads_since=0.0) == ForgetPublished(5)
