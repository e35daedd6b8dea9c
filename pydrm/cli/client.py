"""
`Client`: a node's admin API, asked from a command.

On http.client rather than aiohttp, which would more than double the time that a command takes, and
rather than urllib, which would send a request for 127.0.0.1 to the environment's proxy.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from pydrm.cli.exits import Exit, Failed, exit_for

__all__ = ["Client", "client_of"]

_ADMIN_DEFAULT = "http://127.0.0.1:8001"

# A node answers a change that had no majority only after the timeout it was given; leave it the time to say so.
_GRACE_S = 2.0


def client_of(arguments: argparse.Namespace) -> Client:
    """Of the node that a command's --admin and --timeout, or the environment, say."""
    url = arguments.admin or os.environ.get("PYDRM_ADMIN") or _ADMIN_DEFAULT
    return Client(url, timeout=arguments.timeout)


class Client:
    """
    The admin API at *url*, `http://host:port` or just host:port.

    Every method raises Failed, with the exit code for what went wrong. *timeout* is in seconds.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        self._url = url if "://" in url else f"http://{url}"
        self._timeout = timeout
        try:
            parts = urlsplit(self._url)
            self._host, self._port = parts.hostname, parts.port
        except ValueError as error:
            raise Failed(f"--admin: {url!r} is not a URL: {error}", exit=Exit.USAGE) from error
        if parts.scheme != "http" or not self._host:
            raise Failed(f"--admin: must be http://host:port, not {url!r}", exit=Exit.USAGE)

    def status(self) -> dict[str, Any]:
        answer = self._request("GET", "/v1/status")
        assert isinstance(answer, dict)
        return answer

    def resources(self) -> list[dict[str, Any]]:
        answer = self._request("GET", "/v1/resources")
        assert isinstance(answer, list)
        return answer

    def nodes(self) -> list[dict[str, Any]]:
        answer = self._request("GET", "/v1/nodes")
        assert isinstance(answer, list)
        return answer

    def add(self, definitions: Sequence[Mapping[str, Any]]) -> int:
        """Return how many resources are under management now as *definitions* say."""
        return int(self._request("POST", f"/v1/resources?timeout={self._timeout:g}", definitions)["added"])

    def remove(self, ids: Sequence[str]) -> int:
        answer = self._request("POST", f"/v1/resources/remove?timeout={self._timeout:g}", {"ids": ids})
        return int(answer["removed"])

    def budgets(self) -> list[dict[str, Any]]:
        answer = self._request("GET", "/v1/budgets")
        assert isinstance(answer, list)
        return answer

    def set_budget(self, group: str, limits: Mapping[str, float]) -> None:
        self._request("POST", f"/v1/budgets?timeout={self._timeout:g}", {"group": group, **limits})

    def remove_budget(self, group: str) -> None:
        self._request("POST", f"/v1/budgets/remove?timeout={self._timeout:g}", {"group": group})

    def pause(self, ids: Sequence[str], reason: str) -> int:
        body = {"ids": ids, "reason": reason}
        return int(self._request("POST", f"/v1/resources/pause?timeout={self._timeout:g}", body)["paused"])

    def resume(self, ids: Sequence[str]) -> int:
        answer = self._request("POST", f"/v1/resources/resume?timeout={self._timeout:g}", {"ids": ids})
        return int(answer["resumed"])

    def send(self, id: str, data: str | bytes) -> dict[str, Any]:
        """Return the node that sent *data*, and its token."""
        value = {"text": data} if isinstance(data, str) else {"base64": base64.b64encode(data).decode()}
        answer = self._request("POST", f"/v1/send?timeout={self._timeout:g}", {"id": id, **value})
        assert isinstance(answer, dict)
        return answer

    def change_voters(self, change: str, name: str) -> list[str]:
        """*change* is add, remove or replace; return who has a vote then."""
        answer = self._request("POST", f"/v1/voters/{change}?timeout={self._timeout:g}", {"name": name})
        return [str(voter) for voter in answer["voters"]]

    def failed_deliveries(self, resource: str | None = None) -> list[dict[str, Any]]:
        where = f"?resource={quote(resource, safe='')}" if resource else ""
        answer = self._request("GET", f"/v1/webhooks/failed{where}")
        assert isinstance(answer, list)
        return answer

    def replay_deliveries(self, resource: str | None, event_ids: Sequence[str] | None) -> int:
        asked = {"resource": resource, "event_ids": event_ids}
        return int(self._request("POST", f"/v1/webhooks/replay?timeout={self._timeout:g}", asked)["replayed"])

    def publish(self, topic: str, payload: object, event_id: str | None) -> dict[str, Any]:
        """Return {event_id, matched, duplicate}."""
        event = {"topic": topic, "payload": payload, "event_id": event_id}
        answer = self._request("POST", f"/v1/events?timeout={self._timeout:g}", event)
        assert isinstance(answer, dict)
        return answer

    def _request(self, method: str, path: str, value: object = None) -> Any:
        body = None if value is None else json.dumps(value).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        assert self._host is not None
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout + _GRACE_S)
        try:
            self._connect(connection)
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
        except TimeoutError as error:
            raise Failed(f"no answer from {self._url} within {self._timeout:g} s", exit=Exit.TIMEOUT) from error
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"{self._url} gave no answer: {error}", exit=Exit.UNREACHABLE) from error
        finally:
            connection.close()
        return self._understood(response.status, content)

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        try:
            connection.connect()
        except OSError as error:
            raise Failed(f"cannot reach a node at {self._url}: {error}", exit=Exit.UNREACHABLE) from error

    def _understood(self, status: int, content: bytes) -> Any:
        try:
            answer = json.loads(content)
            if status == http.HTTPStatus.OK:
                return answer
            message, reason = str(answer["error"]), str(answer["reason"])
        except (ValueError, TypeError, KeyError) as error:
            raise Failed(f"{self._url} is not the admin API of a node", exit=Exit.FAILURE) from error
        raise Failed(message, exit=exit_for(status, reason))
