"""
`Engine`: the replicated state machine as the app's loop sees it; it lives on a thread and a loop of its own.

A busy app must not cost the node its lease or its vote. So the two loops share nothing but mailboxes; what
the app needs to know in passing it reads from `state`, whose records are frozen, and from `status()`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from pydrm.core.answers import Answer, Done
from pydrm.core.commands import Command
from pydrm.core.protocol import objection
from pydrm.core.state import State
from pydrm.engine.answers import Answers
from pydrm.engine.codec import CodecError, encode_command
from pydrm.engine.config import EngineConfig, EngineStatus
from pydrm.engine.host import Aside, Host
from pydrm.engine.letters import LETTER_BYTES_MAX
from pydrm.engine.mailbox import Mailbox
from pydrm.engine.participant import Participant
from pydrm.engine.post import Question
from pydrm.engine.proposals import Resolve
from pydrm.engine.raft import ENTRY_BYTES_MAX
from pydrm.engine.replica import Replica
from pydrm.errors import ClusterRefused, DrmError, Unavailable

__all__ = ["REQUEST_BYTES_MAX", "Engine"]

# Who asks, what, and what to call with the answer: once, on the app's loop.
Asked = Callable[[str, bytes, Callable[[bytes], None]], None]

_log = logging.getLogger(__name__)

T = TypeVar("T")

REQUEST_BYTES_MAX = ENTRY_BYTES_MAX - 1024
_ANSWER_LATE_S = 5.0


class Engine:
    """All methods are for the app's loop, unless they say otherwise."""

    def __init__(
        self,
        config: EngineConfig,
        participant: Participant,
        *,
        host: Host,
        on_failure: Callable[[DrmError], None],
    ) -> None:
        """
        To be made on the app's loop.

        *on_failure* is called on the engine's thread, once, if the engine has to stop by itself.
        """
        self.state = State()
        self._answers = Answers(asyncio.get_running_loop(), missing=self._no_answer)
        self._app = Mailbox(asyncio.get_running_loop())
        self._on_question: Asked = _nobody
        self._config = config
        self._participant = participant
        self._host = host
        self._on_failure = on_failure
        self._life: Aside | None = None
        self._inbox: Mailbox | None = None
        self._replica: Replica | None = None
        self._end: asyncio.Future[None] | None = None
        self._failure: DrmError | None = None

    async def start(self) -> None:
        """
        Return when the node listens and takes part; whether it has joined is for others to say.

        Raises:
            ConfigurationError: The address, the TLS files or the data directory cannot be used.
            DiskFailed: The data directory cannot be read or written.
        """
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        report = partial(self._answers.give, started)
        self._life = self._host.run_aside(lambda: self._live(report), f"pydrm-{self._config.node}")
        await started

    async def stop(self) -> None:
        """Leave the group without a word; what has to be said is said before. Idempotent."""
        life, self._life = self._life, None
        if life is None:
            return
        if self._inbox is not None:
            self._inbox.post(self._finish)
        await life.ended()

    async def propose(self, command: Command, *, timeout: float) -> Answer:
        """
        Have *command* take effect once, and return what the cluster answered.

        Returns when it is applied on this node, so that `state` shows it. What is newer than the protocol in force is
        refused here: in the log it would stop every node that does not know it.

        Args:
            timeout: In seconds.

        Raises:
            Unavailable: It could not be done in time; it may still take effect.
            ClusterRefused: It is larger than `REQUEST_BYTES_MAX` (reason "too-large"), or nobody could read it again
                ("invalid").
        """
        early = objection(self.state.settings, type(command))
        if early is not None:
            return early
        try:
            encoded = encode_command(command)
        except CodecError as error:
            raise ClusterRefused(str(error), reason="invalid") from error
        if len(encoded) > REQUEST_BYTES_MAX:
            message = f"one request may have {REQUEST_BYTES_MAX} bytes, this one has {len(encoded)}; split it"
            raise ClusterRefused(message, reason="too-large")
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        deadline = self._host.clock.now() + timeout
        self._post(self._propose, encoded, deadline, partial(self._answers.give, answered))
        # The engine answers in time; unless it fails in the very moment in which it is asked.
        return await self._answers.wait(answered, timeout + _ANSWER_LATE_S)

    async def add_voter(self, name: str, *, timeout: float) -> Answer:
        """
        Give *name*, which follows this cluster and is linked with this node, a vote, if it has none.

        Raises:
            ClusterRefused: It is not there (reason "not-found"), or it cannot have a vote ("conflict").
            Unavailable: As with `propose`; also while it lacks too much of the log.
        """
        command = await self._ask(lambda replica: replica.addition(name))
        return await self.propose(command, timeout=timeout) if command is not None else Done()

    async def remove_voter(self, name: str, *, timeout: float) -> Answer:
        """
        Take the vote of *name* away; as a node it goes on, if it runs.

        Raises:
            ClusterRefused: It has none (reason "not-found").
            Unavailable: As with `propose`.
        """
        return await self.propose(await self._ask(lambda replica: replica.removal(name)), timeout=timeout)

    async def read(self, look: Callable[[State], T]) -> T:
        """Run *look* on the engine's thread, between two applies, and return what it returns."""
        return await self._ask(lambda replica: look(self.state))

    async def ask(self, node: str, payload: bytes, *, timeout: float) -> bytes:
        """
        What *node*, another one, answers to *payload*: beside the log, and neither kept nor repeated.

        Args:
            timeout: In seconds.

        Raises:
            Unavailable: No answer came in time; *node* may have the question. If it is `unsent`, it never will.
            ClusterRefused: It is larger than `LETTER_BYTES_MAX` (reason "too-large").
        """
        if len(payload) > LETTER_BYTES_MAX:
            message = f"a message between nodes may have {LETTER_BYTES_MAX} bytes, this one has {len(payload)}"
            raise ClusterRefused(message, reason="too-large")
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        deadline = self._host.clock.now() + timeout
        self._post(self._ask_node, node, payload, deadline, partial(self._answers.give, answered))
        return await self._answers.wait(answered, timeout + _ANSWER_LATE_S)

    def serve(self, asked: Asked) -> None:
        """Have *asked* called, on the app's loop, with each question of another node; it answers each, and soon."""
        self._on_question = asked

    async def _ask(self, ask: Callable[[Replica], T]) -> T:
        seen: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        resolve = partial(self._answers.give, seen)

        def run() -> None:
            assert self._replica is not None
            try:
                resolve(ask(self._replica))
            except Exception as error:  # noqa: BLE001 (a border: the caller's bug is the caller's)
                resolve(error)

        self._post(run)
        return await seen

    def status(self) -> EngineStatus:
        """From any thread."""
        return self._replica.status if self._replica is not None else EngineStatus()

    def _post(self, call: Callable[..., object], *arguments: object) -> None:
        if self._failure is not None:
            raise self._failure
        if self._inbox is None or self._life is None:
            raise Unavailable("this node does not run")
        self._inbox.post(call, *arguments)

    def _no_answer(self) -> BaseException:
        return self._failure or Unavailable("the engine does not answer; the outcome is unknown")

    def _asked(self, question: Question) -> None:
        self._on_question(question.origin, question.payload, partial(self._answer, question))

    def _answer(self, question: Question, payload: bytes) -> None:
        if self._inbox is not None and self._replica is not None:
            self._inbox.post(self._replica.post.answer, question, payload)

    # --- on the engine's thread --------------------------------------------------------------------------------------

    async def _live(self, report: Callable[[BaseException | None], None]) -> None:
        try:
            await self._run(report)
        except BaseException as error:  # noqa: BLE001 (the thread's border)
            if self._inbox is not None:
                self._fail(error)
            report(error)

    async def _run(self, report: Callable[[BaseException | None], None]) -> None:
        loop = asyncio.get_running_loop()
        self._end = end = loop.create_future()
        replica = Replica(
            self._config,
            self.state,
            self._participant,
            host=self._host,
            asked=partial(self._app.post, self._asked),
            failed=self._fail,
        )
        try:
            await replica.start()
            self._replica = replica
            self._inbox = Mailbox(loop)
            report(None)
            await end
        finally:
            replica.post.stop(self._failure or Unavailable("this node was stopped; whether it arrived is unknown"))
            await replica.stop()
            replica.proposals.abandon(self._failure or Unavailable("this node was stopped; the outcome is unknown"))

    def _propose(self, command: bytes, deadline: float, resolve: Resolve) -> None:
        assert self._replica is not None
        self._replica.proposals.add(command, deadline, resolve)
        self._replica.wake()

    def _ask_node(self, node: str, payload: bytes, deadline: float, resolve: Callable[[object], None]) -> None:
        assert self._replica is not None
        self._replica.post.ask(node, payload, deadline, resolve)

    def _finish(self) -> None:
        if self._end is not None and not self._end.done():
            self._end.set_result(None)

    def _fail(self, error: BaseException) -> None:
        """Whatever this node would say from now on cannot be trusted: it takes no further part."""
        if self._failure is not None:
            return
        if isinstance(error, DrmError):
            self._failure = error
        else:
            self._failure = DrmError(f"the engine failed: {error!r}. Please report this")
            self._failure.__cause__ = error
            _log.error("a bug in the engine of node %s", self._config.node, exc_info=error)
        self._on_failure(self._failure)
        self._finish()


def _nobody(origin: str, payload: bytes, answer: Callable[[bytes], None]) -> None:
    """Whoever asks before there is anybody to answer gets nothing."""
    answer(b"")
