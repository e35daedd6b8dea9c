"""`served`: the admin API of a fake manager, on a loop in a thread, while a command in this one asks it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future

from pydrm.admin import AdminServer
from tests.admin.fake_manager import FakeManager


@contextlib.contextmanager
def served(manager: FakeManager) -> Iterator[str]:
    """The URL at which *manager* is served meanwhile."""
    url: Future[str] = Future()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def main() -> None:
        async with AdminServer(manager, "127.0.0.1:0") as server:
            url.set_result(server.url)
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    try:
        yield url.result(timeout=10)
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
