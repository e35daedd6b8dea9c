"""`Readout`: makes a state of a snapshot's file again, for a node that goes on meanwhile and for who only looks."""

from __future__ import annotations

from collections.abc import Iterator

from pydrm.core.protocol import PROTOCOL, exceeds
from pydrm.core.restoring import Restoring
from pydrm.core.state import State
from pydrm.engine.disk import Files
from pydrm.engine.snapshots import Heading, Snapshot, SnapshotDamaged, blocks
from pydrm.errors import Outdated

__all__ = ["Readout"]


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
