"""
What must be true of every state, at every index: `check(state)` says in words what is not.

For tests and the simulator; it looks at everything and is as slow as that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from pydrm.core.brought import Brought
from pydrm.core.events import DeliveryState
from pydrm.core.index import Index
from pydrm.core.ledger import Ledger
from pydrm.core.picture import Section, digests
from pydrm.core.placement import unfinished
from pydrm.core.records import NodeState, ParkedCause, Phase
from pydrm.core.state import State
from pydrm.core.table import MODULUS, Digestible, fingerprint

__all__ = ["check", "verify"]

_HAS_HOLDER = {phase: phase not in (Phase.WAITING, Phase.PARKED) for phase in Phase}


def check(state: State) -> list[str]:
    """Every violated invariant in words; an empty list is what everybody wants."""
    return [
        *_settings_make_sense(state),
        *_each_assignment(state),
        *_assignments_fit_records(state),
        *_claims_belong_to_known_incarnations(state),
        *verify(state),
        *_sessions_belong_to_the_living(state),
        *_load_is_even(state),
        *_budgets_make_sense(state),
        *_watermarks_are_of_incarnations(state),
    ]


def verify(state: State) -> list[str]:
    """
    What does not follow from the records though it should: digests, index and counter, in words.

    For a state that was made of bytes. It takes seconds for a million resources.
    """
    return [
        *_tokens_are_unique_and_past(state),
        *_index_follows_from_assignments(state),
        *_digests_follow_from_records(state),
        *_quarantines_follow_from_records(state),
        *_ownership_follows_from_records(state),
        *_ledger_follows_from_its_records(state),
    ]


def _settings_make_sense(state: State) -> Iterator[str]:
    settings = state.settings
    if settings is None:
        return
    names = [voter.name for voter in settings.voters]
    if not names or names != sorted(set(names)) or len({voter.replica_id for voter in settings.voters}) < len(names):
        yield f"the voters are {settings.voters}"
    for name, node in state.nodes.items():
        if node.lives and node.protocol < settings.protocol:
            yield f"{name} lives at protocol {node.protocol}, in force is {settings.protocol}"


def _each_assignment(state: State) -> Iterator[str]:
    for key, assignment in state.assignments.items():
        if assignment.key != key:
            yield f"{key} is kept under another's key"
        if (assignment.holder is not None) != _HAS_HOLDER[assignment.phase]:
            yield f"{key} is {assignment.phase.value} with holder {assignment.holder}"
        if (assignment.ticket > 0) != (assignment.phase is Phase.WAITING):
            yield f"{key} is {assignment.phase.value} with ticket {assignment.ticket}"
        if assignment.target is not None and assignment.phase in (Phase.WAITING, Phase.HELD, Phase.PARKED):
            yield f"{key} is {assignment.phase.value} with a target"
        if assignment.phase is Phase.OPENING and assignment.target is None:
            yield f"{key} is opening nowhere"


def _assignments_fit_records(state: State) -> Iterator[str]:
    for name, record in state.records.items():
        assignment = state.assignments.get((name, 0))
        if assignment is None:
            yield f"{name} is defined and has no assignment"
            continue
        if (assignment.phase is Phase.PARKED) != (record.parked is not None and assignment.holder is None):
            yield f"{name} is {assignment.phase.value}, and parked: {record.parked}"
        if record.parked is not None and assignment.phase in (Phase.HELD, Phase.OPENING):
            yield f"{name} is {assignment.phase.value} although it is parked"
        if record.following is not None and assignment.phase is not Phase.REMOVING:
            yield f"{name} has a following definition and is {assignment.phase.value}"
        if assignment.phase is Phase.HELD and assignment.holder and assignment.holder.revision != record.revision:
            yield f"{name} is held at revision {assignment.holder.revision}, defined at {record.revision}"
    for name, slot in state.assignments:
        if name not in state.records:
            yield f"{(name, slot)} is assigned and not defined"
    for name, slot in state.checkpoints:
        if name not in state.records:
            yield f"{(name, slot)} has a checkpoint and is not defined"


def _tokens_are_unique_and_past(state: State) -> Iterator[str]:
    numbers = Counter(claim.token for a in state.assignments.values() for claim in a.claims())
    numbers.update(a.ticket for a in state.assignments.values() if a.ticket)
    for number, times in numbers.items():
        if times > 1:
            yield f"token or ticket {number} is used {times} times"
        if number >= state.next_number:
            yield f"token or ticket {number} is not below the counter, {state.next_number}"


def _claims_belong_to_known_incarnations(state: State) -> Iterator[str]:
    for assignment in state.assignments.values():
        for claim in assignment.claims():
            incarnation = (claim.node, claim.incarnation)
            if not state.is_current(incarnation) and incarnation not in state.index.dead:
                yield f"{assignment.key} is claimed by {incarnation}, which has ended and is not noted as dead"


def _index_follows_from_assignments(state: State) -> Iterator[str]:
    fresh = Index()
    for assignment in state.assignments.values():
        fresh.update(None, assignment)
    kept = state.index
    for name in ("claims", "settled", "load", "moving", "waiting", "groups", "permits"):
        if getattr(kept, name) != getattr(fresh, name):
            yield f"index.{name} is {_short(getattr(kept, name))}, should be {_short(getattr(fresh, name))}"
    queues = [("waiting", kept.waiting)]
    queues += [(f"claims of {incarnation}", queue) for incarnation, queue in kept.claims.items()]
    queues += [(f"settled of {node}", queue) for node, weights in kept.settled.items() for queue in weights.values()]
    for name, queue in queues:
        numbers = [number for number, _ in queue.items()]
        if numbers != sorted(numbers) or len(numbers) != len(queue):
            yield f"index.{name} is not in the order of its {len(queue)} numbers: {_short(numbers)}"
    for incarnation in kept.dead:
        if incarnation not in kept.claims or state.is_current(incarnation):
            yield f"index.dead has {incarnation}, which lives or has no claims"


def _digests_follow_from_records(state: State) -> Iterator[str]:
    sections: dict[Section, Iterable[Digestible]] = {
        Section.NODES: state.nodes.values(),
        Section.RECORDS: state.records.values(),
        Section.ASSIGNMENTS: state.assignments.values(),
        Section.CHECKPOINTS: state.checkpoints.values(),
        Section.WATERMARKS: state.watermarks.values(),
        Section.EVENTS: state.ledger.events.values(),
        Section.DELIVERIES: state.ledger.deliveries(),
        Section.REMAINS: state.ledger.remains.values(),
        Section.PUBLISHED: state.ledger.published.values(),
        Section.BUDGETS: state.budgets.values(),
        Section.FLOORS: state.sessions.floors(),
        Section.ANSWERS: state.sessions.answers(),
        Section.AUDIT: state.audit.values(),
    }
    kept = digests(state)
    for section, records in sections.items():
        if kept[section] != sum(map(fingerprint, records)) % MODULUS:
            yield f"the digest of {section.value} does not follow from its records"


def _quarantines_follow_from_records(state: State) -> Iterator[str]:
    there = {
        name: record.parked.number
        for name, record in state.records.items()
        if record.parked is not None and record.parked.cause is ParkedCause.QUARANTINED
    }
    if state.quarantined != there:
        yield f"the quarantines noted are {_short(state.quarantined)}, should be {_short(there)}"


def _ownership_follows_from_records(state: State) -> Iterator[str]:
    fresh = Brought()
    for record in state.records.values():
        fresh.update(None, record)
    fresh.restored(state.records)
    kept = state.brought
    if kept.by_source != fresh.by_source or kept.gone != fresh.gone:
        yield f"sources own {_short(kept)}, should own {_short(fresh)}"


def _ledger_follows_from_its_records(state: State) -> Iterator[str]:
    kept, fresh = state.ledger, Ledger()
    for event in kept.events.values():
        fresh.keep(event)
    for delivery in kept.deliveries():
        fresh.put(delivery)
        if (delivery.died > 0) != (delivery.state is DeliveryState.DEAD):
            yield f"delivery {delivery.key} is {delivery.state.value} and died {delivery.died}"
        if (delivery.token > 0) != (delivery.state is DeliveryState.CLAIMED):
            yield f"delivery {delivery.key} is {delivery.state.value} under token {delivery.token}"
        if delivery.resource not in state.records:
            yield f"delivery {delivery.key} is for nobody"
        if max(delivery.died, delivery.event) >= state.next_number:
            yield f"delivery {delivery.key} has a number that is not below the counter, {state.next_number}"
    for remains in kept.remains.values():
        fresh.leave(remains)
    fresh.restored()
    for record in state.records.values():
        fresh.follow(record)
    for name in ("references", "payload_bytes", "deliveries_count", "deliveries_digest", "dead_on"):
        if getattr(kept, name) != getattr(fresh, name):
            yield f"ledger.{name} is {_short(getattr(kept, name))}, should be {_short(getattr(fresh, name))}"
    if list(kept.dead.items()) != list(fresh.dead.items()):
        yield f"ledger.dead is {_short(kept.dead)}, should be {_short(fresh.dead)}"
    if kept.topics.patterns != fresh.topics.patterns:
        yield f"ledger.topics is {_short(kept.topics.patterns)}, should be {_short(fresh.topics.patterns)}"
    if set(kept.references) != set(kept.events):
        yield "there are events that nobody refers to"
    if any(not shelf for shelf in kept.shelves.values()):
        yield "there is an empty shelf"
    numbers = [published.number for published in kept.published.values()]
    if numbers != sorted(numbers):
        yield f"the published ids are not in the order of their numbers: {_short(numbers)}"


def _sessions_belong_to_the_living(state: State) -> Iterator[str]:
    for client in state.sessions.clients():
        if not state.is_current(client):
            yield f"{client} has ended and still has a session"


def _load_is_even(state: State) -> Iterator[str]:
    """One unit apart at the most, once nothing is under way and all weights are 1."""
    alive = [name for name, node in state.nodes.items() if node.state is NodeState.ALIVE]
    quiet = all(
        a.phase in (Phase.HELD, Phase.PARKED) and not a.excluded and not a.failed and a.weight == 1
        for a in state.assignments.values()
    )
    recovers = state.settings is not None and state.settings.recovering
    if not alive or not quiet or recovers or unfinished(state):
        return
    loads = {name: state.index.load.get(name, 0) for name in alive}
    if max(loads.values()) - min(loads.values()) > 1:
        yield f"the load is uneven: {loads}"


def _budgets_make_sense(state: State) -> Iterator[str]:
    for group, budget in state.budgets.items():
        if budget.group != group:
            yield f"the budget of {group} is kept under another's name"
        if not budget.limits and not budget.holdbacks:
            yield f"{group} has a budget that says nothing"
        durations = [holdback.duration_ms for holdback in budget.holdbacks]
        if durations != sorted(set(durations), reverse=True):
            yield f"{group} is held back by {budget.holdbacks}, some of which others outlast"
        numbers = [budget.hour, *(holdback.number for holdback in budget.holdbacks)]
        if max(numbers) >= state.next_number:
            yield f"a number of the budget of {group} is not below the counter, {state.next_number}"


def _watermarks_are_of_incarnations(state: State) -> Iterator[str]:
    for incarnation, watermark in state.watermarks.items():
        node = state.nodes.get(watermark.node)
        if watermark.by != incarnation:
            yield f"the watermark of {incarnation} is kept under another's name"
        if node is None or node.incarnation < watermark.incarnation:
            yield f"{incarnation} has a watermark and never joined"


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 300 else f"{shown[:300]}..."
