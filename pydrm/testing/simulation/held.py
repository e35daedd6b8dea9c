"""
The kind "held": a resource that keeps one connection to the simulated third party, as a handler should. Now and then it
saves how far it has got, and goes on there. And at each instant of its clock that is a multiple of `INSTANT_S` it does
something that nobody may do a second time, as far as its node's watermark allows it.

Its field `mood` makes the handler one that is slow, that fails now and then, or that does not end when it should: but a
little later (stubborn), or not before the faults are over (refuses).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import floor
from typing import cast

from pydrm.agent.hold import Hold
from pydrm.clock import Clock, Random
from pydrm.testing.simulation.third_party import Host, SimThirdParty

__all__ = ["INSTANT_S", "held_by"]

INSTANT_S = 1.0


def held_by(host: Host, third_party: SimThirdParty, random: Random, clock: Clock) -> Callable[[Hold], Awaitable[None]]:
    """The handler of that kind on *host*."""

    async def held(hold: Hold) -> None:
        def mood() -> object:
            return hold.resource.get("mood") if third_party.moody else None

        position, instant = hold.last_checkpoint or (0, floor(clock.wall() / INSTANT_S) + 1)
        if hold.last_watermark >= instant * INSTANT_S:
            instant = floor(hold.last_watermark / INSTANT_S) + 1
        connection = third_party.make_connection(host, hold.resource.id, hold.token)
        try:
            # It can be shut down like a socket, which is all that is asked of it.
            hold.guard(cast(socket.socket, connection))
            await connection.connect()
            await asyncio.sleep(random.random() * (1.0 if mood() == "slow" else 0.01))
            if mood() == "raises" and random.random() < 0.3:
                raise RuntimeError("a handler that fails now and then")
            hold.ready()
            third_party.went_on(connection, position)
            await hold.checkpoint([position, instant])
            while connection.open:
                await asyncio.sleep(0.1 + 0.4 * random.random())
                if connection.open and hold.valid:
                    connection.act()
                if random.random() < 0.2:
                    position += 1
                    await hold.checkpoint([position, instant])
                    third_party.got_to(connection, position)
                if clock.wall() >= instant * INSTANT_S:
                    await hold.raise_watermark(instant * INSTANT_S, patience=0.05)
                    if connection.open and hold.valid:
                        connection.do_once(instant)
                    # What it was too late for is left out.
                    instant = max(instant, floor(clock.wall() / INSTANT_S)) + 1
                if mood() == "raises" and random.random() < 0.05:
                    raise RuntimeError("a handler that fails now and then")
        except asyncio.CancelledError:
            if mood() == "stubborn":
                await asyncio.sleep(random.random() * 0.6)
            while mood() == "refuses":
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.1)
            raise
        finally:
            connection.close()
            if hold.valid:
                hold.note_checkpoint([position, instant])

    return held
