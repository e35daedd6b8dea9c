"""`ResourceManager` as a cluster of one, in memory: what an app calls and what it gets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pydrm import (
    ClusterRefused,
    ConfigurationError,
    Hold,
    InvalidResource,
    Message,
    Resource,
    ResourceManager,
    Unavailable,
)
from pydrm.config import Config
from pydrm.testing.ports import Ports
from pydrm.testing.third_party import ThirdParty
from pydrm.view import AssignmentView


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scene())


def manager(**options: Any) -> ResourceManager:
    """Node a of a cluster of one; its kind "idle" is open at once."""
    drm = ResourceManager(**{"cluster": "orders", "node": "a", **options})

    @drm.handler("idle")
    async def idle(hold: Hold) -> None:
        hold.ready()
        await asyncio.Event().wait()

    return drm


def idle(*ids: str, **fields: Any) -> list[Resource]:
    return [Resource(id, kind="idle", **fields) for id in ids]


async def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


def states(drm: ResourceManager) -> dict[str, str]:
    return {row["id"]: row["state"] for row in drm.resources()}


# --- requests and readings -------------------------------------------------------------------------------------------


def test_what_is_added_is_held_and_can_be_read_back_at_once() -> None:
    async def scene() -> None:
        async with manager() as drm:
            [added] = idle("r1", color="red")

            [view] = await drm.add(added)

            assert (view.resource, view.holder) == ("r1", "a")
            assert drm.get("r1") == added
            await until(lambda: states(drm) == {"r1": "open"})
            assert drm.holds("r1")
            assert drm.assignments() == [AssignmentView("r1", 0, "open", "a", view.token)]

    play(scene)


def test_add_takes_one_or_many_or_lists_of_them() -> None:
    async def scene() -> None:
        async with manager() as drm:
            views = await drm.add(idle("r1", "r2"), *idle("r3"), (resource for resource in idle("r4")))

            assert [view.resource for view in views] == ["r1", "r2", "r3", "r4"]

    play(scene)


def test_more_than_fits_into_one_command_is_added_in_parts() -> None:
    async def scene() -> None:
        async with manager() as drm:
            many = idle(*(f"r{number}" for number in range(1200)))
            large = idle(*(f"large{number}" for number in range(20)), text="x" * 60_000)

            views = await drm.add(many, large, timeout=60)

            assert len(views) == 1220
            assert len(drm.resources()) == 1220

    play(scene)


def test_a_definition_that_is_added_again_changes_nothing_and_another_one_replaces_it() -> None:
    async def scene() -> None:
        async with manager() as drm:
            [first] = await drm.add(idle("r1", color="red"))
            [same] = await drm.add(idle("r1", color="red"))
            assert same.token == first.token

            await drm.add(idle("r1", color="blue"))
            await until(lambda: states(drm) == {"r1": "open"} and drm.assignments()[0].token != first.token)

            assert drm.get("r1") == Resource("r1", kind="idle", color="blue")

    play(scene)


def test_what_is_paused_is_closed_until_it_is_resumed() -> None:
    async def scene() -> None:
        async with manager() as drm:
            await drm.add(idle("r1", "r2"))
            await until(lambda: states(drm) == {"r1": "open", "r2": "open"})

            assert await drm.pause("r1", "nothing", reason="moving house") == ["r1"]
            await until(lambda: states(drm) == {"r1": "paused", "r2": "open"})
            assert not drm.holds("r1")
            assert drm.resources()[0]["detail"] == "moving house"

            assert await drm.resume("r1", "nothing") == ["r1"]
            await until(lambda: states(drm) == {"r1": "open", "r2": "open"})

    play(scene)


def test_what_cannot_be_opened_is_quarantined_and_tried_again_after_a_while() -> None:
    """Here there is one node; it gives up after one failure."""

    async def scene() -> None:
        drm = manager(give_up_after=1, quarantine=0.3)
        works = False

        @drm.handler("moody")
        async def moody(hold: Hold) -> None:
            if not works:
                raise OSError("no route")
            hold.ready()
            await asyncio.Event().wait()

        async with drm:
            await drm.add(Resource("r1", kind="moody"))
            await until(lambda: states(drm) == {"r1": "quarantined"})
            assert drm.resources()[0]["detail"] == "OSError: no route"

            works = True
            await until(lambda: states(drm) == {"r1": "open"})

    play(scene)


def test_a_handler_goes_on_where_the_process_before_had_stopped(tmp_path: Path) -> None:
    """The checkpoint is in the data directory, with everything else."""

    async def scene() -> None:
        given = []
        for number in range(3):
            drm = manager(data_dir=tmp_path / "data")

            @drm.handler("counter")
            async def counter(hold: Hold, number: int = number) -> None:
                given.append(hold.last_checkpoint)
                await hold.checkpoint({"number": number})
                hold.ready()
                await asyncio.Event().wait()

            async with drm:
                await drm.add(Resource("r1", kind="counter"))
                await until(lambda drm=drm: states(drm) == {"r1": "open"})
        assert given == [None, {"number": 0}, {"number": 1}]

    play(scene)


def test_remove_tells_which_were_there() -> None:
    async def scene() -> None:
        async with manager() as drm:
            await drm.add(idle("r1", "r2", "r3"))

            assert await drm.remove("r3", "none", "r1", "r1") == ["r3", "r1"]
            assert drm.get("r1") is None
            await until(lambda: list(states(drm)) == ["r2"])

    play(scene)


def test_what_is_removed_and_added_again_comes_back_under_a_higher_token() -> None:
    async def scene() -> None:
        async with manager() as drm:
            [first] = await drm.add(idle("r1", color="red"))

            await drm.remove("r1")
            await drm.add(idle("r1", color="blue"))
            assert drm.get("r1") == Resource("r1", kind="idle", color="blue")
            await until(lambda: states(drm) == {"r1": "open"})

            assert drm.assignments()[0].token > first.token

    play(scene)


def test_allocate_and_deallocate_are_the_originals_names() -> None:
    async def scene() -> None:
        async with manager() as drm:
            await drm.allocate(*idle("r1"))

            assert await drm.deallocate("r1") == ["r1"]

    play(scene)


def test_force_release_takes_a_resource_from_its_holder() -> None:
    async def scene() -> None:
        async with manager() as drm:
            [held] = await drm.add(idle("r1"))

            await drm.force_release("r1", reason="it hangs")
            await until(lambda: states(drm) == {"r1": "open"} and drm.assignments()[0].token > held.token)

            with pytest.raises(ClusterRefused) as refused:
                await drm.force_release("none", reason="it hangs")
            assert refused.value.reason == "not-found"

    play(scene)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (lambda drm: drm.remove(5), "id"),
        (lambda drm: drm.remove("\ud800"), "id"),
        (lambda drm: drm.resume(None), "id"),
        (lambda drm: drm.pause("r1", reason=5), "reason"),
        (lambda drm: drm.force_release("r1", reason=b"stuck"), "reason"),
        (lambda drm: drm.force_release(["r1"], reason="stuck"), "id"),
    ],
)
def test_what_cannot_be_asked_is_named_and_costs_the_node_nothing(
    request_: Callable[[Any], Awaitable[object]], field: str
) -> None:
    """In the log it could be read by nobody, and would stop every node."""

    async def scene() -> None:
        async with manager() as drm:
            await drm.add(idle("r1"))

            with pytest.raises(ConfigurationError) as refused:
                await request_(drm)

            assert refused.value.field == field
            await drm.add(idle("r2"))

    play(scene)


def test_texts_of_handlers_and_people_that_are_no_unicode_are_shown_with_marks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Half a character cannot be written to the log, and must not keep anything else from it."""
    # The error's own traceback cannot be encoded either, and what is captured goes to another process.
    caplog.set_level(logging.CRITICAL, logger="pydrm")

    async def scene() -> None:
        drm = manager()

        @drm.handler("wrong")
        async def wrong(hold: Hold) -> None:
            hold.hold_back(0.001, "half \udcff")
            raise OSError("no file \ud800")

        async with drm:
            await drm.add(Resource("bad", kind="wrong", budget="files"), *idle("good", "paused"))
            await drm.pause("paused", reason="half \ud800")
            await until(lambda: states(drm) == {"bad": "retrying", "good": "open", "paused": "paused"})

            details = {row["id"]: row["detail"] for row in drm.resources()}
            assert details == {"bad": "OSError: no file ?", "good": "", "paused": "half ?"}

    play(scene)


