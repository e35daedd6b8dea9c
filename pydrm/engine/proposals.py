"""
`Proposals`: this node's requests from the call until they are applied here. Sans I/O.

Anything but "applied" is unknown, so a request is sent again under the same id until its deadline; the
state machine sees to it that it takes effect once. An answer comes from applying the log on this node, so a
caller who has it can read what it wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import attrs

from pydrm.core.answers import Answer
from pydrm.core.commands import RequestId
from pydrm.core.records import Incarnation
from pydrm.engine.codec import request_of
from pydrm.errors import Unavailable

__all__ = ["Proposals", "Resolve"]

Resolve = Callable[[Answer | BaseException], None]

RETRY_S = 1.0
_LOOK_S = 0.05


@attrs.define
class _Proposal:
    command: bytes
    deadline: float
    resolve: Resolve
    retry_at: float = 0.0
    patience_s: float = RETRY_S
    encoded: bytes = b""


class Proposals:
    def __init__(self) -> None:
        self._client: Incarnation | None = None
        self._sequences = count(1)
        self._unsent: list[_Proposal] = []
        self._sent: dict[int, _Proposal] = {}
        self._looked_at = self._gave_up_at = 0.0

    def add(self, command: bytes, deadline: float, resolve: Resolve) -> None:
        """
        *command* is what `encode_command` made.

        *resolve* is called once, with the answer, or with Unavailable after *deadline* on the engine's clock.
        """
        self._unsent.append(_Proposal(command, deadline, resolve))

    def joined(self, client: Incarnation) -> None:
        """From now on requests are made as *client*. What was under way as another can never be answered."""
        if client == self._client:
            return
        self._client = client
        self._sequences = count(1)
        sent, self._sent = self._sent, {}
        for proposal in sent.values():
            proposal.resolve(
                Unavailable("this node lost its lease meanwhile; whether the request took effect is unknown")
            )

    @property
    def under_way(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._sent or self._unsent)

    def retry_now(self) -> None:
        """There is a new leader, or a new way to it."""
        for proposal in self._sent.values():
            proposal.retry_at = 0.0
        self._looked_at = 0.0

    def due(self, now: float) -> list[bytes]:
        """Encoded requests to be put into the log now."""
        due = []
        # Thousands may be under way: they are looked through now and then, not at every tick.
        if now - self._looked_at >= _LOOK_S:
            self._looked_at = now
            for proposal in self._sent.values():
                if proposal.retry_at <= now:
                    # A cluster that is slow because it has much to do must not be given the same again and again.
                    proposal.patience_s *= 2
                    proposal.retry_at = now + proposal.patience_s
                    due.append(proposal.encoded)
        if self._client is not None and self._unsent:
            due += self._number_unsent(self._client, now)
        return due

    def _number_unsent(self, client: Incarnation, now: float) -> list[bytes]:
        numbered = []
        floor = next(iter(self._sent), None)
        for proposal in self._unsent:
            sequence = next(self._sequences)
            floor = sequence if floor is None else floor
            proposal.encoded = request_of(proposal.command, RequestId(*client, sequence, floor))
            proposal.retry_at = now + RETRY_S
            self._sent[sequence] = proposal
            numbered.append(proposal.encoded)
        self._unsent.clear()
        return numbered

    def applied(self, id: RequestId, answer: Answer) -> None:
        """A request was applied on this node."""
        if (id.node, id.incarnation) == self._client:
            proposal = self._sent.pop(id.sequence, None)
            if proposal is not None:
                proposal.resolve(answer)

    def give_up(self, now: float) -> None:
        """Tell the callers whose deadline has come that nothing is known. To be called often; it looks now and then."""
        if now - self._gave_up_at < _LOOK_S:
            return
        self._gave_up_at = now
        for proposal in [p for p in self._unsent if p.deadline <= now]:
            self._unsent.remove(proposal)
            proposal.resolve(Unavailable("no majority could be reached within the deadline; nothing was sent"))
        for sequence in [s for s, p in self._sent.items() if p.deadline <= now]:
            message = "no majority answered within the deadline; it may still take effect. Repeat it"
            self._sent.pop(sequence).resolve(Unavailable(message))

    def abandon(self, error: BaseException) -> None:
        """The engine stops; every caller gets *error*."""
        for proposal in [*self._unsent, *self._sent.values()]:
            proposal.resolve(error)
        self._unsent.clear()
        self._sent.clear()
