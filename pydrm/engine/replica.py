"""
`Replica`: one member of the group, from its data directory to the state machine. On the engine's thread.

    Rule 1.  Nothing leaves before it is on disk: see `outbox`.
    Rule 2.  Alone, there are no messages to hold back; so there the next tick waits for the disk, because
             the core commits in one tick what it appended in the one before.
    Rule 3.  After a failed write nothing is repeated: the node stops, and says so.
    Rule 4.  Applying never raises into the core, which would apply the entry again.

It ticks when something has happened and at least each `TICK_S`; everything else is a callback, so there is no
moment at which it waits for one thing and misses another.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from pydrm.core.commands import Command, Request
from pydrm.core.machine import apply
from pydrm.core.records import Incarnation, Voter
from pydrm.core.state import State
from pydrm.engine.codec import Append, Forward, Frame, Hello, check_entry, decode_entry, encode_entry, encode_request
from pydrm.engine.data_directory import DataDirectory
from pydrm.engine.handshake import PROTOCOL, formation
from pydrm.engine.host import Host
from pydrm.engine.outbox import Outbox
from pydrm.engine.participant import Footing, Membership, Participant
from pydrm.engine.proposals import Proposals
from pydrm.engine.raft import QUORUM_TIMEOUT_S, Raft
from pydrm.engine.transport import Transport
from pydrm.errors import DiskFailed

__all__ = ["TICK_S", "EngineConfig", "EngineStatus", "Replica"]

_log = logging.getLogger(__name__)

TICK_S = 0.025
_ENTRY_BYTES_AIM = 32 * 1024  # an entry that is longer is closed
_ENTRIES_PER_TICK = 4
_BACKLOG_MAX = 4  # entries that are in the log and not applied


@attrs.frozen
class EngineConfig:
    """
    Attributes:
        bind, advertise: "host:port" to listen on, and where peers reach that.
        voters: Each voter's address by name, this node's too; none or only itself is a cluster of one.
        data_dir: None keeps everything in memory; only for a cluster of one.
        nonce: Random; tells this process from any other that runs under this name.
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
        linked: The peers that are connected.
        problem: What keeps it from taking part, in words; "" if nothing does.
    """

    leader: str | None = None
    term: int = 0
    applied: int = 0
    has_majority: bool = False
    formed: bool = False
    linked: tuple[str, ...] = ()
    problem: str = ""


class Replica:
    """It is the `Port` of its participant. To be made on the engine's loop."""

    def __init__(
        self,
        config: EngineConfig,
        state: State,
        participant: Participant,
        *,
        host: Host,
        failed: Callable[[BaseException], None],
    ) -> None:
        """
        Locks and reads the data directory.

        Args:
            failed: Called once, when it can take no further part.

        Raises:
            ConfigurationError: The data directory is in use, another's or damaged.
            DiskFailed: It cannot be read or written.
        """
        self.state = state
        self.status = EngineStatus()
        self.proposals = Proposals()
        self._config = config
        self._participant = participant
        self._clock = host.clock
        self._random = host.random
        self._failed = failed
        self._stopped = False
        self._others = tuple(sorted(name for name in config.voters if name != config.node))
        self._directory = DataDirectory(
            config.data_dir, config.cluster, config.node, config.voters, disk=host.disk, new_id=host.new_id
        )
        self._disk = ThreadPoolExecutor(1, thread_name_prefix=f"pydrm-{config.node}-disk")
        self._transport = Transport(
            config.bind,
            {name: config.voters[name] for name in self._others},
            hello=self._hello,
            linked=self._linked,
            unlinked=self._unlinked,
            receive=self._receive,
            clock=self._clock,
            random=self._random,
        )
        self._outbox = Outbox(
            self._directory.journal,
            self._disk,
            send=self._transport.send,
            synced=self._synced,
            failed=self._disk_failed,
        )
        self._raft: Raft | None = None
        self._urgent: list[bytes] = []
        self._requests: deque[bytes] = deque()
        self._woken = False
        self._timer: asyncio.TimerHandle | None = None
        self._leader: str | None = None
        self._leads_since: float | None = None
        self._heard_at = self._up_to_date_at = float("-inf")
        self._heard_commit: tuple[float, int] | None = None

    async def start(self) -> None:
        """Listen and begin to tick. Raises ConfigurationError if the address cannot be bound."""
        if self._others:
            await self._transport.start()
        self._try_to_form()
        self.wake()

    async def stop(self) -> None:
        """Take no further part. Idempotent."""
        self._stopped = True
        self._outbox.close()
        await self._participant.stopped()
        if self._timer is not None:
            self._timer.cancel()
        await self._transport.stop()
        await asyncio.get_running_loop().run_in_executor(None, self._disk.shutdown)
        self._directory.close()

    # --- the Port ----------------------------------------------------------------------------------------------------

    def submit(self, command: Command) -> None:
        self._urgent.append(encode_request(Request(command)))
        self.wake()

    def speak_as(self, client: Incarnation) -> None:
        self.proposals.joined(client)
        self.wake()

    def wake(self) -> None:
        if not self._woken and not self._stopped:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._tick)

    # --- forming and linking -----------------------------------------------------------------------------------------

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
            # On disk before the first vote: the core, which votes, does not exist before that.
            self._directory.form(formed.cluster_id, formed.members)
            _log.info("formed cluster %s with %s", formed.cluster_id, ", ".join(formed.members))
        self._raft = Raft(
            self._config.node,
            self._others,
            self._directory.journal,
            self._apply,
            clock=self._clock,
            random=self._random,
        )
        identity = self._directory.identity
        addresses = {**self._config.voters, self._config.node: self._config.advertise}
        voters = [Voter(name, id, addresses.get(name, "")) for name, id in sorted(identity.members.items())]
        self._participant.formed(self, Membership(identity.cluster_id, tuple(voters), self._directory.on_this_host))
        self._transport.announce()
        for peer, hello in self._transport.heard().items():
            self._connect(self._raft, peer, hello)

    def _linked(self, peer: str, hello: Hello) -> None:
        try:
            self._try_to_form()
        except OSError as error:
            self._disk_failed(error)
            return
        if self._raft is not None:
            self._connect(self._raft, peer, hello)
        self.wake()

    def _connect(self, raft: Raft, peer: str, hello: Hello) -> None:
        if hello.cluster_id == self._directory.identity.cluster_id:
            raft.connected(peer)
            self.proposals.retry_now()

    def _unlinked(self, peer: str) -> None:
        if self._raft is not None:
            self._raft.disconnected(peer)

    def _receive(self, peer: str, frame: Frame) -> None:
        if self._raft is None or self._stopped:
            return
        try:
            if isinstance(frame, Forward):
                # Once it is in the log, what cannot be read stops every replica, and at each start again.
                check_entry(frame.command)
            self._raft.receive(peer, frame)
        except ValueError:
            raise  # not a failure of ours: the transport closes the link
        except Exception as error:  # noqa: BLE001 (a border: what the core has done is not known)
            self._fail(error)
            return
        if isinstance(frame, Append) and frame.term >= self._raft.term:
            self._heard_at = self._clock.now()
            if self._heard_commit is None:
                self._heard_commit = (self._heard_at, frame.commit_index)
        self.wake()

    # --- ticking -----------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._woken = False
        if self._stopped:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self.wake)
        now = self._clock.now()
        self.proposals.give_up(now)
        waits_for_disk = self._outbox.syncing and not self._others  # rule 2
        if self._raft is not None and not waits_for_disk:
            try:
                self._tick_raft(self._raft, now)
            except Exception as error:  # noqa: BLE001 (a border: what the core has done is not known)
                self._fail(error)
        self._publish(now)

    def _tick_raft(self, raft: Raft, now: float) -> None:
        if raft.leader is not None:
            self._submit(raft, now)
        raft.tick()
        if self._stopped:
            return
        self._look_at_leader(raft, now)
        footing = Footing(self._leads_since, raft.leader, raft.term, raft.applied, self._up_to_date_at)
        self._participant.tick(now, footing)
        messages, raft.outbox = raft.outbox, []
        self._outbox.put(messages)

    def _submit(self, raft: Raft, now: float) -> None:
        # What keeps the lease goes first, and never waits behind the app's requests.
        if self._urgent:
            raft.submit(encode_entry(self._urgent))
            self._urgent.clear()
        self._requests += self.proposals.due(now)
        # All that is committed is applied within one tick; so what is under way is bounded, and with it the time
        # for which nothing else happens.
        for _ in range(_ENTRIES_PER_TICK):
            if not self._requests or raft.backlog >= _BACKLOG_MAX:
                break
            raft.submit(encode_entry(self._take_batch()))

    def _take_batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        # Closed before it would be too long, not after: one request may fill an entry by itself.
        while self._requests and (not batch or size + len(self._requests[0]) <= _ENTRY_BYTES_AIM):
            request = self._requests.popleft()
            batch.append(request)
            size += len(request)
        return batch

    def _look_at_leader(self, raft: Raft, now: float) -> None:
        if raft.leader != self._leader:
            self._leader = raft.leader
            if self._leader is not None:
                _log.info("%s leads in term %d", self._leader, raft.term)
                self.proposals.retry_now()
                self.wake()
        if raft.is_leader:
            self._leads_since = now if self._leads_since is None else self._leads_since
            self._heard_at = now
            if raft.applied >= raft.commit_index:
                self._up_to_date_at = now
        else:
            self._leads_since = None
            if self._heard_commit is not None and raft.applied >= self._heard_commit[1]:
                self._up_to_date_at = self._heard_commit[0]
                self._heard_commit = None

    def _apply(self, entry: bytes, index: int) -> None:
        if self._stopped:
            return
        try:
            now = self._clock.now()
            for request in decode_entry(entry):
                outcome = apply(self.state, request)
                if outcome.bug is not None:
                    _log.error("a bug in the state machine: %r is refused", request, exc_info=outcome.bug)
                self._participant.applied(request, outcome, now)
                if request.id is not None:
                    self.proposals.applied(request.id, outcome.answer)
        except Exception as error:  # noqa: BLE001 (rule 4)
            self._fail(error)
            return
        self.wake()  # what was applied may have made something due

    def _publish(self, now: float) -> None:
        raft = self._raft
        has_majority = raft is not None and raft.leader is not None and now - self._heard_at < QUORUM_TIMEOUT_S
        self.status = EngineStatus(
            leader=raft.leader if raft else None,
            term=raft.term if raft else 0,
            applied=raft.applied if raft else 0,
            has_majority=has_majority,
            formed=raft is not None,
            linked=tuple(self._transport.heard()),
            problem=self._transport.problem,
        )

    # --- the disk ----------------------------------------------------------------------------------------------------

    def _synced(self) -> None:
        if not self._others:
            self.wake()  # rule 2

    def _disk_failed(self, error: OSError) -> None:
        failure = DiskFailed(
            f"writing to {self._config.data_dir} failed: {error}. This node stops; look after its disk"
        )
        failure.__cause__ = error
        self._fail(failure)

    def _fail(self, error: BaseException) -> None:
        if not self._stopped:
            self._stopped = True
            self._outbox.close()
            self._failed(error)
