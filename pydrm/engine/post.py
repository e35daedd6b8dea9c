"""
`Post`: questions from node to node and their answers, beside the log, on the links that are there anyway.

    ask on a -- a linked with c -->            c, which answers the same way back
    ask on a -- the leader, or any voter -->   c: one node passes it on, for a and c may not be linked (two workers are
                                               not; two voters may not be for the moment)

Nothing is stored, nothing is repeated. An answer is certain; that there is none says nothing about whether the question
arrived, but for what comes with a `problem`. Raft goes first: a piece is handed to a link only while little waits
there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator
from hashlib import blake2b
from typing import Protocol

import attrs

from pydrm.clock import Clock
from pydrm.engine.frames import Frame, Mail
from pydrm.engine.letters import LETTER_BYTES_MAX, Assembly, Letter, check_piece, pieces
from pydrm.errors import Unavailable

__all__ = ["Network", "Post", "Question"]

_ROOM_BYTES = 128 * 1024
_PAUSE_S = 0.002
_QUEUE_BYTES_MAX = 8 * LETTER_BYTES_MAX
_UNANSWERED_MAX = 256
_UNANSWERED_BYTES_MAX = 16 * LETTER_BYTES_MAX
_LOOK_S = 0.5

Resolve = Callable[[bytes | BaseException], None]


class Network(Protocol):
    """What the post stands on; `Transport` is one."""

    def send(self, peer: str, frame: Frame) -> None: ...

    def backlog(self, peer: str) -> int:
        """How many bytes wait to be written to *peer*."""


@attrs.frozen
class Question:
    """
    One that another node asks; to be answered once, by `Post.answer`.

    Attributes:
        via: The peer that it came from, which the answer goes to.
    """

    origin: str
    number: int
    via: str
    payload: bytes


@attrs.define
class _Asked:
    to: str
    via: str
    deadline: float
    resolve: Resolve


@attrs.define
class _Outgoing:
    """What is to be sent over one link."""

    waiting: deque[Iterator[Mail]] = attrs.field(factory=deque)
    sizes: deque[int] = attrs.field(factory=deque)
    size: int = 0
    pumping: bool = False


class Post:
    """Belongs to the engine's loop."""

    def __init__(
        self,
        node: str,
        nonce: str,
        network: Network,
        *,
        linked: Callable[[], Collection[str]],
        is_linked: Callable[[str], bool],
        leader: Callable[[], str | None],
        clock: Clock,
        deliver: Callable[[Question], None],
    ) -> None:
        """
        Args:
            linked: Peers of this cluster that can be written to now.
            is_linked: Whether that one is among them; asked for each piece.
            nonce: Names this process; the answer to a question of an earlier one must not be taken for one to this.
            deliver: Gets each question; must not raise.
        """
        self._node = node
        self._network = network
        self._linked = linked
        self._is_linked = is_linked
        self._leader = leader
        self._clock = clock
        self._deliver = deliver
        # 40 bits name the process and 22 count: a number fits into 63 bits.
        self._number = int.from_bytes(blake2b(nonce.encode(), digest_size=5).digest()) << 22
        self._asked: dict[int, _Asked] = {}
        self._unanswered: dict[tuple[str, int], int] = {}  # (who asks, its number) -> size
        self._assembly = Assembly()
        self._outgoing: dict[str, _Outgoing] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    # --- asking and answering ----------------------------------------------------------------------------------------

    def ask(self, to: str, payload: bytes, deadline: float, resolve: Resolve) -> None:
        """
        *resolve* is called once: with the answer, or with Unavailable when it is known that none will come, or none has
        come up to *deadline* on the engine's clock. That is looked at each `_LOOK_S`, so it may be so much later. The
        error's `unsent` says whether it is certain that *to* never saw the question.
        """
        via = self._route(to)
        if via is None or self._stopped:
            resolve(_unsent(f"{to} cannot be reached"))
            return
        self._number += 1
        letter = Letter(self._node, to, self._number, False, payload)
        if not self._enqueue(via, len(payload), pieces(letter)):
            resolve(_unsent(f"too much waits to be sent to {via}"))
            return
        self._asked[self._number] = _Asked(to, via, deadline, resolve)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def answer(self, question: Question, payload: bytes) -> None:
        """Once. Nothing is promised: the way may be gone."""
        if self._unanswered.pop((question.origin, question.number), None) is not None:
            self._reply(question.via, question.origin, question.number, payload)

    # --- the network's side ------------------------------------------------------------------------------------------

    def receive(self, peer: str, piece: Mail) -> None:
        """Raises ValueError if *peer* sends what no node sends."""
        check_piece(piece)
        if piece.to != self._node:
            self._pass_on(peer, piece)
            return
        try:
            letter = self._assembly.add(peer, piece)
        except OverflowError:
            self._refuse(peer, piece, f"{self._node} has too much to read")
            return
        if letter is None:
            return
        if letter.answers:
            self._answered(peer, letter)
        else:
            self._take(peer, letter)

    def unlinked(self, peer: str) -> None:
        """What was on its way over that link is lost, or may be."""
        self._assembly.unlinked(peer)
        self._outgoing.pop(peer, None)
        for number in [number for number, asked in self._asked.items() if asked.via == peer]:
            asked = self._asked.pop(number)
            asked.resolve(_unknown(f"the connection with {peer} was lost before {asked.to} answered"))

    def stop(self, error: BaseException) -> None:
        """Whoever waits gets *error*."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        asked, self._asked = self._asked, {}
        for one in asked.values():
            one.resolve(error)
        self._outgoing.clear()

    # --- how ---------------------------------------------------------------------------------------------------------

    def _route(self, to: str) -> str | None:
        """The peer to send to what is for *to*; None if there is none."""
        if self._is_linked(to):
            return to
        leader = self._leader()
        if leader is not None and self._is_linked(leader):
            return leader
        return min(self._linked(), default=None)

    def _pass_on(self, peer: str, piece: Mail) -> None:
        # Once only: what came from a node that passes on does not go round.
        if piece.origin != peer:
            return
        if not self._is_linked(piece.to):
            self._refuse(peer, piece, f"neither it nor {self._node} is linked with {piece.to}")
        elif not self._enqueue(piece.to, len(piece.data), iter((piece,))):
            self._refuse(peer, piece, f"too much waits at {self._node} to be sent to {piece.to}")

    def _refuse(self, peer: str, piece: Mail, problem: str) -> None:
        """Only a whole question can be refused for certain, so only at its first piece."""
        if piece.offset == 0 and not piece.answers:
            self._reply(peer, piece.origin, piece.number, b"", problem)

    def _reply(self, peer: str, to: str, number: int, payload: bytes, problem: str = "") -> None:
        if not self._is_linked(peer):
            found = self._route(to)
            if found is None:
                return
            peer = found
        self._enqueue(peer, len(payload), pieces(Letter(self._node, to, number, True, payload, problem[:200])))

    def _take(self, peer: str, letter: Letter) -> None:
        taken = sum(self._unanswered.values())
        too_many = len(self._unanswered) >= _UNANSWERED_MAX or taken + len(letter.payload) > _UNANSWERED_BYTES_MAX
        key = (letter.origin, letter.number)
        if too_many or self._stopped:
            self._reply(peer, letter.origin, letter.number, b"", f"{self._node} has too many questions to answer")
        elif key not in self._unanswered:
            self._unanswered[key] = len(letter.payload)
            self._deliver(Question(letter.origin, letter.number, peer, letter.payload))

    def _answered(self, peer: str, letter: Letter) -> None:
        asked = self._asked.get(letter.number)
        # Who was asked, or, about a problem, who was to pass it on.
        if asked is None or letter.origin not in ((asked.to, asked.via) if letter.problem else (asked.to,)):
            return
        del self._asked[letter.number]
        asked.resolve(_unsent(letter.problem) if letter.problem else letter.payload)

    def _look(self) -> None:
        now = self._clock.now()
        for number in [number for number, asked in self._asked.items() if asked.deadline <= now]:
            asked = self._asked.pop(number)
            asked.resolve(_unknown(f"{asked.to} did not answer in time"))
        self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look) if self._asked else None

    # --- leaving -----------------------------------------------------------------------------------------------------

    def _enqueue(self, peer: str, size: int, frames: Iterator[Mail]) -> bool:
        outgoing = self._outgoing.setdefault(peer, _Outgoing())
        if outgoing.size + size > _QUEUE_BYTES_MAX:
            return False
        outgoing.waiting.append(frames)
        outgoing.sizes.append(size)
        outgoing.size += size
        if not outgoing.pumping:
            outgoing.pumping = True
            self._pump(peer, outgoing)
        return True

    def _pump(self, peer: str, outgoing: _Outgoing) -> None:
        """Send one piece, and come back: what else this loop has to do comes between two."""
        if self._outgoing.get(peer) is not outgoing:
            return
        if self._network.backlog(peer) <= _ROOM_BYTES:
            self._send_one(peer, outgoing)
            if not outgoing.waiting:
                outgoing.pumping = False
                return
            asyncio.get_running_loop().call_soon(self._pump, peer, outgoing)
        else:
            asyncio.get_running_loop().call_later(_PAUSE_S, self._pump, peer, outgoing)

    def _send_one(self, peer: str, outgoing: _Outgoing) -> None:
        piece = next(outgoing.waiting[0], None)
        if piece is not None:
            self._network.send(peer, piece)
        if piece is None or piece.offset + len(piece.data) >= piece.size:
            outgoing.waiting.popleft()
            outgoing.size -= outgoing.sizes.popleft()


def _unsent(message: str) -> Unavailable:
    error = Unavailable(f"{message}; nothing was sent")
    error.unsent = True
    return error


def _unknown(message: str) -> Unavailable:
    return Unavailable(f"{message}; whether it arrived is unknown")
