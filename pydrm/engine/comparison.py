"""
`Comparison`: says what this node's state comes to, hears it of the others, and stops this node if it is wrong.

Who is wrong, `agreement` decides.
"""

from __future__ import annotations

from collections.abc import Callable

from pydrm.core.state import State
from pydrm.engine.agreement import DIGEST_EVERY, Agreement
from pydrm.engine.frames import StateDigest
from pydrm.engine.members import Members
from pydrm.errors import DrmError

__all__ = ["Comparison"]


class Comparison:
    """Belongs to the engine's loop."""

    def __init__(
        self,
        me: str,
        state: State,
        members: Members,
        *,
        say: Callable[[StateDigest], None],
        failed: Callable[[DrmError], None],
    ) -> None:
        """*say* is to tell all peers."""
        self._me = me
        self._state = state
        self._members = members
        self._agreement = Agreement(me)
        self._say = say
        self._failed = failed

    def applied(self, index: int) -> None:
        """The state is as of entry *index*. To be called after each."""
        if index % DIGEST_EVERY == 0:
            said = StateDigest(index, f"{self._state.digest:032x}")
            self._say(said)
            self.heard(self._me, said)

    def heard(self, node: str, said: StateDigest) -> None:
        wrong = self._agreement.note(node, said.index, said.digest, self._members.voters)
        if wrong:
            self._failed(DrmError(f"node {self._me} cannot trust its state: {wrong}. It stops; please report this"))
