"""
Which commands may be in the log while nodes of different versions run.

    Rule 1.  A version of pydrm can apply everything up to `PROTOCOL`. A node says so when it joins.
    Rule 2.  The protocol in force is in the settings. It is raised by a command, once every node can apply it,
             and never lowered. Whoever is behind it cannot join any more.
    Rule 3.  Nobody proposes a command that is newer than the protocol in force (`speaks`); `decide` refuses it,
             on all that know it. One that does not know it cannot read the entry, and stops.
    Rule 4.  A field that was added to a command or a record later is new too: until the protocol that it came
             with is in force it is left at its default, because an older node does not see it. So is any
             change of what is decided about a command that is old: it looks at the protocol in force.
    Rule 5.  A node that has applied a protocol above its own must stop (`exceeds`).
    Rule 6.  The leader raises it by itself, as soon as nobody could be left behind (`raisable`).
"""

from __future__ import annotations

from pydrm.core.answers import Reason, Refused
from pydrm.core.settings import Settings
from pydrm.core.state import State

__all__ = ["PROTOCOL", "SINCE", "exceeds", "objection", "raisable", "speaks"]

PROTOCOL = 1

# Commands that came after protocol 1, and the protocol that they came with.
SINCE: dict[type, int] = {}


def speaks(settings: Settings | None, command: type) -> bool:
    """Whether a command of this type may be proposed in the cluster as it is now."""
    return SINCE.get(command, 1) <= (settings.protocol if settings is not None else 1)


def objection(settings: Settings | None, command: type) -> Refused | None:
    """Why a command of this type cannot be proposed yet, or decided about; None if it can."""
    if speaks(settings, command):
        return None
    detail = f"{command.__name__} needs protocol {SINCE[command]}; it is raised once all nodes are up to date"
    return Refused(Reason.UNSUPPORTED, detail)


def exceeds(settings: Settings | None) -> bool:
    """Whether the cluster is past what this version can apply."""
    return settings is not None and settings.protocol > PROTOCOL


def raisable(state: State) -> int | None:
    """
    The protocol that is worth raising to now; None while there is none.

    Every voter must have joined: of one that never did nobody knows what it can apply, and it follows the log already.
    A voter that is down counts as what it joined as; a worker that is down has nothing, and must join anew.
    """
    settings = state.settings
    if settings is None:
        return None
    voters = [state.nodes.get(voter.name) for voter in settings.voters]
    living = [node for node in state.nodes.values() if node.lives]
    highest = min([PROTOCOL, *(node.protocol if node is not None else 0 for node in (*voters, *living))])
    return highest if highest > settings.protocol else None
