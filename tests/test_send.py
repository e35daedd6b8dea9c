"""`drm.send`: from any node, over what the holder has open, and what the sender is told. Real nodes on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from pydrm import (
    ClusterRefused,
    ConfigurationError,
    Hold,
    Permanent,
    Resource,
    ResourceManager,
    Unavailable,
)
from pydrm.agent.courier import DATA_BYTES_MAX, Delivered
from pydrm.testing.ports import Ports
from pydrm.testing.third_party import ThirdParty

Sent = list[tuple[str, str, str | bytes]]  # (node, resource, data)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await scene()

    asyncio.run(limited())


async def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


class Senders:
    """The kind "line": keeps what it is told to send."""

    def __init__(self) -> None:
        self.sent: Sent = []
        self.ends: Callable[[str | bytes], Awaitable[None]] | None = None

    def register(self, drm: ResourceManager) -> None:
        @drm.handler("line")
        async def line(hold: Hold) -> None:
            async def send(data: str | bytes) -> None:
                if self.ends is not None:
                    await self.ends(data)
                self.sent.append((hold.node, hold.resource.id, data))

            hold.on_send(send)
            hold.ready()
            await asyncio.Event().wait()

        @drm.handler("mute")
        async def mute(hold: Hold) -> None:
            hold.ready()
            await asyncio.Event().wait()

        @drm.handler("slow")
        async def slow(hold: Hold) -> None:
            await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def cluster(tmp_path: Path, senders: Senders, *, workers: str = "") -> AsyncIterator[dict[str, ResourceManager]]:
    """Voters a, b and c, and *workers*."""
    with Ports() as ports:
        peers = {name: f"127.0.0.1:{ports.reserve()}" for name in "abc"}
        drms = {}
        for name in "abc" + workers:
            drms[name] = ResourceManager(
                cluster="orders",
                node=name,
                bind=peers.get(name) or f"127.0.0.1:{ports.reserve()}",
                peers=peers,
                data_dir=tmp_path / name,
                role="worker" if name in workers else "voter",
            )
            senders.register(drms[name])
        await asyncio.gather(*(drm.start() for drm in drms.values()))
        try:
            yield drms
        finally:
            await asyncio.gather(*(drm.stop() for drm in drms.values()))


def is_open(drm: ResourceManager, *ids: str) -> bool:
    states = {row["id"]: row["state"] for row in drm.resources()}
    return all(states.get(id) == "open" for id in ids)


async def refusal(drm: ResourceManager, id: str, data: str | bytes = "x") -> str:
    with pytest.raises(ClusterRefused) as refused:
        await drm.send(id, data, timeout=5)
    return refused.value.reason


def test_every_node_reaches_every_holder_workers_too(tmp_path: Path) -> None:
    """Two workers are not linked with each other: a voter passes it on."""

    async def scene() -> None:
        senders = Senders()
        async with cluster(tmp_path, senders, workers="vw") as drms:
            ids = [f"r{number}" for number in range(10)]
            await drms["a"].add([Resource(id, kind="line") for id in ids])
            await until(lambda: all(is_open(drm, *ids) for drm in drms.values()))
            holder = {view.resource: view for view in drms["a"].assignments()}

            for name, drm in drms.items():
                for id in ids:
                    delivered = await drm.send(id, f"from {name}")
                    assert delivered == Delivered(holder[id].holder, holder[id].token)

            assert {view.holder for view in holder.values()} == set("abcvw")
            assert sorted(senders.sent) == sorted(
                (holder[id].holder, id, f"from {name}") for id in ids for name in drms
            )

    play(scene)


def test_text_is_text_binary_is_binary_and_large_is_whole(tmp_path: Path) -> None:
    async def scene() -> None:
        senders = Senders()
        async with cluster(tmp_path, senders) as drms:
            await drms["a"].add([Resource(id, kind="line") for id in ("r1", "r2", "r3")])
            await until(lambda: all(is_open(drm, "r1", "r2", "r3") for drm in drms.values()))
            large = bytes(range(256)) * (DATA_BYTES_MAX // 256)

            for data in ("ä", b"\x00\xff", "", large):
                await asyncio.gather(*(drms["a"].send(id, data) for id in ("r1", "r2", "r3")))

            for id in ("r1", "r2", "r3"):
                assert [data for _, to, data in senders.sent if to == id] == ["ä", b"\x00\xff", "", large]
            assert await refusal(drms["a"], "r1", large + b"x") == "too-large"

    play(scene)


def test_what_one_node_sends_leaves_in_order(tmp_path: Path) -> None:
    async def scene() -> None:
        senders = Senders()
        async with cluster(tmp_path, senders) as drms:
            await drms["a"].add(Resource("r1", kind="line"))
            await until(lambda: all(is_open(drm, "r1") for drm in drms.values()))
            [view] = drms["a"].assignments()
            sender = next(drm for name, drm in drms.items() if name != view.holder)

            await asyncio.gather(*(sender.send("r1", str(number)) for number in range(200)))

            assert [data for _, _, data in senders.sent] == [str(number) for number in range(200)]

    play(scene)


def test_why_something_was_not_sent_is_said_and_is_certain(tmp_path: Path) -> None:
    async def scene() -> None:
        senders = Senders()
        async with cluster(tmp_path, senders) as drms:
            await drms["a"].add(
                Resource("mute", kind="mute"), Resource("slow", kind="slow"), Resource("line", kind="line")
            )
            await until(lambda: all(is_open(drm, "mute", "line") for drm in drms.values()))

            async def refuse(data: str | bytes) -> None:
                raise Permanent("not this")

            senders.ends = refuse
            for drm in drms.values():
                assert await refusal(drm, "nobody") == "not-found"
                assert await refusal(drm, "mute") == "no-send"
                assert await refusal(drm, "slow") == "not-open"
                assert await refusal(drm, "line") == "refused"
            assert senders.sent == []
            with pytest.raises(ConfigurationError):
                await drms["a"].send("line", 7)  # type: ignore[arg-type]
            with pytest.raises(ConfigurationError):
                await drms["a"].send("line", "\ud800")

    play(scene)


def test_what_may_have_been_sent_is_unknown(tmp_path: Path) -> None:
    """The handler hangs, or fails in the middle of it."""

    async def scene() -> None:
        senders = Senders()
        async with cluster(tmp_path, senders) as drms:
            await drms["a"].add(Resource("r1", kind="line"))
            await until(lambda: all(is_open(drm, "r1") for drm in drms.values()))

            async def hang(data: str | bytes) -> None:
                await asyncio.Event().wait()

            async def fail(data: str | bytes) -> None:
                raise ValueError("a secret")

            for senders.ends in (hang, fail):
                for drm in drms.values():
                    with pytest.raises(Unavailable, match="unknown") as unknown:
                        await drm.send("r1", "x", timeout=0.2)
                    assert not unknown.value.unsent
                    assert "secret" not in str(unknown.value)

    play(scene)


def unanswered(drm: ResourceManager) -> int:
    """How many questions of others the node has not answered."""
    replica = drm._node.engine._replica
    assert replica is not None
    return len(replica.post._unanswered)


def test_however_sending_ends_the_one_who_asked_is_answered(tmp_path: Path) -> None:
    """A node takes a bounded number of questions: one that it never answered would take a place for good."""

    async def scene() -> None:
        senders = Senders()
        async with cluster(tmp_path, senders) as drms:
            await drms["a"].add(Resource("r1", kind="line"))
            await until(lambda: all(is_open(drm, "r1") for drm in drms.values()))

            async def wait_for_what_is_cancelled(data: str | bytes) -> None:
                gone = asyncio.ensure_future(asyncio.sleep(1000))
                gone.cancel()
                await gone

            async def refuse_in_no_utf_8(data: str | bytes) -> None:
                raise Permanent("they said \udce4")

            senders.ends = wait_for_what_is_cancelled
            for drm in drms.values():
                with pytest.raises(Unavailable, match="unknown"):
                    await drm.send("r1", "x", timeout=5)
            senders.ends = refuse_in_no_utf_8
            for drm in drms.values():
                assert await refusal(drm, "r1") == "refused"
            await until(lambda: all(unanswered(drm) == 0 for drm in drms.values()))

            senders.ends = None
            for drm in drms.values():
                await drm.send("r1", "x", timeout=5)

    play(scene)


def test_a_websocket_sends_what_any_node_wants(tmp_path: Path) -> None:
    async def scene() -> None:
        async with ThirdParty() as third_party, cluster(tmp_path, Senders()) as drms:
            await drms["a"].add(Resource("r1", kind="websocket", url=third_party.url))
            await until(lambda: all(is_open(drm, "r1") for drm in drms.values()))

            for name, drm in drms.items():
                await drm.send("r1", f"from {name}")

            await until(lambda: len(third_party.diary.messages("r1")) == 3)
            assert [event.text for event in third_party.diary.messages("r1")] == ["from a", "from b", "from c"]

    play(scene)
