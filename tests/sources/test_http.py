"""The http source against Debian's nginx: what is fetched, when, and what comes of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pydrm import Resource
from tests.sources.build import detail, entry, ids, manager, play, state, until
from tests.sources.nginx import Nginx


def source(nginx: Nginx, path: str = "list.json", **fields: Any) -> Resource:
    return Resource("feed", kind="source.http", url=nginx.url(path), **{"poll": 0.05, **fields})


def test_what_the_list_has_is_added_and_what_it_has_no_more_is_removed() -> None:
    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry("r1"), entry("r2"), entry("r3")]})
            async with manager() as drm:
                await drm.add(source(nginx))
                await until(lambda: ids(drm) == ["r1", "r2", "r3"])
                await until(lambda: state(drm) == "open")

                nginx.put({"data": [entry("r2"), entry("r3", color="red"), entry("r4")]})

                await until(lambda: ids(drm) == ["r2", "r3", "r4"])
                await until(lambda: drm.get("r3") == Resource("r3", kind="idle", color="red"))

    play(scene)


def test_an_entry_that_did_not_change_keeps_its_holder_and_token() -> None:
    """Only what differs is handed over."""

    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry("r1"), entry("r2")]})
            async with manager() as drm:
                await drm.add(source(nginx))
                await until(lambda: state(drm, "r1") == state(drm, "r2") == "open")
                tokens = {view.resource: view.token for view in drm.assignments()}

                nginx.put({"data": [entry("r1"), entry("r2", color="red")]})
                await until(lambda: drm.get("r2") == Resource("r2", kind="idle", color="red"))
                await until(lambda: state(drm, "r2") == "open")

                after = {view.resource: view.token for view in drm.assignments()}
                assert after["r1"] == tokens["r1"]
                assert after["r2"] != tokens["r2"]

    play(scene)


def test_a_list_is_asked_for_on_the_condition_that_it_changed() -> None:
    """What the server said of it is sent back as it came, and costs nobody a list."""

    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry("r1")]}, age_s=60)
            async with manager() as drm:
                await drm.add(source(nginx))
                await until(lambda: len(nginx.requests()) >= 4)
                first, *others = nginx.requests()

        assert (first["status"], first["if_none_match"], first["if_modified_since"]) == (200, "", "")
        assert {request["status"] for request in others} == {304}
        assert all(request["if_none_match"].startswith('"') for request in others)
        assert all(request["if_modified_since"].endswith("GMT") for request in others)

    play(scene)


def test_a_list_that_changed_in_this_very_second_is_asked_for_without_condition() -> None:
    """Its validator counts seconds, so what is written next may have the same (RFC 9110, section 8.8.2.2)."""

    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry("r1"), entry("r2")]})
            async with manager() as drm:
                await drm.add(source(nginx))
                await until(lambda: ids(drm) == ["r1", "r2"])

                nginx.put({"data": [entry("r1"), entry("r3")]})

                await until(lambda: ids(drm) == ["r1", "r3"])

    play(scene)


def test_the_next_holder_asks_on_the_same_condition(tmp_path: Path) -> None:
    """What validates the list travels in the checkpoint: a restart fetches nothing that it has."""

    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry("r1")]}, age_s=60)
            async with manager(data_dir=tmp_path / "a") as drm:
                await drm.add(source(nginx))
                await until(lambda: len(nginx.requests()) >= 3)
            before = len(nginx.requests())
            async with manager(data_dir=tmp_path / "a") as drm:
                await until(lambda: len(nginx.requests()) > before)
                assert nginx.requests()[before]["status"] == 304
                await until(lambda: state(drm) == "open")
                assert ids(drm) == ["r1"]

    play(scene)


def test_what_the_app_removed_by_call_comes_back_although_the_list_did_not_change() -> None:
    """As long as it is in the list it is wanted; an answer that nothing changed is not asked for then."""

    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry("r1"), entry("r2")]}, age_s=60)
            async with manager() as drm:
                await drm.add(source(nginx))
                await until(lambda: ids(drm) == ["r1", "r2"] and nginx.requests()[-1]["status"] == 304)

                await drm.remove("r1")
                assert ids(drm) == ["r2"]

                await until(lambda: ids(drm) == ["r1", "r2"])

    play(scene)


def test_what_the_app_added_is_never_touched() -> None:
    """Neither when the list has the same id, nor when it has it no more; and it is said that it was passed over."""

    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry("r1"), entry("r2", color="red")]})
            async with manager() as drm:
                mine = Resource("r2", kind="idle", color="blue")
                await drm.add(mine)
                await drm.add(source(nginx))

                await until(lambda: ids(drm) == ["r1", "r2"])
                await until(lambda: "1 are owned by somebody else: 'r2'" in detail(drm))
                nginx.put({"data": [entry("r1")]})
                await until(lambda: detail(drm) == "")

                assert drm.get("r2") == mine
                assert state(drm) == "open"

    play(scene)


def test_an_empty_list_changes_nothing_and_is_reported() -> None:
    """The original dropped everything once, and every connection with it."""

    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry("r1"), entry("r2")]})
            async with manager() as drm:
                await drm.add(source(nginx))
                await until(lambda: state(drm) == "open")

                nginx.put({"data": []})
                await until(lambda: state(drm) == "retrying")

                assert "the list is empty, and 2 resources came from it" in detail(drm)
                assert ids(drm) == ["r1", "r2"]
                nginx.put({"data": [entry("r1"), entry("r3")]})
                await until(lambda: ids(drm) == ["r1", "r3"])
                await until(lambda: state(drm) == "open")

    play(scene)


def test_an_empty_list_is_believed_where_it_is_allowed() -> None:
    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry("r1"), entry("r2")]})
            async with manager() as drm:
                await drm.add(source(nginx, allow_empty=True))
                await until(lambda: ids(drm) == ["r1", "r2"])

                nginx.put({"data": []})

                await until(lambda: ids(drm) == [])

    play(scene)


@pytest.mark.parametrize("max_shrink", [0.5, 0.8])
def test_a_list_that_shrinks_by_more_than_allowed_changes_nothing(max_shrink: float) -> None:
    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry(f"r{number}") for number in range(10)]})
            async with manager() as drm:
                await drm.add(source(nginx, max_shrink=max_shrink))
                await until(lambda: len(ids(drm)) == 10)

                nginx.put({"data": [entry("r0"), entry("r1"), entry("r2")]})

                if max_shrink == 0.8:
                    await until(lambda: len(ids(drm)) == 3)
                    return
                await until(lambda: state(drm) == "retrying")
                assert detail(drm) == (
                    "nothing is changed: the list would take away 7 of 10 resources; max_shrink allows 50%"
                )
                assert len(ids(drm)) == 10

    play(scene)


def test_what_is_missing_is_kept_where_that_is_wanted() -> None:
    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry("r1"), entry("r2")]})
            async with manager() as drm:
                await drm.add(source(nginx, on_missing="keep"))
                await until(lambda: ids(drm) == ["r1", "r2"])

                nginx.put({"data": [entry("r3")]})

                await until(lambda: ids(drm) == ["r1", "r2", "r3"])
                nginx.put({"data": []}, age_s=60)
                await until(lambda: nginx.requests()[-1]["status"] == 304)
                assert (state(drm), ids(drm)) == ("open", ["r1", "r2", "r3"])

    play(scene)


def test_a_server_that_is_down_changes_nothing_and_is_asked_again() -> None:
    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry("r1")]})
            async with manager() as drm:
                await drm.add(source(nginx))
                await until(lambda: state(drm) == "open")

                nginx.stop()
                await until(lambda: state(drm) == "retrying")
                assert "cannot be fetched: cannot connect to 127.0.0.1" in detail(drm)
                assert ids(drm) == ["r1"]
                nginx.start()
                nginx.put({"data": [entry("r1"), entry("r2")]})

                await until(lambda: ids(drm) == ["r1", "r2"])
                await until(lambda: state(drm) == "open")

    play(scene)


def test_a_source_that_was_never_there_shows_why_and_is_given_up_after_max_retry() -> None:
    """Then another node may try; with none left it is quarantined, and comes back by itself."""

    async def scene() -> None:
        with Nginx() as nginx:
            async with manager(quarantine=0.2, give_up_after=1) as drm:
                await drm.add(source(nginx, max_retry=0.1))
                await until(lambda: state(drm) == "quarantined")
                assert "answered with status 404" in detail(drm)

                nginx.put({"data": [entry("r1")]})

                await until(lambda: ids(drm) == ["r1"])

    play(scene)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("<html>", "is not JSON"),
        ('{"data": [{"id": "r1"', "is not JSON"),
        ({"items": []}, "the content has no member 'data'"),
        ({"data": {"r1": {}}}, "member 'data' is not a list"),
        ({"data": [entry("r1")] * 20_000}, "more than 100000 (max_bytes)"),
    ],
)
def test_an_answer_that_is_no_list_changes_nothing(content: Any, problem: str) -> None:
    """A half is never taken for the whole."""

    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry("r1")]})
            async with manager() as drm:
                await drm.add(source(nginx, max_bytes=100_000))
                await until(lambda: state(drm) == "open")

                nginx.put(content)

                await until(lambda: problem in detail(drm))
                assert ids(drm) == ["r1"]

    play(scene)


def test_the_list_is_found_where_it_is_said_to_be_and_gets_defaults() -> None:
    """An entry's own fields go before them; a number for an id is a string here."""

    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"result": {"items": [{"id": 1}, {"id": "2", "color": "red"}]}})
            defaults = {"kind": "idle", "color": "grey", "weight": 3}
            async with manager() as drm:
                await drm.add(source(nginx, list="result.items", defaults=defaults))
                await until(lambda: ids(drm) == ["1", "2"])

                assert drm.get("1") == Resource("1", kind="idle", color="grey", weight=3)
                assert drm.get("2") == Resource("2", kind="idle", color="red", weight=3)

    play(scene)


