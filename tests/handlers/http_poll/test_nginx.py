"""The http_poll kind against nginx: conditional requests for a file that changes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from pydrm.core.resource import Resource
from pydrm.testing.held import Held, until
from tests.counterparts import nginx
from tests.handlers.http_poll.test_kind import Inbox, play


def write(path: Path, text: str, modified_s: float) -> None:
    """Replace the file in one go, as whoever publishes something does."""
    new = path.with_suffix(".new")
    new.write_text(text)
    # nginx makes its ETag of the second and the size.
    os.utime(new, (modified_s, modified_s))
    new.rename(path)


def test_a_file_is_fetched_once_for_each_change_of_it(tmp_path: Path) -> None:
    async def scene() -> None:
        with nginx(tmp_path) as server:
            file = tmp_path / "www" / "prices.json"
            write(file, '{"btc": 1}', 1_700_000_000)
            inbox = Inbox()
            url = f"http://127.0.0.1:{server.port}/prices.json"
            subject = Resource(
                "r1",
                kind="http_poll",
                url=url,
                interval=0.05,
                decode="json",
                on_change="changes",
                on_response="responses",
            )
            held = Held(inbox.kind, subject)
            await until(lambda: len(inbox.responses) >= 3)
            write(file, '{"btc": 2}', 1_700_000_001)
            await until(lambda: len(inbox.changes) == 2)
            await until(lambda: len(inbox.responses) >= 8)
            await held.release()
            # The next holder goes on with the same validators.
            following = Held(inbox.kind, subject, checkpoint=held.checkpoint)
            await until(lambda: len(inbox.responses) >= 11)
            await following.release()

            assert [change.data for change in inbox.changes] == [{"btc": 1}, {"btc": 2}]

        lines = (tmp_path / "access.log").read_text().splitlines()
        assert [line.split()[1] for line in lines].count("200") == 2
        first, second = lines[:2]
        assert first.endswith('"-" "-"')
        assert second.endswith('"Tue, 14 Nov 2023 22:13:20 GMT"') and '"-"' not in second

    play(scene)


def test_a_file_that_is_missing_is_retried_until_it_is_there(tmp_path: Path) -> None:
    async def scene() -> None:
        with nginx(tmp_path) as server:
            inbox = Inbox()
            url = f"http://127.0.0.1:{server.port}/later.txt"
            held = Held(inbox.kind, Resource("r1", kind="http_poll", url=url, interval=0.05, on_change="changes"))
            await until(lambda: held.handle.detail == "HTTP status 404")
            write(tmp_path / "www" / "later.txt", "here", 1_700_000_000)
            await held.until_open()
            await held.release()

            assert [change.data for change in inbox.changes] == [b"here"]

    play(scene)


def test_a_server_that_is_killed_and_started_again_is_polled_on(tmp_path: Path) -> None:
    async def scene() -> None:
        with nginx(tmp_path) as server:
            write(tmp_path / "www" / "a.txt", "a", 1_700_000_000)
            inbox = Inbox()
            url = f"http://127.0.0.1:{server.port}/a.txt"
            held = Held(inbox.kind, Resource("r1", kind="http_poll", url=url, interval=0.05, on_change="changes"))
            await held.until_open()
            await asyncio.to_thread(server.kill)
            await until(lambda: not held.is_open)
            await asyncio.to_thread(server.start)
            await until(lambda: held.is_open, timeout_s=30)
            await held.release()

            assert len(inbox.changes) == 1

    play(scene)
