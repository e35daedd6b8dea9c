from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from pydrm.admin import AdminServer
from pydrm.admin.routes import BODY_BYTES_MAX
from pydrm.core.resource import Resource
from pydrm.errors import ConfigurationError, Unavailable
from tests.admin.fake_manager import FakeManager, failing, minority

R1 = {"id": "r1", "kind": "websocket", "url": "ws://127.0.0.1:9000/"}
R2 = {"id": "r2", "kind": "websocket", "url": "ws://127.0.0.1:9000/"}

Ask = Callable[..., Awaitable[tuple[int, Any]]]


def served(manager: FakeManager, talk: Callable[[Ask], Awaitable[None]]) -> None:
    """Run *talk* while *manager* is served; what it is given asks and returns (status, decoded answer)."""

    async def main() -> None:
        async with AdminServer(manager, "127.0.0.1:0") as server, aiohttp.ClientSession(server.url) as session:

            async def ask(method: str, path: str, **options: Any) -> tuple[int, Any]:
                async with session.request(method, path, **options) as response:
                    assert response.content_type == "application/json"
                    return response.status, await response.json()

            await talk(ask)

    asyncio.run(main())


def test_status_nodes_and_resources_are_what_the_manager_says() -> None:
    """The API adds nothing to what the node knows and leaves nothing out."""
    manager = FakeManager()
    manager.kept["r1"] = Resource.from_dict(R1)

    async def talk(ask: Ask) -> None:
        assert await ask("GET", "/v1/status") == (200, manager.status())
        assert await ask("GET", "/v1/nodes") == (200, manager.status()["nodes"])
        assert await ask("GET", "/v1/resources") == (200, manager.resources())

    served(manager, talk)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (json.dumps([R1, R2]), "application/json"),
        (json.dumps(R1) + "\n" + json.dumps(R2) + "\n", "application/x-ndjson"),
    ],
)
def test_resources_are_added_from_an_array_or_from_lines(body: str, content_type: str) -> None:
    """Both forms mean the same."""
    manager = FakeManager()

    async def talk(ask: Ask) -> None:
        answer = await ask("POST", "/v1/resources?timeout=3", data=body, headers={"Content-Type": content_type})

        assert answer == (200, {"added": 2})
        assert manager.kept == {"r1": Resource.from_dict(R1), "r2": Resource.from_dict(R2)}
        assert manager.timeouts == [3.0]

    served(manager, talk)


def test_resources_are_removed_and_an_unknown_one_is_not_found() -> None:
    """What is there is removed all the same: the answer says how many were."""
    manager = FakeManager()
    manager.kept = {"r1": Resource.from_dict(R1), "r2": Resource.from_dict(R2)}

    async def talk(ask: Ask) -> None:
        assert await ask("POST", "/v1/resources/remove", json={"ids": ["r1"]}) == (200, {"removed": 1})
        status, answer = await ask("POST", "/v1/resources/remove", json={"ids": ["r1", "r2"]})
        assert (status, answer["reason"]) == (404, "not-found")
        assert answer["error"] == "there is no resource 'r1'; 1 were removed"
        assert manager.kept == {}

    served(manager, talk)


def test_a_bad_definition_adds_nothing_and_its_field_is_named() -> None:
    """All are checked before the first is added."""
    manager = FakeManager()

    async def talk(ask: Ask) -> None:
        status, answer = await ask("POST", "/v1/resources", json=[R1, {"id": "r2"}])

        assert status == 400
        assert answer == {
            "error": "resource 'r2', field 'kind': is missing",
            "reason": "invalid",
            "resource": "r2",
            "field": "kind",
        }
        assert manager.kept == {}

    served(manager, talk)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/resources", "[{"),
        ("/v1/resources", "\xff"),
        ("/v1/resources", "[3]"),
        ("/v1/resources?timeout=0", "[]"),
        ("/v1/resources?timeout=nan", "[]"),
        ("/v1/resources?timeout=soon", "[]"),
        ("/v1/resources/pause", '{"ids": ["r1"], "why": "x"}'),
        ("/v1/resources/resume", '{"ids": ["r1"], "reason": "x"}'),
        ("/v1/resources/remove", '["r1"]'),
        ("/v1/resources/remove", '{"ids": "r1"}'),
        ("/v1/resources/remove", '{"ids": [], "id": "r1"}'),
    ],
)
def test_what_cannot_be_understood_is_invalid(path: str, body: str) -> None:
    async def talk(ask: Ask) -> None:
        status, answer = await ask(
            "POST", path, data=body.encode("latin-1"), headers={"Content-Type": "application/json"}
        )
        assert (status, answer["reason"]) == (400, "invalid")

    served(FakeManager(), talk)


