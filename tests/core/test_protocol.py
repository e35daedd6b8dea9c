"""
Nodes of two versions with one log: equal for as long as both run, and nobody guesses at what it does not know.

The later version has a command more, `Pause`, and a field more in an old one; both came with protocol 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import msgspec
import pytest
from msgspec.structs import replace

from pydrm.core import machine, protocol
from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.commands import AddResources, Command, Form, Join, RaiseProtocol, RemoveResources, Request
from pydrm.core.decide_resources import decide_add, decide_remove
from pydrm.core.decision import Decision
from pydrm.core.machine import Outcome, apply
from pydrm.core.protocol import exceeds, speaks
from pydrm.core.state import State
from tests.core.build import LEASE_TTL_MS, VOTERS, add, join
from tests.core.random_log import RandomLog

Entry = tuple[int, bytes]  # What a log has of a command: its number and a map by names.


class Pause(msgspec.Struct, frozen=True, gc=False):
    """Like RemoveResources, which is enough for a command that nobody knew before."""

    ids: tuple[str, ...]


class AddPaused(AddResources, frozen=True, gc=False):
    """AddResources as the later version has it; *paused* means that nothing is added."""

    paused: bool = False


def decide_add_paused(state: State, command: AddPaused) -> Decision:
    in_force = state.settings is not None and state.settings.protocol >= 2
    return Decision(Done()) if command.paused and in_force else decide_add(state, command)


@attrs.frozen
class Version:
    protocol: int
    numbers: dict[int, type]
    since: dict[type, int] = attrs.Factory(dict)
    deciders: dict[type, Callable[[State, Any], Decision]] = attrs.Factory(dict)

    @contextmanager
    def installed(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(protocol, "PROTOCOL", self.protocol)
            for command, since in self.since.items():
                patch.setitem(protocol.SINCE, command, since)
            for command, decider in self.deciders.items():
                patch.setitem(machine._DECIDERS, command, decider)
            yield


_NUMBERS: dict[int, type] = {1: Form, 2: Join, 7: AddResources, 15: RaiseProtocol}
OLD = Version(1, _NUMBERS)
NEW = Version(
    2,
    _NUMBERS | {7: AddPaused, 99: Pause},
    since={Pause: 2},
    deciders={
        Pause: lambda state, pause: decide_remove(state, RemoveResources(pause.ids)),
        AddPaused: decide_add_paused,
    },
)


class Stopped(Exception):
    """What the engine does: it stops, fences, and says so."""


class Replica:
    def __init__(self, version: Version) -> None:
        self.version = version
        self.state = State()

    def write(self, command: Command | Pause) -> Entry:
        number = next(number for number, kind in self.version.numbers.items() if isinstance(command, kind))
        return number, msgspec.msgpack.encode(command)

    def read(self, entry: Entry) -> Outcome:
        number, written = entry
        if number not in self.version.numbers:
            raise Stopped(f"command {number} is of a newer version of pydrm")
        command = msgspec.msgpack.decode(written, type=self.version.numbers[number])
        with self.version.installed():
            outcome = apply(self.state, Request(command))
            if exceeds(self.state.settings):
                raise Stopped("the protocol in force is above this version's")
        return outcome

    def speaks(self, command: type) -> bool:
        with self.version.installed():
            return speaks(self.state.settings, command)


def upgraded(name: str, replaces: int) -> Join:
    return replace(join(name, nonce=f"{name}-new", replaces=replaces, directory=f"disk-{name}"), protocol=2)


def pair() -> tuple[Replica, Replica]:
    """An old and a new replica of a cluster in which a and b run the old version and hold things."""
    old, new = Replica(OLD), Replica(NEW)
    commands = [
        Form("orders", VOTERS[:2], LEASE_TTL_MS),
        join("a", nonce="a", directory="disk-a"),
        join("b", nonce="b", directory="disk-b"),
        add("r1", "r2", "r3"),
    ]
    for command in commands:
        both(old, new, old.write(command))
    return old, new


def both(old: Replica, new: Replica, entry: Entry) -> Outcome:
    outcome = old.read(entry)
    assert new.read(entry) == outcome
    assert new.state.digest == old.state.digest
    return outcome


def test_a_rolling_upgrade_is_one_log_for_both_versions_until_the_protocol_is_raised():
    """One node after the other is started anew; then the raise; then what it was raised for."""
    old, new = pair()

    assert isinstance(both(old, new, old.write(upgraded("b", replaces=2))).answer, Done)
    early = both(old, new, new.write(RaiseProtocol(2))).answer
    both(old, new, new.write(AddPaused(add("r4").definitions)))
    assert isinstance(both(old, new, old.write(upgraded("a", replaces=1))).answer, Done)
    assert not new.speaks(Pause)
    raised = new.write(RaiseProtocol(2))

    assert early == Refused(Reason.UNSUPPORTED, "a speaks protocol 1: install a newer pydrm there and start it first")
    assert new.read(raised).answer == Done()
    assert new.speaks(Pause)
    assert new.read(new.write(Pause(("r1",)))).answer == Done(removed=1)
    with pytest.raises(Stopped, match="above this version's"):
        old.read(raised)


def test_a_command_that_is_not_in_force_is_refused_by_those_that_know_it():
    """And changes nothing there."""
    _, new = pair()
    before = new.state.digest

    outcome = new.read(new.write(Pause(("r1",))))

    assert outcome == Outcome(
        Refused(Reason.UNSUPPORTED, "Pause needs protocol 2; it is raised once all nodes are up to date"), ()
    )
    assert new.state.digest == before


def test_one_that_does_not_know_a_command_stops_rather_than_skips_it():
    """It cannot know what the others made of it; so proposers ask `speaks` first."""
    old, new = pair()
    before = old.state.digest

    assert not new.speaks(Pause)
    with pytest.raises(Stopped, match="command 99"):
        old.read(new.write(Pause(("r1",))))
    assert old.state.digest == before


@pytest.mark.parametrize("paused", [False, True])
def test_a_new_field_of_an_old_command_means_nothing_before_its_protocol_is_in_force(paused: bool):
    """The old version does not see it, so the new one must not look at it."""
    old, new = pair()
    added = new.write(AddPaused(add("r9").definitions, paused=paused))

    both(old, new, added)

    assert "r9" in old.state.records


def test_a_new_field_counts_once_its_protocol_is_in_force():
    """By then nobody runs that would not see it."""
    _, new = pair()
    for command in (upgraded("a", replaces=1), upgraded("b", replaces=2), RaiseProtocol(2)):
        new.read(new.write(command))

    new.read(new.write(AddPaused(add("r9").definitions, paused=True)))

    assert "r9" not in new.state.records


@pytest.mark.parametrize("seed", range(3))
def test_whatever_old_nodes_say_both_versions_make_the_same_of_it(seed: int):
    """The tables of the new version are there, and do nothing."""
    log, new = RandomLog(seed), State()

    for request, outcome in log.go_on(600):
        with NEW.installed():
            assert apply(new, request) == outcome
        assert new.digest == log.state.digest


def test_without_a_cluster_the_first_protocol_is_spoken():
    """A cluster is formed at protocol 1, and raised from there."""
    assert speaks(None, Form)
    assert not exceeds(None)
    with NEW.installed():
        assert not speaks(None, Pause)
