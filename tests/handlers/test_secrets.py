"""Secrets are used by the holder and shown by nobody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from websockets.asyncio.server import ServerConnection, serve

from pydrm import Resource, ResourceManager
from pydrm.clock import SystemClock
from pydrm.core.records import Condition
from pydrm.errors import InvalidResource
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.http_poll.kind import HttpPoll
from pydrm.handlers.redis.pubsub import RedisPubsub
from pydrm.handlers.redis.stream import RedisStream
from pydrm.handlers.secrets import SECRET_BYTES_MAX, SecretMissing, Secrets, read_reference, reading, references
from pydrm.handlers.template import TemplateError
from pydrm.handlers.websocket.kind import Websocket
from pydrm.testing.held import Held, until
from tests.counterparts import Server, redis_server
from tests.handlers.http_server import says, site

OPEN_DESCRIPTORS = Path("/proc/self/fd")

SECRET = "s3cr3t/ä&=%?"
SHOWN = ["s3cr3t"]

Process = Callable[[ServerConnection, Any], Any]


@pytest.fixture
def secret_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The secret in a file, and in the variable FEED_KEY."""
    monkeypatch.setenv("FEED_KEY", SECRET)
    path = tmp_path / "key"
    path.write_text(f"{SECRET}\n")
    return path


@contextlib.asynccontextmanager
async def server(process: Process | None = None) -> AsyncIterator[tuple[str, list[Any]]]:
    asked: list[Any] = []

    def seen(connection: ServerConnection, request: Any) -> Any:
        asked.append(request)
        return process(connection, request) if process is not None else None

    async def listen(connection: ServerConnection) -> None:
        async for message in connection:
            asked.append(message)

    async with serve(listen, "127.0.0.1", 0, process_request=seen) as listening:
        yield f"ws://127.0.0.1:{next(iter(listening.sockets)).getsockname()[1]}", asked


def feed(url: str, secret_file: Path, **fields: Any) -> Resource:
    return Resource(
        "r1",
        kind="websocket",
        **{
            "url": url + "/?key={env:FEED_KEY}&other={file:" + str(secret_file) + "}",
            "subscribe": {"auth": "{env:FEED_KEY}"},
            **fields,
        },
    )


def own(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Without what the third party, which is told them, writes down in this process."""
    return [record for record in caplog.records if record.name not in ("websockets.server", "aiohttp.access")]


def nothing_shown(held: Held, caplog: pytest.LogCaptureFixture) -> bool:
    records = "".join(
        f"{record.getMessage()} {record.__dict__} {''.join(traceback.format_exception(*record.exc_info))}"
        if record.exc_info
        else f"{record.getMessage()} {record.__dict__}"
        for record in own(caplog)
    )
    return not any(part in text for part in SHOWN for text in (records, str(held.told), held.handle.detail))


@pytest.mark.usefixtures("each_transport")
def test_the_third_party_gets_them_and_nothing_else_does(secret_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with server() as (url, asked):
            held = Held(Websocket(Callbacks()), feed(url, secret_file, headers={"X-Key": "{env:ASCII_KEY}"}))
            await held.until_open()
            await until(lambda: len(asked) == 2)
            await held.release()

            encoded = "s3cr3t%2F%C3%A4%26%3D%25%3F"
            assert asked[0].path == f"/?key={encoded}&other={encoded}"
            assert asked[0].headers["X-Key"] == "s3cr3t-ascii"
            assert asked[1] == f'{{"auth":"{SECRET}"}}'
            assert nothing_shown(held, caplog)

    with caplog.at_level(logging.DEBUG), pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASCII_KEY", "s3cr3t-ascii")
        asyncio.run(scene())
    assert SECRET not in repr(Secrets({"env:FEED_KEY": SECRET}))


def echo(connection: ServerConnection, request: Any) -> Any:
    response = connection.respond(400, f"what is {request.path}?\n")
    response.headers["X-Echo"] = "s3cr3t"
    return response


def redirect(connection: ServerConnection, request: Any) -> Any:
    response = connection.respond(302, "")
    response.headers["Location"] = f"ws://127.0.0.1:1/{request.path}"
    return response


@pytest.mark.usefixtures("each_transport")
@pytest.mark.parametrize("process", [echo, redirect], ids=["echo", "redirect"])
def test_a_third_party_that_repeats_them_makes_nobody_show_them(
    process: Process, secret_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with server(process) as (url, _):
            held = Held(Websocket(Callbacks()), feed(url, secret_file))
            await until(lambda: held.handle.condition is Condition.RETRYING)
            assert nothing_shown(held, caplog)
            await held.release()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scene())


@pytest.mark.usefixtures("each_transport")
def test_a_close_reason_that_repeats_them_is_shown_without(secret_file: Path) -> None:
    async def scene() -> None:
        async def turn_away(connection: ServerConnection) -> None:
            await connection.close(4001, f"wrong key {SECRET}")

        async with serve(turn_away, "127.0.0.1", 0) as listening:
            url = f"ws://127.0.0.1:{next(iter(listening.sockets)).getsockname()[1]}"
            held = Held(Websocket(Callbacks()), feed(url, secret_file, subscribe=None))
            await until(lambda: held.handle.condition is Condition.RETRYING)
            await held.release()

            assert "4001" in str(held.told)
            assert "wrong key {env:FEED_KEY}" in str(held.told) or "wrong key {file:" in str(held.told)
            assert "s3cr3t" not in str(held.told)

    asyncio.run(scene())


@pytest.mark.usefixtures("each_transport")
@pytest.mark.parametrize(
    "fields",
    [
        {"url": "ws://127.0.0.1:1/{env:FEED_KEY}"},
        {"url": "ws://{env:FEED_KEY}.invalid/"},
        {"url": "ws://127.0.0.1:1/", "headers": {"X-Key": "{env:FEED_KEY}"}},
        {"url": "ws://127.0.0.1:1/", "proxy": "http://me:{env:FEED_KEY}@127.0.0.1:1/"},
    ],
)
def test_what_cannot_be_opened_is_said_without_them(
    fields: dict[str, Any], secret_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody listens there; and a header must not have what the secret has."""

    async def scene() -> None:
        held = Held(Websocket(Callbacks()), Resource("r1", kind="websocket", **fields))
        await until(lambda: held.handle.condition is Condition.RETRYING)
        assert nothing_shown(held, caplog)
        await held.release()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scene())


