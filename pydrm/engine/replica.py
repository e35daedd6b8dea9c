"""
`Replica`: one member of the group, from its data directory to the state machine. On the engine's thread.

    Rule 1.  Nothing leaves before it is on disk: see `outbox`.
    Rule 2.  Alone, there are no messages to hold back; so there the next tick waits for the disk, because
             the core commits in one tick what it appended in the one before.
    Rule 3.  After a failed write nothing is repeated: the node stops, and says so.
    Rule 4.  Who votes is what the state says, and it counts from the end of the tick that applied it: see `raft`.

It ticks when something has happened and at least each `TICK_S`; everything else is a callback, so there is no
moment at which it waits for one thing and misses another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pydrm.core.commands import AddVoter, Command, RemoveVoter, Request
from pydrm.core.records import Incarnation, NodeState
from pydrm.core.state import State
from pydrm.engine.agreement import DIGEST_EVERY, Agreement
from pydrm.engine.applier import Applier
from pydrm.engine.batches import Batches
from pydrm.engine.codec import encode_request, split_entry
from pydrm.engine.config import EngineConfig, EngineStatus
from pydrm.engine.data_directory import DataDirectory
from pydrm.engine.frames import (
    Append,
    Forward,
    Frame,
    Hello,
    SnapshotDone,
    SnapshotOffer,
    SnapshotPiece,
    SnapshotWant,
    StateDigest,
)
from pydrm.engine.host import Host
from pydrm.engine.members import Members
from pydrm.engine.outbox import Outbox
from pydrm.engine.participant import Participant
from pydrm.engine.proposals import Proposals
from pydrm.engine.raft import HEARTBEAT_S, Raft
from pydrm.engine.restore import restore_newest
from pydrm.engine.snapshots import Heading
from pydrm.engine.snapshotter import Snapshotter
from pydrm.engine.standing import Standing
from pydrm.engine.transport import Transport
from pydrm.errors import DiskFailed, DrmError

__all__ = ["TICK_S", "Replica"]

_log = logging.getLogger(__name__)

TICK_S = HEARTBEAT_S / 2
_JUST_AFTER_S = 0.001
_TRANSFER_AGAIN_S = 0.25


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
        Locks the data directory.

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
        self._host = host
        self._clock = host.clock
        self._random = host.random
        self._failed = failed
        self._stopped = False
        self._others = tuple(sorted(name for name in config.voters if name != config.node))
        self._directory = DataDirectory(
            config.data_dir, config.cluster, config.node, disk=host.disk, new_id=host.new_id
        )
        self._members = Members(config, self._directory, state)
        self._disk = ThreadPoolExecutor(1, thread_name_prefix=f"pydrm-{config.node}-disk")
        self._transport = Transport(
            config.bind,
            {name: config.voters[name] for name in self._others},
            hello=self._members.hello,
            linked=self._linked,
            unlinked=self._unlinked,
            receive=self._receive,
            clock=self._clock,
            random=self._random,
            security=config.security,
        )
        self._outbox: Outbox | None = None
        self._snapshotter: Snapshotter | None = None
        self._raft: Raft | None = None
        self._batches = Batches()
        self._applier = Applier(state, participant, self.proposals, now=host.clock.now, failed=self._fail)
        self._standing = Standing()
        self._agreement = Agreement(config.node)
        self._voters_revision = 0
        self._transferred_at = float("-inf")
        self._woken = False
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """
        Read the data directory, listen, and begin to tick.

        Raises:
            ConfigurationError: The data directory is damaged, or the address cannot be bound.
            DiskFailed: The data directory cannot be read or written.
        """
        base = await restore_newest(self._directory, self.state)
        await asyncio.get_running_loop().run_in_executor(self._disk, self._directory.open_journal, base)
        self._outbox = Outbox(
            self._directory.journal,
            self._disk,
            send=self._transport.send,
            synced=self._synced,
            failed=self._disk_failed,
        )
        self._snapshotter = Snapshotter(
            self._directory.snapshots,
            self._directory.journal,
            self._disk,
            send=lambda peer, frame: self._send([(peer, frame)]),
            log_bytes_min=self._host.disk.log_bytes,
            tail_bytes=self._host.disk.tail_bytes,
            arrived=self._install,
            outdated=self._fail,
            now=self._clock.now,
        )
        if self._config.voters:
            await self._transport.start()
        self._try_to_form()
        self.wake()

    async def stop(self) -> None:
        """Take no further part. Idempotent."""
        self._stopped = True
        self._applier.stop()
        if self._outbox is not None:
            self._outbox.close()
        if self._snapshotter is not None:
            self._snapshotter.close()
        await self._participant.stopped()
        if self._timer is not None:
            self._timer.cancel()
        await self._transport.stop()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._disk.shutdown)
        if self._snapshotter is not None:
            await loop.run_in_executor(None, self._snapshotter.shut)
        self._directory.close()

    @property
    def replica_id(self) -> str:
        """What the data directory is called; see `DataDirectory`."""
        return self._directory.identity.replica_id

    def addition(self, name: str) -> AddVoter | None:
        """See `Members`."""
        return self._members.addition(name, self._transport.heard())

    def removal(self, name: str) -> RemoveVoter:
        """See `Members`."""
        return self._members.removal(name)

    # --- the Port ----------------------------------------------------------------------------------------------------

    def submit(self, command: Command) -> None:
        self._batches.urgent(encode_request(Request(command)))
        self.wake()

    def speak_as(self, client: Incarnation) -> None:
        self.proposals.joined(client)
        self.wake()

    def wake(self) -> None:
        if not self._woken and not self._stopped:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._tick)

    # --- forming and linking -----------------------------------------------------------------------------------------

    def _try_to_form(self) -> None:
        # The identity is on disk before the first vote: the core, which votes, does not exist before that.
        if self._raft is not None or not self._members.form(self._transport.heard()):
            return
        self._take_part(self._directory.journal.base[0])
        self._participant.formed(self, self._members.membership(self._transport.heard()))
        if self.state.settings is not None:
            self._participant.restored(self._clock.now())
        self._transport.announce()

    def _take_part(self, applied: int) -> None:
        """From now on, by what is in the journal, of which everything up to entry *applied* is in the state."""
        self._raft = Raft(
            self._config.node,
            self._members.voting,
            self._directory.journal,
            self._apply,
            applied=applied,
            clock=self._clock,
            random=self._random,
        )
        self._voters_revision = self._members.revision
        self._transport.expect(self._members.addresses)
        for peer, hello in self._transport.heard().items():
            self._connect(self._raft, peer, hello)

    def _follow_voters(self, raft: Raft) -> None:
        """The state may say that others vote now."""
        if self._members.revision == self._voters_revision:
            return
        voters = self._members.voting
        _log.info("the voters are %s now", ", ".join(voters))
        if raft.votes == (self._config.node in voters):
            self._voters_revision = self._members.revision
            self._transport.expect(self._members.addresses)
            raft.set_voters(voters)
        else:
            self._take_part(raft.applied)
        self._transport.announce()

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
        if self._raft is not None and self._snapshotter is not None:
            self._raft.disconnected(peer)
            self._snapshotter.unlinked(peer)

    def _receive(self, peer: str, frame: Frame) -> None:
        raft, snapshotter = self._raft, self._snapshotter
        if raft is None or snapshotter is None or self._stopped:
            return
        try:
            match frame:
                case SnapshotOffer() | SnapshotWant() | SnapshotPiece() | SnapshotDone():
                    snapshotter.receive(peer, frame, raft)
                case StateDigest():
                    self._compare(peer, frame)
                case Forward(command=command):
                    if raft.is_leader:
                        self._batches.forwarded(split_entry(command[1:]))
                case _:
                    raft.receive(peer, frame)
        except ValueError:
            raise  # not a failure of ours: the transport closes the link
        except Exception as error:  # noqa: BLE001 (a border: what the core has done is not known)
            self._fail(error)
            return
        if isinstance(frame, Append) and frame.term >= raft.term:
            self._standing.heard(self._clock.now(), frame.commit_index)
        self.wake()

    # --- ticking -----------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._woken = False
        if self._stopped:
            return
        now = self._clock.now()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._until_next_tick(now), self.wake)
        self.proposals.give_up(now)
        if self._raft is not None and not self._waits_for_disk():
            try:
                self._tick_raft(self._raft, now)
            except Exception as error:  # noqa: BLE001 (a border: what the core has done is not known)
                self._fail(error)
        self._publish(now)

    def _until_next_tick(self, now: float) -> float:
        # Elections are staggered more finely than ticks: each voter is to be on time for its own.
        until_election = self._raft.stands_at - now + _JUST_AFTER_S if self._raft is not None else TICK_S
        return until_election if 0 < until_election < TICK_S else TICK_S

    def _waits_for_disk(self) -> bool:
        """Rule 2."""
        return self._outbox is not None and self._outbox.syncing and self._is_alone()

    def _is_alone(self) -> bool:
        return len(self._members.voters) <= 1

    def _tick_raft(self, raft: Raft, now: float) -> None:
        if raft.leader is not None and not raft.handing_over:
            self._submit(raft, now)
        raft.tick()
        self._follow_voters(raft)
        if self._stopped or raft is not self._raft:
            return
        if self._standing.look(raft, now) and raft.leader is not None:
            _log.info("%s leads in term %d", raft.leader, raft.term)
            self.proposals.retry_now()
            self.wake()
        self._participant.tick(now, self._standing.footing(raft))
        self._hand_over(raft, now)
        assert self._snapshotter is not None
        self._snapshotter.tick(raft, self.state)
        messages, raft.outbox = raft.outbox, []
        self._send(messages)

    def _send(self, messages: list[tuple[str, Frame]]) -> None:
        assert self._outbox is not None
        self._outbox.put(messages)

    def _submit(self, raft: Raft, now: float) -> None:
        self._batches.add(self.proposals.due(now))
        ttl_s = self.state.settings.lease_ttl_ms / 1000 if self.state.settings else 0.0
        for entry in self._batches.due(now, leads=raft.is_leader, backlog=raft.backlog, lease_ttl_s=ttl_s):
            raft.submit(entry)

    def _hand_over(self, raft: Raft, now: float) -> None:
        """A leader that leaves has another one lead, once it holds nothing any more: until then it has much to say."""
        if not raft.is_leader or now - self._transferred_at < _TRANSFER_AGAIN_S:
            return
        me = self.state.nodes.get(self._config.node)
        if me is None or me.state is not NodeState.DRAINING or self.state.held_count(me.name, me.incarnation):
            return
        self._transferred_at = now
        raft.transfer_leadership([name for name in self._members.voters if self._may_lead(name)])

    def _may_lead(self, name: str) -> bool:
        node = self.state.nodes.get(name)
        return node is not None and node.state is NodeState.ALIVE

    def _apply(self, entry: bytes, index: int) -> None:
        self._applier.apply(entry, index)
        if index % DIGEST_EVERY == 0 and not self._stopped:
            self._say_digest(index)
        self.wake()  # what was applied may have made something due

    def _install(self, heading: Heading, state: State) -> None:
        """The state of another node is put in force in place of this one's, and of the log up to there."""
        if self._stopped or self._raft is None or self._raft.holds(heading.index, heading.term):
            return
        self.state.become(state)
        self._directory.journal.reset(heading.index, heading.term)
        self._take_part(heading.index)
        self._participant.restored(self._clock.now())
        self.wake()

    # --- whether the replicas are equal ------------------------------------------------------------------------------

    def _say_digest(self, index: int) -> None:
        said = StateDigest(index, f"{self.state.digest:032x}")
        self._send([(peer, said) for peer in self._transport.heard()])
        self._compare(self._config.node, said)

    def _compare(self, node: str, said: StateDigest) -> None:
        wrong = self._agreement.note(node, said.index, said.digest, self._members.voters)
        if wrong:
            message = f"node {self._config.node} cannot trust its state: {wrong}. It stops; please report this"
            self._fail(DrmError(message))

    def _publish(self, now: float) -> None:
        raft = self._raft
        self.status = EngineStatus(
            leader=raft.leader if raft else None,
            term=raft.term if raft else 0,
            applied=raft.applied if raft else 0,
            has_majority=raft is not None and self._standing.has_majority(raft, now),
            formed=raft is not None,
            linked=tuple(self._transport.heard()),
            votes=raft is not None and raft.votes,
            voters=tuple(self._members.voters),
            problem=self._transport.problem,
        )

    # --- the disk ----------------------------------------------------------------------------------------------------

    def _synced(self) -> None:
        if self._is_alone():
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
            self._applier.stop()
            if self._outbox is not None:
                self._outbox.close()
            self._failed(error)
