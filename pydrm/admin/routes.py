"""
Requests and answers of the admin API; the one module here that imports aiohttp.

    GET  /v1/status              how this node sees the cluster
    GET  /v1/resources           [{id, kind, state, holder, token, detail, next_try}, ...]
    GET  /v1/nodes               the nodes of the status alone
    POST /v1/resources           a JSON object or array of resources, or JSON lines: add them
    POST /v1/resources/remove    {"ids": [...]}
    GET  /v1/webhooks/failed     what is not tried any more; ?resource=WEBHOOK
    POST /v1/webhooks/replay     {"resource": null or WEBHOOK, "event_ids": null or [...]}: try it anew
    POST /v1/events              {"topic": ..., "payload": JSON, "event_id": null or ...}: publish it
    GET  /v1/budgets             what all nodes together may do to third parties
    POST /v1/budgets             {"group": "...", "connections": 10, ...}: set all limits of a group
    POST /v1/budgets/remove      {"group": "..."}
    POST /v1/resources/pause     {"ids": [...], "reason": "..."}: have nobody hold them
    POST /v1/resources/resume    {"ids": [...]}
    POST /v1/send                {"id": "...", "text": "..."} or {"id": "...", "base64": "..."}: have the holder send
    POST /v1/voters/add, remove, replace    {"name": "..."}: who has a vote

A POST may say ?timeout=SECONDS. Every answer is JSON, errors too: {error, reason, resource, field}.

It has no password, so a web page that somebody reads on the node's machine must not reach it. Two
rules see to that: a POST has a JSON content type, which a page of another origin may not send
unasked (Fetch standard, "CORS-safelisted request-header"), and the Host header is an IP address,
localhost or the configured name, which a name re-bound to 127.0.0.1 by a stranger's DNS is not.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import attrs
import msgspec
from aiohttp import web

from pydrm.admin.problem import Problem, problem_of
from pydrm.admin.server import Manager
from pydrm.core.resource import Resource
from pydrm.errors import ClusterRefused, ConfigurationError, DrmError
from pydrm.limits import LIMITS

__all__ = ["application", "serve"]

logger = logging.getLogger(__name__)

# Reading a body holds up the loop that the handlers run on: 16 MiB do for some tenths of a second.
BODY_BYTES_MAX = 16 * 1024 * 1024
TIMEOUT_DEFAULT_S = 10.0
TIMEOUT_MAX_S = 600.0

_LINES_TYPES = ("application/x-ndjson", "application/jsonl")

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()
_manager_key: web.AppKey[Manager] = web.AppKey("manager")
_own_host_key: web.AppKey[str] = web.AppKey("own_host")

T = TypeVar("T")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Voter(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class _Sending(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    text: str | None = None
    base64: bytes | None = None

    @property
    def data(self) -> str | bytes | None:
        """None unless there is exactly one."""
        return self.base64 if self.text is None else self.text if self.base64 is None else None


class _Group(msgspec.Struct, forbid_unknown_fields=True):
    group: str


class _Ids(msgspec.Struct, forbid_unknown_fields=True):
    ids: list[str]


class _Replay(msgspec.Struct, forbid_unknown_fields=True):
    resource: str | None = None
    event_ids: list[str] | None = None


class _Event(msgspec.Struct, forbid_unknown_fields=True):
    topic: str
    payload: Any
    event_id: str | None = None


class _Pause(msgspec.Struct, forbid_unknown_fields=True):
    ids: list[str]
    reason: str = ""


def application(manager: Manager, *, own_host: str) -> web.Application:
    """The API of *manager*; *own_host* is the configured name, allowed in Host besides IP addresses."""
    app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[_tell_problems, _keep_strangers_out])
    app[_manager_key] = manager
    app[_own_host_key] = own_host
    app.router.add_get("/v1/status", _status)
    app.router.add_get("/v1/resources", _resources)
    app.router.add_get("/v1/nodes", _nodes)
    app.router.add_post("/v1/resources", _add)
    app.router.add_post("/v1/resources/remove", _remove)
    app.router.add_get("/v1/webhooks/failed", _failed)
    app.router.add_post("/v1/webhooks/replay", _replay)
    app.router.add_post("/v1/events", _publish)
    app.router.add_get("/v1/budgets", _budgets)
    app.router.add_post("/v1/budgets", _set_budget)
    app.router.add_post("/v1/budgets/remove", _remove_budget)
    app.router.add_post("/v1/resources/pause", _pause)
    app.router.add_post("/v1/resources/resume", _resume)
    app.router.add_post("/v1/send", _send)
    app.router.add_post("/v1/voters/{change:add|remove|replace}", _change_voters)
    return app


async def serve(app: web.Application, listener: socket.socket, *, shutdown_timeout_s: float) -> web.AppRunner:
    """Answer on *listener* until the runner is cleaned up."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=shutdown_timeout_s)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return runner


