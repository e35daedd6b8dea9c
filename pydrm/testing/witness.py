"""
The third party in a process of its own, and its diary as read from outside.

Its own process, so that neither the tests nor the nodes disturb its loop: the times in the diary
are the ones that count.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Self

from pydrm.testing.diary import Diary, Event

__all__ = ["Witness"]

LOOK_EVERY_S = 0.02


class Witness:
    """
    Starts the third party, follows its diary, stops it; a context manager.

    Not for an event loop: its waits block.
    """

    def __init__(self, directory: Path) -> None:
        """The diary, and what the process prints to stderr, are kept in *directory*."""
        self._path = directory / "diary.jsonl"
        self._log_path = directory / "third_party.log"
        self._process: subprocess.Popen[str] | None = None
        self._diary = Diary()
        self._read_bytes = 0
        self.port = 0

    @property
    def url(self) -> str:
        """The url field of a websocket resource that is held at the third party."""
        return f"ws://127.0.0.1:{self.port}/r/{{id}}?node={{node}}&token={{token}}"

    def resources(self, count: int, *, prefix: str = "r") -> list[dict[str, object]]:
        """Definitions of *count* websocket resources, r1 and so on, to be held at the third party."""
        return [{"id": f"{prefix}{number}", "kind": "websocket", "url": self.url} for number in range(1, count + 1)]

    def start(self) -> None:
        self._path.touch()
        with self._log_path.open("wb") as log:
            # Its standard input is a pipe from us: it ends when it does, so it never outlives us.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pydrm.testing.third_party", "--port", "0", "--diary", str(self._path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the third party did not start:\n{self._log_path.read_text()}")
        self.port = int(line)

    def diary(self) -> Diary:
        """All that has been written so far."""
        with self._path.open("rb") as file:
            file.seek(self._read_bytes)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]  # the last line may be half written
        self._read_bytes += len(whole)
        for line in whole.splitlines():
            self._diary.record(Event.from_line(line.decode()))
        return self._diary

    def wait_until(self, condition: Callable[[Diary], bool], *, timeout_s: float) -> bool:
        """Whether *condition* came to hold within *timeout_s*; looks at the diary again and again."""
        deadline_s = time.monotonic() + timeout_s
        while not condition(self.diary()):
            if time.monotonic() > deadline_s:
                return False
            time.sleep(LOOK_EVERY_S)
        return True

    def wait_settled(
        self, resources: Collection[str], nodes: Collection[str], since_s: float, *, timeout_s: float
    ) -> float:
        """Wait until *nodes* share *resources* evenly, each held once; since when they do, infinite if never."""

        def settled(diary: Diary) -> bool:
            # How many connections there are is looked at first because it is cheap.
            return sum(diary.loads().values()) == len(resources) and diary.settled(resources, nodes, since_s) < math.inf

        self.wait_until(settled, timeout_s=timeout_s)
        return self._diary.settled(resources, nodes, since_s)

    def wait_back(self, resources: Collection[str], since_s: float, *, timeout_s: float) -> float:
        """Wait until each of *resources* was lost after *since_s* and is held again; when the last was, or infinite."""

        def back(diary: Diary) -> bool:
            gaps = diary.gaps(resources, since_s)
            return {gap.resource for gap in gaps} == set(resources) and all(gap.until_s < math.inf for gap in gaps)

        if not self.wait_until(back, timeout_s=timeout_s):
            return math.inf
        return max(gap.until_s for gap in self._diary.gaps(resources, since_s))

    def watch(self, seconds: float) -> Diary:
        """The diary after another *seconds*: for what must not happen in them."""
        time.sleep(seconds)
        return self.diary()

    def close(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
