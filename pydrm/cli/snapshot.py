"""`pydrm snapshot`: the snapshots in a data directory for people. It only reads, and takes no lock."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import attrs

from pydrm.cli.exits import Exit, Failed
from pydrm.cli.tables import print_table
from pydrm.core import invariants
from pydrm.core.picture import Section
from pydrm.core.records import Assignment
from pydrm.core.state import State
from pydrm.engine.local_disk import LocalDisk
from pydrm.engine.restore import Readout
from pydrm.engine.snapshots import Heading, Snapshot, snapshots_in
from pydrm.errors import ConfigurationError

__all__ = ["run"]

_TRIES = 10
_DIGEST_SHOWN = 8


@attrs.frozen
class _Looked:
    """
    What is in one snapshot.

    Attributes:
        heading: None if not all of it can be read.
        damage: What is wrong with it, or "".
    """

    snapshot: Snapshot
    heading: Heading | None
    damage: str


def run(arguments: argparse.Namespace) -> Exit:
    """Print what can be read, even if that is not all; then say what cannot."""
    looked, state = _look(arguments.directory)
    if not looked:
        raise Failed(f"there is no snapshot in {arguments.directory}", exit=Exit.INVALID)
    records = _records(state) if arguments.records and state is not None else []
    if arguments.json:
        shown: dict[str, Any] = {"snapshots": [_flat(one) for one in looked]}
        if arguments.records:
            shown["records"] = records
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    elif arguments.records:
        head = ("id", "kind", "holder", "token", "phase")
        print_table(head, [tuple(record[name] for name in head) for record in records])
    else:
        _print_snapshots(looked)
    damages = [one.damage for one in looked if one.damage]
    if damages:
        raise Failed("\n".join(damages), exit=Exit.INVALID)
    return Exit.OK


def _look(directory: str) -> tuple[list[_Looked], State | None]:
    """Each of them, oldest first, and the state of the newest good one."""
    for _ in range(_TRIES):
        looked, newest = [], None
        try:
            for snapshot in snapshots_in(Path(directory), LocalDisk()):
                one, state = _look_at(snapshot)
                looked.append(one)
                newest = state or newest
        except FileNotFoundError as error:
            # The node that runs on it has removed one meanwhile; unless there is no such directory.
            gone = error
        except OSError as error:
            raise Failed(f"{directory} cannot be read: {error.strerror}", exit=Exit.INVALID) from error
        else:
            return looked, newest
    raise Failed(f"{directory} cannot be read: {gone.strerror or gone}", exit=Exit.INVALID) from gone


def _look_at(snapshot: Snapshot) -> tuple[_Looked, State | None]:
    """Its state only if it is good: if all is there, and each digest is that of what it is of."""
    readout = Readout(LocalDisk(), snapshot)
    try:
        for _ in readout.steps():
            pass
    except ConfigurationError as error:
        # Here it is no setting that is wrong.
        return _Looked(snapshot, None, str(error).removeprefix(f"{error.field}: ")), None
    wrong = invariants.verify(readout.state)
    if f"{readout.state.digest:032x}" != readout.heading.digest:
        wrong.append("the digest of the whole is another")
    if wrong:
        return _Looked(snapshot, readout.heading, f"{snapshot.path} contradicts itself: {'; '.join(wrong)}"), None
    return _Looked(snapshot, readout.heading, ""), readout.state


def _flat(one: _Looked) -> dict[str, Any]:
    snapshot, heading = one.snapshot, one.heading
    flat: dict[str, Any] = {
        "file": snapshot.path.name,
        "index": snapshot.index,
        "term": snapshot.term,
        "bytes": snapshot.size,
        "good": not one.damage,
        "damage": one.damage,
    }
    if heading is not None:
        settings = heading.head.settings
        flat |= {
            "cluster_id": heading.cluster_id,
            "voters": {voter.name: voter.replica_id for voter in settings.voters} if settings else {},
            "protocol": settings.protocol if settings else None,
            "recovering": settings.recovering if settings else False,
            "nodes": heading.head.counts.get(Section.NODES, 0),
            "resources": heading.head.counts.get(Section.RECORDS, 0),
            "digest": heading.digest,
        }
    return flat


def _print_snapshots(looked: list[_Looked]) -> None:
    # What the file is called follows from index and term, and the line is long without it.
    head = ("index", "term", "bytes", "state", "cluster", "voters", "protocol", "nodes", "resources", "digest")
    rows = []
    for one in looked:
        flat = _flat(one)
        rows.append(
            (
                flat["index"],
                flat["term"],
                flat["bytes"],
                "good" if flat["good"] else "DAMAGED",
                flat.get("cluster_id"),
                " ".join(flat["voters"]) if "voters" in flat else None,
                flat.get("protocol"),
                flat.get("nodes"),
                flat.get("resources"),
                flat["digest"][:_DIGEST_SHOWN] if "digest" in flat else None,
            )
        )
    print_table(head, rows)
    print(f"\nin {looked[0].snapshot.path.parent}: " + ", ".join(one.snapshot.path.name for one in looked))


def _records(state: State) -> list[dict[str, Any]]:
    """One for each slot, by id."""
    return [_record(state, assignment) for _, assignment in sorted(state.assignments.items())]


def _record(state: State, assignment: Assignment) -> dict[str, Any]:
    holder = assignment.holder
    return {
        "id": assignment.resource,
        "kind": state.records[assignment.resource].definition.kind,
        "holder": holder.node if holder else None,
        "token": holder.token if holder else None,
        "phase": assignment.phase.value,
    }
