"""
`SimThirdParty`: what the nodes connect to, and the judge: it sees who has what open, and who acts under which token.

It goes by what really is open, at the very instant, not by what a message has reached it of that. A process that
is stopped cannot close anything; what it has open, or what is answered while it is stopped, is excused until it has
had a moment to close it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import attrs

__all__ = ["Connection", "SimThirdParty"]

# After a pause the process must have cut everything within this time: half the least margin, and a moment.
THAW_S = 0.2

_ANSWER_S = 0.0005


class Host(Protocol):
    """What is asked of the machine that a connection comes from."""

    name: str
    paused: bool
    thawed_at: float


class CallLater(Protocol):
    def __call__(self, delay: float, call: Callable[[], None]) -> None:
        """Run *call* so much later, whatever becomes of any process meanwhile."""


@attrs.define(eq=False)
class Connection:
    """
    One handle, from before it is connected until it is closed. It can be guarded like a socket.

    Attributes:
        open: Whether the third party has accepted it, and it was not closed since.
    """

    third_party: SimThirdParty
    host: Any
    resource: str
    token: int
    open: bool = False
    _closed: bool = False
    _answered: asyncio.Future[None] | None = None

    async def connect(self) -> None:
        """
        Return once it is open. The third party may be late with that, and does not ask who still waits for it.

        Raises:
            ConnectionRefusedError: The third party refuses.
            ConnectionAbortedError: It was closed meanwhile.
        """
        self._answered = asyncio.get_running_loop().create_future()
        self.third_party.called(self)
        await self._answered

    def accepted(self) -> None:
        """By the third party, or rather by its kernel and this host's: no process needs to take part in it."""
        if not self._closed:
            self.open = True
            self.third_party.opened(self)
            self._answer(None)

    def refused(self) -> None:
        self._answer(ConnectionRefusedError(111, "the third party refuses"))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self.open:
            self.open = False
            self.third_party.closed(self)
        self._answer(ConnectionAbortedError(103, "closed before it was answered"))

    def shutdown(self, how: int) -> None:
        self.close()

    def fileno(self) -> int:
        return -1 if self._closed else 3

    def act(self) -> None:
        """Do something in the name of the resource, such as passing a message on."""
        self.third_party.acted(self)

    def do_once(self, instant: int) -> None:
        """Do what is to be done once at that instant, such as polling."""
        self.third_party.did(self, instant)

    def _answer(self, error: OSError | None) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered.get_loop().call_soon_threadsafe(_resolve, answered, error)


def _resolve(answered: asyncio.Future[None], error: OSError | None) -> None:
    if answered.done():
        return
    if error is not None:
        answered.set_exception(error)
    else:
        answered.set_result(None)


