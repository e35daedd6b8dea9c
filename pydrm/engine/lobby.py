"""
`Lobby`: connections that have not said yet who they are: how many, how long, and how often from one host.

    Rule 1.  Each has a deadline, for all that it must do together; whatever it sends does not put it off.
    Rule 2.  There are at most so many. A newcomer is let in all the same, and the host that has the most of them loses
             the one that has had the most time. Were the newcomer refused, anybody could keep all others
             out with a few connections that do nothing.
    Rule 3.  A host that connects again and again is turned away at once, which costs a part of what TLS would cost.
             Each host has a token bucket of its own, so this costs the others nothing.
    Rule 4.  What this node has dialled itself is only under rule 1: it is there at its own wish.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from pydrm.engine.link import Link

__all__ = ["Lobby"]

_STRANGERS_MAX = 64
_HANDSHAKE_TIMEOUT_S = 2.0
_KNOCKS_AT_ONCE = 64
_KNOCKS_PER_S = 32.0
_HOSTS_MAX = 1024


class Lobby:
    def __init__(self) -> None:
        self._deadlines: dict[Link, asyncio.TimerHandle] = {}
        self._full_at: dict[str, float] = {}  # when each host's bucket will be full again

    def __len__(self) -> int:
        return len(self._deadlines)

    def __contains__(self, link: Link) -> bool:
        return link in self._deadlines

    def links(self) -> list[Link]:
        return list(self._deadlines)

    def admit(self, link: Link, now: float) -> bool:
        """Whether *link* may go on; if so, it is aborted at its deadline unless it `leave`s before."""
        if not link.dialled:
            if not self._may_knock(link.host, now):
                return False
            self._make_room(link.host)
        self._deadlines[link] = asyncio.get_running_loop().call_later(_HANDSHAKE_TIMEOUT_S, link.abort)
        return True

    def leave(self, link: Link) -> None:
        """It is a stranger no more, or gone. Idempotent."""
        deadline = self._deadlines.pop(link, None)
        if deadline is not None:
            deadline.cancel()

    def _make_room(self, host: str) -> None:
        guests = [link for link in self._deadlines if not link.dialled]
        if len(guests) < _STRANGERS_MAX:
            return
        counts = Counter([host, *(link.host for link in guests)])
        crowd = counts.most_common(1)[0][0]
        oldest = next((link for link in guests if link.host == crowd), guests[0])
        self.leave(oldest)
        oldest.abort()

    def _may_knock(self, host: str, now: float) -> bool:
        full_at = max(self._full_at.pop(host, now), now)
        may = full_at - now <= (_KNOCKS_AT_ONCE - 1) / _KNOCKS_PER_S
        self._full_at[host] = full_at + 1 / _KNOCKS_PER_S if may else full_at
        if len(self._full_at) > _HOSTS_MAX:
            self._forget(now)
        return may

    def _forget(self, now: float) -> None:
        self._full_at = {host: full_at for host, full_at in self._full_at.items() if full_at > now}
        # Whoever has so many addresses is not held up by this; of the rest those who came last are kept.
        for host in list(self._full_at)[: -_HOSTS_MAX // 2]:
            del self._full_at[host]
