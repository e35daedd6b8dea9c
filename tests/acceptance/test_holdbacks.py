"""A third party tells one of three real nodes to leave it alone, and by its own diary all of them do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from pydrm.cli.client import Client
from pydrm.testing.processes import ProcessCluster
from tests.acceptance.quotes import Asked, Quotes
from tests.acceptance.scene import LEASE_TTL_S, PATIENCE_S

RETRY_AFTER_S = 4
HEARD_S = 1.0  # what is on its way by then, or not known to all, may still come
NODES = "abc"


@attrs.frozen
class Stage:
    cluster: ProcessCluster
    quotes: Quotes

    def add(self, ids: Sequence[str], **fields: object) -> None:
        Client(self.cluster["a"].admin, timeout=PATIENCE_S).add([{"id": id, **fields} for id in ids])

    def asked(self, ids: Sequence[str], since_s: float = 0.0, until_s: float = float("inf")) -> list[Asked]:
        return [one for one in self.quotes.asked if one.resource in ids and since_s < one.at_s < until_s]

    def until(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, f"too late:\n{self.cluster.log_tails()}"
            time.sleep(0.02)

    def until_all_ask(self, ids: Sequence[str], since_s: float = 0.0) -> None:
        """Each of *ids*, and all nodes."""
        self.until(lambda: {one.resource for one in self.asked(ids, since_s)} == set(ids))
        assert {one.node for one in self.asked(ids, since_s)} == set(NODES)

    def until_one_is_refused(self) -> float:
        """When that was."""
        self.until(lambda: len(self.quotes.refused) > 0)
        return self.quotes.refused[0].at_s


@contextlib.contextmanager
def on_stage(directory: Path) -> Iterator[Stage]:
    with Quotes() as quotes, ProcessCluster(NODES, lease_ttl_s=LEASE_TTL_S, directory=directory) as cluster:
        cluster.start()
        cluster.wait_ready()
        yield Stage(cluster, quotes)


def test_a_429_to_one_nodes_poller_holds_back_the_pollers_of_all_nodes_and_then_they_go_on(tmp_path: Path) -> None:
    """Those of another group, though of the same host, are polled all the while."""
    with on_stage(tmp_path) as stage:
        mine, others = [f"r{number}" for number in range(15)], [f"other{number}" for number in range(6)]
        slow = [f"slow{number}" for number in range(15)]
        url = f"http{stage.quotes.url}"
        stage.add(others, kind="http_poll", url=url, interval=0.5, budget="others")
        stage.until_all_ask(others)
        stage.add(mine, kind="http_poll", url=url, interval=0.5)
        # Their next due times are saved before each request.
        stage.add(slow, kind="http_poll", url=url, interval=5.0)
        stage.until_all_ask(mine)
        stage.until_all_ask(slow)

        stage.quotes.refuse_one(mine, retry_after_s=RETRY_AFTER_S)
        refused_s = stage.until_one_is_refused()
        over_s = refused_s + RETRY_AFTER_S
        stage.until(lambda: time.monotonic() > over_s)
        assert stage.asked([*mine, *slow], refused_s + HEARD_S, over_s) == []
        stage.until_all_ask([*mine, *slow], since_s=over_s)

        assert {one.resource for one in stage.asked(others, refused_s + HEARD_S, over_s)} == set(others)
        assert len(stage.quotes.refused) == 1


def test_a_429_to_one_nodes_websocket_keeps_all_nodes_from_opening_any_and_then_they_do(tmp_path: Path) -> None:
    with on_stage(tmp_path) as stage:
        url = f"ws{stage.quotes.url}"
        stage.quotes.refuse_one(["first"], retry_after_s=RETRY_AFTER_S)
        stage.add(["first"], kind="websocket", url=url)
        refused_s = stage.until_one_is_refused()
        rest = [f"r{number}" for number in range(15)]
        time.sleep(HEARD_S)
        stage.add(rest, kind="websocket", url=url)
        over_s = refused_s + RETRY_AFTER_S
        stage.until(lambda: time.monotonic() > over_s)
        assert stage.asked(rest, until_s=over_s) == []

        stage.until_all_ask(["first", *rest], since_s=over_s)
        assert len(stage.asked(["first"])) == 2