async def _status(request: web.Request) -> web.Response:
    return _answer(request.app[_manager_key].status())


async def _resources(request: web.Request) -> web.Response:
    return _answer(request.app[_manager_key].resources())


async def _nodes(request: web.Request) -> web.Response:
    return _answer(request.app[_manager_key].status()["nodes"])


async def _add(request: web.Request) -> web.Response:
    timeout = _timeout(request)
    resources = [Resource.from_dict(flat) for flat in _definitions(request.content_type, await request.read())]
    if resources:
        await request.app[_manager_key].add(*resources, timeout=timeout)
    return _answer({"added": len(resources)})


async def _remove(request: web.Request) -> web.Response:
    timeout = _timeout(request)
    ids = await _body(request, _Ids, '{"ids": ["...", ...]}')
    removed = await request.app[_manager_key].remove(*ids.ids, timeout=timeout) if ids.ids else []
    return _counted("removed", ids.ids, removed)


async def _pause(request: web.Request) -> web.Response:
    timeout = _timeout(request)
    pause = await _body(request, _Pause, '{"ids": ["...", ...], "reason": "..."}')
    manager = request.app[_manager_key]
    paused = await manager.pause(*pause.ids, reason=pause.reason, timeout=timeout) if pause.ids else []
    return _counted("paused", pause.ids, paused)


async def _resume(request: web.Request) -> web.Response:
    timeout = _timeout(request)
    ids = await _body(request, _Ids, '{"ids": ["...", ...]}')
    resumed = await request.app[_manager_key].resume(*ids.ids, timeout=timeout) if ids.ids else []
    return _counted("resumed", ids.ids, resumed)


def _counted(verb: str, ids: list[str], done: list[str]) -> web.Response:
    """How many; what is not there is an error, and the rest is done all the same."""
    if missing := sorted(set(ids).difference(done)):
        those = f"there is no resource {missing[0]!r}" + (f" and {len(missing) - 1} more" if missing[1:] else "")
        raise ClusterRefused(f"{those}; {len(done)} were {verb}", reason="not-found")
    return _answer({verb: len(done)})


async def _body(request: web.Request, type: type[T], form: str) -> T:
    try:
        return msgspec.json.decode(await request.read(), type=type)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"the body must be {form}: {error}") from error


async def _budgets(request: web.Request) -> web.Response:
    return _answer(request.app[_manager_key].budgets.list())


async def _set_budget(request: web.Request) -> web.Response:
    timeout = _timeout(request)
    said = await _body(request, dict[str, Any], '{"group": "...", "connections": 10, ...}')
    group = said.pop("group", None)
    for name in said:
        if name not in LIMITS:
            raise ConfigurationError(f"is unknown; known are {', '.join(LIMITS)}", field=name)
    if not isinstance(group, str):
        raise ConfigurationError("is missing, or no string", field="group")
    await request.app[_manager_key].budgets.set(group, timeout=timeout, **said)
    return _answer({"set": group})


async def _remove_budget(request: web.Request) -> web.Response:
    timeout = _timeout(request)
    group = (await _body(request, _Group, '{"group": "..."}')).group
    if not await request.app[_manager_key].budgets.remove(group, timeout=timeout):
        raise ClusterRefused(f"{group!r} has no budget", reason="not-found")
    return _answer({"removed": group})