def test_an_entry_that_cannot_be_used_costs_itself_only() -> None:
    """What was held under its id stays as it was, and what is wrong with it shows."""

    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry("r1"), entry("r2", color="red")]})
            async with manager() as drm:
                await drm.add(source(nginx))
                await until(lambda: ids(drm) == ["r1", "r2"])

                nginx.put({"data": [entry("r1"), entry("r2", color=7), entry("r3")]})

                await until(lambda: ids(drm) == ["r1", "r2", "r3"])
                await until(lambda: "1 entries are left out" in detail(drm))
                assert "resource 'r2', field 'color': must be a string" in detail(drm)
                assert (drm.get("r2") or {})["color"] == "red"
                assert state(drm) == "open"

    play(scene)


def test_a_list_can_be_asked_for_by_post() -> None:
    """With a body in JSON, or as it is written; and never on a condition, which POST does not have."""
    locations = """
        location = /query { proxy_pass http://127.0.0.1:PORT/answer; proxy_set_header X-Key $content_type; }
        location = /answer { error_page 405 =200 /list.json; return 405; }
    """

    async def scene() -> None:
        with Nginx(locations) as nginx:
            nginx.put({"data": [entry("r1")]}, age_s=60)
            async with manager() as drm:
                await drm.add(source(nginx, "query", method="post", body={"filter": "{active}"}))
                await until(lambda: ids(drm) == ["r1"])
                await until(lambda: len(nginx.requests()) > 4)

                asked = [request for request in nginx.requests() if request["uri"] == "/query"]
                assert {(request["method"], request["body"], request["if_none_match"]) for request in asked} == {
                    ("POST", '{"filter": "{active}"}', "")
                }

    play(scene)


