"""The third party as a process of its own, and its diary read from outside."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

from websockets.sync.client import connect

from pydrm.testing.diary import Diary
from pydrm.testing.witness import Witness


def test_the_diary_of_another_process_can_be_followed(tmp_path: Path) -> None:
    with Witness(tmp_path) as witness:
        with connect(witness.url.format(id="r1", node="a", token=3), proxy=None):
            assert witness.wait_until(lambda diary: "r1" in diary.held(), timeout_s=5)
        assert witness.wait_until(lambda diary: not diary.held(), timeout_s=5)

        [stay] = witness.diary().stays()

    assert (stay.resource, stay.node, stay.token, stay.lasts) == ("r1", "a", 3, False)


def test_waiting_for_what_does_not_happen_ends_at_the_deadline(tmp_path: Path) -> None:
    with Witness(tmp_path) as witness:
        assert not witness.wait_until(lambda diary: bool(diary.held()), timeout_s=0.05)


def test_it_tells_since_when_all_is_well_and_when_it_never_is(tmp_path: Path) -> None:
    with Witness(tmp_path) as witness, connect(witness.url.format(id="r1", node="a", token=1), proxy=None):
        settled_s = witness.wait_settled(["r1"], ["a"], 0, timeout_s=5)
        assert settled_s == witness.diary().stays()[0].from_s
        assert witness.wait_settled(["r1", "r2"], ["a"], 0, timeout_s=0.05) == math.inf


def test_a_line_that_is_half_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    witness = Witness(tmp_path)
    path = tmp_path / "diary.jsonl"
    line = '{"at_s": 1.5, "what": "connected", "connection": 1, "resource": "r1", "node": "a", "token": 1}\n'

    def held_after(text: str) -> list[str]:
        with path.open("a") as file:
            file.write(text)
        diary: Diary = witness.diary()
        return list(diary.held())

    assert held_after(line[:20]) == []
    assert held_after(line[20:]) == ["r1"]
    assert held_after(line.replace("1,", "2,").replace("r1", "r2")) == ["r1", "r2"]


def test_a_killed_client_is_gone_from_the_diary_at_once(tmp_path: Path) -> None:
    """Its kernel closes its sockets; no handshake, no timeout."""
    program = "import sys, time; from websockets.sync.client import connect; c = connect(sys.argv[1]); time.sleep(60)"
    with Witness(tmp_path) as witness:
        client = subprocess.Popen([sys.executable, "-c", program, witness.url.format(id="r1", node="a", token=1)])
        try:
            assert witness.wait_until(lambda diary: bool(diary.held()), timeout_s=20)
        finally:
            client.kill()
            client.wait()

        assert witness.wait_until(lambda diary: not diary.held(), timeout_s=1)


def test_the_process_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    """Its standard input is a pipe that the kernel closes with the parent."""

    async def scene() -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "pydrm.testing.third_party", "--diary", str(tmp_path / "diary.jsonl")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert int(await process.stdout.readline()) > 0
        process.stdin.close()
        async with asyncio.timeout(10):
            return await process.wait()

    assert asyncio.run(scene()) == 0


def test_a_signal_ends_the_process_and_the_diary_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "diary.jsonl"
    with subprocess.Popen(
        [sys.executable, "-m", "pydrm.testing.third_party", "--diary", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with connect(f"ws://127.0.0.1:{port}/r/r1", proxy=None):
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(10) == 0

    assert [line.split('"what": ')[1].split(",")[0] for line in path.read_text().splitlines()] == [
        '"connected"',
        '"disconnected"',
    ]
