"""
The figures: what is done to the cluster, what of it is measured, and what the aim is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from engine.child import SMALL
from engine.cluster import Cluster, Node
from engine.stage import Stage, Watch, percentile
from pydrm.core.commands import Request, RequestId
from pydrm.engine.codec import encode_entry, encode_request

__all__ = ["LEASE_TTL_S", "add", "commands", "idle", "latency", "leader", "resources", "restart", "workers"]

LEASE_TTL_S = 2.0
LATENCY: Mapping[str, Any] = {"count": 500, "seconds": 4.0}
WINDOWS = (256, 2000)
FLOOD_S = 3.0
RESOURCES = 50_000
OPENED_RESOURCES = 10_000
RESOURCE_COMMANDS = 16  # under way at once
IDLE_S = 20.0
WORKERS = 50
WORKERS_LEASE_TTL_S = 10.0
ADDS = 50
REST_S = 2.0  # until what begins by itself when nodes have met is done

TUNED = {"raftMinTimeout": 0.3, "raftMaxTimeout": 0.6, "appendEntriesPeriod": 0.08, "appendEntriesUseBatch": False}
RIVALS: Mapping[str, Mapping[str, Any]] = {"PySyncObj alone": {}, "PySyncObj alone, tuned": TUNED}

T = TypeVar("T")


def latency(stage: Stage) -> None:
    stage.head("one small command at a time: ms until it is applied")
    with ours(stage) as cluster:
        for who, node in (("leader", cluster.leader()), ("follower", cluster.followers()[0])):
            took, watch = watched(stage, cluster, partial(node.ask, "latency", **LATENCY))
            show_percentiles(stage, f"from the {who}", took, ("<= 3", "<= 10"), watch)
    size = entry_bytes()
    synced = [fdatasyncs(stage.directory / "synced", size) for _ in range(stage.rounds)]
    show_percentiles(stage, f"the disk alone: write and fdatasync of {size} bytes", synced)
    for name, conf in RIVALS.items():
        with stage.cluster("rival", conf=conf) as cluster:
            for who, node in (("leader", cluster.leader()), ("follower", cluster.followers()[0])):
                took = [node.ask("latency", **LATENCY) for _ in range(stage.rounds)]
                show_percentiles(stage, f"{name}, from the {who}", took)


def commands(stage: Stage) -> None:
    stage.head("many small commands under way: commands/s")
    for core in ("real", "noop"):
        with ours(stage, core=core) as cluster:
            title = "" if core == "real" else "no-op core: "
            aim = ">= 15,000" if core == "real" else ""
            for who, node in (("leader", cluster.leader()), ("follower", cluster.followers()[0])):
                for window in WINDOWS:
                    load = {"window": window, "seconds": FLOOD_S}
                    rates, watch = watched(stage, cluster, partial(node.ask, "commands", **load))
                    stage.show(f"{title}{window:,} from the {who}", rates, aim, watch)
    with ours(stage) as cluster:
        load = {"window": WINDOWS[-1], "seconds": FLOOD_S}
        node = cluster.leader()
        rates, watch = watched(stage, cluster, partial(node.ask, "adds", **load))
        stage.show(f"{WINDOWS[-1]:,} from the leader, each adds one resource", rates, "", watch)
    for name, conf in RIVALS.items():
        with stage.cluster("rival", conf=conf) as cluster:
            node = cluster.leader()
            rates = [node.ask("commands", window=WINDOWS[-1], seconds=FLOOD_S) for _ in range(stage.rounds)]
            stage.show(f"{name}: {WINDOWS[-1]:,} from the leader", rates)


def resources(stage: Stage) -> None:
    stage.head(f"resources added in commands of 500, {RESOURCE_COMMANDS} under way: resources/s")
    for title, role, core, count, aim in (
        ("from the leader", "engine", "real", RESOURCES, ">= 30,000"),
        ("no-op core: from the leader", "engine", "noop", RESOURCES, ""),
        ("drm.add on the leader, while all are opened", "manager", "real", OPENED_RESOURCES, ""),
    ):
        load = {"count": count, "window": RESOURCE_COMMANDS}
        with ours(stage, role, core=core) as cluster:
            node = cluster.leader()
            rates, watch = watched(stage, cluster, partial(node.ask, "resources", **load))
            stage.show(title, rates, aim, watch)
    for name, conf in RIVALS.items():
        with stage.cluster("rival", conf=conf) as cluster:
            node = cluster.leader()
            load = {"count": RESOURCES, "window": RESOURCE_COMMANDS}
            rates = [node.ask("resources", **load) for _ in range(stage.rounds)]
            stage.show(f"{name}: from the leader", rates)


def idle(stage: Stage) -> None:
    stage.head("a node that only renews its lease: % of a core")
    with ours(stage, "manager") as cluster:
        time.sleep(REST_S)
        nodes = [cluster.leader(), *cluster.followers()]
        spent = [cpu_percents(nodes, IDLE_S) for _ in range(stage.rounds)]
        # The probe wakes up more often than the node does, so it looks when nobody counts.
        _, watch = watched(stage, cluster, partial(time.sleep, REST_S))
        stage.show("leader", [percents[0] for percents in spent], "<= 1.5", watch)
        stage.show("follower", [percent for percents in spent for percent in percents[1:]], "<= 1.5")
    for name, conf in RIVALS.items():
        with stage.cluster("rival", conf=conf) as cluster:
            time.sleep(REST_S)
            nodes = [cluster.leader(), *cluster.followers()]
            spent = [cpu_percents(nodes, IDLE_S) for _ in range(stage.rounds)]
            stage.show(f"{name}: leader", [percents[0] for percents in spent])


def workers(stage: Stage) -> None:
    stage.head(f"{WORKERS} workers beside the three voters, lease_ttl {WORKERS_LEASE_TTL_S:.0f} s: % of a core")
    with stage.cluster("engine", lease_ttl_s=WORKERS_LEASE_TTL_S) as cluster:
        cluster.invite("w", "workers", lease_ttl_s=WORKERS_LEASE_TTL_S, count=WORKERS)
        time.sleep(REST_S)
        nodes = [cluster.leader(), *cluster.followers()]
        spent = [cpu_percents(nodes, IDLE_S) for _ in range(stage.rounds)]
        _, watch = watched(stage, cluster, partial(time.sleep, REST_S))
        stage.show("leader", [percents[0] for percents in spent], "<= 10", watch)
        stage.show("follower", [percent for percents in spent for percent in percents[1:]])


def leader(stage: Stage) -> None:
    stage.head("kill -9 of the leader: ms until another node applies what is proposed then")
    with ours(stage) as cluster:
        took_ms = []
        watch = Watch()
        for _ in range(stage.rounds):
            time.sleep(REST_S)
            victim, survivors = cluster.leader(), cluster.followers()
            with watch.over(survivors):
                killed_s = victim.kill()
                for node in survivors:
                    node.tell("one")
                took_ms.append((min(node.answer() for node in survivors) - killed_s) * 1000)
            victim.start()
            victim.answer()
        stage.show("a new leader", took_ms, "<= 700", watch)


def add(stage: Stage) -> None:
    stage.head("one drm.add: ms; its kind is open at once")
    with ours(stage, "manager") as cluster:
        for who, node in (("leader", cluster.leader()), ("follower", cluster.followers()[0])):
            rounds, watch = watched(stage, cluster, partial(adds, cluster, node))
            stage.show(f"acknowledged on the {who}, median", [percentile(acked, 50) for acked, _ in rounds], "", watch)
            stage.show("and open on its holder, median", [percentile(opened, 50) for _, opened in rounds], "<= 10")
            stage.show("and open on its holder, 99 %", [percentile(opened, 99) for _, opened in rounds])


def restart(stage: Stage) -> None:
    count = stage.restart_resources
    stage.head(f"a follower is killed and started again, {count:,} resources")
    with ours(stage, probe=True) as cluster:
        adding = cluster.leader()
        for start in range(0, count, RESOURCES):
            part = {"count": min(RESOURCES, count - start), "window": RESOURCE_COMMANDS}
            adding.ask("resources", timeout_s=600, **part)
        victim = cluster.followers()[0]
        ready_s, resident_mb = [], []
        watch = Watch()
        for _ in range(stage.rounds):
            victim.kill()
            started_s = victim.start()
            ready_s.append(victim.answer(timeout_s=600) - started_s)
            watch.note(victim.ask("watched"))
            resident_mb.append(victim.resident_bytes() / 1e6)
        # The aims are for a million.
        stage.show("ready again: s", ready_s, "<= 15" if count >= 1_000_000 else "", watch)
        stage.show("its memory then: MB resident", resident_mb, "<= 1,000" if count >= 1_000_000 else "")


def ours(stage: Stage, role: str = "engine", **settings: Any) -> Cluster:
    return stage.cluster(role, lease_ttl_s=LEASE_TTL_S, **settings)


def watched(stage: Stage, cluster: Cluster, measure: Callable[[], T]) -> tuple[list[T], Watch]:
    """What *measure* returns in each round, and how long the loops stood still meanwhile."""
    watch = Watch()
    values = []
    for _ in range(stage.rounds):
        with watch.over(cluster.nodes.values()):
            values.append(measure())
    return values, watch


def show_percentiles(
    stage: Stage,
    what: str,
    rounds: Sequence[Sequence[float]],
    aims: tuple[str, str] = ("", ""),
    watch: Watch | None = None,
) -> None:
    stage.show(f"{what}, median", [percentile(values, 50) for values in rounds], aims[0], watch)
    stage.show(f"{what}, 99 %", [percentile(values, 99) for values in rounds], aims[1])


def entry_bytes() -> int:
    """What one small command takes in the journal, roughly: an entry, and the heads of its record and its batch."""
    return len(encode_entry([encode_request(Request(SMALL, RequestId("a", 1, 1, 1)))])) + 45


def fdatasyncs(path: Path, size: int) -> list[float]:
    took_ms = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for _ in range(LATENCY["count"]):
            began_s = time.monotonic()
            os.write(descriptor, bytes(size))
            os.fdatasync(descriptor)
            took_ms.append((time.monotonic() - began_s) * 1000)
    finally:
        os.close(descriptor)
    return took_ms


def cpu_percents(nodes: Sequence[Node], seconds: float) -> list[float]:
    before = [(time.monotonic(), node.cpu_s()) for node in nodes]
    time.sleep(seconds)
    after = [(time.monotonic(), node.cpu_s()) for node in nodes]
    return [(b[1] - a[1]) / (b[0] - a[0]) * 100 for a, b in zip(before, after, strict=True)]


def adds(cluster: Cluster, node: Node) -> tuple[list[float], list[float]]:
    """Of each of some adds on *node*, one after the other: ms until acknowledged, and until open as well."""
    asked = {}
    for number in range(ADDS):
        id = f"{node.name}-{time.monotonic_ns()}-{number}"
        asked[id] = node.ask("add", id=id)
        time.sleep(0.03)  # what the holder reports afterwards is over
    opened = {id: at_s for seen in cluster.ask_all("opened") for id, at_s in seen.items()}
    acknowledged_ms = [(acked_s - asked_s) * 1000 for asked_s, acked_s in asked.values()]
    open_ms = [(max(acked_s, opened[id]) - asked_s) * 1000 for id, (asked_s, acked_s) in asked.items()]
    return acknowledged_ms, open_ms
