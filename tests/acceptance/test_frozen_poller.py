"""
Pollers whose process is frozen while its requests wait for an answer, judged by the third party's diary and by what
the callbacks of all processes have written down.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from pydrm.testing.processes import ProcessCluster
from tests.acceptance.quotes import Asked, Quotes
from tests.acceptance.scene import LEASE_TTL_S, PATIENCE_S

ROOT = Path(__file__).parent.parent.parent
PROGRAM = (sys.executable, "-c", "import sys; from pydrm.cli.main import main; sys.argv += ['--app', "
           "'tests.acceptance.quotes_app:set_up']; sys.exit(main())")  # fmt: skip

# One below and one from the interval on from which each next due time is saved before a request is sent.
QUICK_S = 0.5
SLOW_S = 5.0
SOONER_S = 1.0  # than the interval less the tenth by which a poller finds back to its phase; a busy machine is late
QUICK = [f"quick{number}" for number in range(18)]
SLOW = [f"slow{number}" for number in range(9)]
NOTED_S = 2.0  # what a callback was told is in the checkpoint by then


@attrs.frozen
class Told:
    """A change that a callback was told of."""

    at_s: float
    resource: str
    token: int
    quote: str


@attrs.frozen
class Stage:
    cluster: ProcessCluster
    quotes: Quotes
    ledger: Path

    def told(self, quote: str) -> dict[str, list[Told]]:
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        found: dict[str, list[Told]] = {id: [] for id in [*QUICK, *SLOW]}
        for told in (Told(**json.loads(line)) for line in lines):
            if told.quote == quote:
                found[told.resource].append(told)
        return found

    def asked(self) -> dict[str, list[Asked]]:
        found: dict[str, list[Asked]] = {id: [] for id in [*QUICK, *SLOW]}
        for asked in self.quotes.asked:
            found[asked.resource].append(asked)
        return found

    def until(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, f"too late:\n{self.cluster.log_tails()}"
            time.sleep(0.05)

    def all_are_told(self, quote: str) -> bool:
        return all(self.told(quote).values())


@contextlib.contextmanager
def on_stage(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    ledger = directory / "ledger.jsonl"
    monkeypatch.setenv("QUOTES_LEDGER", str(ledger))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with Quotes() as quotes:
        definitions = [
            {"id": id, "kind": "http_poll", "url": f"http{quotes.url}", "interval": interval_s, "decode": "text",
             "on_change": "write down"}
            for ids, interval_s in ((QUICK, QUICK_S), (SLOW, SLOW_S))
            for id in ids
        ]  # fmt: skip
        with ProcessCluster(
            "abc", resources=definitions, lease_ttl_s=LEASE_TTL_S, directory=directory, program=PROGRAM
        ) as cluster:
            cluster.start()
            cluster.wait_ready()
            yield Stage(cluster, quotes, ledger)


def test_a_poller_that_thaws_asks_for_nothing_and_tells_of_nothing_under_its_old_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers wait in its sockets and all its polls are overdue; its successors have told of the same already."""
    with on_stage(tmp_path, monkeypatch) as stage:
        stage.until(lambda: stage.all_are_told("first"))
        time.sleep(NOTED_S)
        victim = stage.cluster.leader()
        stale = {id: asked[-1] for id, asked in stage.asked().items() if asked[-1].node == victim}
        assert stale.keys() & set(QUICK) and stale.keys() & set(SLOW)

        # The others' next polls are overdue when it thaws.
        waiting = {*QUICK[::2], *SLOW[::2]}
        assert stale.keys() & waiting and stale.keys() - waiting
        stage.quotes.keep_waiting(victim, waiting)
        time.sleep(2 * QUICK_S)
        frozen_s = stage.cluster[victim].freeze()
        stage.cluster[victim].wait_frozen()
        stage.quotes.quote = "second"
        stage.until(lambda: stage.all_are_told("second"))
        stage.quotes.answer_all()
        time.sleep(0.2)  # until the answers are in its sockets
        thawed_s = stage.cluster[victim].thaw()
        time.sleep(2.0)

        successors = {id: stage.told("second")[id][0] for id in stale}
        assert {id for id in stale if successors[id].token <= stale[id].token} == set()
        # The first quote was told of and noted before; the second was told of once, by who held it then.
        assert [told for told in stage.told("second").values() if len(told) > 1] == []
        assert [told for told in stage.told("first").values() if len(told) > 1] == []
        for id, asked in stage.asked().items():
            if id in stale:
                assert [one for one in asked if one.token == stale[id].token and one.at_s > frozen_s] == []
            assert [one.token for one in asked] == sorted(one.token for one in asked)
            if id in SLOW:
                gaps = [after.at_s - before.at_s for before, after in itertools.pairwise(asked)]
                assert min(gaps) > 0.9 * SLOW_S - SOONER_S
        assert thawed_s - frozen_s > LEASE_TTL_S