def test_a_change_without_a_majority_is_refused_in_so_many_words() -> None:
    async def talk(ask: Ask) -> None:
        status, answer = await ask("POST", "/v1/resources", json=[R1])
        assert (status, answer["reason"]) == (503, "no-majority")

    served(minority(), talk)


def test_a_change_that_was_only_slow_is_a_timeout() -> None:
    async def talk(ask: Ask) -> None:
        status, answer = await ask("POST", "/v1/resources", json=[R1])
        assert (status, answer["reason"]) == (503, "timeout")

    served(failing(Unavailable("gave up")), talk)


def test_a_bug_is_told_as_a_bug_and_the_next_request_is_answered() -> None:
    """One request's failure is logged and ends neither the server nor the node."""
    manager = FakeManager(failure=ZeroDivisionError("oh"))

    async def talk(ask: Ask) -> None:
        status, answer = await ask("POST", "/v1/resources", json=[R1])
        assert (status, answer["reason"]) == (500, "failed")
        assert (await ask("GET", "/v1/status"))[0] == 200

    served(manager, talk)


def test_a_body_without_end_is_refused() -> None:
    async def talk(ask: Ask) -> None:
        status, answer = await ask(
            "POST",
            "/v1/resources",
            data=b" " * (BODY_BYTES_MAX + 1),
            headers={"Content-Type": "application/json"},
        )
        assert (status, answer["reason"]) == (413, "too-large")

    served(FakeManager(), talk)


def test_a_form_that_a_web_page_could_send_changes_nothing() -> None:
    """A page of another origin may send text/plain unasked, but never application/json."""
    manager = FakeManager()

    async def talk(ask: Ask) -> None:
        for content_type in ("text/plain", "application/x-www-form-urlencoded"):
            status, answer = await ask(
                "POST", "/v1/resources", data=json.dumps([R1]), headers={"Content-Type": content_type}
            )
            assert (status, answer["reason"]) == (415, "wrong-type")
        assert manager.kept == {}

    served(manager, talk)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8001", "127.0.0.1.evil.example", "[evil]:8001", ""])
def test_a_strangers_name_for_this_machine_is_refused(host: str) -> None:
    """DNS rebinding: the name is the stranger's, though it leads here."""

    async def talk(ask: Ask) -> None:
        status, answer = await ask("GET", "/v1/status", headers={"Host": host})
        assert (status, answer["reason"]) == (403, "forbidden")

    served(FakeManager(), talk)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8001", "10.1.2.3", "[::1]", "[::1]:8001"])
def test_an_address_and_localhost_are_this_node(host: str) -> None:
    async def talk(ask: Ask) -> None:
        assert (await ask("GET", "/v1/status", headers={"Host": host}))[0] == 200

    served(FakeManager(), talk)


def test_what_does_not_exist_is_told_as_json_too() -> None:
    async def talk(ask: Ask) -> None:
        assert (await ask("GET", "/v1/nothing"))[0] == 404
        status, answer = await ask("GET", "/v1/resources/remove")
        assert (status, answer["reason"]) == (405, "method-not-allowed")

    served(FakeManager(), talk)


def test_an_address_in_use_is_a_configuration_error_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = AdminServer(FakeManager(), f"127.0.0.1:{taken.getsockname()[1]}")

        with pytest.raises(ConfigurationError) as caught:
            server.listen()

    assert caught.value.field == "admin"


def test_starting_and_stopping_twice_is_once() -> None:
    async def main() -> None:
        server = AdminServer(FakeManager(), "127.0.0.1:0")
        await server.start()
        url = server.url
        await server.start()
        assert server.url == url
        await server.stop()
        await server.stop()

        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.get(url + "/v1/status")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "sent"), [({"text": "hällo"}, "hällo"), ({"base64": "AP8="}, b"\x00\xff"), ({"text": ""}, "")]
)
def test_something_is_sent_as_text_or_as_bytes(body: dict[str, str], sent: str | bytes) -> None:
    manager = FakeManager()
    manager.kept["r1"] = Resource.from_dict(R1)

    async def talk(ask: Ask) -> None:
        assert await ask("POST", "/v1/send", json={"id": "r1", **body}) == (200, {"node": "b", "token": 7})

    served(manager, talk)
    assert manager.sent == [("r1", sent)]


@pytest.mark.parametrize(
    "body",
    [{"id": "r1"}, {"id": "r1", "text": "x", "base64": "eA=="}, {"text": "x"}, {"id": "r1", "base64": "%"}, [], "x"],
)
def test_what_does_not_say_what_to_send_is_refused(body: object) -> None:
    async def talk(ask: Ask) -> None:
        status, answer = await ask("POST", "/v1/send", json=body)
        assert (status, answer["reason"]) == (400, "invalid")

    served(FakeManager(), talk)
