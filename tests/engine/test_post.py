"""Questions from node to node: where they go, what becomes of them, and that they do not hold up what Raft says."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from itertools import combinations

import pytest

from pydrm.engine import post as post_module
from pydrm.engine.frames import Append, Frame, Mail
from pydrm.engine.letters import LETTER_BYTES_MAX, PIECE_BYTES_MAX
from pydrm.engine.post import Post, Question
from pydrm.errors import Unavailable
from tests.engine.loops import on_a_loop, until


class Wires:
    """
    Links without sockets.

    Attributes:
        cut: Pairs that are not linked.
        carried: Every frame with who sent it to whom.
        full: Whose backlog is too long for mail.
        listed: How often somebody has gone through all links.
    """

    def __init__(self, *names: str) -> None:
        self.cut: set[frozenset[str]] = set()
        self.carried: list[tuple[str, str, Frame]] = []
        self.full: set[str] = set()
        self.listed = 0
        self.offices = {name: Office(name, self) for name in names}

    def linked(self, name: str) -> Collection[str]:
        self.listed += 1
        return [other for other in self.offices if self.is_linked(name, other)]

    def is_linked(self, name: str, other: str) -> bool:
        return other != name and frozenset({name, other}) not in self.cut

    def lose(self, one: str, other: str) -> None:
        self.cut.add(frozenset({one, other}))
        self.offices[one].post.unlinked(other)
        self.offices[other].post.unlinked(one)


class Clock:
    def now(self) -> float:
        return asyncio.get_running_loop().time()


class Office:
    """One node's post; it answers each question with the question, unless it is told to be silent."""

    def __init__(self, name: str, wires: Wires) -> None:
        self.name = name
        self.silent = False
        self.questions: list[Question] = []
        self._wires = wires
        self.post = Post(
            name,
            f"nonce-{name}",
            self,
            linked=lambda: wires.linked(name),
            is_linked=lambda peer: wires.is_linked(name, peer),
            leader=lambda: "b",
            clock=Clock(),
            deliver=self._asked,
        )

    def send(self, peer: str, frame: Frame) -> None:
        self._wires.carried.append((self.name, peer, frame))
        asyncio.get_running_loop().call_soon(self._arrive, peer, frame)

    def _arrive(self, peer: str, frame: Frame) -> None:
        if self._wires.is_linked(self.name, peer):
            self._wires.offices[peer].post.receive(self.name, frame)

    def backlog(self, peer: str) -> int:
        return 10**9 if peer in self._wires.full else 0

    def _asked(self, question: Question) -> None:
        self.questions.append(question)
        if not self.silent:
            self.post.answer(question, b"re: " + question.payload)

    def ask(self, to: str, payload: bytes = b"?", timeout_s: float = 5.0) -> asyncio.Future[bytes]:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def resolve(result: bytes | BaseException) -> None:
            assert not future.done()
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.post.ask(to, payload, Clock().now() + timeout_s, resolve)
        return future


async def unsent(answer: asyncio.Future[bytes]) -> bool:
    with pytest.raises(Unavailable) as error:
        await answer
    return error.value.unsent


@on_a_loop
async def test_who_is_linked_is_asked_directly():
    wires = Wires("a", "b", "c")

    assert await wires.offices["a"].ask("c", b"hi") == b"re: hi"
    assert [(source, target) for source, target, _ in wires.carried] == [("a", "c"), ("c", "a")]


@on_a_loop
async def test_who_is_not_linked_is_asked_through_the_leader():
    wires = Wires("a", "b", "c", "d")
    wires.cut.add(frozenset("ad"))

    assert await wires.offices["a"].ask("d", b"hi") == b"re: hi"
    assert [(source, target) for source, target, _ in wires.carried] == [("a", "b"), ("b", "d"), ("d", "b"), ("b", "a")]


@on_a_loop
async def test_without_a_leader_at_hand_anybody_passes_it_on():
    wires = Wires("a", "b", "c", "d")
    wires.cut |= {frozenset("ad"), frozenset("ab")}

    assert await wires.offices["a"].ask("d", b"hi") == b"re: hi"


@on_a_loop
async def test_nobody_passes_on_what_was_passed_on():
    """So nothing goes round: a and d have b between them, and b has lost d."""
    wires = Wires("a", "b", "c", "d")
    wires.cut |= {frozenset("ad"), frozenset("bd")}

    assert await unsent(wires.offices["a"].ask("d"))
    assert not any(target == "c" for _, target, _ in wires.carried)


@on_a_loop
async def test_who_has_no_link_at_all_knows_that_nothing_was_sent():
    wires = Wires("a", "b")
    wires.cut.add(frozenset("ab"))

    assert await unsent(wires.offices["a"].ask("b"))


@on_a_loop
async def test_an_answer_that_does_not_come_is_unknown_after_the_deadline():
    wires = Wires("a", "b")
    wires.offices["b"].silent = True

    assert not await unsent(wires.offices["a"].ask("b", timeout_s=0.1))


@on_a_loop
async def test_an_answer_that_comes_too_late_is_nobodys():
    wires = Wires("a", "b")
    b = wires.offices["b"]
    b.silent = True
    assert not await unsent(wires.offices["a"].ask("b", timeout_s=0.1))

    b.post.answer(b.questions[0], b"late")
    b.silent = False

    assert await wires.offices["a"].ask("b", b"next") == b"re: next"