def test_status_counts_what_there_is() -> None:
    async def scene() -> None:
        async with manager() as drm:
            await drm.add(idle("r1", "r2"))
            await until(lambda: states(drm) == {"r1": "open", "r2": "open"})

            status = drm.status()

            assert status["nodes"] == [{"node": "a", "state": "alive", "votes": True, "incarnation": 1, "held": 2}]
            assert status["resources"] == {
                "total": 2,
                "held": 2,
                "open": 2,
                "failing": 0,
                "unheld": 0,
                "moving": 0,
                "parked": 0,
            }
            assert (status["cluster"], status["node"], status["leader"]) == ("orders", "a", "a")
            assert status["has_majority"] is True
            assert status["lease"] == {"valid": True, "incarnation": 1}

    play(scene)


def test_status_counts_messages_whose_callback_failed_since_the_node_started() -> None:
    """A restart begins at 0."""

    async def scene() -> None:
        async with ThirdParty() as third_party:
            drm = manager()
            seen = []

            @drm.on_message("fragile")
            async def fragile(message: Message) -> None:
                seen.append(message.data)
                raise ValueError("cannot parse")

            async with drm:
                assert drm.status()["messages"]["callback_failures"] == 0
                await drm.add(Resource("btc", kind="websocket", url=third_party.url, on_message="fragile"))
                await until(lambda: states(drm) == {"btc": "open"})
                third_party.send("btc", "one")
                third_party.send("btc", "two")
                await until(lambda: len(seen) == 2)
                assert drm.status()["messages"]["callback_failures"] == 2
            async with drm:
                assert drm.status()["messages"]["callback_failures"] == 0

    play(scene)


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "field", "complaint"),
    [
        (Resource("r2", kind="mqtt"), "kind", "registered: http_poll, idle, redis_pubsub, redis_stream, source.file"),
        (Resource("r2", kind="websocket"), "url", "missing"),
        (Resource("r2", kind="websocket", url="ws://x.example", on_message="trades"), "on_message", "trades"),
        (Resource("r2", kind="idle", small="x", large="x" * 70_000), "large", "bytes"),
        (Resource("r1", kind="idle"), "id", "twice"),
        ("r2", "id", "must be a Resource"),
        ({"id": "r2", "kind": "idle"}, "id", "must be a Resource"),
    ],
)
def test_one_bad_definition_is_named_and_nothing_is_added(wrong: Any, field: str, complaint: str) -> None:
    async def scene() -> None:
        async with manager() as drm:
            with pytest.raises(InvalidResource, match=complaint) as refused:
                await drm.add(*idle("r1"), wrong)

            assert refused.value.field == field
            assert drm.resources() == []

    play(scene)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"node": ""}, "node"),
        ({"bind": "nowhere"}, "bind"),
        ({"lease_ttl": -1}, "lease_ttl"),
        ({"close_timeout": 0}, "close_timeout"),
        ({"peers": {"b": "127.0.0.1:7002"}, "bind": "127.0.0.1:7001"}, "data_dir"),
        ({"on_unfenced": "pray"}, "on_unfenced"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_before_anything_starts(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        manager(**options)

    assert refused.value.field == field


def test_an_option_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="lease_tll"):
        manager(lease_tll=2.0)


def test_a_configured_resource_that_does_not_fit_keeps_the_node_from_starting() -> None:
    async def scene() -> None:
        drm = manager(resources=[Resource("r1", kind="mqtt")])

        with pytest.raises(InvalidResource, match="mqtt"):
            await drm.start()

    play(scene)


def test_a_handler_that_cannot_be_one_is_refused_when_it_is_registered() -> None:
    drm = manager()

    with pytest.raises(ConfigurationError, match="must be async"):
        drm.handler("mqtt", lambda hold: None)
    with pytest.raises(ConfigurationError, match="has a handler already"):
        drm.handler("websocket", idle_function)


async def idle_function(hold: Hold) -> None:
    await asyncio.Event().wait()


# --- its life --------------------------------------------------------------------------------------------------------


def test_configured_resources_are_added_if_absent(tmp_path: Path) -> None:
    async def scene() -> None:
        options: dict[str, Any] = {"data_dir": tmp_path}
        async with manager(**options) as drm:
            await drm.add(idle("r1", color="changed by hand"))

        async with manager(**options, resources=idle("r1", "r2", color="configured")) as drm:
            assert drm.get("r1") == Resource("r1", kind="idle", color="changed by hand")
            assert drm.get("r2") == Resource("r2", kind="idle", color="configured")

    play(scene)


def test_a_manager_can_be_made_of_a_configuration() -> None:
    async def scene() -> None:
        drm = ResourceManager.from_config(Config.load(cluster="orders", node="b"))

        async with drm:
            assert drm.status()["node"] == "b"

    play(scene)


def test_start_and_stop_may_be_called_again_and_wait_closed_returns_after_stop() -> None:
    async def scene() -> None:
        drm = manager()
        await drm.start()
        await drm.start()

        await asyncio.gather(drm.stop(), drm.wait_closed())
        await drm.stop()

        with pytest.raises(Unavailable, match="does not run"):
            await drm.add(idle("r1"))

    play(scene)


def test_a_stopped_manager_can_be_started_again() -> None:
    async def scene() -> None:
        drm = manager()
        async with drm:
            await drm.add(idle("r1"))

        async with drm:
            assert drm.resources() == [], "a cluster of one without a data_dir lives in memory"

    play(scene)


def test_stop_ends_a_start_that_waits_for_peers(tmp_path: Path) -> None:
    async def scene() -> None:
        peers = {"a": "127.0.0.1:1", "b": "127.0.0.1:2", "c": "127.0.0.1:3"}
        drm = manager(bind=f"127.0.0.1:{ports.reserve()}", advertise="127.0.0.1:1", peers=peers, data_dir=tmp_path)
        starting = asyncio.create_task(drm.start())
        await asyncio.sleep(0.2)
        assert drm.status()["problem"]

        await drm.stop()

        with pytest.raises(Unavailable, match="stopped before"):
            await starting

    with Ports() as ports:
        play(scene)


def test_what_it_holds_is_closed_when_it_stops() -> None:
    async def scene() -> None:
        async with ThirdParty() as third_party:
            async with manager() as drm:
                await drm.add(Resource("r1", kind="websocket", url=third_party.url))
                await until(lambda: bool(third_party.diary.held()))

            assert third_party.diary.held() == {}

    play(scene)


def test_messages_reach_the_callback_that_the_definition_names() -> None:
    async def scene() -> None:
        async with ThirdParty() as third_party:
            drm = manager()
            heard: list[Message] = []

            @drm.on_message("trades")
            async def on_trade(message: Message) -> None:
                heard.append(message)

            async with drm:
                resource = Resource("btc", kind="websocket", url=third_party.url, on_message="trades")
                [view] = await drm.add(resource)
                await until(lambda: states(drm) == {"btc": "open"})
                third_party.send("btc", "1 @ 100")
                await until(lambda: bool(heard))

                assert [(message.data, message.resource, message.token) for message in heard] == [
                    ("1 @ 100", resource, view.token)
                ]

    play(scene)


def test_two_managers_in_one_process_share_nothing() -> None:
    async def scene() -> None:
        one, other = manager(node="one"), manager(node="other")
        one.handler("mqtt", idle_function)

        async with one, other:
            await one.add(Resource("r1", kind="mqtt"))

            assert other.resources() == []
            with pytest.raises(InvalidResource, match="mqtt"):
                await other.add(Resource("r1", kind="mqtt"))

    play(scene)


def test_readings_before_the_start_are_empty() -> None:
    drm = manager()

    assert (drm.get("r1"), drm.assignments(), drm.resources(), drm.holds("r1")) == (None, [], [], False)
    assert drm.status()["has_majority"] is False


def test_a_data_directory_in_use_is_a_configuration_error_and_wait_closed_says_it_too(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(data_dir=tmp_path):
            second = manager(data_dir=tmp_path)

            with pytest.raises(ConfigurationError):
                await second.start()
            with pytest.raises(ConfigurationError):
                await second.wait_closed()
            await second.stop()

    play(scene)


def test_nothing_is_logged_above_info_in_a_quiet_life(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with manager() as drm:
            await drm.add(idle("r1", "r2"))
            await until(lambda: set(states(drm).values()) == {"open"})
            await drm.remove("r1")

    with caplog.at_level(logging.WARNING, logger="pydrm"):
        play(scene)

    assert [record.getMessage() for record in caplog.records] == []
