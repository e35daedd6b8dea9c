"""
`Replica`: one member of the group, from its data directory to the state machine. On the engine's thread.

    Rule 1.  Nothing leaves before it is on disk: see `outbox`.
    Rule 2.  Alone, there are no messages to hold back; so there the next tick waits for the disk, because
             the core commits in one tick what it appended in the one before.
    Rule 3.  After a failed write nothing is repeated: the node stops, and says so.

It ticks when something has happened, when something is due, and at least each `IDLE_S`; everything else is a callback,
so there is no moment at which it waits for one thing and misses another.

Its parts are `storage` and `transport`; `seat`, which has the consensus core; `requests`, which go into the log, and
`applier`, which takes what comes out of it to the state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from pydrm.core.commands import AddVoter, Command, RemoveVoter
from pydrm.core.records import Incarnation
from pydrm.core.state import State
from pydrm.engine.applier import Applier
from pydrm.engine.comparison import Comparison
from pydrm.engine.config import EngineConfig, EngineStatus
from pydrm.engine.frames import Append, Forward, Frame, Hello, Mail, StateDigest
from pydrm.engine.handover import Handover
from pydrm.engine.host import Host
from pydrm.engine.members import Members
from pydrm.engine.participant import Participant
from pydrm.engine.post import Post, Question
from pydrm.engine.proposals import Proposals
from pydrm.engine.raft import HEARTBEAT_S, Raft
from pydrm.engine.requests import Requests
from pydrm.engine.seat import Seat
from pydrm.engine.snapshots import Heading
from pydrm.engine.snapshotter import SnapshotFrame
from pydrm.engine.standing import Standing
from pydrm.engine.storage import Storage
from pydrm.engine.ticks import Ticks
from pydrm.engine.transport import Transport

__all__ = ["IDLE_S", "Replica"]

_log = logging.getLogger(__name__)

# Most ticks of an idle node do nothing; and that they do in caches that have gone cold, where each costs a lot.
IDLE_S = 0.2
TICK_S = HEARTBEAT_S / 2  # while something waits for what announces nothing
_JUST_AFTER_S = 0.001


class Replica:
    """It is the `Port` of its participant. To be made on the engine's loop."""

    def __init__(
        self,
        config: EngineConfig,
        state: State,
        participant: Participant,
        *,
        host: Host,
        asked: Callable[[Question], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """
        Locks the data directory.

        Args:
            asked: Gets what other nodes ask this one; see `post`.
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
        self._failed = failed
        self._stopped = False
        self._storage = Storage(config, host)
        self._members = Members(config, self._storage.directory, state)
        self._transport = Transport(
            config.bind,
            {name: config.voters[name] for name in sorted(config.voters) if name != config.node},
            hello=self._members.hello,
            linked=self._linked,
            unlinked=self._unlinked,
            receive=self._receive,
            clock=host.clock,
            random=host.random,
            security=config.security,
        )
        self._seat = Seat(
            config.node,
            self._members,
            self._storage.directory,
            self._transport,
            self._apply,
            connected=self.proposals.retry_now,
            clock=host.clock,
            random=host.random,
        )
        self.post = Post(
            config.node,
            config.nonce,
            self._transport,
            linked=self._members_linked,
            is_linked=self._is_linked,
            leader=lambda: self.status.leader,
            clock=host.clock,
            deliver=asked,
        )
        self._requests = Requests(self.proposals, state)
        self._applier = Applier(state, participant, self.proposals, now=host.clock.now, failed=self._fail)
        self._standing = Standing()
        self._comparison = Comparison(config.node, state, self._members, say=self._tell_all, failed=self._fail)
        self._handover = Handover(config.node, state, self._members)
        self._ticks = Ticks(self._tick, at_latest_s=self._until_next_tick)

    async def start(self) -> None:
        """
        Read the data directory, listen, and begin to tick.

        Raises:
            ConfigurationError: The data directory is damaged, or the address cannot be bound.
            DiskFailed: The data directory cannot be read or written.
        """
        await self._storage.open(
            self.state,
            send=self._transport.send,
            synced=self._synced,
            arrived=self._install,
            failed=self._fail,
        )
        if self._config.voters:
            await self._transport.start()
        self._try_to_form()
        self.wake()

    async def stop(self) -> None:
        """Take no further part. Idempotent."""
        self._stopped = True
        self._applier.stop()
        self._ticks.stop()
        self._storage.stop()
        await self._participant.stopped()
        await self._transport.stop()
        await self._storage.close()

    @property
    def replica_id(self) -> str:
        """What the data directory is called; see `DataDirectory`."""
        return self._storage.directory.identity.replica_id

    def addition(self, name: str) -> AddVoter | None:
        """See `Members`."""
        return self._members.addition(name, self._transport.heard())

    def removal(self, name: str) -> RemoveVoter:
        """See `Members`."""
        return self._members.removal(name)

    # --- the Port ----------------------------------------------------------------------------------------------------

    def submit(self, command: Command) -> None:
        self._requests.say(command)
        self.wake()

    def speak_as(self, client: Incarnation) -> None:
        self.proposals.joined(client)
        self.wake()

    def wake(self) -> None:
        self._ticks.wake()

    # --- forming and linking -----------------------------------------------------------------------------------------

    def _try_to_form(self) -> None:
        if not self._seat.form():
            return
        self._participant.formed(self, self._members.membership(self._transport.heard()))
        if self.state.settings is not None:
            self._participant.restored(self._clock.now())
        self._transport.announce()

    def _linked(self, peer: str, hello: Hello) -> None:
        try:
            self._try_to_form()
        except OSError as error:
            self._fail(self._storage.failure(error))
            return
        self._seat.linked(peer, hello)
        self.wake()

    def _members_linked(self) -> Collection[str]:
        return [name for name in self._transport.heard() if self._is_linked(name)]

    def _is_linked(self, peer: str) -> bool:
        mine, hello = self._storage.directory.identity.cluster_id, self._transport.hello_of(peer)
        return bool(mine) and hello is not None and hello.cluster_id == mine

    def _unlinked(self, peer: str) -> None:
        self.post.unlinked(peer)
        if self._seat.raft is not None:
            self._seat.unlinked(peer)
            self._storage.snapshotter.unlinked(peer)

    def _receive(self, peer: str, frame: Frame) -> None:
        raft = self._seat.raft
        if raft is None or self._stopped:
            return
        if isinstance(frame, Mail):
            self.post.receive(peer, frame)  # nothing to tick for
            return
        try:
            match frame:
                case StateDigest():
                    self._comparison.heard(peer, frame)
                case Forward(command=command):
                    if raft.is_leader:
                        self._requests.forwarded(command)
                case _ if isinstance(frame, SnapshotFrame):
                    self._storage.snapshotter.receive(peer, frame, raft)
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
        now = self._clock.now()
        self.proposals.give_up(now)
        if self._seat.raft is not None and not self._waits_for_disk():
            try:
                self._tick_raft(self._seat.raft, now)
            except Exception as error:  # noqa: BLE001 (a border: what the core has done is not known)
                self._fail(error)
        self._publish(now)

    def _until_next_tick(self) -> float:
        raft = self._seat.raft
        if raft is None or self.proposals.under_way:
            return TICK_S
        # Elections are staggered more finely than ticks: each voter is to be on time for its own. So is what ends a
        # lease, on either side.
        now = self._clock.now()
        until_due = min(raft.next_at, self._requests.next_at, self._participant.next_at(now)) - now + _JUST_AFTER_S
        return min(until_due if until_due > 0 else TICK_S, IDLE_S)

    def _waits_for_disk(self) -> bool:
        """Rule 2."""
        return self._storage.outbox.syncing and self._is_alone()

    def _is_alone(self) -> bool:
        return len(self._members.voters) <= 1

    def _tick_raft(self, raft: Raft, now: float) -> None:
        applied = raft.applied
        self._requests.submit(raft, now)
        raft.tick()
        self._seat.follow_voters(raft)
        if self._stopped or raft is not self._seat.raft:
            self.wake()  # for the new one
            return
        if self._standing.look(raft, now) and raft.leader is not None:
            _log.info("%s leads in term %d", raft.leader, raft.term)
            self.proposals.retry_now()
            self.wake()
        self._participant.tick(now, self._standing.footing(raft))
        self._handover.look(raft, now)
        self._storage.snapshotter.tick(raft, self.state)
        messages, raft.outbox = raft.outbox, []
        self._storage.outbox.put(messages)
        if self._goes_on(raft, now, has_applied=raft.applied > applied):
            self.wake()

    def _goes_on(self, raft: Raft, now: float, *, has_applied: bool) -> bool:
        """Whether there is more to do at once."""
        if has_applied and (raft.backlog or self._requests.next_at <= now):
            return True
        # In memory there is no disk to wait for; with one, rule 2.
        return raft.backlog > 0 and raft.is_leader and self._is_alone() and not self._storage.outbox.syncing

    def _apply(self, entry: bytes, index: int) -> None:
        self._applier.apply(entry, index)
        if not self._stopped:
            self._comparison.applied(index)

    def _install(self, heading: Heading, state: State) -> None:
        """The state of another node is put in force in place of this one's, and of the log up to there."""
        raft = self._seat.raft
        if self._stopped or raft is None or raft.holds(heading.index, heading.term):
            return
        self.state.become(state)
        self._storage.directory.journal.reset(heading.index, heading.term)
        self._seat.take(heading.index)
        self._participant.restored(self._clock.now())
        self.wake()

    def _tell_all(self, said: StateDigest) -> None:
        self._storage.outbox.put([(peer, said) for peer in self._transport.heard()])

    def _synced(self) -> None:
        if self._is_alone():
            self.wake()  # rule 2

    def _publish(self, now: float) -> None:
        raft = self._seat.raft
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

    def _fail(self, error: BaseException) -> None:
        if not self._stopped:
            self._stopped = True
            self._applier.stop()
            self._ticks.stop()
            self._storage.silence()
            self._failed(error)
