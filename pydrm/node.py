"""
`Node`: one life of this node, from the data directory to the last word it says; wires the rooms below.

    joining   the engine runs; the node waits until the cluster is formed and a Join of its own is applied
    working   the agent holds what the state says
    leaving   drain: hand over what it holds; close what nobody takes; resign the lease
    over      nothing of it runs any more

A failure skips the handing over: then the lease is what protects the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence

from pydrm.agent.agent import Agent
from pydrm.agent.backoff import Backoff
from pydrm.agent.courier import Courier
from pydrm.agent.deliveries import Deliveries
from pydrm.agent.fence import Fence
from pydrm.agent.hold import LedgerAccess
from pydrm.agent.kind import Kinds
from pydrm.agent.lease import Lease
from pydrm.agent.ledger_watch import LedgerWatch
from pydrm.agent.publishing import Publishing
from pydrm.agent.readable import Readable
from pydrm.agent.shares import Shares
from pydrm.agent.warden import Warden
from pydrm.config import Config
from pydrm.core.answers import Done
from pydrm.core.commands import Drain, Resign
from pydrm.core.events import Delivery
from pydrm.core.records import AssignmentKey, NodeState, Role
from pydrm.engine import Engine, EngineConfig, Host, Mailbox, Security, TlsFiles
from pydrm.errors import DrmError, Unavailable

__all__ = ["Node"]

logger = logging.getLogger(__name__)

PROGRESS_S = 5.0
POLL_S = 0.01
RESIGN_TIMEOUT_S = 1.0
AGENT_END_TIMEOUT_S = 1.0

# A change of leader looks like a lost majority for as long as the election takes.
MAJORITY_LOST_S = 1.0


class Node:
    """
    To be made on the app's loop, and lived once.

    Attributes:
        failure: Why it had to stop by itself, if it had to.
    """

    def __init__(self, config: Config, kinds: Kinds, *, close_timeout_s: float, host: Host) -> None:
        self.name = config.node
        self.failure: BaseException | None = None
        self.lease = Lease()
        self._config = config
        self._clock = host.clock
        self._stopping = asyncio.Event()
        self._joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever waits for it hears of its failure; if nobody does, that is no reason for a warning.
        self._joined.add_done_callback(lambda joined: joined.cancelled() or joined.exception())
        self._wire(kinds, close_timeout_s, host)

    def _wire(self, kinds: Kinds, close_timeout_s: float, host: Host) -> None:
        """Warden and engine on the engine's thread, agent on the app's loop; they meet in mailboxes."""
        config = self._config
        app = Mailbox(asyncio.get_running_loop())
        fence = Fence()
        watch = LedgerWatch()
        shares = Shares(config.node)
        self.warden = Warden(
            config.node,
            self.lease,
            fence,
            lease_ttl_s=config.lease_ttl,
            stall_timeout_s=config.stall_timeout,
            on_unfenced=config.on_unfenced,
            address=config.advertise,
            role=Role(config.role),
            app=app,
            listener=self,
            on_failure=self.fail,
            clock=self._clock,
            new_nonce=host.new_id,
            exit=host.exit,
            ledger=watch,
            shares=shares,
        )
        self.engine = Engine(
            EngineConfig(
                cluster=config.cluster,
                node=config.node,
                bind=config.bind,
                advertise=config.advertise,
                voters=config.peers,
                data_dir=config.data_dir,
                nonce=host.new_id(),
                role=config.role,
                security=_security(config),
            ),
            self.warden,
            host=host,
            on_failure=lambda error: app.post(self.fail, error),
        )
        self.publishing = Publishing(self.engine, host.new_id)
        self.deliveries = Deliveries(
            config.node,
            lambda: self.agent.incarnation,
            self.engine,
            watch,
            clock=self._clock,
            backoff=lambda: Backoff(host.random, base_s=0.05, cap_s=1.0),
        )
        self.agent = Agent(
            config.node,
            self.engine,
            self.lease,
            fence,
            kinds,
            clock=self._clock,
            random=host.random,
            close_timeout_s=close_timeout_s,
            ledger=LedgerAccess(self.deliveries, self.publishing),
            readable=Readable(config.readable_variables, config.readable_directories),
            shares=shares,
            give_up_after=config.give_up_after,
            quarantine_s=config.quarantine,
            checkpoint_interval_s=config.checkpoint_interval,
        )
        self.courier = Courier(config.node, self.engine, self.agent)
        self.engine.serve(self.courier.asked)

    # --- its life ----------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """
        Live until `stop` or a failure; return when nothing runs any more.

        Raises:
            ConfigurationError: The address, the TLS files or the data directory cannot be used.
            DrmError: Why it had to stop by itself; Superseded and DiskFailed are the usual ones.
        """
        try:
            await self._live()
        except BaseException as error:
            self.failure = self.failure or error
            raise
        finally:
            if not self._joined.done():
                self._joined.set_exception(self.failure or Unavailable("this node was stopped before it had joined"))
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        """Begin to leave. Idempotent."""
        self._stopping.set()

    def fail(self, error: BaseException) -> None:
        """Stop without handing over, because of *error*; the first one counts."""
        if self.failure is None:
            self.failure = error
            logger.error("node %s stops: %s", self._config.node, error, extra={"node": self._config.node})
        self.stop()

    async def until_joined(self) -> None:
        """
        Wait until it holds a lease for the first time.

        Raises:
            Unavailable: It was stopped before that.
            DrmError: It failed before that.
        """
        await asyncio.shield(self._joined)

    async def _live(self) -> None:
        progress = asyncio.create_task(self._say_what_it_waits_for(), name="pydrm progress")
        # Not in a TaskGroup, because that waits for all it owns without a limit: a handler that refuses to end must
        # not keep the engine from stopping, which is what makes sure that the process does not hold it on.
        agent = asyncio.create_task(self.agent.run(), name="pydrm agent")
        agent.add_done_callback(self._agent_ended)
        try:
            await self.engine.start()
            await self._stopping.wait()
            await self._leave()
        finally:
            progress.cancel()
            await self.engine.stop()
            agent.cancel()
            _, refusing = await asyncio.wait({agent, progress}, timeout=AGENT_END_TIMEOUT_S)
            if refusing:
                logger.error("handlers that do not end are left behind", extra={"node": self._config.node})

    def _agent_ended(self, agent: asyncio.Task[None]) -> None:
        if not agent.cancelled() and (error := agent.exception()) is not None:
            self.fail(error)

    # --- joining -----------------------------------------------------------------------------------------------------

    async def _say_what_it_waits_for(self) -> None:
        while not self._joined.done():
            await self._clock.sleep(PROGRESS_S)
            if not self._joined.done():
                logger.info("waiting to join: %s", self.waits_for, extra={"node": self._config.node})

    @property
    def waits_for(self) -> str:
        """What keeps it from joining, as far as it knows."""
        status = self.engine.status()
        if status.problem:
            return status.problem
        missing = sorted({*self._config.peers} - {self._config.node, *status.linked})
        if missing and not (status.formed and status.has_majority):
            return f"{', '.join(missing)} cannot be reached"
        if not status.formed:
            return "the cluster is not formed yet"
        if not status.has_majority:
            return "no leader is elected yet"
        return self.warden.waits_for or "its request to join is not applied yet"

    # --- leaving -----------------------------------------------------------------------------------------------------

    async def _leave(self) -> None:
        works = self.failure is None and self.agent.incarnation != 0
        if works:
            await self._drain()
        left = await self.agent.close()
        if left:
            logger.error("%d handles do not close", left, extra={"node": self._config.node})
        self.warden.resign()
        # With something still open the lease must not end before its time.
        if works and not left and self.failure is None:
            with contextlib.suppress(DrmError):
                resign = Resign(self._config.node, self.agent.incarnation)
                await self.engine.propose(resign, timeout=RESIGN_TIMEOUT_S)

    async def _drain(self) -> None:
        """Hand over all that this node holds; ends early when nobody can take it."""
        if not self._has_takers():
            return
        me = (self._config.node, self.agent.incarnation)
        deadline = self._clock.now() + self._config.drain_timeout
        drain = asyncio.create_task(self._propose_drain(*me))
        hopeful = self._hopeful()
        while self._clock.now() < deadline and self.failure is None and next(hopeful):
            if drain.done() and (not drain.result() or not self.engine.state.held_count(*me)):
                break
            await self._clock.sleep(POLL_S)
        else:
            held = self.engine.state.held_count(*me)
            why = "the time for it is up" if self._clock.now() >= deadline else "nobody could take them"
            if held:
                logger.warning("%d resources are not handed over: %s", held, why, extra={"node": me[0]})
        drain.cancel()

    async def _propose_drain(self, node: str, incarnation: int) -> bool:
        try:
            answer = await self.engine.propose(Drain(node, incarnation), timeout=self._config.drain_timeout)
        except DrmError as error:
            logger.warning("cannot hand over: %s", error, extra={"node": node})
            return False
        return isinstance(answer, Done)

    def _hopeful(self) -> Iterator[bool]:
        """Each time it is asked, whether somebody can still take over."""
        majority_at = self._clock.now()
        while True:
            if self.engine.status().has_majority:
                majority_at = self._clock.now()
            yield self._has_takers() and self._clock.now() - majority_at < MAJORITY_LOST_S

    def _has_takers(self) -> bool:
        return any(
            node.state is NodeState.ALIVE and node.name != self._config.node
            for node in list(self.engine.state.nodes.values())
        )

    # --- what the warden says, on the app's loop ---------------------------------------------------------------------

    def changed(self, keys: Sequence[AssignmentKey]) -> None:
        self.agent.changed(keys)

    def told(self, news: Sequence[Delivery]) -> None:
        self.deliveries.told(news)

    def joined(self, incarnation: int) -> None:
        self.agent.joined(incarnation)
        if not self._joined.done():
            self._joined.set_result(None)

    def fenced(self, reason: str) -> None:
        self.agent.fenced(reason)

    def unfenced(self) -> None:
        self.agent.unfenced()

    def budgeted(self, groups: Sequence[str]) -> None:
        self.agent.budgeted(groups)


def _security(config: Config) -> Security:
    if config.tls_cert is None or config.tls_key is None or config.tls_ca is None:
        return Security(insecure=config.insecure)
    return Security(TlsFiles(config.tls_cert, config.tls_key, config.tls_ca))
