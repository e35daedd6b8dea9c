"""
`Turns`: which handle is opened or closed next, and how many at once. Sans I/O.

    Rule 1.  So many first tries to open are under way and no more; one that takes long gives its slot away, because a
             handler that never says that it is ready must not keep others from being opened.
    Rule 2.  So many polite closes are under way and no more.
    Rule 3.  What another node is to open is closed only while few others are on their way there: see `pace`.
    Rule 4.  First come, first served.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from pydrm.agent.pace import Handoffs
from pydrm.core.records import AssignmentKey
from pydrm.core.state import State

__all__ = ["Turns"]

OPEN_SLOT_S = 1.0

Turn = tuple[AssignmentKey, int]

# Not a dict, which is searched from its beginning for what is left: a hundred thousand would take seconds.
_Queue = OrderedDict[int, AssignmentKey]


class Turns:
    def __init__(self, *, open_concurrency: int, close_concurrency: int, handoff_window: int) -> None:
        self._open_concurrency = open_concurrency
        self._close_concurrency = close_concurrency
        self._to_open: _Queue = OrderedDict()
        self._to_close: _Queue = OrderedDict()
        self._to_hand_off: _Queue = OrderedDict()
        self._queues = (self._to_open, self._to_close, self._to_hand_off)
        self._opening: dict[int, float] = {}  # token -> when the try began
        self._closing: set[int] = set()
        self._handoffs = Handoffs(handoff_window)

    @property
    def wait_for_others(self) -> bool:
        """Whether somebody waits whose turn may come without anything that happens here."""
        return bool(self._to_hand_off or self._to_open)

    def wants_open(self, key: AssignmentKey, token: int) -> None:
        self._to_open[token] = key

    def wants_close(self, key: AssignmentKey, token: int, *, moves: bool) -> None:
        """*moves*: for another node to open it."""
        (self._to_hand_off if moves else self._to_close)[token] = key

    def unqueue(self, tokens: Iterable[int]) -> None:
        """They want nothing."""
        for queue in self._queues:
            if queue:
                for token in tokens:
                    queue.pop(token, None)

    def unqueue_all(self) -> None:
        for queue in self._queues:
            queue.clear()

    def joined(self) -> None:
        """This node has a new incarnation, which hands off nothing yet."""
        self._handoffs.clear()

    def update(self, state: State, now: float) -> None:
        """Find out who needs no slot any more."""
        self._handoffs.update(state, now)
        for token in [token for token, began in self._opening.items() if now - began > OPEN_SLOT_S]:
            del self._opening[token]

    def next_to_open(self) -> Turn | None:
        """Whose turn it is, taken out of the queue; then it is `opening`, or there was no need."""
        if not self._to_open or len(self._opening) >= self._open_concurrency:
            return None
        token, key = self._to_open.popitem(last=False)
        return key, token

    def next_to_close(self, now: float) -> Turn | None:
        """Whose turn it is, taken out of the queue; then it is `closing`."""
        if len(self._closing) >= self._close_concurrency:
            return None
        if self._to_close:
            token, key = self._to_close.popitem(last=False)
        elif self._to_hand_off and not self._handoffs.full:
            token, key = self._to_hand_off.popitem(last=False)
            self._handoffs.began(key, token, now)
        else:
            return None
        return key, token

    def opening(self, token: int, now: float) -> None:
        self._opening[token] = now

    def settled(self, token: int) -> bool:
        """Its first try is over, or it waits for something; whether it had a slot."""
        return self._opening.pop(token, None) is not None

    def closing(self, token: int) -> None:
        self._closing.add(token)

    def stuck(self, token: int) -> None:
        """It does not count against those that can still be closed."""
        self._closing.discard(token)

    def gone(self, token: int) -> None:
        self._opening.pop(token, None)
        self._closing.discard(token)
        self.unqueue((token,))
