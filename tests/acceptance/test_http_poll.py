"""
Polled urls while nodes are killed and handed over, judged by nginx's own log.

The interval is so long that what follows a kill lies well within it: a poll that was repeated would show.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from pydrm.testing.processes import ProcessCluster
from tests.acceptance.scene import LEASE_TTL_S, PATIENCE_S
from tests.counterparts import nginx

INTERVAL_S = 6.0
SOONER_S = 1.0  # than the interval less the tenth by which a poller finds back to its phase; a busy machine is late
LATER_S = LEASE_TTL_S + 2.0
POLLERS = 30
CHECKPOINT_INTERVAL_S = 1.0


@attrs.frozen
class Poll:
    at_s: float
    resource: str
    node: str
    token: int
    etag: str


class Log:
    def __init__(self, path: Path) -> None:
        self._path = path

    def polls(self) -> dict[str, list[Poll]]:
        found: dict[str, list[Poll]] = {}
        for line in self._path.read_text().splitlines():
            at, _, uri, etag, _ = line.split(" ", 4)
            path, _, query = uri.partition("?")
            values = dict(pair.split("=") for pair in query.split("&"))
            poll = Poll(float(at), path.strip("/"), values["node"], int(values["token"]), etag.strip('"\\x2'))
            found.setdefault(poll.resource, []).append(poll)
        return found

    def wait_until_all_polled(self, since_s: float) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while sum(polls[-1].at_s > since_s for polls in self.polls().values()) < POLLERS:
            assert time.monotonic() < deadline_s, "not everything is polled"
            time.sleep(0.1)

    def verify(self, skipped: int) -> None:
        """*skipped*: How many polls may be missing, each of which was under way when its node died."""
        gaps = []
        for polls in self.polls().values():
            assert [poll.token for poll in polls] == sorted(poll.token for poll in polls)
            # What was seen is never forgotten.
            assert [poll.resource for poll in polls[1:] if poll.etag in ("", "-")] == []
            gaps += [after.at_s - before.at_s for before, after in itertools.pairwise(polls)]
        assert min(gaps) > 0.9 * INTERVAL_S - SOONER_S
        assert len([gap for gap in gaps if gap > 1.1 * INTERVAL_S + LATER_S]) <= skipped
        assert max(gaps) < 2.2 * INTERVAL_S + LATER_S


@contextlib.contextmanager
def on_stage(directory: Path) -> Iterator[tuple[ProcessCluster, Log]]:
    with nginx(directory) as server:
        for number in range(POLLERS):
            (directory / "www" / f"r{number}").write_text(f"poll me {number}")
        url = f"http://127.0.0.1:{server.port}/{{id}}?node={{node}}&token={{token}}"
        resources = [
            {"id": f"r{number}", "kind": "http_poll", "url": url, "interval": INTERVAL_S} for number in range(POLLERS)
        ]
        with ProcessCluster("abc", resources=resources, lease_ttl_s=LEASE_TTL_S, directory=directory) as cluster:
            cluster.start()
            cluster.wait_ready()
            log = Log(directory / "access.log")
            (directory / "access.log").touch()
            log.wait_until_all_polled(0.0)
            # What a holder saw within the second before it died it may not have saved.
            time.sleep(CHECKPOINT_INTERVAL_S + 1.0)
            yield cluster, log


def test_kill_9_neither_repeats_nor_skips_a_poll(tmp_path: Path, rounds: range) -> None:
    with on_stage(tmp_path) as (cluster, log):
        for number in rounds:
            victim = "abc"[number % 3]
            cluster[victim].kill()
            time.sleep(INTERVAL_S + LATER_S)
            cluster.start(victim)
            cluster.wait_ready()
            log.wait_until_all_polled(time.time())
        log.verify(skipped=len(rounds))


def test_a_planned_move_neither_repeats_nor_skips_a_poll(tmp_path: Path) -> None:
    with on_stage(tmp_path) as (cluster, log):
        for victim in "ab":
            cluster[victim].terminate()
            assert cluster[victim].wait(timeout_s=20) == 0
            cluster.start(victim)
            cluster.wait_ready()
            log.wait_until_all_polled(time.time())
        log.verify(skipped=1)
