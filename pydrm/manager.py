"""
`ResourceManager`: what an app holds; its face to the cluster.

Each manager is a node of its own: several in one process share no state, not even their handlers. All methods
are for the loop that `start` ran on; the plain ones read what this node knows and wait for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from pydrm.agent.courier import Delivered
from pydrm.agent.hold import Hold
from pydrm.agent.kind import Kinds
from pydrm.agent.publishing import Publication
from pydrm.agent.readable import Readable
from pydrm.budgets import Budgets
from pydrm.config import Config
from pydrm.configured import put_in_place
from pydrm.core.commands import ForceRelease, PauseResources, RemoveResources, ResumeResources
from pydrm.core.records import Phase
from pydrm.core.resource import Json, Resource
from pydrm.engine import Host, SystemHost, resource_of
from pydrm.errors import ConfigurationError, Unavailable
from pydrm.handlers.built_in import BuiltIn
from pydrm.handlers.callbacks import Callback, Callbacks
from pydrm.handlers.custom import kind_of
from pydrm.handlers.installed import installed_kind
from pydrm.intake import Intake, checked_id, checked_reason, flatten
from pydrm.node import Node
from pydrm.requests import Requests
from pydrm.sources.registry import Sources
from pydrm.status import status_of
from pydrm.view import AssignmentView, assignment_views, resource_rows
from pydrm.voters import Voters
from pydrm.webhooks import Webhooks

__all__ = ["ResourceManager"]

C = TypeVar("C", bound=Callback)
H = TypeVar("H", bound=Callable[..., Any])
P = TypeVar("P", bound=Callable[[], object])


class ResourceManager:
    """
    One node of a cluster that keeps resources, each held by exactly one of its nodes.

    Args:
        cluster, node: Names: of the cluster, and of this node in it. A node is its name; its address may change.
        bind: host:port to listen on for peers; may be left out in a cluster of one.
        peers: Each voter's host:port by name, with or without this node; none makes a cluster of one.
        data_dir: Where this node keeps what it has promised; required with peers. Never share or copy it.
        advertise: Where peers reach this node, if that is not *bind*.
        role: "voter", or "worker" for a node that follows the voters listed in *peers* without a vote, and holds
            resources like them.
        tls_cert, tls_key, tls_ca: PEM files, as `pydrm certs` makes them; required beyond loopback.
        insecure: Do without TLS beyond loopback, in a network that nobody else can reach.
        lease_ttl: Seconds; equal on all nodes. A killed node's resources are held again that much later.
        drain_timeout: Seconds that handing over may take on exit; it ends at once when nobody can take over.
        close_timeout: Seconds that a handler may take to close politely before it is cut off.
        stall_timeout: Seconds after which an app whose event loop does not answer gives up its lease.
        on_unfenced: What to do about a handler that goes on after the lease is over and cannot be cut: "exit" ends
            the process. "token" lets it go on, and "one holder" then rests on the third party's refusing old tokens.
        give_up_after: How often a handler may fail in a row before another node tries; 0: this one tries for ever. A
            resource's field of that name goes before it.
        quarantine: Seconds that a resource which no node could open is left alone, before one tries again.
        checkpoint_interval: Seconds; one resource's checkpoints are saved at most once in it.
        readable_variables: What the names of variables must begin with that definitions may refer to; left out: any.
        readable_directories: Where the files must be that definitions may refer to; left out: anywhere.
        websocket_transport: The library that websockets are made with; "picows" needs the extra "fast".
        resources: Added on start if absent.
        sources: Where further resources come from; added on start if absent. Tables as in the configuration file,
            whose `kind` is "http", "file" or the name of one of the app's; or resources of the kind "source.http" etc.
        budgets: Limits by group, as `budgets.set` has them; set on start for groups that have none.
        host: What the node stands on; for simulations.

    Raises:
        ConfigurationError: A setting cannot be used; it is named.
    """

    def __init__(
        self,
        *,
        cluster: str,
        node: str,
        bind: str | None = None,
        peers: Mapping[str, str] | None = None,
        data_dir: Any = None,
        advertise: str | None = None,
        role: Literal["voter", "worker"] | None = None,
        tls_cert: Any = None,
        tls_key: Any = None,
        tls_ca: Any = None,
        insecure: bool | None = None,
        lease_ttl: float | None = None,
        drain_timeout: float | None = None,
        close_timeout: float = 2.0,
        stall_timeout: float | None = None,
        on_unfenced: Literal["exit", "token"] | None = None,
        give_up_after: int | None = None,
        quarantine: float | None = None,
        checkpoint_interval: float | None = None,
        readable_variables: Iterable[str] | None = None,
        readable_directories: Iterable[Any] | None = None,
        websocket_transport: Literal["websockets", "picows"] | None = None,
        resources: Iterable[Resource] = (),
        sources: Iterable[Resource | Mapping[str, Any]] = (),
        budgets: Mapping[str, Mapping[str, float]] | None = None,
        host: Host | None = None,
    ) -> None:
        config = Config.load(
            cluster=cluster,
            node=node,
            bind=bind,
            peers=peers,
            data_dir=data_dir,
            advertise=advertise,
            role=role,
            tls_cert=tls_cert,
            tls_key=tls_key,
            tls_ca=tls_ca,
            insecure=insecure,
            lease_ttl=lease_ttl,
            drain_timeout=drain_timeout,
            stall_timeout=stall_timeout,
            on_unfenced=on_unfenced,
            give_up_after=give_up_after,
            quarantine=quarantine,
            checkpoint_interval=checkpoint_interval,
            readable_variables=readable_variables,
            readable_directories=readable_directories,
            websocket_transport=websocket_transport,
            resources=tuple(resources),
            sources=tuple(sources),
            budgets=budgets,
        )
        self._prepare(config, close_timeout, host or SystemHost())

    @classmethod
    def from_config(cls, config: Config, *, close_timeout: float = 2.0) -> Self:
        """A manager of what *config* says, which was checked when it was loaded."""
        self = cls.__new__(cls)
        self._prepare(config, close_timeout, SystemHost())
        return self

    def _prepare(self, config: Config, close_timeout: float, host: Host) -> None:
        if isinstance(close_timeout, bool) or not isinstance(close_timeout, (int, float)) or not close_timeout > 0:
            raise ConfigurationError(
                f"must be a number of seconds above 0, not {close_timeout!r}", field="close_timeout"
            )
        self._config = config
        self._close_timeout_s = float(close_timeout)
        self._host = host
        self._clock = host.clock
        self._callbacks = Callbacks()
        self._kinds = Kinds(find=partial(installed_kind, clock=host.clock, random=host.random))
        self._built_in = BuiltIn(
            self._callbacks,
            clock=host.clock,
            random=host.random,
            websocket_transport=config.websocket_transport,
        )
        self._built_in.register(self._kinds)
        self._intake = Intake(self._kinds)
        self._sources = Sources(
            self._kinds,
            self._intake,
            lambda: self._running().engine,
            clock=self._clock,
            random=host.random,
            readable=Readable(directories=config.readable_directories),
        )
        self._requests = Requests(self._running, self._clock)
        self.budgets = Budgets(self._running, self._requests)
        self.voters = Voters(self._running, self._clock)
        self.webhooks = Webhooks(self._running, self._requests, self._clock)
        self._node: Node | None = None
        self._life: asyncio.Task[None] | None = None

    # --- handlers ----------------------------------------------------------------------------------------------------

    def on_message(self, name: str) -> Callable[[C], C]:
        """
        Decorate the async function that gets the messages of resources whose `on_message` is *name*.

        Register it on each node, before `start`: a definition holds the name only.
        """

        def register(callback: C) -> C:
            self._callbacks.register(name, callback)
            return callback

        return register

    @overload
    def handler(self, kind: str) -> Callable[[H], H]: ...
    @overload
    def handler(self, kind: str, handler: object) -> object: ...
    def handler(self, kind: str, handler: object = None) -> object:
        """
        Give resources of *kind* a handler of one's own: `pydrm.handlers.custom` says what it can be.

        As a decorator, `@drm.handler("mqtt")`, or called with the function, class or object itself.

        Raises:
            ConfigurationError: It cannot be one, or the kind has one already.
        """
        if handler is None:
            return lambda decorated: self.handler(kind, decorated)
        self._kinds.register(kind, kind_of(kind, handler, clock=self._clock, random=self._host.random))
        return handler

    @overload
    def source(self, name: str) -> Callable[[P], P]: ...
    @overload
    def source(self, name: str, plugin: Callable[[], object]) -> object: ...
    def source(self, name: str, plugin: Callable[[], object] | None = None) -> object:
        """
        Give resources of the kind "source.*name*" a source of one's own: `pydrm.sources.plugin` says what it can be.

        As a decorator of a class, `@drm.source("customers")`, or called with the class. On each node, before `start`.

        Raises:
            ConfigurationError: It cannot be one, or the name has one already.
        """
        if plugin is None:
            return lambda decorated: self.source(name, decorated)
        self._sources.register(name, plugin)
        return plugin

    # --- its life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """
        Return once this node has joined; it waits for as long as that takes. Idempotent.

        Raises:
            ConfigurationError: An address, the TLS files, the data directory, or one of the configured resources cannot
                be used, or the cluster has other settings.
            Superseded: Another process runs under this node's name.
            Unavailable: `stop` came first.
        """
        if self._node is None or self._life is None or self._life.done():
            for resource in (*self._config.resources, *self._config.sources):
                self._intake.validate(resource)
            self._built_in.count_anew()
            self._node = Node(
                self._config,
                self._kinds,
                close_timeout_s=self._close_timeout_s,
                host=self._host,
            )
            self._life = asyncio.create_task(self._node.live(), name=f"pydrm {self._config.node}")
            # `wait_closed` raises what it ended with; whoever does not ask has the log.
            self._life.add_done_callback(lambda life: life.cancelled() or life.exception())
        node = self._node
        await node.until_joined()
        await put_in_place(
            self._config,
            node,
            self._running,
            intake=self._intake,
            requests=self._requests,
            clock=self._clock,
        )

    async def stop(self) -> None:
        """Hand over what this node holds, resign its lease and stop; it keeps its vote. Idempotent."""
        if self._node is not None and self._life is not None:
            self._node.stop()
            await asyncio.wait({self._life})

    async def wait_closed(self) -> None:
        """
        Return when this node has stopped.

        Raises:
            DrmError: It had to stop by itself; this is why.
        """
        if self._life is not None:
            await asyncio.shield(self._life)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- requests ----------------------------------------------------------------------------------------------------

    async def add(self, *resources: Resource | Iterable[Resource], timeout: float = 10) -> list[AssignmentView]:
        """
        Put *resources* under management; return who holds each.

        Returns when a majority has it on disk, not when the holder has opened it. Safe to repeat: the same definition
        again changes nothing, another definition under the same id replaces it. All are checked before anything
        is sent; more than some hundred go in parts, each of which is added whole or not at all.

        Raises:
            InvalidResource: A definition does not fit its kind; nothing was added.
            Unavailable: No majority answered within *timeout* seconds. It may still be added; repeat it.
        """
        flat = flatten(resources)
        await self._requests.add(await self._intake.definitions(flat), timeout)
        return assignment_views(self._running().engine.state, ((resource.id, 0) for resource in flat))

    async def remove(self, *ids: str, timeout: float = 10) -> list[str]:
        """
        Take resources out of management; return the ids that were there.

        A resource is gone for `get` when this returns; its holder may still be closing it. Safe to repeat.

        Raises:
            Unavailable: No majority answered within *timeout* seconds. It may still be removed; repeat it.
        """
        return await self._requests.about(ids, RemoveResources, timeout)

    async def pause(self, *ids: str, reason: str = "", timeout: float = 10) -> list[str]:
        """
        Have nobody hold these until `resume`; return the ids that are there.

        Their holders let go of them as for a handover; that may still be under way when this returns. A pause outlives
        restarts and new definitions. Safe to repeat.

        Args:
            reason: For people; it shows with the resource.

        Raises:
            Unavailable: No majority answered within *timeout* seconds. They may still be paused; repeat it.
        """
        why = checked_reason(reason)
        return await self._requests.about(ids, lambda part: PauseResources(part, why), timeout)

    async def resume(self, *ids: str, timeout: float = 10) -> list[str]:
        """
        End the pause, or the quarantine, of these; return the ids that are there. Safe to repeat.

        Raises:
            Unavailable: No majority answered within *timeout* seconds. They may still be resumed; repeat it.
        """
        return await self._requests.about(ids, ResumeResources, timeout)

    allocate = add
    deallocate = remove

    async def force_release(self, id: str, *, reason: str, timeout: float = 10) -> None:
        """
        Take a resource from a holder that does not let go of it, such as one that is "stuck".

        This gives up "one holder": if the old one still has it open, it is held twice until then. *reason* is kept.

        Raises:
            ClusterRefused: There is no such resource, or nobody holds it (reasons "not-found", "stale").
            Unavailable: No majority answered within *timeout* seconds.
        """
        why = checked_reason(reason)
        assignment = self._running().engine.state.assignments.get((checked_id(id), 0))
        token = assignment.holder.token if assignment is not None and assignment.holder is not None else 0
        await self._requests.ask(ForceRelease(id, 0, token, why), timeout)

    async def publish(
        self,
        topic: str,
        payload: bytes | str | Json,
        *,
        event_id: str | None = None,
        hold: Hold | None = None,
        timeout: float = 10,
    ) -> Publication:
        """
        Have an event delivered to every webhook whose topics match; from any node.

        Returns when a majority has it on disk: from then on it is delivered, whatever becomes of this node. With an
        *event_id* it is safe to repeat: the same id again does nothing for as long as it is remembered (24 hours, and
        the newest 100,000). Without one, what is repeated is another event.

        Args:
            topic: Words with dots between them, such as "orders.created".
            payload: At most 262,144 bytes: bytes, a string, or JSON values.
            event_id: What receivers know it by; printable ASCII, see `pydrm.event_id`.
            hold: Of the handler that publishes: refused once that hold is over.

        Raises:
            ConfigurationError: The topic, the payload or the id cannot be used; nothing was sent.
            Fenced: *hold* is over; nothing was published.
            ClusterRefused: The ledger has no room for it (reason "full"), or too many webhooks match ("invalid").
            Unavailable: No majority answered within *timeout* seconds. It may still be published; with an *event_id*
                repeat it.
        """
        if hold is not None:
            return await hold.publish(topic, payload, event_id=event_id, timeout=timeout)
        publishing = self._running().publishing
        return await publishing.publish(topic, payload, event_id=event_id, by=None, timeout=timeout)

    async def send(self, id: str, data: str | bytes, *, timeout: float = 10) -> Delivered:
        """
        Send *data* over what the resource's holder has open, wherever that is; text as str, binary as bytes.

        Returns when the holder has given it to its operating system, under a hold that was valid before and after: from
        there it may still be lost with the connection, and that the third party has read it only the third party can
        say. What one node sends to one resource leaves in the order in which it was sent. Nothing is repeated.

        Args:
            data: At most 1 MiB.

        Raises:
            ConfigurationError: *data* is neither str nor bytes.
            ClusterRefused: It was not sent: there is no such resource ("not-found"), nobody holds it, or no longer
                ("not-held"), it is not open now ("not-open"), its kind does not send ("no-send"), its handler does not
                want to ("refused"), or *data* is too long ("too-large").
            Unavailable: The holder did not answer within *timeout* seconds; whether it was sent is unknown, unless the
                error is `unsent`.
        """
        return await self._running().courier.send(id, data, timeout=timeout)

    # --- readings ----------------------------------------------------------------------------------------------------

    def get(self, id: str) -> Resource | None:
        """The definition under management, as this node knows it; None if there is none, or it is being removed."""
        if self._node is None:
            return None
        state = self._node.engine.state
        record, assignment = state.records.get(id), state.assignments.get((id, 0))
        if record is None:
            return None
        if record.following is not None:
            return resource_of(record.following)
        removed = assignment is not None and assignment.phase is Phase.REMOVING
        return None if removed else resource_of(record.definition)

    def assignments(self) -> list[AssignmentView]:
        """Who holds what, as this node knows it."""
        return assignment_views(self._node.engine.state) if self._node is not None else []

    def holds(self, id: str) -> bool:
        """Whether this node holds the resource under a lease that is valid at this instant, open or not yet."""
        return self._node is not None and self._node.agent.holds(id)

    def resources(self) -> list[dict[str, Any]]:
        """
        {id, kind, state, holder, token, detail, next_try, source} of each resource, as this node knows it; by id.

        *source* is the one that owns it; None for what the app has added.
        """
        return list(resource_rows(self._node.engine.state)) if self._node is not None else []

    def status(self) -> dict[str, Any]:
        """How this node sees its cluster, as JSON values."""
        return status_of(self._config, self._node, self._built_in.counts, now=self._clock.now())

    # --- how ---------------------------------------------------------------------------------------------------------

    def _running(self) -> Node:
        if self._node is None or self._life is None or self._life.done():
            raise Unavailable("this manager does not run; start it first")
        return self._node
