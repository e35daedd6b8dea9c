"""
`Hold`: a handler's view of one assignment.

Whether a hold is valid is computed from the lease's deadline and the clock whenever it is asked,
never kept as a flag: a flag could still be up after the lease is over, if the loop was late to take it down.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import attrs

from pydrm.agent.deliveries import Deliveries, Desk
from pydrm.agent.fence import Fence
from pydrm.agent.lease import Lease
from pydrm.agent.publishing import Publication, Publishing
from pydrm.agent.waiters import Waiter
from pydrm.clock import Clock
from pydrm.core.ledger_commands import Publisher
from pydrm.core.records import CHECKPOINT_BYTES_MAX, Condition
from pydrm.core.resource import Json, Resource
from pydrm.engine.codec import decode_checkpoint, encode_checkpoint
from pydrm.errors import Fenced, InvalidResource, Permanent

__all__ = [
    "GroupBudget",
    "Hold",
    "LedgerAccess",
    "Owner",
    "Sender",
]

Sender = Callable[[str | bytes], Awaitable[None]]

# How far ahead what is due now may be: what a clock may be set back by meanwhile.
AHEAD_MAX_S = 10.0


class Owner(Protocol):
    """Who hears what a hold's handler says; the agent's handle."""

    def tell(self, condition: Condition, detail: str) -> None:
        """It is like that now."""

    def note(self, value: bytes, patience_s: float, waiter: Waiter | None) -> None:
        """Have *value* saved, which may wait for so many seconds for others; *waiter* is told."""

    def newest(self) -> bytes | None:
        """What was noted last under this hold, or else what was saved last; None if nothing was."""

    def watermark_us(self) -> int:
        """Until when whoever saved that may have acted without saving anew; microseconds since the epoch, or 0."""

    def raise_watermark(self, until_s: float, patience_s: float) -> Waiter:
        """Have it in the log that this node may do whatever is due by then, for all that it has; done when it is."""


@attrs.frozen
class LedgerAccess:
    """
    What a hold has to do with events; the agent's.

    Attributes:
        deliveries: For kinds that deliver.
        publishing: For those that publish.
    """

    deliveries: Deliveries
    publishing: Publishing


class GroupBudget(Protocol):
    """The budget that a hold's requests go by; the agent's."""

    @property
    def limits(self) -> bool:
        """Whether there is anything to wait for."""

    async def may_request(self) -> None:
        """Return when one more request is within it."""

    @property
    def held_back(self) -> bool:
        """Whether nobody may connect or request anything now."""

    def hold_back(self, seconds: float, reason: str) -> None:
        """Have nobody connect or request anything for so long."""


class Hold:
    """
    One assignment to this node, under one fencing token. Belongs to the app's loop.

    Attributes:
        resource: The definition to hold.
        token: The fencing token; no later assignment of this resource has a lower one.
        node: This node's name.
    """

    __slots__ = (
        "_budget",
        "_clock",
        "_fence",
        "_incarnation",
        "_lease",
        "_ledger",
        "_owner",
        "_revoked",
        "_sender",
        "node",
        "resource",
        "token",
    )

    def __init__(
        self,
        resource: Resource,
        token: int,
        node: str,
        incarnation: int,
        *,
        lease: Lease,
        fence: Fence,
        clock: Clock,
        owner: Owner,
        ledger: LedgerAccess | None = None,
        budget: GroupBudget | None = None,
    ) -> None:
        self.resource = resource
        self.token = token
        self.node = node
        self._incarnation = incarnation
        self._lease = lease
        self._fence = fence
        self._clock = clock
        self._owner = owner
        self._ledger = ledger
        self._budget = budget
        self._sender: Sender | None = None
        self._revoked = False

    @property
    def valid(self) -> bool:
        """
        Whether this node holds the resource right now. Ask again at each point of use.

        It cannot become true again once it is false because the assignment is over; after a lease that
        ended and was renewed in time, the resource comes back with a new Hold.
        """
        # The incarnation is asked last: it is 0 between two, so a new one's lease is never taken for an old one's.
        return (
            not self._revoked and self._lease.valid(self._clock.now()) and self._lease.incarnation == self._incarnation
        )

    def ready(self, detail: str = "") -> None:
        """
        Say that the resource is open now. Until then it shows as opening, or as retrying after a failure.

        Args:
            detail: What people should know of it though it works; shown with it.
        """
        self._owner.tell(Condition.OPEN, detail)

    def retrying(self, detail: str) -> None:
        """Say that it is down and being opened again; for handlers that reconnect without ending."""
        self._owner.tell(Condition.RETRYING, detail)

    @property
    def last_checkpoint(self) -> Any:
        """What was saved last for this resource, by this holder or an earlier one; None if nothing was."""
        newest = self._owner.newest()
        return decode_checkpoint(newest) if newest is not None else None

    async def checkpoint(self, value: Json | bytes, *, patience: float = 0.0) -> None:
        """
        Save how far this handler has got; return when a majority has it on disk.

        Whoever holds the resource next is given the newest as `last_checkpoint`. One resource's is saved at most once
        in `checkpoint_interval`, so this may take as long as that; of several that wait the newest is saved, for all of
        them. A handler that does not want to wait calls `note_checkpoint`.

        Args:
            value: A JSON value, or bytes; at most 4,096 bytes when encoded (MessagePack).
            patience: Seconds that it may wait for the checkpoints of other resources. What goes into the log together
                costs little more than one of them, so a node that has many handlers should not save each at once.

        Raises:
            Fenced: This hold is over, and *value* is not saved: somebody else may have gone on from the one before.
            InvalidResource: It is too long, or holds something else; nothing was saved.
        """
        # Cancelled, it is still saved: with the release, at the latest.
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._note(value, patience, waiter)
        await waiter

    def note_checkpoint(self, value: Json | bytes, *, patience: float = 0.0) -> None:
        """Have *value* saved soon, as `checkpoint` does, without waiting for it. Raises the same errors but Fenced."""
        self._note(value, patience)

    @property
    def last_watermark(self) -> float:
        """
        Until when whoever saved `last_checkpoint` may have acted by `raise_watermark`: seconds since the epoch.

        0.0 if it did not, or let go in good order and had noted where it was. To be read when the handler begins.
        """
        return self._owner.watermark_us() / 1e6

    async def raise_watermark(self, until: float, *, patience: float = 0.0) -> None:
        """
        Return when it is in the log that this node may do whatever is due by *until*, for all that it holds.

        For handlers that act at times which follow from their checkpoint, such as each minute. Whoever comes after
        this node is given *until* as `last_watermark`, and can tell what may have been done: so nothing is done twice,
        as with a checkpoint before each act, at a fraction of its cost. It counts for what this holder has saved a
        checkpoint for. And it is for the whole node: if that dies, a handler that has not yet done what was due by then
        has it left out. One that ends in good order notes where it is.

        Args:
            until: When the act is due: seconds since the epoch, and now by this node's clock, or before.
            patience: Seconds that it may wait for those of other resources.

        Raises:
            Fenced: This hold is over; do nothing.
            InvalidResource: *until* lies ahead; nothing was said.
        """
        if not until <= self._clock.wall() + AHEAD_MAX_S:
            raise InvalidResource(
                f"must be the time of what is due now, in seconds since the epoch, not {until!r}",
                resource=self.resource.id,
                field="until",
            )
        await self._owner.raise_watermark(until, patience)
        if not self.valid:
            raise Fenced(f"resource {self.resource.id!r} is no longer held by {self.node!r} under token {self.token}")

    def _note(self, value: Json | bytes, patience_s: float, waiter: Waiter | None = None) -> None:
        try:
            encoded = encode_checkpoint(value)
        except (TypeError, UnicodeEncodeError, OverflowError) as error:
            raise InvalidResource(
                f"must be JSON values or bytes: {error}", resource=self.resource.id, field="checkpoint"
            ) from None
        if len(encoded) > CHECKPOINT_BYTES_MAX:
            raise InvalidResource(
                f"is {len(encoded)} bytes, more than {CHECKPOINT_BYTES_MAX}; keep a position, not what is there",
                resource=self.resource.id,
                field="checkpoint",
            )
        self._owner.note(encoded, patience_s, waiter)

    async def publish(
        self, topic: str, payload: bytes | str | Json, *, event_id: str | None = None, timeout: float = 10
    ) -> Publication:
        """
        Publish an event, as `ResourceManager.publish` does, unless this hold is over.

        With an *event_id* that follows from what the event was made of (`pydrm.event_id`), it is published once even
        if the next holder comes upon the same again.

        Raises:
            Fenced: This hold is over; nothing was published.
        """
        if self._ledger is None or not self.valid:
            raise Fenced(f"resource {self.resource.id!r} is no longer held by {self.node!r} under token {self.token}")
        by = Publisher(self.resource.id, 0, self.token)
        return await self._ledger.publishing.publish(topic, payload, event_id=event_id, by=by, timeout=timeout)

    def desk(self) -> Desk:
        """Where the deliveries of this subscription are; for kinds that deliver. Close it in the end."""
        assert self._ledger is not None, "this hold has no ledger"
        return self._ledger.deliveries.desk(self.resource.id, self.token)

    async def may_request(self) -> None:
        """
        Return when this handler may send one more request: within the budget of the resource's group, and not while
        the group is held back. At once, for a resource without a budget.

        All nodes share the rate: this one has the part of it that it has of the group's resources.

        Raises:
            Fenced: This hold is over; send nothing.
        """
        if self._budget is not None and self._budget.limits:
            await self._budget.may_request()
        if not self.valid:
            raise Fenced(f"resource {self.resource.id!r} is no longer held by {self.node!r} under token {self.token}")

    @property
    def limited(self) -> bool:
        """Whether `may_request` may have to wait: the resource's group has a budget, or is held back."""
        return self._budget is not None and self._budget.limits

    @property
    def held_back(self) -> bool:
        """Whether the third party wants to be left alone now; for who did something else since `may_request`."""
        return self._budget is not None and self._budget.held_back

    def hold_back(self, seconds: float, reason: str = "") -> None:
        """
        Say that the third party wants to be left alone for *seconds*, as by HTTP 429 or Retry-After.

        On this node from now on, and on all others as soon as they hear of it, nothing is opened for the resource's
        group and `may_request` does not return until the time is over; a day at most. What is open stays open. It does
        nothing for a resource of no group. *reason* is shown to people.
        """
        if self._budget is not None:
            self._budget.hold_back(seconds, reason)

    def on_send(self, sender: Sender | None) -> None:
        """
        Have `drm.send` for this resource, from any node, call *sender* with the data; None: no more.

        Until this run of the handler ends. *sender* returns once the data has left this process; it is called only
        while the hold is valid, on the app's loop, possibly several times at once. To refuse, before anything has left,
        it raises `Temporary` or `Permanent`; after any other error nobody can know whether the data arrived.
        """
        self._sender = sender

    @property
    def sends(self) -> bool:
        """Whether there is somebody to give data to now."""
        return self._sender is not None

    async def send(self, data: str | bytes) -> None:
        """
        Send *data* over what the handler has open; return once it has left this process under a valid hold.

        Raises:
            Fenced: The hold was over before; nothing was sent. Or it ended meanwhile, and nobody knows.
            Permanent, Temporary: The handler does not send, or not now; nothing was sent.
        """
        if not self.valid:
            raise Fenced(f"resource {self.resource.id!r} is no longer held under token {self.token}; nothing was sent")
        if self._sender is None:
            raise Permanent(f"the handler of resource {self.resource.id!r} does not send")
        await self._sender(data)
        if not self.valid:
            raise Fenced(f"the hold of resource {self.resource.id!r} ended meanwhile; whether it was sent is unknown")

    def guard(self, sock: socket.socket) -> None:
        """
        Have *sock* shut down by force should the lease end. Call it before connecting, and again for each new socket.

        The engine's thread does that even if the app's loop is blocked. The handler still closes its own sockets.

        Raises:
            Fenced: The hold is over already; do not connect.
        """
        # Registered first: were it checked first, the lease could end in between with nobody to shut this one.
        self._fence.register(self.token, sock)
        if not self.valid:
            raise Fenced(f"resource {self.resource.id!r} is no longer held by {self.node!r} under token {self.token}")

    def revoke(self) -> None:
        """For the agent: the hold is over. Its guarded sockets are shut down at once."""
        self._revoked = True
        self.cut()

    def cut(self) -> None:
        """For the agent: shut down every guarded socket."""
        self._fence.cut(self.token)
        self._sender = None