def test_headers_are_sent_and_secrets_are_read_on_the_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is secret is in no definition, status or log."""
    monkeypatch.setenv("FEED_KEY", "s3cret-in-env")
    (tmp_path / "key").write_text("s3cret-in-file\n")
    caplog.set_level("DEBUG")

    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry("r1")]})
            async with manager() as drm:
                feed = source(
                    nginx,
                    f"list.json?key={{file:{tmp_path}/key}}",
                    headers={"X-Key": "{env:FEED_KEY}"},
                )
                await drm.add(feed)
                await until(lambda: ids(drm) == ["r1"])
                asked = nginx.requests()[0]
                assert (asked["uri"], asked["key"]) == ("/list.json?key=s3cret-in-file", "s3cret-in-env")
                nginx.remove()
                await until(lambda: "status 404" in detail(drm))

                shown = json.dumps([drm.status(), drm.resources(), (drm.get("feed") or feed).to_dict()])
                assert "s3cret" not in shown

    play(scene)
    assert "s3cret" not in caplog.text


def test_a_secret_in_a_path_and_one_that_the_server_repeats_are_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEED_KEY", "s3cret-in-env")

    async def scene() -> None:
        with Nginx('location /echo { return 200 \'{"wrong": "$http_x_key"}\'; }') as nginx:
            async with manager() as drm:
                await drm.add(source(nginx, "{env:FEED_KEY}/list.json"))
                await until(lambda: "/{env:FEED_KEY}/list.json answered with status 404" in detail(drm))

                await drm.add(source(nginx, "echo", headers={"X-Key": "{env:FEED_KEY}"}))
                await until(lambda: "has no member 'data': {'wrong': '{env:FEED_KEY}'}" in detail(drm))

    play(scene)


def test_a_secret_that_is_not_there_is_named() -> None:
    async def scene() -> None:
        with Nginx() as nginx:
            async with manager() as drm:
                await drm.add(source(nginx, headers={"X-Key": "{env:NO_SUCH_KEY}"}))

                await until(lambda: state(drm) == "retrying")
                assert detail(drm) == "cannot be fetched: {env:NO_SUCH_KEY} is not set, or is empty on this node"
                assert nginx.requests() == []

    play(scene)


def test_an_entry_must_not_name_secrets_of_the_holder_unless_it_may() -> None:
    """Whoever writes the list could have them sent anywhere."""

    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry("r1", color="{env:HOME}"), entry("r2")]})
            async with manager() as drm:
                await drm.add(source(nginx))
                await until(lambda: ids(drm) == ["r2"])
                await until(lambda: "resource 'r1', field 'color': refers to a secret" in detail(drm))

                await drm.add(source(nginx, allow_secrets=True))
                await until(lambda: ids(drm) == ["r1", "r2"])

    play(scene)


def test_pages_are_followed_by_the_header_link() -> None:
    """RFC 8288: also without being asked to, because a part of a list would be taken for the whole."""
    locations = """
        location = /page1 { add_header Link '</page2>; rel="next", </page1>; rel="first"'; try_files /page1.json =404; }
        location = /page2 { add_header Link '<page3>; rel=next'; try_files /page2.json =404; }
        location = /page3 { try_files /page3.json =404; }
    """

    async def scene() -> None:
        with Nginx(locations) as nginx:
            for page in (1, 2, 3):
                nginx.put([entry(f"r{page}")], f"page{page}.json")
            async with manager() as drm:
                await drm.add(source(nginx, "page1"))
                await until(lambda: ids(drm) == ["r1", "r2", "r3"])

                nginx.remove("page3.json")
                await until(lambda: "page3 answered with status 404" in detail(drm))
                assert ids(drm) == ["r1", "r2", "r3"]
                asked = {(request["uri"], request["if_none_match"]) for request in nginx.requests()}
                assert asked == {("/page1", ""), ("/page2", ""), ("/page3", "")}

    play(scene)


def test_pages_are_followed_by_a_cursor_in_the_answer() -> None:
    locations = """
        location = /list { try_files /page$arg_after.json =404; }
    """

    async def scene() -> None:
        with Nginx(locations) as nginx:
            nginx.put({"data": [entry("r1")], "paging": {"next": "x y"}}, "page.json")
            nginx.put({"data": [entry("r2")], "paging": {"next": None}}, "pagex+y.json")
            async with manager() as drm:
                await drm.add(source(nginx, "list?size=1", next="paging.next", cursor="after"))

                await until(lambda: ids(drm) == ["r1", "r2"])
                assert [request["uri"] for request in nginx.requests()][:2] == [
                    "/list?size=1",
                    "/list?size=1&after=x+y",
                ]

    play(scene)


@pytest.mark.parametrize(
    ("following", "problem"),
    [
        ("/list.json", "is one that was fetched already"),
        ("http://192.0.2.1/list", "the next page is elsewhere, at http://192.0.2.1/list"),
        ({"page": 2}, "the next page is named by {'page': 2}"),
    ],
)
def test_pages_that_lead_in_a_circle_or_elsewhere_are_no_list(following: Any, problem: str) -> None:
    """The headers of this source are for its own server only."""

    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry("r1")], "next": following})
            async with manager() as drm:
                await drm.add(source(nginx, next="next"))

                await until(lambda: problem in detail(drm))
                assert ids(drm) == []

    play(scene)


def test_redirects_are_not_followed_and_it_is_said_where_they_lead() -> None:
    locations = "location = /old { return 302 http://192.0.2.1/new?token=s3cret; }"

    async def scene() -> None:
        with Nginx(locations) as nginx:
            async with manager() as drm:
                await drm.add(source(nginx, "old"))

                await until(lambda: "status 302 and leads to http://192.0.2.1/new, which" in detail(drm))
                assert "s3cret" not in detail(drm)

    play(scene)


def test_a_server_that_wants_to_be_left_alone_is() -> None:
    """Retry-After, in seconds; a new definition does not wait for it."""
    locations = "location = /busy { add_header Retry-After 600 always; return 429; }"

    async def scene() -> None:
        with Nginx(locations) as nginx:
            nginx.put({"data": [entry("r1")]})
            async with manager() as drm:
                await drm.add(source(nginx, "busy"))
                await until(lambda: state(drm) == "retrying")
                await asyncio.sleep(0.5)
                assert len(nginx.requests()) == 1

                await drm.add(source(nginx))
                await until(lambda: ids(drm) == ["r1"])

    play(scene)


def test_five_thousand_entries_come_in_parts() -> None:
    """A part is at most 500, so that no command holds up what others have to say."""

    async def scene() -> None:
        with Nginx() as nginx:
            nginx.put({"data": [entry(f"r{number:05}") for number in range(5000)]})
            async with manager() as drm:
                await drm.add(source(nginx))
                await until(lambda: len(drm.resources()) == 5001, timeout_s=60)
                await until(lambda: state(drm) == "open", timeout_s=60)

                await drm.remove("feed")

                await until(lambda: drm.resources() == [], timeout_s=60)

    play(scene)


async def saying(answer: bytes, asked: list[bytes]) -> asyncio.Server:
    """Says *answer*, whatever it is, to all."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    return await asyncio.start_server(say, "127.0.0.1", 0)


