"""The judge: what it objects to, and what it excuses."""

from __future__ import annotations

from random import Random

import pytest

from pydrm.testing.simulation.host import SimHost
from pydrm.testing.simulation.network import SimNetwork
from pydrm.testing.simulation.scheduler import Scheduler
from pydrm.testing.simulation.third_party import Connection, SimThirdParty


class Stage:
    def __init__(self) -> None:
        self.scheduler = Scheduler()
        network = SimNetwork(self.scheduler, Random(1))
        self.a, self.b = (SimHost(name, self.scheduler, network, Random(1)) for name in "ab")
        self.third_party = SimThirdParty(
            lambda: self.scheduler.now, lambda _: None, call_later=self.scheduler.call_later, random=lambda: 0.5
        )
        self.outcomes: list[OSError | None] = []

    def dial(self, host: SimHost, token: int) -> Connection:
        connection = self.third_party.make_connection(host, "r", token)

        async def connect() -> None:
            try:
                await connection.connect()
            except OSError as error:
                self.outcomes.append(error)
            else:
                self.outcomes.append(None)

        host.app.call_soon(lambda: host.app.create_task(connect()))
        self.run(0.001)
        return connection

    def run(self, seconds: float) -> None:
        self.scheduler.run_until(self.scheduler.now + seconds)


def test_it_opens_a_connection_as_late_as_it_says():
    stage = Stage()
    stage.third_party.late_s = 4.0

    connection = stage.dial(stage.a, 1)
    stage.run(1.9)
    assert not connection.open
    stage.run(0.2)

    assert connection.open
    assert stage.outcomes == [None]


def test_it_answers_all_at_once_when_it_has_stalled():
    stage = Stage()
    stage.third_party.stalls = True
    first, second = stage.dial(stage.a, 1), stage.dial(stage.a, 2)
    stage.run(5.0)
    first.close()

    stage.third_party.stalls = False

    assert (first.open, second.open) == (False, True)
    assert stage.third_party.violations == []


@pytest.mark.parametrize("late", [False, True])
def test_who_refuses_has_nothing_open(late: bool):
    stage = Stage()
    stage.third_party.refuses = True
    stage.third_party.late_s = 1.0 if late else 0.0

    connection = stage.dial(stage.a, 1)
    stage.run(1.0)

    assert not connection.open
    assert isinstance(stage.outcomes[0], ConnectionRefusedError)


def test_a_connection_that_was_cut_before_it_was_answered_is_never_open():
    stage = Stage()
    stage.third_party.late_s = 2.0
    connection = stage.dial(stage.a, 1)

    connection.shutdown(2)
    stage.run(5.0)

    assert not connection.open
    assert isinstance(stage.outcomes[0], ConnectionAbortedError)


def test_a_process_that_dies_while_it_connects_has_nothing_open():
    stage = Stage()
    stage.third_party.late_s = 2.0
    connection = stage.dial(stage.a, 1)

    stage.a.kill()
    stage.third_party.host_gone(stage.a)
    stage.run(5.0)

    assert not connection.open


def test_it_objects_to_a_late_answer_to_somebody_who_is_not_the_holder_any_more():
    """Whoever does not close what is still connecting is found out."""
    stage = Stage()
    stage.third_party.late_s = 4.0
    stage.dial(stage.a, 1)
    stage.third_party.late_s = 0.0
    stage.dial(stage.b, 2)

    stage.run(5.0)

    assert len(stage.third_party.violations) == 2
    assert "a opens r under token 1 after b did so under 2" in stage.third_party.violations[0]
    assert "r is held by b under 2 and a under 1" in stage.third_party.violations[1]


def test_it_excuses_a_process_that_was_stopped_meanwhile_until_it_has_had_a_moment():
    """It cannot close anything; and the kernel answers for it."""
    stage = Stage()
    stage.third_party.late_s = 4.0
    stage.dial(stage.a, 1)
    stage.third_party.late_s = 0.0
    stage.dial(stage.b, 2)
    stage.a.pause()
    stage.run(5.0)
    assert stage.third_party.violations == []

    stage.a.resume()
    stage.run(0.1)
    stage.third_party.check_all()
    assert stage.third_party.violations == []
    stage.run(0.2)
    stage.third_party.check_all()

    assert len(stage.third_party.violations) == 1
