"""`pydrm budgets`: what all nodes together may do to third parties, shown, set and removed."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pydrm.cli.client import client_of
from pydrm.cli.exits import Exit
from pydrm.cli.tables import print_table

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> Exit:
    client = client_of(arguments)
    match arguments.change:
        case "set":
            from pydrm.limits import LIMITS  # with the state machine, which nothing else here needs

            asked = {limit: getattr(arguments, limit) for limit in LIMITS}
            limits = {name: limit for name, limit in asked.items() if limit is not None}
            before = next((seen for seen in client.budgets() if seen["group"] == arguments.group), {})
            client.set_budget(arguments.group, limits)
            gone = [name for name in LIMITS if before.get(name) is not None and name not in limits]
            text = f"set the budget of {arguments.group}"
            if gone:
                text += f"; not limited any more: {', '.join(f'{name} (was {before[name]:g})' for name in gone)}"
            _print(arguments, {"set": arguments.group, "not_limited_any_more": gone}, text)
        case "remove":
            client.remove_budget(arguments.group)
            _print(arguments, {"removed": arguments.group}, f"removed the budget of {arguments.group}")
        case _:
            _show(arguments, client.budgets())
    return Exit.OK


def _show(arguments: argparse.Namespace, seen: list[dict[str, Any]]) -> None:
    if arguments.json:
        print(json.dumps(seen, indent=2, ensure_ascii=False))
        return
    columns = ("group", "resources", "connects/s", "connections", "requests/s", "sessions/day", "held back")
    print_table(columns, [_row(budget) for budget in seen])


def _row(budget: dict[str, Any]) -> list[object]:
    held_back = budget["held_back"]
    return [
        budget["group"],
        budget["resources"],
        _limit(budget["connects_per_second"]),
        _used(budget["connected"], budget["connections"]),
        _limit(budget["requests_per_second"]),
        _used(budget["sessions"], budget["sessions_per_day"]),
        f"for {held_back['seconds']:g} s: {held_back['reason']}" if held_back else "",
    ]


def _limit(limit: float | None) -> str:
    return "" if limit is None else f"{limit:g}"


def _used(used: int, limit: int | None) -> str:
    return "" if limit is None else f"{used} of {limit}"


def _print(arguments: argparse.Namespace, value: object, text: str) -> None:
    print(json.dumps(value, ensure_ascii=False) if arguments.json else text)