async def _send(request: web.Request) -> web.Response:
    timeout = _timeout(request)
    try:
        asked = msgspec.json.decode(await request.read(), type=_Sending)
    except msgspec.DecodeError as error:
        raise ConfigurationError(
            f'the body must be {{"id": "...", "text": "..."}} or have "base64": {error}'
        ) from error
    if asked.data is None:
        raise ConfigurationError('the body must have either "text" or "base64"')
    delivered = await request.app[_manager_key].send(asked.id, asked.data, timeout=timeout)
    return _answer({"node": delivered.node, "token": delivered.token})


async def _change_voters(request: web.Request) -> web.Response:
    timeout = _timeout(request)
    name = (await _body(request, _Voter, '{"name": "..."}')).name
    voters = request.app[_manager_key].voters
    changes = {"add": voters.add, "remove": voters.remove, "replace": voters.replace}
    await changes[request.match_info["change"]](name, timeout=timeout)
    return _answer({"voters": request.app[_manager_key].status()["voters"]})


async def _failed(request: web.Request) -> web.Response:
    failed = await request.app[_manager_key].webhooks.failed(request.query.get("resource"))
    return _answer([attrs.asdict(row) for row in failed])


async def _replay(request: web.Request) -> web.Response:
    timeout = _timeout(request)
    asked = await _body(request, _Replay, '{"resource": ..., "event_ids": [...]}')
    webhooks = request.app[_manager_key].webhooks
    return _answer({"replayed": await webhooks.replay(asked.resource, event_ids=asked.event_ids, timeout=timeout)})


async def _publish(request: web.Request) -> web.Response:
    timeout = _timeout(request)
    event = await _body(request, _Event, '{"topic": "...", "payload": ..., "event_id": "..."}')
    manager = request.app[_manager_key]
    published = await manager.publish(event.topic, event.payload, event_id=event.event_id, timeout=timeout)
    return _answer(attrs.asdict(published))


def _definitions(content_type: str, body: bytes) -> list[object]:
    try:
        if content_type in _LINES_TYPES:
            return list(_decoder.decode_lines(body))
        decoded = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the body is not valid JSON: {error}") from error
    return decoded if isinstance(decoded, list) else [decoded]


def _timeout(request: web.Request) -> float:
    text = request.query.get("timeout")
    try:
        seconds = TIMEOUT_DEFAULT_S if text is None else float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= TIMEOUT_MAX_S:
        raise ConfigurationError(f"must be seconds, above 0 and up to {TIMEOUT_MAX_S:g}, not {text!r}", field="timeout")
    return seconds


@web.middleware
async def _tell_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except DrmError as error:
        seen = request.app[_manager_key].status()
        # Who only hears a majority and is not heard by it has none either; then its lease is over.
        has_majority = bool(seen["has_majority"] and seen["lease"]["valid"])
        return _told(problem_of(error, has_majority=has_majority))
    except web.HTTPRequestEntityTooLarge:
        return _told(Problem(413, "too-large", f"the body is longer than {BODY_BYTES_MAX} bytes"))
    except web.HTTPException as error:
        return _told(Problem(error.status, error.reason.lower().replace(" ", "-"), f"{request.path}: {error.reason}"))
    except Exception:
        # The border of one request: our bug must not look like the caller's mistake, nor end the node.
        logger.exception("the admin API failed to answer %s %s", request.method, request.path)
        return _told(Problem(500, "failed", "this is a bug in pydrm; the node's log has the details"))


@web.middleware
async def _keep_strangers_out(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not _is_own_host(request.host, request.app[_own_host_key]):
        return _told(Problem(403, "forbidden", f"this node is not {request.host!r}"))
    if request.method == "POST" and request.content_type not in ("application/json", *_LINES_TYPES):
        return _told(Problem(415, "wrong-type", "the content type must be application/json or application/x-ndjson"))
    return await handler(request)


def _is_own_host(header: str, own_host: str) -> bool:
    host = header.lower() if header.endswith("]") else header.lower().rsplit(":", 1)[0]
    if host in ("localhost", own_host.lower()):
        return True
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _answer(value: object) -> web.Response:
    return web.Response(body=_encoder.encode(value), content_type="application/json")


def _told(problem: Problem) -> web.Response:
    body = {
        "error": problem.error,
        "reason": problem.reason,
        "resource": problem.resource,
        "field": problem.field,
    }
    return web.Response(status=problem.status, body=_encoder.encode(body), content_type="application/json")
