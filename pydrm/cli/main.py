"""`pydrm`: reads the arguments, hands them to the command, turns what it raises into an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from pydrm.cli.exits import Exit, Failed

__all__ = ["main"]

LOG_LEVELS = ("debug", "info", "warning", "error")


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser(argv).parse_args(argv)
    try:
        code = _run_command(arguments)
        sys.stdout.flush()
        return code
    except Failed as failure:
        print(f"pydrm {arguments.command}: {failure}", file=sys.stderr)
        return failure.exit
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our stdout has seen enough; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILURE


def _run_command(arguments: argparse.Namespace) -> int:
    # Each imports what it needs and no more: `pydrm status` must not load a Raft engine first.
    match arguments.command:
        case "run":
            from pydrm.cli.node import run

            return run(arguments)
        case "demo":
            from pydrm.cli import demo

            return demo.run(arguments)
        case "wal":
            from pydrm.cli import wal

            return wal.inspect(arguments) if arguments.action == "inspect" else wal.verify(arguments)
        case "snapshot":
            from pydrm.cli import snapshot

            return snapshot.run(arguments)
        case "recover":
            from pydrm.cli import recover

            return recover.run(arguments)
        case "budgets":
            from pydrm.cli import budgets

            return budgets.run(arguments)
        case "certs":
            from pydrm.cli import certs

            return certs.run(arguments)
        case "webhooks":
            from pydrm.cli import webhooks

            return webhooks.run(arguments)
        case command:
            from pydrm.cli import ask

            commands = {
                "status": ask.status,
                "resources": ask.resources,
                "nodes": ask.nodes,
                "add": ask.add,
                "remove": ask.remove,
                "pause": ask.pause,
                "resume": ask.resume,
                "send": ask.send,
            }
            return commands[command](arguments)


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pydrm",
        description="Distributed real-time resources, each held by exactly one node.",
        epilog="Exit codes: 0 ok, 1 failure, 2 usage, 3 node unreachable, 4 no majority, "
        "5 not found or conflict, 6 timeout, 7 configuration or data invalid.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="run a node until SIGTERM or SIGINT, then hand over and exit"))
    _add_asking(commands.add_parser("status", help="how a node sees its cluster"))
    _add_asking(commands.add_parser("resources", help="every resource: its state, holder and token"))
    _add_nodes(commands.add_parser("nodes", help="every node: its state and how much it holds; or change who votes"))
    add = commands.add_parser("add", help="put resources under management, or replace their definitions")
    add.add_argument("file", metavar="FILE", help="JSON or JSON lines; - reads stdin")
    _add_asking(add)
    remove = commands.add_parser("remove", help="take resources out of management")
    remove.add_argument("ids", metavar="ID", nargs="+")
    _add_asking(remove)
    webhooks = commands.add_parser("webhooks", help="what could not be delivered, and trying it again")
    if "webhooks" in argv:
        from pydrm.cli.webhooks import add_arguments as add_webhooks_arguments

        add_webhooks_arguments(webhooks, _add_asking)
    _add_budgets(commands.add_parser("budgets", help="what all nodes together may do to third parties; or change it"))
    pause = commands.add_parser("pause", help="have nobody hold resources, until they are resumed")
    pause.add_argument("ids", metavar="ID", nargs="+")
    pause.add_argument("--reason", metavar="TEXT", default="", help="shown with the resources")
    _add_asking(pause)
    resume = commands.add_parser("resume", help="end the pause or the quarantine of resources")
    resume.add_argument("ids", metavar="ID", nargs="+")
    _add_asking(resume)
    send = commands.add_parser("send", help="send something over what the holder of a resource has open")
    send.add_argument("id", metavar="ID")
    send.add_argument("data", metavar="DATA", help="text; - reads stdin")
    send.add_argument("--binary", action="store_true", help="send it as bytes")
    _add_asking(send)
    _add_wal(commands.add_parser("wal", help="look at a data directory's journal, or check it"))
    _add_snapshot(commands.add_parser("snapshot", help="look at a data directory's snapshots, and check them"))
    _add_recover(commands.add_parser("recover", help="go on with one node's data after a majority is lost for good"))
    certs = commands.add_parser("certs", help="make and show certificates for TLS between nodes")
    if "certs" in argv:
        from pydrm.cli.certs import add_arguments as add_certs_arguments

        add_certs_arguments(certs)
    demo = commands.add_parser("demo", help="three nodes on this machine, killed and watched from outside")
    if "demo" in argv:
        from pydrm.cli.demo import add_arguments

        add_arguments(demo)
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run a node. What is given here wins over PYDRM_* in the environment, and that over the file."
    parser.add_argument("config", metavar="CONFIG.toml", nargs="?", help="may be left out if the environment says all")
    parser.add_argument(
        "--app", metavar="MODULE:ATTR", help="a function that is given the ResourceManager before it starts"
    )
    parser.add_argument("--node", metavar="NAME", help="this node's name")
    parser.add_argument("--bind", metavar="HOST:PORT", help="where peers are listened for")
    parser.add_argument("--admin", metavar="HOST:PORT", help="where the admin API listens")
    parser.add_argument("--data-dir", metavar="DIR", help="where this node keeps its log")
    parser.add_argument("--log-level", choices=LOG_LEVELS, default="info")
    parser.add_argument("--log-json", action="store_true", help="log JSON, one object a line")


def _add_nodes(parser: argparse.ArgumentParser) -> None:
    parser.description = "Without a change, every node. Voters are changed one at a time, while the cluster works."
    parser.set_defaults(change=None)
    _add_asking(parser)
    changes = parser.add_subparsers(dest="change", metavar="CHANGE")
    helps = {
        "add": "give a vote to a node that follows the cluster",
        "remove": "take a node's vote away; it goes on without, if it runs",
        "replace": "have a voter that lost its data directory vote again",
    }
    for change, help in helps.items():
        of_change = changes.add_parser(change, help=help)
        of_change.add_argument("name", metavar="NODE")
        _add_asking(of_change)


def _add_budgets(parser: argparse.ArgumentParser) -> None:
    parser.description = "Without a change, every group of resources that is limited or held back."
    parser.set_defaults(change=None)
    _add_asking(parser)
    changes = parser.add_subparsers(dest="change", metavar="CHANGE")
    set_budget = changes.add_parser("set", help="limit a group, in place of all its limits before")
    set_budget.add_argument("group", metavar="GROUP", help="a host, or whatever resources have as their budget")
    set_budget.add_argument("--connects-per-second", type=float, metavar="N")
    set_budget.add_argument("--connections", type=int, metavar="N", help="at once")
    set_budget.add_argument("--requests-per-second", type=float, metavar="N")
    set_budget.add_argument("--sessions-per-day", type=int, metavar="N")
    _add_asking(set_budget)
    remove = changes.add_parser("remove", help="take a group's limits away")
    remove.add_argument("group", metavar="GROUP")
    _add_asking(remove)


def _add_wal(parser: argparse.ArgumentParser) -> None:
    parser.description = "A data directory's journal. It is only read, and may be in use."
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    inspect = actions.add_parser("inspect", help="what is in it, segment by segment")
    inspect.add_argument("directory", metavar="DATA_DIR")
    inspect.add_argument("--entries", action="store_true", help="entry by entry, with the commands in each")
    inspect.add_argument("--json", action="store_true", help="print JSON")
    verify = actions.add_parser("verify", help="check it as a node does that starts")
    verify.add_argument("directory", metavar="DATA_DIR")


def _add_snapshot(parser: argparse.ArgumentParser) -> None:
    parser.description = "A data directory's snapshots. They are only read, and it may be in use."
    parser.add_argument("directory", metavar="DATA_DIR")
    parser.add_argument("--records", action="store_true", help="resource by resource, as the newest good one has them")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_recover(parser: argparse.ArgumentParser) -> None:
    parser.description = "Make a new cluster of what one node has. No node may run on the data directory."
    parser.add_argument(
        "directory", metavar="DATA_DIR", help="of a voter; of those that are left, the one that has most"
    )
    parser.add_argument("--force-new-cluster", action="store_true", help="without this, it says what would happen")


def _add_asking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--admin", metavar="URL", help="of a node (default: PYDRM_ADMIN, or http://127.0.0.1:8001)")
    parser.add_argument("--timeout", metavar="SECONDS", type=_seconds, default=10.0, help="default: 10")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 600:
        raise argparse.ArgumentTypeError("must be above 0 and up to 600")
    return seconds
