"""
A kind of one's own: an MQTT subscription, held by one node of the cluster.

    pip install aiomqtt
    python examples/mqtt.py --port 1883 --messages 3

It needs a broker, such as Debian's package mosquitto. All that this holds is one TCP connection, which is guarded: so
pydrm can cut it should the lease end while this loop is busy.
"""

from __future__ import annotations

import argparse
import asyncio

import aiomqtt

from pydrm import Hold, Resource, ResourceManager, Temporary


async def hold_mqtt(hold: Hold, received: asyncio.Queue[str]) -> None:
    """Subscribe to the resource's `topic` at `host` and `port`, and put what arrives into *received*."""
    # The same name for each holder: the broker cuts off whoever had it before.
    client = aiomqtt.Client(str(hold.resource["host"]), int(str(hold.resource["port"])), identifier=hold.resource.id)
    try:
        async with client:
            # aiomqtt does not show its socket before it is connected; until then, being cancelled is what ends it.
            hold.guard(client._client.socket())
            await client.subscribe(str(hold.resource["topic"]), qos=1)
            hold.ready()
            await received.put(f"{hold.resource['topic']} is held under token {hold.token}")
            async for message in client.messages:
                if not hold.valid:
                    return
                assert isinstance(message.payload, bytes)
                await received.put(f"{message.topic} {message.payload.decode()} under token {hold.token}")
    except aiomqtt.MqttError as error:
        raise Temporary(str(error)) from error


async def main(port: int, messages: int) -> None:
    drm = ResourceManager(cluster="mqtt", node="a", bind="127.0.0.1:0")
    received: asyncio.Queue[str] = asyncio.Queue(maxsize=100)

    @drm.handler("mqtt")
    async def mqtt(hold: Hold) -> None:
        await hold_mqtt(hold, received)

    async with drm:
        await drm.add(Resource("sensors", kind="mqtt", host="127.0.0.1", port=port, topic="sensors/#"))
        for _ in range(1 + messages):
            print(await received.get(), flush=True)
    print("handed over and left", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print what arrives over a managed MQTT subscription.")
    parser.add_argument("--port", type=int, default=1883, help="of the broker on this machine")
    parser.add_argument("--messages", type=int, default=3, help="how many to wait for")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.port, arguments.messages))