@pytest.mark.usefixtures("each_transport")
def test_an_error_does_not_carry_them_in_its_context(secret_file: Path) -> None:
    """Whatever prints a traceback prints the errors that led to an error too."""

    async def scene() -> None:
        async with server(redirect) as (url, _):
            held = Held(Websocket(Callbacks()), feed(url, secret_file))
            held.task.cancel()
            with pytest.raises(Exception, match="redirect") as raised:
                await Websocket(Callbacks()).run(held.hold)

            assert "s3cr3t" not in "".join(traceback.format_exception(raised.value))
            assert (raised.value.__cause__, raised.value.__context__) == (None, None)

    asyncio.run(scene())


@pytest.mark.usefixtures("each_transport")
def test_one_that_is_not_there_is_named_and_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with server() as (url, _):
            subject = Resource("r1", kind="websocket", url=url + "/{env:LATE_KEY}")
            held = Held(Websocket(Callbacks()), subject)
            await until(lambda: held.handle.condition is Condition.RETRYING)
            assert held.handle.detail == "{env:LATE_KEY} is not set, or is empty on node 'a'"

            monkeypatch.setenv("LATE_KEY", "now")
            await held.until_open()
            await held.release()

    monkeypatch.delenv("LATE_KEY", raising=False)
    asyncio.run(scene())


def test_status_and_resources_of_a_node_do_not_show_them(secret_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with server(echo) as (url, _), ResourceManager(cluster="orders", node="a") as drm:
            await drm.add(feed(url, secret_file))
            await until(lambda: [row["state"] for row in drm.resources()] == ["retrying"])

            shown = f"{drm.status()} {drm.resources()} {drm.get('r1')} {drm.assignments()}"
            assert "s3cr3t" not in shown

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scene())
    assert not any("s3cr3t" in record.getMessage() for record in own(caplog))


# --- references ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_transport")
@pytest.mark.parametrize("template", ["{env:1X}", "{env:A-B}", "{env:A.B}", "{file:relative}", "{file:/a\nb}"])
def test_a_reference_that_cannot_be_one_is_refused_when_it_is_added(template: str) -> None:
    with pytest.raises(InvalidResource) as refused:
        Websocket(Callbacks()).validate(Resource("r1", kind="websocket", url=f"ws://x/?{template}"))

    assert refused.value.field == "url"


@pytest.mark.usefixtures("each_transport")
def test_adding_does_not_need_what_only_the_holder_has() -> None:
    Websocket(Callbacks()).validate(Resource("r1", kind="websocket", url="ws://x/?k={env:NOWHERE}&f={file:/no/where}"))


def test_they_are_found_inside_of_objects_and_lists_once() -> None:
    templates = ["{env:A} {id}", {"x": ["{env:B}", {"y": "{env:A}{{env:C}}"}]}, None, 3]

    assert references(templates) == ["env:A", "env:B"]


@pytest.mark.parametrize("template", ["{env:{A}}", "{env!r:A}", "{id:A}"])
def test_nothing_else_of_a_format_is_a_reference(template: str) -> None:
    with pytest.raises(TemplateError):
        references([template])


def test_a_file_that_cannot_be_a_secret_is_named(tmp_path: Path) -> None:
    large, binary, empty = (tmp_path / name for name in ("large", "binary", "empty"))
    large.write_bytes(b"x" * (SECRET_BYTES_MAX + 1))
    binary.write_bytes(b"\xff\xfe")
    empty.write_bytes(b"\n")
    for path, why in [(large, "longer"), (binary, "UTF-8"), (empty, "empty"), (tmp_path / "none", "No such file")]:
        with pytest.raises(SecretMissing, match=why) as missing:
            asyncio.run(Secrets.read([f"{{file:{path}}}"]))
        assert str(path) in str(missing.value)


