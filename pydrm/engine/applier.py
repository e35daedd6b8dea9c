"""
`Applier`: takes committed entries to the state machine, and what they did to everybody who has to know.

    Rule 1.  It never raises into the core, which would apply the entry again.
    Rule 2.  What this version cannot apply is not skipped and not guessed at: the node stops, and says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from pydrm.core.machine import apply
from pydrm.core.protocol import PROTOCOL, exceeds
from pydrm.core.state import State
from pydrm.engine.codec import UnknownCommand, decode_entry
from pydrm.engine.participant import Participant
from pydrm.engine.proposals import Proposals
from pydrm.errors import Outdated

__all__ = ["Applier"]

_log = logging.getLogger(__name__)


class Applier:
    """Belongs to the engine's loop."""

    def __init__(
        self,
        state: State,
        participant: Participant,
        proposals: Proposals,
        *,
        now: Callable[[], float],
        failed: Callable[[BaseException], None],
    ) -> None:
        """*failed* is called at the first entry that cannot be applied; nothing is applied any more after that."""
        self._state = state
        self._participant = participant
        self._proposals = proposals
        self._now = now
        self._failed = failed
        self._stopped = False

    def stop(self) -> None:
        """Apply nothing any more. Idempotent."""
        self._stopped = True

    def apply(self, entry: bytes, index: int) -> None:
        if self._stopped:
            return
        try:
            self._apply(entry)
        except UnknownCommand as error:
            self._fail(Outdated(f"entry {index} cannot be applied by this pydrm: {error}; start a newer pydrm here"))
        except Exception as error:  # noqa: BLE001 (rule 1)
            self._fail(error)

    def _apply(self, entry: bytes) -> None:
        now = self._now()
        for request in decode_entry(entry):
            outcome = apply(self._state, request)
            if outcome.bug is not None:
                _log.error("a bug in the state machine: %r is refused", request, exc_info=outcome.bug)
            settings = self._state.settings
            if settings is not None and exceeds(settings):
                # Others may propose what came with that protocol from the next request on.
                raise Outdated(
                    f"protocol {settings.protocol} is in force, and this pydrm can apply no more than protocol "
                    f"{PROTOCOL}; start a newer pydrm here"
                )
            self._participant.applied(request, outcome, now)
            if request.id is not None:
                self._proposals.applied(request.id, outcome.answer)

    def _fail(self, error: BaseException) -> None:
        self._stopped = True
        self._failed(error)