@on_a_loop
async def test_a_link_that_is_lost_makes_what_went_over_it_unknown_at_once():
    wires = Wires("a", "b")
    wires.offices["b"].silent = True
    answer = wires.offices["a"].ask("b", timeout_s=1000)
    await until(lambda: wires.offices["b"].questions)

    wires.lose("a", "b")

    assert not await unsent(answer)


@on_a_loop
async def test_an_answer_takes_another_way_if_its_own_is_gone():
    wires = Wires("a", "b", "c")
    c = wires.offices["c"]
    c.silent = True
    wires.cut.add(frozenset("ac"))
    answer = wires.offices["a"].ask("c", timeout_s=1000)
    await until(lambda: c.questions)
    wires.cut.discard(frozenset("ac"))
    wires.lose("b", "c")

    c.post.answer(c.questions[0], b"by another way")

    assert await answer == b"by another way"


@on_a_loop
async def test_only_who_was_asked_can_answer():
    wires = Wires("a", "b", "c")
    wires.offices["b"].silent = True
    answer = wires.offices["a"].ask("b", timeout_s=0.2)
    await until(lambda: wires.offices["b"].questions)
    number = wires.offices["b"].questions[0].number

    wires.offices["a"].post.receive("c", Mail("c", "a", number, True, 2, 0, b"no"))

    assert not await unsent(answer)


@on_a_loop
async def test_an_answer_to_an_earlier_process_is_none_to_this_one():
    wires = Wires("a", "b")
    wires.offices["b"].silent = True
    wires.offices["a"].ask("b").cancel()
    await until(lambda: wires.offices["b"].questions)
    old = wires.offices["b"].questions[0].number

    restarted = Post(
        "a",
        "another-nonce",
        wires.offices["a"],
        linked=list,
        is_linked=lambda peer: False,
        leader=lambda: None,
        clock=Clock(),
        deliver=print,
    )

    assert abs(restarted._number - old) > 2**20


@on_a_loop
async def test_large_letters_go_in_pieces_and_something_else_comes_between():
    """A frame of Raft that is sent meanwhile waits for one piece, not for the letter."""
    wires = Wires("a", "b")
    heartbeat = Append(1, 0, 0, 0, ())
    answer = wires.offices["a"].ask("b", b"x" * (LETTER_BYTES_MAX - 4))
    wires.carried.append(("a", "b", heartbeat))

    assert len(await answer) == LETTER_BYTES_MAX
    sent = [frame for source, _, frame in wires.carried if source == "a"]
    assert sent.index(heartbeat) == 1
    assert max(len(frame.data) for frame in sent if isinstance(frame, Mail)) == PIECE_BYTES_MAX


@on_a_loop
async def test_who_passes_on_a_large_letter_does_not_go_through_all_links_for_each_piece():
    """There may be fifty, and a letter has many pieces."""
    wires = Wires("a", "b", "c", "d")
    wires.cut.add(frozenset("ad"))

    assert len(await wires.offices["a"].ask("d", b"x" * (LETTER_BYTES_MAX - 4))) == LETTER_BYTES_MAX

    assert wires.listed == 0


@on_a_loop
async def test_mail_waits_while_much_waits_to_be_written():
    wires = Wires("a", "b")
    wires.full.add("b")
    answer = wires.offices["a"].ask("b")
    await asyncio.sleep(0.05)
    assert wires.carried == []

    wires.full.clear()

    assert await answer == b"re: ?"


@on_a_loop
async def test_what_waits_for_a_slow_peer_is_bounded():
    wires = Wires("a", "b")
    wires.full.add("b")
    answers = [wires.offices["a"].ask("b", b"x" * 1_000_000, timeout_s=0.1) for _ in range(20)]

    assert 5 < sum([await unsent(answer) for answer in answers]) < 15


@on_a_loop
async def test_a_node_that_does_not_answer_is_asked_a_bounded_number_of_questions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(post_module, "_UNANSWERED_MAX", 5)
    wires = Wires("a", "b")
    b = wires.offices["b"]
    b.silent = True

    answers = [wires.offices["a"].ask("b", timeout_s=0.3) for _ in range(8)]

    assert sum([await unsent(answer) for answer in answers]) == 3
    assert len(b.questions) == 5
    b.silent = False
    for question in b.questions:
        b.post.answer(question, b"now")
    assert await wires.offices["a"].ask("b") == b"re: ?"


@on_a_loop
async def test_who_waits_hears_that_the_node_stops():
    wires = Wires("a", "b")
    wires.offices["b"].silent = True
    answer = wires.offices["a"].ask("b")

    wires.offices["a"].post.stop(Unavailable("this node was stopped"))

    with pytest.raises(Unavailable, match="stopped"):
        await answer


@on_a_loop
async def test_everybody_can_ask_everybody_at_once():
    wires = Wires("a", "b", "c", "d")
    wires.cut.add(frozenset("cd"))

    pairs = [pair for one in combinations("abcd", 2) for pair in (one, one[::-1])]
    answers = [wires.offices[one].ask(other, f"{one}{other}{n}".encode()) for one, other in pairs for n in range(20)]

    assert await asyncio.gather(*answers) == [
        f"re: {one}{other}{n}".encode() for one, other in pairs for n in range(20)
    ]
