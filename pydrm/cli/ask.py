"""The commands that ask a running node: status, resources, nodes, add, remove, pause, resume, send."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from pydrm.cli.client import client_of
from pydrm.cli.exits import Exit, Failed
from pydrm.cli.tables import print_table

__all__ = ["add", "nodes", "pause", "remove", "resources", "resume", "send", "status"]

# What third parties have sent and the app did not get. The first two are shown also when there are none.
_NOT_RECEIVED = {
    "callback_failures": "failed in a callback",
    "dropped_messages": "dropped because the lease was over",
    "overflowed_messages": "made room for newer ones",
    "undecodable_messages": "were not JSON",
    "cut_off_entries": "cut off by Redis before they were read",
}
_ALWAYS = ("callback_failures", "dropped_messages")


def status(arguments: argparse.Namespace) -> Exit:
    seen = client_of(arguments).status()
    if arguments.json:
        _print_json(seen)
        return Exit.OK
    majority = "a majority answers" if seen["has_majority"] else "NO MAJORITY ANSWERS"
    counts = seen["resources"]
    print(f"cluster    {seen['cluster']}, seen by {seen['node']}: {majority}")
    print(f"leader     {seen['leader'] or 'none'} in term {seen['term']}, {seen['applied']} entries applied")
    print(
        f"resources  {counts['total']}: {counts['held']} held ({counts['open']} open, {counts['failing']} failing), "
        f"{counts['unheld']} unheld, {counts['moving']} moving, "
        f"{counts['parked']} paused or quarantined"
    )
    lease = seen["lease"]
    print(
        f"lease      {'valid' if lease['valid'] else 'NOT VALID: it holds nothing'}, incarnation {lease['incarnation']}"
    )
    if messages := seen.get("messages"):
        said = [
            f"{messages[name]} {what}" for name, what in _NOT_RECEIVED.items() if messages.get(name) or name in _ALWAYS
        ]
        print(f"messages   {', '.join(said)}, since {seen['node']} started")
    if problem := seen.get("problem"):
        print(f"problem    {problem}")
    print()
    _print_nodes(seen["nodes"])
    return Exit.OK


def nodes(arguments: argparse.Namespace) -> Exit:
    if arguments.change:
        return _change_voters(arguments)
    seen = client_of(arguments).nodes()
    if arguments.json:
        _print_json(seen)
    else:
        _print_nodes(seen)
    return Exit.OK


def resources(arguments: argparse.Namespace) -> Exit:
    seen = client_of(arguments).resources()
    if arguments.json:
        _print_json(seen)
    else:
        # Where nothing is of a source, there is no need to say so on every line.
        source = ("source",) if any(row.get("source") for row in seen) else ()
        columns = ("id", "kind", "state", "holder", "token", *source, "detail")
        now = time.time()
        print_table(
            columns, [[(row | {"detail": _detail(row, now)}).get(column) for column in columns] for row in seen]
        )
    return Exit.OK


def add(arguments: argparse.Namespace) -> Exit:
    from pydrm.cli.definitions import read_definitions

    client = client_of(arguments)
    _print_count(arguments, "added", client.add(read_definitions(arguments.file)))
    return Exit.OK


def remove(arguments: argparse.Namespace) -> Exit:
    _print_count(arguments, "removed", client_of(arguments).remove(arguments.ids))
    return Exit.OK


def pause(arguments: argparse.Namespace) -> Exit:
    _print_count(arguments, "paused", client_of(arguments).pause(arguments.ids, arguments.reason))
    return Exit.OK


def resume(arguments: argparse.Namespace) -> Exit:
    _print_count(arguments, "resumed", client_of(arguments).resume(arguments.ids))
    return Exit.OK


def _detail(row: dict[str, Any], now: float) -> str:
    """Why a resource is as it is, and when its holder tries again."""
    in_s = (row["next_try"] or 0.0) - now
    wait = [f"next try in {in_s:.0f} s"] if in_s >= 1 else []
    return "; ".join(filter(None, [row["detail"], *wait]))


def send(arguments: argparse.Namespace) -> Exit:
    """Text is sent as it is given; what is read from stdin, as it is there, with its last line break."""
    if arguments.data != "-":
        data: str | bytes = arguments.data.encode() if arguments.binary else arguments.data
    else:
        content = sys.stdin.buffer.read()
        try:
            data = content if arguments.binary else content.decode()
        except UnicodeDecodeError as error:
            raise Failed(f"stdin is not UTF-8: {error}; send it with --binary", exit=Exit.INVALID) from error
    delivered = client_of(arguments).send(arguments.id, data)
    if arguments.json:
        _print_json(delivered)
    else:
        print(f"sent by {delivered['node']} under token {delivered['token']}")
    return Exit.OK


def _change_voters(arguments: argparse.Namespace) -> Exit:
    if arguments.change == "replace":
        print(f"taking the old vote of {arguments.name} away, and waiting for its new replica", file=sys.stderr)
    voters = client_of(arguments).change_voters(arguments.change, arguments.name)
    if arguments.json:
        _print_json({"voters": voters})
    else:
        print(f"voters: {', '.join(voters)}")
        if len(voters) % 2 == 0:
            survived = (len(voters) - 1) // 2
            print(f"{len(voters)} voters survive the loss of {survived}, as {len(voters) - 1} do: have an odd number")
    return Exit.OK


def _print_nodes(seen: list[dict[str, Any]]) -> None:
    columns = ("node", "state", "role", "incarnation", "held")
    roles = {True: "voter", False: "worker"}
    print_table(columns, [[(row | {"role": roles[row["votes"]]})[column] for column in columns] for row in seen])


def _print_count(arguments: argparse.Namespace, verb: str, count: int) -> None:
    if arguments.json:
        _print_json({verb: count})
    else:
        print(f"{verb} {count} resource{'' if count == 1 else 's'}")


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
