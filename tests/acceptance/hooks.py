"""
`Hooks`: the receiver of webhooks, in the test's own process, and what it wrote down.

It answers on threads of its own, so that no node that is killed takes the diary with it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import attrs
from standardwebhooks import Webhook as Verifier

__all__ = ["SECRET", "Hooks", "Posted"]

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@attrs.frozen
class Posted:
    """One request: at which subscription, under which webhook-id, and what the publisher called it."""

    subscription: str
    id: str
    content: Any
    at_s: float


class Hooks:
    """
    Args:
        delay_s: How long it takes over each, so that somebody can be killed meanwhile.
    """

    def __init__(self, delay_s: float = 0.0) -> None:
        self._posted: list[Posted] = []
        self._lock = threading.Lock()
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                content = Verifier(SECRET).verify(body, {k.lower(): v for k, v in self.headers.items()})
                hooks._note(Posted(self.path[1:], self.headers["webhook-id"], content, time.monotonic()))
                time.sleep(delay_s)
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                """The diary is enough."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def posted(self) -> list[Posted]:
        with self._lock:
            return list(self._posted)

    def missing(self, subscriptions: list[str], contents: list[Any]) -> list[tuple[str, Any]]:
        """What of it has not come."""
        there = {(posted.subscription, posted.content) for posted in self.posted}
        return [(name, content) for name in subscriptions for content in contents if (name, content) not in there]

    def under_two_ids(self) -> list[tuple[str, Any]]:
        """What came to one subscription under more than one webhook-id."""
        ids = Counter((p.subscription, p.content) for p in {attrs.evolve(p, at_s=0.0) for p in self.posted})
        return [what for what, count in ids.items() if count > 1]

    def twice(self) -> list[tuple[str, str]]:
        """What came to one subscription more than once, under one webhook-id."""
        return [what for what, times in Counter((p.subscription, p.id) for p in self.posted).items() if times > 1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _note(self, posted: Posted) -> None:
        with self._lock:
            self._posted.append(posted)
