"""
Making a state of a snapshot's file again: `Readout` for who only looks, `restored` for a node that goes on meanwhile,
`restore_newest` for one that starts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from pydrm.core.protocol import PROTOCOL, exceeds
from pydrm.core.restoring import Restoring
from pydrm.core.state import State
from pydrm.engine.data_directory import DataDirectory
from pydrm.engine.disk import Files
from pydrm.engine.snapshots import Heading, Snapshot, SnapshotDamaged, Snapshots, blocks
from pydrm.errors import ConfigurationError, Outdated

__all__ = ["Readout", "restore_newest", "restored"]

_log = logging.getLogger(__name__)


class Readout:
    """Exhaust `steps`; then there is `state`, and `heading` from the first step on."""

    heading: Heading
    state: State

    def __init__(self, files: Files, snapshot: Snapshot) -> None:
        self._files = files
        self._snapshot = snapshot

    def steps(self) -> Iterator[None]:
        """
        Each takes milliseconds.

        Raises:
            SnapshotDamaged: It is not what was written.
            ConfigurationError: A newer version of pydrm wrote it.
            Outdated: It is past what this version can apply.
            OSError: It cannot be read.
        """
        snapshot = self._snapshot
        pieces = blocks(self._files, snapshot.path)
        heading = next(pieces)
        assert isinstance(heading, Heading)
        self.heading = heading
        if (heading.index, heading.term) != (snapshot.index, snapshot.term):
            what = f"it is of entry {heading.index}, not of the one that it is named after"
            raise SnapshotDamaged(snapshot.path, 0, what)
        settings = heading.head.settings
        if settings is not None and exceeds(settings):
            raise Outdated(
                f"the snapshot of entry {heading.index} is of protocol {settings.protocol}, and this pydrm can apply "
                f"no more than protocol {PROTOCOL}; start a newer pydrm here"
            )
        restoring = Restoring(heading.head)
        try:
            for piece in pieces:
                assert isinstance(piece, tuple)
                restoring.add(*piece)
                yield
            yield from restoring.finish()
        except ValueError as error:
            raise SnapshotDamaged(snapshot.path, snapshot.size, str(error)) from error
        self.state = restoring.state


async def restored(snapshots: Snapshots, snapshot: Snapshot) -> tuple[Heading, State]:
    """
    Read *snapshot*; the loop goes on meanwhile.

    Raises:
        SnapshotDamaged: It is not what was written.
        Outdated: It is past what this version can apply.
        OSError: It cannot be read.
    """
    readout = Readout(snapshots.files, snapshot)
    for _ in readout.steps():
        await asyncio.sleep(0)
    return readout.heading, readout.state


async def restore_newest(directory: DataDirectory, state: State) -> tuple[int, int] | None:
    """
    Have *state* become what the newest good snapshot holds; return (index, term) of its entry, None if there is none.

    Raises:
        ConfigurationError: It is of another cluster.
        Outdated: It is past what this version can apply.
        OSError: It cannot be read.
    """
    snapshots = directory.snapshots
    for snapshot in reversed(list(snapshots.kept)):
        try:
            heading, found = await restored(snapshots, snapshot)
        except SnapshotDamaged as error:
            _log.error("%s; trying an older one", error)
            snapshots.forget(snapshot.index)
            continue
        mine = directory.identity.cluster_id
        if heading.cluster_id != mine:
            message = (
                f"{snapshot.path} is of cluster {heading.cluster_id}, this node of {mine or 'none'}: a recovery did "
                f"not come to its end. Run it again: pydrm recover --force-new-cluster {snapshot.path.parent}"
            )
            raise ConfigurationError(message, field="data_dir")
        state.become(found)
        return heading.index, heading.term
    return None
