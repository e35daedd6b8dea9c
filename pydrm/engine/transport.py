"""
`Transport`: authenticated, ordered, bounded links between the nodes of one cluster.

One TCP connection joins each pair of nodes. Both dial, so that it is enough if one can reach the other;
when two connections meet, both sides keep the one that the node with the smaller name dialled, unless
the other end has been restarted since.

PySyncObj assumes that between "connected" and "disconnected" no message is lost and none overtakes another.
TCP gives that as long as nothing is ever dropped here: what cannot be sent closes the connection.

Before its Hello is accepted a peer can cost little: small frames only, few connections, a short deadline from the
first byte to the last of both handshakes, few lines in the log, and no one host more than its share of that.

When a node is dialled, and where, is in `dialler`; what needs TLS, in `reach`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from pydrm.address import split_address
from pydrm.clock import Clock, Random
from pydrm.engine.channel import Certificate, TlsFailed, moment
from pydrm.engine.codec import CodecError
from pydrm.engine.complaints import Complaints
from pydrm.engine.dialler import Dialler
from pydrm.engine.frames import (
    Frame,
    Hello,
    Ping,
    Refusal,
)
from pydrm.engine.handshake import objection
from pydrm.engine.link import Link
from pydrm.engine.lobby import Lobby
from pydrm.engine.reach import Reach
from pydrm.engine.tls import Security, Tls
from pydrm.errors import ConfigurationError

__all__ = ["Transport"]

_log = logging.getLogger(__name__)

_BACKLOG = 128
_PARTING_TIMEOUT_S = 2.0
_PING_S = 1.0
_IDLE_TIMEOUT_S = 3.0
_ON_LOOPBACK = Security()


class Transport:
    """All links of one node. Belongs to the engine's loop."""

    def __init__(
        self,
        bind: str,
        addresses: Mapping[str, str],
        *,
        hello: Callable[[], Hello],
        linked: Callable[[str, Hello], None],
        unlinked: Callable[[str], None],
        receive: Callable[[str, Frame], None],
        clock: Clock,
        random: Random,
        security: Security = _ON_LOOPBACK,
    ) -> None:
        """
        Args:
            addresses: Where the other nodes are expected, by name; what they say of themselves is tried as well.
            hello: What this node says of itself now.
            linked, unlinked: Called in turn for each peer, with its newest Hello; `linked` again when it changes.
            receive: Gets the frames of accepted peers. A ValueError closes the link.
        """
        self._bind = bind
        self._hello = hello
        self._linked = linked
        self._unlinked = unlinked
        self._receive = receive
        self._clock = clock
        self._links: dict[str, Link] = {}
        self._strangers = Lobby()
        self._complaints = Complaints(clock)
        self._newest_boot: dict[str, tuple[int, str]] = {}
        self._tls = Tls(security.tls, hello().cluster, hello().node) if security.tls is not None else None
        self._reach = Reach(tls=self._tls is not None, insecure=security.insecure)
        self._dialler = Dialler(
            hello().node,
            addresses,
            self._links,
            self._strangers,
            self._complaints,
            link=lambda name: Link(self, dialled=name),
            reach=self._reach,
            clock=clock,
            random=random,
        )
        self._serials: dict[str, str] = {}
        self._server: asyncio.Server | None = None
        self._keeping_alive: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Raises ConfigurationError if the address cannot be bound or needs TLS, or TLS cannot be used."""
        if self._tls is not None:
            self._tls.load()
        try:
            await self._reach.check_bind(self._bind)
            self._server = await self._listen()
        except OSError as error:
            message = f"cannot listen on {self._bind}: {error.strerror or error}"
            raise ConfigurationError(message, field="bind") from error
        self._dialler.start()
        self._keeping_alive = asyncio.get_running_loop().create_task(self._keep_alive())

    async def stop(self) -> None:
        self._stopping = True
        await self._dialler.stop()
        if self._keeping_alive is not None:
            self._keeping_alive.cancel()
            await asyncio.gather(self._keeping_alive, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        # What was sent goes out; nobody waits for an answer.
        links = [*self._links.values(), *self._strangers.links()]
        for link in links:
            link.hang_up()
        if links:
            await asyncio.wait([link.closed for link in links], timeout=0.2)
        for link in links:
            link.abort()

    def expect(self, addresses: Mapping[str, str]) -> None:
        """These nodes are to be linked as well from now on; whom it knows already it will find there too."""
        self._dialler.expect(addresses)

    def send(self, peer: str, frame: Frame) -> None:
        """Send, or let the peer see a closed link; never lose one of several."""
        link = self._links.get(peer)
        if link is not None:
            link.sent_at = self._clock.now()
            link.send(frame)

    def backlog(self, peer: str) -> int:
        """How many bytes wait to be written to *peer*."""
        link = self._links.get(peer)
        return link.backlog if link is not None else 0

    def announce(self) -> None:
        """Tell everybody who has heard this node's Hello that it has changed."""
        # Those too whose own has not arrived yet: they will not hear this node's again.
        for link in [*self._links.values(), *self._strangers.links()]:
            link.send(self._hello())

    @property
    def problem(self) -> str:
        """What keeps this node from being linked with all, in words; "" if nothing is known."""
        mine = self._tls.problem if self._tls is not None else ""
        return mine or self._complaints.newest

    def heard(self) -> dict[str, Hello]:
        """The newest Hello of each linked peer."""
        return {name: link.hello for name, link in self._links.items() if link.hello is not None}

    def hello_of(self, peer: str) -> Hello | None:
        """The newest Hello of that one; None if it is not linked."""
        link = self._links.get(peer)
        return link.hello if link is not None else None

    # --- listening ---------------------------------------------------------------------------------------------------

    async def _listen(self) -> asyncio.Server:
        # asyncio takes as many connections in one go as its backlog has. With 1 a crowd at the door does not keep the
        # loop, and when file descriptors run out there is one traceback a second and not a hundred. The kernel's
        # queue is another thing, and may be longer.
        host, port = split_address(self._bind)
        server = await asyncio.get_running_loop().create_server(lambda: Link(self), host, port, backlog=1)
        for listening in getattr(server, "sockets", ()):  # a simulated server has none
            with listening.dup() as same:
                same.listen(_BACKLOG)
        return server

    # --- strangers ---------------------------------------------------------------------------------------------------

    def link_opened(self, link: Link) -> None:
        if self._stopping or not self._strangers.admit(link, self._clock.now()):
            link.abort()
        elif self._tls is not None:
            link.secure(self._tls.channel(dials=bool(link.dialled)))
        else:
            link.send(self._hello())

    def link_ready(self, link: Link) -> None:
        theirs = _certificate(link)
        assert self._tls is not None
        assert theirs is not None
        if reason := self._tls.objection(theirs, link.dialled):
            self._object(link, link.dialled or theirs.node, reason)
            return
        link.lasts_until = self._tls.lasts_until(theirs)
        link.send(self._hello())

    def link_failed(self, link: Link, error: Exception) -> None:
        if link.hello is not None:
            self._complaints.say((link.hello.node, str(error)), f"closed the connection with {link.address}: {error}")
            link.abort()
        elif isinstance(error, TlsFailed) and error.by_peer:
            self._rejected(link, str(error))
            link.abort()
        else:
            # However garbage varies, it is said once of a host.
            about = str(error) if link.dialled or isinstance(error, TlsFailed) else ""
            self._disapprove(link, link.dialled, str(error), about)
            if isinstance(error, TlsFailed):
                link.part()  # until it is closed or its time is up
            else:
                link.abort()

    def _object(self, link: Link, name: str, reason: str) -> None:
        """Refuse whoever is there, who is or calls itself *name*, and say so on both sides."""
        self._disapprove(link, name, reason, reason)
        link.refuse(reason)

    def _disapprove(self, link: Link, name: str, reason: str, about: str) -> None:
        who = f"{name!r} of {link.host}" if name else link.host
        self._complaints.say((name or link.host, about), f"refused {who}: {reason}")
        if link.dialled:
            # The other side hangs up as well, and who of the two is heard first is chance.
            self._complaints.note(link.dialled, f"{link.dialled} does not fit: {reason}")

    def _rejected(self, link: Link, reason: str) -> None:
        """The other end does not want this node."""
        certificate = _certificate(link)
        name = link.hello.node if link.hello else link.dialled or (certificate.node if certificate else "")
        message = f"{name or link.host} refuses this node: {reason}"
        if name in self._dialler or link.hello is not None:
            self._complaints.say((name, reason), message)
            if self._links.get(name, link) is link:
                self._complaints.note(name, message)
        elif self._tls is not None:
            # Nobody could be asked its name yet, and this node may be the one that has to change.
            self._complaints.say((link.host, reason), message)

    # --- the life of a link ------------------------------------------------------------------------------------------

    def link_received(self, link: Link, frame: Frame) -> None:
        link.received_at = self._clock.now()
        match frame:
            case Hello():
                self._greet(link, frame)
            case Refusal(reason=reason):
                self._refused(link, reason)
            case Ping():
                pass
            case _ if link.hello is None:
                raise CodecError("a frame before the Hello")
            case _ if self._links.get(link.hello.node) is link:
                self._receive(link.hello.node, frame)

    def _greet(self, link: Link, theirs: Hello) -> None:
        if link.hello is not None and link.hello.node != theirs.node:
            raise CodecError(f"{link.hello.node!r} calls itself {theirs.node!r} now")
        mine = self._hello()
        reason = objection(mine, theirs, self._newest_boot.get(theirs.replica_id))
        if link.dialled and link.dialled != theirs.node:
            reason = f"{link.dialled!r} was expected there"
        if (certificate := _certificate(link)) is not None and certificate.node != theirs.node:
            reason = f"it calls itself {theirs.node!r}, and its certificate is of node {certificate.node!r}"
        if reason:
            self._object(link, theirs.node, reason)
            return
        first = link.hello is None
        if first and not self._prefer(link, mine, theirs):
            link.refuse("")
            return
        link.hello = theirs
        self._newest_boot[theirs.replica_id] = (theirs.boot, theirs.nonce)
        self._dialler.heard(theirs.node, theirs.address)
        self._complaints.settled(theirs.node)
        if first:
            self._strangers.leave(link)
            former = self._links.pop(theirs.node, None)
            if former is not None:
                self._unlinked(theirs.node)
                former.refuse("")
                # Its host may be dark, and then nobody answers.
                asyncio.get_running_loop().call_later(_PARTING_TIMEOUT_S, former.abort)
            self._links[theirs.node] = link
            if certificate is not None:
                self._tell_serial(certificate)
        self._linked(theirs.node, theirs)

    def _prefer(self, link: Link, mine: Hello, theirs: Hello) -> bool:
        """Whether to take *link* although there is another to the same node already."""
        former = self._links.get(theirs.node)
        if former is None or former.hello is None or former.hello.nonce != theirs.nonce:
            return True
        return bool(link.dialled) == (mine.node < theirs.node)

    def _refused(self, link: Link, reason: str) -> None:
        link.abort()
        if reason:  # otherwise it is only a second connection where one is enough
            self._rejected(link, reason)

    def link_closed(self, link: Link) -> None:
        self._strangers.leave(link)
        if link.hello is not None and self._links.get(link.hello.node) is link:
            del self._links[link.hello.node]
            self._unlinked(link.hello.node)

    def _tell_serial(self, certificate: Certificate) -> None:
        if self._serials.get(certificate.node) != certificate.serial:
            self._serials[certificate.node] = certificate.serial
            until = moment(certificate.expires)
            _log.info("%s shows certificate %s, valid until %s", certificate.node, certificate.serial, until)

    # --- keeping them ------------------------------------------------------------------------------------------------

    async def _keep_alive(self) -> None:
        while True:
            await self._clock.sleep(_PING_S)
            now = self._clock.now()
            if self._tls is not None:
                self._tls.look()
            for link in list(self._links.values()):
                if self._tls is not None and self._tls.is_over(link.lasts_until):
                    _log.warning(
                        "closed the connection with %s: a certificate that it was made with has expired", link.address
                    )
                    link.abort()
                elif now - link.received_at > _IDLE_TIMEOUT_S:
                    _log.warning(
                        "closed the connection with %s: nothing heard for %.1f s", link.address, _IDLE_TIMEOUT_S
                    )
                    link.abort()
                elif now - link.sent_at >= _PING_S:
                    link.send(Ping())


def _certificate(link: Link) -> Certificate | None:
    return link.channel.certificate if link.channel is not None else None
