"""
`Mailbox`: the one place where threads meet.

A call posted here from any thread runs on the mailbox's loop, in order. The loop is woken once for
many posts, since waking costs a system call and one cluster-wide change can cause thousands of posts.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any

__all__ = ["Mailbox"]

_log = logging.getLogger(__name__)


class Mailbox:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._woken = False
        self._lock = Lock()

    def post(self, call: Callable[..., object], *arguments: Any) -> None:
        """
        Run *call* on the loop, after everything posted before. From any thread.

        Once the loop is closed, posts are dropped: its owner is gone and waits for nothing.
        """
        with self._lock:
            self._posted.append((call, arguments))
            if self._woken:
                return
            self._woken = True
        try:
            self._loop.call_soon_threadsafe(self._run)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _run(self) -> None:
        with self._lock:
            self._woken = False
            posted, self._posted = self._posted, deque()
        for call, arguments in posted:
            try:
                call(*arguments)
            except Exception:  # noqa: BLE001 (a border: one receiver's bug must not swallow the others' post)
                _log.exception("a call across threads failed: %r", call)
