"""
Recovery: makes another cluster, of one voter, of what one replica has, after a majority was lost for good.

What that means for the state is said in `core.recovery`. On the disk it is three steps, each durable before the next:

    1.  the snapshot of the new state, as of an entry after the last, with the new cluster id
    2.  the journal goes on after that entry, in a term of its own
    3.  the identity has the new cluster id

A crash before the first has changed nothing. After it, the snapshot is of another cluster than the identity, so no
node starts (see `restore`), and the next recovery goes on from what this one wrote. Nothing of the old log is removed:
that is for the node, once it has two snapshots of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from pydrm.core.answers import Refused
from pydrm.core.machine import apply
from pydrm.core.picture import take
from pydrm.core.protocol import PROTOCOL, exceeds
from pydrm.core.recovery import decide_begin_recovery
from pydrm.core.state import State, evolve
from pydrm.engine.codec import CodecError, decode_entry
from pydrm.engine.data_directory import DataDirectory, read_identity
from pydrm.engine.disk import Disk
from pydrm.engine.journal import Journal, JournalDamaged
from pydrm.engine.restore import Readout
from pydrm.engine.snapshots import Heading, SnapshotDamaged, Snapshots, encoded
from pydrm.errors import ConfigurationError, DiskFailed

__all__ = ["Recovered", "recover"]

_COMMAND = b"\x00"  # what an entry with requests begins with (pysyncobj/syncobj.py, _COMMAND_TYPE)


@attrs.frozen
class Recovered:
    """
    What was done.

    Attributes:
        former_id: The cluster id before.
        lost_voters: Those that are none any more.
        other_nodes: Whoever was known besides this node, voters and workers.
        snapshot: The entry whose snapshot it began with; 0 if there was none.
        entries: How many entries came after that, and how many of these were not known to be committed.
        index: The entry that the new snapshot is of.
        passed_over: Snapshots that are damaged, and why.
    """

    node: str
    former_id: str
    cluster_id: str
    lost_voters: tuple[str, ...]
    other_nodes: tuple[str, ...]
    snapshot: int
    entries: int
    uncommitted: int
    index: int
    resources: int
    next_token: int
    lease_ttl_s: float
    passed_over: tuple[str, ...]


def recover(path: Path, disk: Disk, new_id: Callable[[], str]) -> Recovered:
    """
    Make a new cluster of what is in the data directory *path*. No process may run on it; it is locked meanwhile.

    Safe to repeat after a crash. Blocks, for as long as reading the state and writing it takes.

    Raises:
        ConfigurationError: It is in use, of no voter, damaged, or of a newer version; nothing was changed.
        DiskFailed: It cannot be read or written: repeat it.
    """
    try:
        identity = read_identity(path, disk)
        if identity is None:
            raise _refused(f"there is no node's data in {path}")
        if not identity.cluster_id:
            raise _refused(
                f"{path} is of node {identity.node}, which was never part of a cluster: there is nothing in it"
            )
        directory = DataDirectory(path, identity.cluster, identity.node, disk=disk, new_id=new_id)
    except OSError as error:
        raise DiskFailed(f"data directory {path}: {error}") from error
    try:
        return _recover(path, directory, f"{identity.cluster}-{new_id()}")
    except OSError as error:
        raise DiskFailed(f"data directory {path}: {error}") from error
    finally:
        directory.close()


def _recover(path: Path, directory: DataDirectory, cluster_id: str) -> Recovered:
    identity, snapshots = directory.identity, directory.snapshots
    heading, state, passed_over = _newest_good(snapshots)
    try:
        directory.open_journal((heading.index, heading.term) if heading is not None else None)
    except JournalDamaged as error:
        # A snapshot that is damaged, too, may be all that is wrong.
        raise _refused("; ".join([*passed_over, _said(error)])) from error
    journal = directory.journal
    last, known = journal[-1][1] if len(journal) else 0, journal.getRaftCommitIndex()
    entries = _apply_all(state, journal, path)
    _check(state, heading, identity.cluster_id, path)

    lost = tuple(voter.name for voter in state.settings.voters if voter.name != identity.node) if state.settings else ()
    decision = decide_begin_recovery(state, node=identity.node, replica_id=identity.replica_id, cluster_id=cluster_id)
    if isinstance(decision.answer, Refused):
        raise _refused(f"{path} cannot be made a cluster of: {decision.answer.detail}")
    for change in decision.changes:
        evolve(state, change)
    assert state.settings is not None

    index, term = last + 1, journal.getCurrentTerm() + 1
    _write(snapshots, state, index, term)
    journal.reset(index, term)
    journal.write(journal.take_batch())
    directory.form(cluster_id, {identity.node: identity.replica_id})
    return Recovered(
        node=identity.node,
        former_id=identity.cluster_id,
        cluster_id=cluster_id,
        lost_voters=lost,
        other_nodes=tuple(sorted({*lost, *state.nodes} - {identity.node})),
        snapshot=heading.index if heading is not None else 0,
        entries=entries,
        uncommitted=min(max(last - known, 0), entries),
        index=index,
        resources=len(state.records),
        next_token=state.next_number,
        lease_ttl_s=state.settings.lease_ttl_ms / 1000,
        passed_over=tuple(passed_over),
    )


def _newest_good(snapshots: Snapshots) -> tuple[Heading | None, State, list[str]]:
    """As a node does that starts; with what it passed over."""
    passed_over: list[str] = []
    for snapshot in reversed(snapshots.kept):
        readout = Readout(snapshots.files, snapshot)
        try:
            for _ in readout.steps():
                pass
        except SnapshotDamaged as error:
            passed_over.append(_said(error))
            continue
        return readout.heading, readout.state, passed_over
    return None, State(), passed_over


def _apply_all(state: State, journal: Journal, path: Path) -> int:
    """Apply all that is in the journal after its base, known to be committed or not; how many entries that is."""
    entries = journal[1:]
    for command, index, _ in entries:
        if command[:1] != _COMMAND:
            continue
        try:
            requests = decode_entry(command[1:])
        except CodecError as error:
            raise _refused(f"entry {index} of the journal in {path}: {error}. Use the version that wrote it") from error
        for request in requests:
            apply(state, request)
    return len(entries)


def _check(state: State, heading: Heading | None, cluster_id: str, path: Path) -> None:
    """The state is of the cluster of the directory, or of a recovery of it that did not come to its end."""
    settings = state.settings
    if exceeds(settings):
        raise _refused(
            f"{path} is at a protocol above {PROTOCOL}, which this pydrm speaks. Use the version that wrote it"
        )
    if heading is not None and heading.cluster_id != cluster_id and not (settings is not None and settings.recovering):
        raise _refused(f"a snapshot in {path} is of cluster {heading.cluster_id}, its identity of {cluster_id}")


def _write(snapshots: Snapshots, state: State, index: int, term: int) -> None:
    assert state.settings is not None
    picture = take(state)
    heading = Heading(state.settings.cluster_id, index, term, f"{state.digest:032x}", picture.head)
    file = snapshots.create(index, term)
    try:
        for piece in encoded(heading, picture):
            file.write(piece)
        file.commit()
    finally:
        file.discard()


def _refused(message: str) -> ConfigurationError:
    return ConfigurationError(message, field="data_dir")


def _said(error: ConfigurationError) -> str:
    return str(error).removeprefix(f"{error.field}: ")
