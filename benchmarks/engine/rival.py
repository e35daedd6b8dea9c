"""
PySyncObj as it comes: its own transport, its own journal (which syncs nothing) and its own thread that ticks.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated

from engine.child import RESOURCES_PER_COMMAND
from engine.orders import answer, orders

__all__ = ["main"]

SMALL = b"x" * 32
TIMEOUT_S = 60.0


class Counter(SyncObj):  # type: ignore[misc]
    def __init__(self, own: str, others: list[str], conf: SyncObjConf) -> None:
        self.applied = 0
        super().__init__(own, others, conf)

    @replicated  # type: ignore[untyped-decorator]
    def command(self, data: bytes) -> None:
        self.applied += 1

    @replicated  # type: ignore[untyped-decorator]
    def commands(self, data: list[bytes]) -> None:
        self.applied += len(data)


def main() -> None:
    coming = orders()
    settings = coming.get()
    addresses = dict(settings["addresses"])
    own = addresses.pop(settings["node"])
    Path(settings["directory"]).mkdir()
    conf = SyncObjConf(journalFile=str(Path(settings["directory"], "journal")), **settings["conf"])
    counter = Counter(own, list(addresses.values()), conf)
    while not counter.isReady():
        time.sleep(0.01)
    answer(time.monotonic())
    while True:
        order = coming.get()
        answer(_do(order.pop("verb"), order, counter))


def _do(verb: str, arguments: dict[str, Any], counter: Counter) -> Any:
    match verb:
        case "leads":
            return counter._isLeader()
        case "latency":
            return _one_by_one(counter, **arguments)
        case "commands":
            return _flood(counter, **arguments)
        case "resources":
            return _batches(counter, **arguments)
        case unknown:
            raise AssertionError(unknown)


def _one_by_one(counter: Counter, count: int, seconds: float) -> list[float]:
    took_ms: list[float] = []
    ends_s = time.monotonic() + seconds
    while len(took_ms) < count and time.monotonic() < ends_s:
        began_s = time.monotonic()
        applied = threading.Event()
        counter.command(SMALL, callback=lambda result, error, applied=applied: _applied(error, applied.set))
        applied.wait(TIMEOUT_S)
        took_ms.append((time.monotonic() - began_s) * 1000)
    return took_ms


def _flood(counter: Counter, window: int, seconds: float) -> float:
    began_s = time.monotonic()
    under_way = threading.Semaphore(window)
    sent = 0
    while time.monotonic() - began_s < seconds:
        under_way.acquire()
        counter.command(SMALL, callback=lambda result, error: _applied(error, under_way.release))
        sent += 1
    for _ in range(window):
        under_way.acquire()
    return sent / (time.monotonic() - began_s)


def _batches(counter: Counter, count: int, window: int) -> float:
    began_s = time.monotonic()
    under_way = threading.Semaphore(window)
    for start in range(0, count, RESOURCES_PER_COMMAND):
        things = [b"%032d" % number for number in range(start, min(start + RESOURCES_PER_COMMAND, count))]
        under_way.acquire()
        counter.commands(things, callback=lambda result, error: _applied(error, under_way.release))
    for _ in range(window):
        under_way.acquire()
    return count / (time.monotonic() - began_s)


def _applied(error: int, then: Any) -> None:
    if error != FAIL_REASON.SUCCESS:
        print(f"PySyncObj answers {error}", file=sys.stderr, flush=True)
        os._exit(1)
    then()