class SimThirdParty:
    """
    Attributes:
        violations: What went against the promise, in words.
        refuses: Turns every connection down.
        stalls: Answers nobody for as long as it does; afterwards all at once.
        late_s: How long it takes to answer, at the most.
        moody: Whether handlers with a mood behave accordingly.
        moves: How many connections it has seen come and go.
    """

    def __init__(
        self,
        now: Callable[[], float],
        trace: Callable[[str], None],
        *,
        call_later: CallLater,
        random: Callable[[], float],
    ) -> None:
        self.violations: list[str] = []
        self.refuses = False
        self.late_s = 0.0
        self.moody = True
        self.moves = 0
        self._stalls = False
        self._called: list[Connection] = []
        self._waiting: list[Connection] = []
        self._now = now
        self._trace = trace
        self._call_later = call_later
        self._random = random
        self._open: dict[str, list[Connection]] = {}
        self._newest: dict[str, Connection] = {}
        self._saved: dict[str, tuple[int, int]] = {}
        self._done: dict[str, tuple[int, Connection]] = {}
        self._begins_anew: set[str] = set()

    @property
    def stalls(self) -> bool:
        return self._stalls

    @stalls.setter
    def stalls(self, stalls: bool) -> None:
        self._stalls = stalls
        if not stalls:
            waiting, self._waiting = self._waiting, []
            for connection in waiting:
                self._answer(connection)

    def make_connection(self, host: Host, resource: str, token: int) -> Connection:
        """As a socket is made: nothing is connected before its `connect`, and it is to be guarded before that."""
        return Connection(self, host, resource, token)

    def connect(self, host: Host, resource: str, token: int) -> Connection:
        """One that is open at once. Raises ConnectionRefusedError if it refuses."""
        if self.refuses:
            raise ConnectionRefusedError(111, "the third party refuses")
        connection = self.make_connection(host, resource, token)
        connection.accepted()
        return connection

    # --- what connections tell it ------------------------------------------------------------------------------------

    def called(self, connection: Connection) -> None:
        self._called.append(connection)
        late_s = self.late_s * self._random() or _ANSWER_S
        self._call_later(late_s, lambda: self._answer(connection))

    def _answer(self, connection: Connection) -> None:
        if self._stalls:
            self._waiting.append(connection)
            return
        self._called.remove(connection)
        if self.refuses:
            connection.refused()
        else:
            connection.accepted()

    def opened(self, connection: Connection) -> None:
        resource, token, host = connection.resource, connection.token, connection.host
        newest = self._newest.get(resource)
        if newest is None or token > newest.token:
            self._newest[resource] = connection
        elif (token < newest.token or host is not newest.host) and self._answers_for(host):
            self._violate(
                f"{host.name} opens {resource} under token {token} after {newest.host.name} did so under {newest.token}"
            )
        self.moves += 1
        self._open.setdefault(resource, []).append(connection)
        self._trace(f"{host.name} opens {resource} under {token}")
        self.check(resource)

    def closed(self, connection: Connection) -> None:
        self.moves += 1
        self._open[connection.resource].remove(connection)
        self._trace(f"{connection.host.name} closes {connection.resource} under {connection.token}")

    def acted(self, connection: Connection) -> None:
        newest = self._newest[connection.resource]
        if newest.token > connection.token:
            self._violate(
                f"{connection.host.name} acts for {connection.resource} under {connection.token}, "
                f"{newest.host.name} has it under {newest.token}"
            )

    def did(self, connection: Connection, instant: int) -> None:
        """At each instant once, and never at an earlier one than the last."""
        last, by = self._done.get(connection.resource, (-1, connection))
        if instant <= last and connection.resource not in self._begins_anew:
            self._violate(
                f"{connection.host.name} did for {connection.resource} at {instant} under {connection.token} what "
                f"{by.host.name} had done up to {last} under {by.token}"
            )
        self._done[connection.resource] = (instant, connection)

    def got_to(self, connection: Connection, position: int) -> None:
        """This is saved: nobody who opens it later may go on from an earlier one."""
        saved = self._saved.get(connection.resource, (0, 0))
        self._saved[connection.resource] = max(saved, (connection.token, position))

    def went_on(self, connection: Connection, position: int) -> None:
        token, saved = self._saved.get(connection.resource, (0, 0))
        if connection.token >= token and position < saved and connection.resource not in self._begins_anew:
            self._violate(
                f"{connection.host.name} goes on with {connection.resource} at {position} under {connection.token}, "
                f"{saved} was saved under {token}"
            )

    def may_begin_anew(self, resource: str) -> None:
        """Somebody asked for its removal; what is added under its name later has no past."""
        self._begins_anew.add(resource)

    def host_gone(self, host: Host) -> None:
        """The kernel closes what a dead process had open, or was about to open."""
        for connections in [self._called, *self._open.values()]:
            for connection in list(connections):
                if connection.host is host:
                    connection.close()

    # --- the verdict -------------------------------------------------------------------------------------------------

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

    def _answers_for(self, host: Host) -> bool:
        return not host.paused and self._now() - host.thawed_at > THAW_S

    def _violate(self, what: str) -> None:
        self.violations.append(f"{self._now():.4f} {what}")
        self._trace(f"VIOLATION {what}")
