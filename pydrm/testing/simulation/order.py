"""
`Order`: the judge of webhooks that are `ordered`, by what leaves for the receiver.

    Rule 1.  What was published later is not sent before what was published earlier is over: accepted by the receiver,
             or dead.
    Rule 2.  What is over is not sent again. So once something later was sent, nothing earlier is.

Which of two events was published first only the log knows; so their numbers, and which events are dead, are read from
the nodes. That something was sent or accepted is not asked of anybody: it is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pydrm.core.events import DeliveryState
from pydrm.core.state import State

__all__ = ["Order"]


class Order:
    """
    Args:
        states: What the nodes that run know.
    """

    def __init__(self, states: Callable[[], Iterable[State]]) -> None:
        self._states = states
        self._numbers: dict[str, int] = {}  # by the event's id
        self._newest: dict[str, str] = {}  # subscription -> the latest event that was sent, by publication
        self._accepted: set[tuple[str, str]] = set()

    def accepted(self, subscription: str, id: str) -> None:
        """The receiver has answered that it has it; whether anybody hears that or not."""
        self._accepted.add((subscription, id))

    def problem(self, subscription: str, id: str) -> str:
        """What is wrong with sending *id* to *subscription* now; "" if nothing is."""
        due, dead = self._read(subscription)
        if id not in self._numbers:
            return ""  # The engine that sends it has just failed, and says nothing any more.
        newest = self._newest.get(subscription, id)
        if self._numbers[newest] > self._numbers[id]:
            return f"{id} is sent to {subscription} after {newest}, which was published later"
        self._newest[subscription] = id
        for earlier in due - dead:
            if self._numbers[earlier] < self._numbers[id] and (subscription, earlier) not in self._accepted:
                return f"{id} is sent to {subscription} before {earlier}, which was published earlier, is over"
        return ""

    def _read(self, subscription: str) -> tuple[set[str], set[str]]:
        """The ids of what is to be sent there, or was, and of what somebody knows to be dead."""
        due, dead = set(), set()
        for state in self._states():
            ids = {event.number: event.id for event in state.ledger.events.values()}
            self._numbers.update((id, number) for number, id in ids.items())
            for delivery in state.ledger.of(subscription):
                due.add(ids[delivery.event])
                # By value: a node may run another version of pydrm, with classes of its own.
                if delivery.state.value == DeliveryState.DEAD.value:
                    dead.add(ids[delivery.event])
        return due, dead
