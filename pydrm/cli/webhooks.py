"""`pydrm webhooks`: what could not be delivered, trying it again, and publishing by hand."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from pydrm.cli.client import Client, client_of
from pydrm.cli.exits import Exit, Failed
from pydrm.cli.tables import print_table

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser, add_asking: Any) -> None:
    parser.description = "Deliveries that are not tried any more, and events."
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    failed = actions.add_parser("failed", help="what is not tried any more, and why; the newest is the last")
    failed.add_argument("resource", metavar="WEBHOOK", nargs="?", help="of this one only")
    replay = actions.add_parser("replay", help="try it anew, also what may have been received")
    replay.add_argument("resource", metavar="WEBHOOK", nargs="?", help="of this one only")
    replay.add_argument("--event", metavar="ID", action="append", help="only this event; may be given several times")
    replay.add_argument("--all", action="store_true", help="needed to replay what failed everywhere")
    publish = actions.add_parser("publish", help="have an event delivered")
    publish.add_argument("topic", metavar="TOPIC", help="words with dots between them")
    publish.add_argument("payload", metavar="JSON", help="- reads stdin")
    publish.add_argument("--id", metavar="ID", help="the same id again does nothing")
    for action in (failed, replay, publish):
        add_asking(action)


def run(arguments: argparse.Namespace) -> Exit:
    client = client_of(arguments)
    match arguments.action:
        case "failed":
            return _failed(arguments, client)
        case "replay":
            return _replay(arguments, client)
        case _:
            return _publish(arguments, client)


def _failed(arguments: argparse.Namespace, client: Client) -> Exit:
    rows = client.failed_deliveries(arguments.resource)
    if arguments.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        columns = ("resource", "event_id", "topic", "attempts", "reason")
        print_table(columns, [[row[column] for column in columns] for row in rows])
    return Exit.OK


def _replay(arguments: argparse.Namespace, client: Client) -> Exit:
    if not (arguments.resource or arguments.event or arguments.all):
        raise Failed("name a webhook or an event, or say --all", exit=Exit.USAGE)
    count = client.replay_deliveries(arguments.resource, arguments.event)
    if not count and (arguments.resource or arguments.event):
        raise Failed("nothing of that has failed; `pydrm webhooks failed` lists what has", exit=Exit.CONFLICT)
    print(json.dumps({"replayed": count}) if arguments.json else f"{count} to be tried anew")
    return Exit.OK


def _publish(arguments: argparse.Namespace, client: Client) -> Exit:
    text = sys.stdin.read() if arguments.payload == "-" else arguments.payload
    try:
        payload = json.loads(text)
    except ValueError as error:
        raise Failed(f"the payload is not valid JSON: {error}", exit=Exit.INVALID) from error
    answer = client.publish(arguments.topic, payload, arguments.id)
    if arguments.json:
        print(json.dumps(answer))
    else:
        again = ", published before" if answer["duplicate"] else ""
        print(f"{answer['event_id']}: for {answer['matched']} webhooks{again}")
    return Exit.OK
