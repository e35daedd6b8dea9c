"""
`Engine`: the replicated log with the state machine on top, on a thread and a loop of its own.

    Rule 1.  Nothing leaves before it is on disk: messages wait in the outbox until one fdatasync has
             covered all that was noted before they were made. They leave in the order in which they were made.
    Rule 2.  Alone, there are no messages to hold back; so there the next tick waits for the disk, because
             the core commits in one tick what it appended in the one before.
    Rule 3.  After a failed write or sync nothing is repeated: the node stops, and says so.
    Rule 4.  Applying never raises into the core, which would apply the entry again.

The app's loop talks to it by `propose` and `read`; what it needs to know in passing it reads from `state`, whose
records are frozen, and from `status()`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import attrs

from pydrm.clock import Clock, Random
from pydrm.core.commands import Answer, Command, Request
from pydrm.core.machine import apply
from pydrm.core.records import Incarnation
from pydrm.core.state import State
from pydrm.engine.codec import Append, Frame, Hello, decode_entry, encode_entry, encode_request
from pydrm.engine.data_directory import DataDirectory
from pydrm.engine.handshake import PROTOCOL, Formation, formation
from pydrm.engine.mailbox import Mailbox
from pydrm.engine.participant import Footing, Membership, Participant
from pydrm.engine.proposals import Proposals
from pydrm.engine.raft import ENTRY_BYTES_MAX, QUORUM_TIMEOUT_S, Raft
from pydrm.engine.transport import Transport
from pydrm.errors import ClusterRefused, DiskFailed, DrmError, Unavailable

__all__ = ["TICK_S", "Engine", "EngineConfig", "EngineStatus"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

TICK_S = 0.025
_ENTRY_BYTES_AIM = 128 * 1024  # an entry is closed when it is longer; followers ack and apply entry by entry


@attrs.frozen
class EngineConfig:
    """
    Attributes:
        bind, advertise: "host:port" to listen on, and where peers reach that.
        voters: Each voter's address by name, this node's too; none or only itself is a cluster of one.
        data_dir: None keeps everything in memory; only for a cluster of one.
    """

    cluster: str
    node: str
    bind: str
    advertise: str
    voters: Mapping[str, str]
    data_dir: Path | None
    nonce: str


@attrs.frozen
class EngineStatus:
    """
    Attributes:
        has_majority: Whether a majority answered lately, as far as this node can tell.
        problem: What keeps it from taking part, in words; "" if nothing does.
    """

    leader: str | None = None
    term: int = 0
    applied: int = 0
    has_majority: bool = False
    formed: bool = False
    linked: tuple[str, ...] = ()
    problem: str = ""


class Engine:
    """All methods are for the app's loop, unless they say otherwise."""

    def __init__(
        self,
        config: EngineConfig,
        participant: Participant,
        *,
        clock: Clock,
        random: Random,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """*on_failure* is called on the engine's thread, once, if the engine has to stop by itself."""
        self.state = State()
        self._config = config
        self._participant = participant
        self._clock = clock
        self._random = random
        self._on_failure = on_failure
        self._others = tuple(sorted(name for name in config.voters if name != config.node))
        self._status = EngineStatus()
        self._proposals = Proposals()
        self._thread: threading.Thread | None = None
        self._inbox: Mailbox | None = None
        self._stopped: BaseException | None = None

    # --- the app's side ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """
        Return when the node listens and takes part; whether it has joined is for others to say.

        Raises:
            ConfigurationError: The address or the data directory cannot be used.
            DiskFailed: The data directory cannot be read or written.
        """
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        app = Mailbox(asyncio.get_running_loop())

        def report(error: BaseException | None) -> None:
            app.post(_resolve, started, error)

        self._thread = threading.Thread(
            target=self._live, args=(report,), name=f"pydrm-{self._config.node}", daemon=True
        )
        self._thread.start()
        await started

    async def stop(self) -> None:
        """Leave the group without a word; what has to be said before is said before. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._inbox is not None:
            self._inbox.post(self._stop, None)
        await asyncio.get_running_loop().run_in_executor(None, thread.join)

    async def propose(self, command: Command, *, timeout: float) -> Answer:
        """
        Have *command* take effect once, and return what the cluster answered.

        Returns when it is applied on this node, so that `state` shows it.

        Args:
            timeout: In seconds.

        Raises:
            Unavailable: It could not be done in time; it may still take effect.
            ClusterRefused: It is too large for one entry of the log (reason "too-large").
        """
        if len(encode_request(Request(command))) > ENTRY_BYTES_MAX - 1024:
            raise ClusterRefused(f"more than {ENTRY_BYTES_MAX - 1024} bytes in one request", reason="too-large")
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Answer] = loop.create_future()
        app = Mailbox(loop)

        def resolve(result: Answer | BaseException) -> None:
            app.post(_resolve, answered, result)

        deadline = self._clock.now() + timeout
        self._to_engine(self._add_proposal, command, deadline, resolve)
        return await answered

    async def read(self, look: Callable[[State], T]) -> T:
        """Run *look* on the engine's thread, between two applies, and return what it returns."""
        loop = asyncio.get_running_loop()
        seen: asyncio.Future[T] = loop.create_future()
        app = Mailbox(loop)

        def run() -> None:
            try:
                app.post(_resolve, seen, look(self.state))
            except Exception as error:
                app.post(_resolve, seen, error)

        self._to_engine(run)
        return await seen

    def status(self) -> EngineStatus:
        """From any thread."""
        return self._status

    def _to_engine(self, call: Callable[..., object], *arguments: object) -> None:
        if self._inbox is None or self._stopped is not None:
            raise self._stopped or Unavailable("this node has not been started")
        self._inbox.post(call, *arguments)

    # --- the engine's thread -----------------------------------------------------------------------------------------

    def _live(self, report: Callable[[BaseException | None], None]) -> None:
        try:
            asyncio.run(self._run(report))
        except BaseException as error:
            if self._inbox is not None:
                self._fail(error)
            report(error)

    async def _run(self, report: Callable[[BaseException | None], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[BaseException | None] = self._loop.create_future()
        self._directory = DataDirectory(self._config.data_dir, self._config.cluster, self._config.node)
        self._disk = ThreadPoolExecutor(1, thread_name_prefix=f"pydrm-{self._config.node}-disk")
        self._raft: Raft | None = None
        self._outbox: list[tuple[str, Frame]] = []
        self._syncing = False
        self._ticking = False
        self._timer: asyncio.TimerHandle | None = None
        self._entries: list[bytes] = []
        self._leads_since: float | None = None
        self._leader: str | None = None
        self._heard: tuple[float, int] | None = None
        self._heard_at = self._up_to_date_at = float("-inf")
        self._transport = Transport(
            self._config.bind,
            {name: self._config.voters[name] for name in self._others},
            hello=self._hello,
            linked=self._peer_linked,
            unlinked=self._peer_unlinked,
            receive=self._receive,
            clock=self._clock,
            random=self._random,
        )
        try:
            if self._others:
                await self._transport.start()
            self._inbox = Mailbox(self._loop)
            self._try_to_form()
            report(None)
            self._tick()
            error = await self._end
        finally:
            await self._participant.stopped()
            if self._timer is not None:
                self._timer.cancel()
            await self._transport.stop()
            await asyncio.to_thread(self._disk.shutdown)
            self._directory.close()
        self._stopped = error or Unavailable("this node was stopped")
        self._proposals.abandon(self._stopped)

    def _stop(self, error: BaseException | None) -> None:
        if not self._end.done():
            self._end.set_result(error)

    def _fail(self, error: BaseException) -> None:
        """Take no further part: whatever this node would say from now on cannot be trusted."""
        if self._stopped is not None:
            return
        self._stopped = error if isinstance(error, DrmError) else DrmError(f"pydrm's engine failed: {error!r}")
        self._stopped.__cause__ = error if error is not self._stopped else None
        _log.error("node %s stops: %s", self._config.node, self._stopped, exc_info=error)
        self._proposals.abandon(self._stopped)
        self._on_failure(self._stopped)
        if hasattr(self, "_end"):
            self._stop(self._stopped)

    def _add_proposal(
        self, command: Command, deadline: float, resolve: Callable[[Answer | BaseException], None]
    ) -> None:
        self._proposals.add(command, deadline, resolve)
        self.wake()

    # What a participant sees: the Port.

    def submit(self, command: Command) -> None:
        self._entries.append(encode_request(Request(command)))
        self.wake()

    def speak_as(self, client: Incarnation) -> None:
        self._proposals.joined(client)
        self.wake()

    def wake(self) -> None:
        if not self._ticking:
            self._ticking = True
            self._loop.call_soon(self._tick)

    # Forming and linking.

    def _hello(self) -> Hello:
        identity = self._directory.identity
        return Hello(
            version=PROTOCOL,
            cluster=self._config.cluster,
            node=self._config.node,
            replica_id=identity.replica_id,
            cluster_id=identity.cluster_id,
            boot=identity.boot,
            nonce=self._config.nonce,
            address=self._config.advertise,
            voters=tuple(sorted({*self._config.voters, self._config.node})),
            members=tuple(sorted(identity.members.items())),
        )

    def _try_to_form(self) -> None:
        if self._raft is not None:
            return
        if self._directory.empty:
            formed = formation(self._hello(), self._transport.heard())
            if formed is None:
                return
            self._form(formed)
        identity = self._directory.identity
        self._raft = Raft(
            self._config.node,
            self._others,
            self._directory.journal,
            self._apply,
            clock=self._clock,
            random=self._random,
        )
        members = tuple(sorted(identity.members.items()))
        membership = Membership(identity.cluster_id, members, self._directory.on_this_host())
        self._participant.formed(self, membership)
        self._transport.announce()
        for peer, hello in self._transport.heard().items():
            self._peer_linked(peer, hello)

    def _form(self, formed: Formation) -> None:
        self._directory.form(formed.cluster_id, formed.members)
        _log.info("formed cluster %s with %s", formed.cluster_id, ", ".join(formed.members))

    def _peer_linked(self, peer: str, hello: Hello) -> None:
        try:
            self._try_to_form()
        except OSError as error:
            self._fail(DiskFailed(f"data directory {self._config.data_dir}: {error}"))
            return
        if self._raft is not None and hello.cluster_id == self._directory.identity.cluster_id:
            self._raft.connected(peer)
            self._proposals.retry_now()
        self.wake()

    def _peer_unlinked(self, peer: str) -> None:
        if self._raft is not None:
            self._raft.disconnected(peer)

    def _receive(self, peer: str, frame: Frame) -> None:
        if self._raft is None or self._stopped is not None:
            return
        try:
            self._raft.receive(peer, frame)
        except ValueError:
            raise  # the transport closes the link
        except Exception as error:
            self._fail(error)
            return
        if isinstance(frame, Append) and frame.term >= self._raft.term:
            self._heard_at = self._clock.now()
            if self._heard is None:
                self._heard = (self._heard_at, frame.commit_index)
        self.wake()

    # Ticking.

    def _tick(self) -> None:
        self._ticking = False
        if self._stopped is not None or self._end.done():
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(TICK_S, self.wake)
        self._proposals.give_up(self._clock.now())
        # Rule 2
        if self._raft is not None and not (self._syncing and not self._others):
            try:
                self._tick_raft(self._raft)
            except Exception as error:
                self._fail(error)
                return
        self._publish()

    def _tick_raft(self, raft: Raft) -> None:
        now = self._clock.now()
        if raft.leader is not None:
            self._entries += self._proposals.due(now)
            for entry in self._take_entries():
                raft.submit(entry)
        raft.tick()
        if self._stopped is not None:
            return
        self._look_at_leader(raft, now)
        footing = Footing(self._leads_since, raft.leader, raft.term, raft.applied, self._up_to_date_at)
        self._participant.tick(now, footing)
        self._outbox += raft.outbox
        raft.outbox.clear()
        self._flush()

    def _take_entries(self) -> list[bytes]:
        entries: list[bytes] = []
        batch: list[bytes] = []
        size = 0
        for request in self._entries:
            if batch and size + len(request) > _ENTRY_BYTES_AIM:
                entries.append(encode_entry(batch))
                batch, size = [], 0
            batch.append(request)
            size += len(request)
        if batch:
            entries.append(encode_entry(batch))
        self._entries.clear()
        return entries

    def _look_at_leader(self, raft: Raft, now: float) -> None:
        if raft.leader != self._leader:
            self._leader = raft.leader
            if self._leader is not None:
                _log.info("%s leads in term %d", self._leader, raft.term)
                self._proposals.retry_now()
                self.wake()
        if raft.is_leader:
            self._leads_since = now if self._leads_since is None else self._leads_since
            self._heard_at = now
            if raft.applied >= raft.commit_index:
                self._up_to_date_at = now
        else:
            self._leads_since = None
            if self._heard is not None and raft.applied >= self._heard[1]:
                self._up_to_date_at = self._heard[0]
                self._heard = None

    def _apply(self, entry: bytes, index: int) -> None:
        try:
            if self._stopped is not None:
                return
            now = self._clock.now()
            for request in decode_entry(entry):
                outcome = apply(self.state, request)
                self._participant.applied(request, outcome, now)
                if request.id is not None:
                    self._proposals.applied(request.id, outcome.answer)
            self.wake()  # what was applied may have made something due
        except Exception as error:
            self._fail(error)

    def _publish(self) -> None:
        raft = self._raft
        self._status = EngineStatus(
            leader=raft.leader if raft else None,
            term=raft.term if raft else 0,
            applied=raft.applied if raft else 0,
            has_majority=raft is not None
            and raft.leader is not None
            and self._clock.now() - self._heard_at < QUORUM_TIMEOUT_S,
            formed=raft is not None,
            linked=tuple(self._transport.heard()),
            problem=self._transport.problem,
        )

    # The outbox.

    def _flush(self) -> None:
        if self._syncing:
            return
        if not self._directory.journal.dirty:
            self._send(self._outbox)
            self._outbox = []
            return
        self._syncing = True
        batch = self._directory.journal.take_batch()
        held, self._outbox = self._outbox, []
        written = self._loop.run_in_executor(self._disk, self._directory.journal.write, batch)
        written.add_done_callback(lambda future: self._written(future, held))

    def _written(self, written: asyncio.Future[None], held: list[tuple[str, Frame]]) -> None:
        self._syncing = False
        if self._stopped is not None:
            return
        error = written.exception()
        if error is not None:
            message = f"writing to {self._config.data_dir} failed: {error}. This node stops; look after its disk"
            failure = DiskFailed(message)
            failure.__cause__ = error
            self._fail(failure)
            return
        self._send(held)
        self._flush()
        if not self._others:
            self.wake()

    def _send(self, messages: list[tuple[str, Frame]]) -> None:
        for peer, frame in messages:
            self._transport.send(peer, frame)


def _resolve(future: asyncio.Future[T], result: T | BaseException | None) -> None:
    if future.done():
        return  # the caller was cancelled
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)  # type: ignore[arg-type]