def test_a_poll_may_refer_to_them(secret_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In its url, where they are encoded, in its headers and in its body; and one that fails does not show them."""

    async def scene() -> None:
        async with site() as at:
            subject = Resource(
                "r1",
                kind="http_poll",
                url=at.url + "?key={env:FEED_KEY}",
                headers={"X-Key": "{env:ASCII_KEY}"},
                method="POST",
                body={"key": "{file:" + str(secret_file) + "}"},
                interval=0.05,
            )
            held = Held(HttpPoll(Callbacks(), clock=SystemClock(), random=random.Random(7)), subject)
            await held.until_open()
            at.answer = says(b"", 500)
            await until(lambda: held.handle.condition is Condition.RETRYING)
            await held.release()

            asked = at.asked[0]
            assert (
                asked.query == "key=s3cr3t/ä%26%3D%?"
            )  # as its server shows it: without what a query needs no code for
            assert asked.headers["X-Key"] == "s3cr3t-ascii"
            assert json.loads(asked.body) == {"key": SECRET}
            assert nothing_shown(held, caplog)

    with caplog.at_level(logging.DEBUG), pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASCII_KEY", "s3cr3t-ascii")
        asyncio.run(scene())


def test_what_is_no_response_does_not_show_the_url(caplog: pytest.LogCaptureFixture) -> None:
    """What aiohttp says of such a one has all of the request."""

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\xff\xfe\r\n\r\n")
        writer.close()

    async def scene() -> None:
        async with await asyncio.start_server(garbage, "127.0.0.1", 0) as there:
            url = f"http://127.0.0.1:{there.sockets[0].getsockname()[1]}/"
            subject = Resource("r1", kind="http_poll", url=url + "?key=s3cr3t", interval=0.05)
            held = Held(HttpPoll(Callbacks(), clock=SystemClock(), random=random.Random(7)), subject)
            await until(lambda: held.handle.condition is Condition.RETRYING)
            await held.release()

            assert held.handle.detail.startswith("what came is no response: ")
            assert nothing_shown(held, caplog)

    asyncio.run(scene())


@pytest.mark.usefixtures("secret_file")
def test_redis_may_refer_to_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One that is wrong is named, and not shown."""

    async def scene(server: Server) -> None:
        url = f"redis://:{{env:FEED_KEY}}@127.0.0.1:{server.port}"
        subject = Resource("r1", kind="redis_pubsub", url=url, channels="news")
        async with Redis(port=server.port) as there:
            await there.config_set("requirepass", SECRET)
            held = Held(RedisPubsub(Callbacks(), clock=SystemClock(), random=random.Random(7)), subject)
            await held.until_open()
            await held.release()
            await there.config_set("requirepass", "another")
        held = Held(
            RedisStream(Callbacks(), clock=SystemClock()), Resource("r2", kind="redis_stream", url=url, streams="s")
        )
        await until(lambda: held.handle.condition is Condition.RETRYING)
        await held.release()

        assert "invalid username-password pair" in held.handle.detail
        assert nothing_shown(held, caplog)

    with redis_server(tmp_path) as server, caplog.at_level(logging.DEBUG):
        asyncio.run(scene(server))


@pytest.mark.skipif(not OPEN_DESCRIPTORS.exists(), reason="there is nothing that lists what a process has open")
def test_a_directory_in_place_of_a_secret_leaves_nothing_open_however_often_it_is_tried(tmp_path: Path) -> None:
    """A node without a descriptor left can open no segment of its journal, so it stops."""
    before = len(os.listdir(OPEN_DESCRIPTORS))

    for _ in range(10):
        with pytest.raises(SecretMissing, match="Is a directory"):
            read_reference(f"file:{tmp_path}")

    assert len(os.listdir(OPEN_DESCRIPTORS)) == before


def test_a_pipe_is_no_file_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with pytest.raises(SecretMissing, match="is no file"):
        read_reference(f"file:{pipe}")


def test_a_file_that_hangs_keeps_only_those_waiting_who_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are looked up in threads too, and many may wait for a file system that is not there."""

    async def scene() -> None:
        over = threading.Event()
        reads = [asyncio.create_task(reading(over.wait)) for _ in range(40)]
        try:
            assert await asyncio.to_thread(lambda: True)
            results = await asyncio.gather(*reads, return_exceptions=True)
        finally:
            over.set()
        assert {type(result) for result in results} == {SecretMissing}

    monkeypatch.setattr("pydrm.handlers.secrets.READ_TIMEOUT_S", 0.1)
    asyncio.run(scene())


@pytest.mark.parametrize("encoded", ["a%2fb%2bc+d", "a%2Fb%2Bc+d", "a%2Fb%2Bc%20d", "a/b%2Bc%20d", "a/b+c d"])
def test_a_value_is_known_however_it_is_encoded(encoded: str) -> None:
    """Who repeats a url may write it in another way."""
    secrets = Secrets({"env:KEY": "a/b+c d"})

    assert secrets.redact(f"no such page: /?k={encoded}") == "no such page: /?k={env:KEY}"
