"""
`Complaints`: what there is to say of other nodes and of strangers, in the log and in the status.

They meet again and again, each time to the same end: the log has it once a minute, the status as long as it is so.
And they may say of themselves what they like: not in a log without end, nor in characters that a terminal obeys.
"""

from __future__ import annotations

import logging

from pydrm.clock import Clock

__all__ = ["Complaints"]

_log = logging.getLogger(__name__)

_SAY_AGAIN_S = 60.0
_SAID_MAX = 256
_CHARACTERS_MAX = 500


class Complaints:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said: dict[tuple[str, str], float] = {}
        self._problems: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        """Whether something keeps the peer *name* from being linked."""
        return name in self._problems

    @property
    def newest(self) -> str:
        """Of what keeps peers from being linked; "" if nothing does, as far as is known."""
        return next(reversed(self._problems.values()), "")

    def note(self, name: str, problem: str) -> None:
        """*problem* keeps the peer *name* from being linked, until it is `settled`."""
        self._problems.pop(name, None)
        self._problems[name] = _shown(problem)

    def settled(self, name: str) -> None:
        self._problems.pop(name, None)

    def say(self, about: tuple[str, str], message: str) -> None:
        """Log *message* once, and again if what it is *about* is still so a minute later."""
        now = self._clock.now()
        if now - self._said.get(about, -_SAY_AGAIN_S) < _SAY_AGAIN_S:
            return
        if len(self._said) >= _SAID_MAX:
            self._said = {said: at for said, at in self._said.items() if now - at < _SAY_AGAIN_S}
            if len(self._said) >= _SAID_MAX:
                return
        self._said[about] = now
        _log.warning("%s", _shown(message))


def _shown(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text[:_CHARACTERS_MAX])
