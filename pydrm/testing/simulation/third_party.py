"""
`SimThirdParty`: what the nodes connect to, and the judge: it sees who has what open, and who acts under which token.

It goes by what really is open, at the very instant, not by what a message has reached it of that. A process that
is stopped cannot close anything; what it has open is excused until it has had a moment to do so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

__all__ = ["Connection", "SimThirdParty"]

# After a pause the process must have cut everything within this time: half the least margin, and a moment.
THAW_S = 0.2


@attrs.define(eq=False)
class Connection:
    """One handle, from before it is connected until it is closed. It can be guarded like a socket."""

    third_party: SimThirdParty
    host: Any
    resource: str
    token: int
    open: bool = True

    def close(self) -> None:
        if self.open:
            self.open = False
            self.third_party.closed(self)

    def shutdown(self, how: int) -> None:
        self.close()

    def fileno(self) -> int:
        return 3 if self.open else -1

    def act(self) -> None:
        """Do something in the name of the resource, such as passing a message on."""
        self.third_party.acted(self)


class SimThirdParty:
    """
    Attributes:
        violations: What went against the promise, in words.
        refuses: Turns every connection down.
        moody: Whether handlers with a mood behave accordingly.
    """

    def __init__(self, now: Callable[[], float], trace: Callable[[str], None]) -> None:
        self.violations: list[str] = []
        self.refuses = False
        self.moody = True
        self._now = now
        self._trace = trace
        self._open: dict[str, list[Connection]] = {}
        self._newest: dict[str, Connection] = {}

    def connect(self, host: Any, resource: str, token: int) -> Connection:
        """Raises ConnectionRefusedError if it refuses."""
        if self.refuses:
            raise ConnectionRefusedError(111, "the third party refuses")
        connection = Connection(self, host, resource, token)
        newest = self._newest.get(resource)
        if newest is not None and (token < newest.token or (token == newest.token and host is not newest.host)):
            self._violate(
                f"{host.name} opens {resource} under token {token} after {newest.host.name} did so under {newest.token}"
            )
        self._newest[resource] = connection
        self._open.setdefault(resource, []).append(connection)
        self._trace(f"{host.name} opens {resource} under {token}")
        self.check(resource)
        return connection

    def closed(self, connection: Connection) -> None:
        self._open[connection.resource].remove(connection)
        self._trace(f"{connection.host.name} closes {connection.resource} under {connection.token}")

    def acted(self, connection: Connection) -> None:
        newest = self._newest[connection.resource]
        if newest.token > connection.token:
            self._violate(
                f"{connection.host.name} acts for {connection.resource} under {connection.token}, "
                f"{newest.host.name} has it under {newest.token}"
            )

    def host_gone(self, host: Any) -> None:
        """The kernel closes what a dead process had open."""
        for connections in self._open.values():
            for connection in list(connections):
                if connection.host is host:
                    connection.close()

    def holders(self, resource: str) -> list[Connection]:
        return list(self._open.get(resource, ()))

    def held(self) -> dict[str, list[Connection]]:
        return {resource: list(connections) for resource, connections in self._open.items() if connections}

    def check(self, resource: str) -> None:
        """At most one holder that could do something about it."""
        able = [connection for connection in self._open.get(resource, ()) if self._answers_for(connection.host)]
        if len(able) > 1:
            who = " and ".join(f"{connection.host.name} under {connection.token}" for connection in able)
            self._violate(f"{resource} is held by {who}")

    def check_all(self) -> None:
        for resource, connections in self._open.items():
            if len(connections) > 1:
                self.check(resource)

    def _answers_for(self, host: Any) -> bool:
        return not host.paused and self._now() - host.thawed_at > THAW_S

    def _violate(self, what: str) -> None:
        self.violations.append(f"{self._now():.4f} {what}")
        self._trace(f"VIOLATION {what}")