def address(server: asyncio.Server) -> str:
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


def test_a_redirect_in_no_known_encoding_is_shown_as_it_came() -> None:
    """Latin-1 is not rare there. It must not get into the log as text that is none: the node would stop."""
    answer = b"HTTP/1.1 302 Found\r\nLocation: /caf\xe9\r\nContent-Length: 0\r\n\r\n"

    async def scene() -> None:
        async with await saying(answer, []) as server, manager() as drm:
            await drm.add(Resource("other", kind="idle"))
            await drm.add(Resource("feed", kind="source.http", url=address(server)))

            await until(lambda: "and leads to /caf\\udce9, which is not followed" in detail(drm))
            assert state(drm, "other") == "open"

    play(scene)


def test_a_validator_that_cannot_be_kept_is_done_without() -> None:
    """What RFC 9110 calls obs-text is allowed in an ETag, and is not UTF-8."""
    body = json.dumps([entry("r1")]).encode()
    answer = b'HTTP/1.1 200 OK\r\nETag: "\xe9"\r\nContent-Length: %d\r\n\r\n%b' % (len(body), body)
    asked: list[bytes] = []

    async def scene() -> None:
        async with await saying(answer, asked) as server, manager() as drm:
            await drm.add(Resource("feed", kind="source.http", url=address(server), poll=0.05))

            await until(lambda: len(asked) > 3)
            assert (ids(drm), state(drm)) == (["r1"], "open")

    play(scene)
    assert not any(b"If-None-Match" in request for request in asked)
