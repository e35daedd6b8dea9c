"""
`DataDirectory`: what a voter must not forget, and the lock that keeps a second process out.

    lock           locked (flock) for as long as the process lives
    identity.json  who this replica is, and the cluster it was formed with
    journal-...    see `segment_format`
    snapshot-...   see `snapshots`

A replica id is born with the directory and bound to the voter's name when the cluster is formed. A voter
that comes back with an empty directory has another replica id, so the others know that it has forgotten
what it voted and acknowledged, and do not count it ("amnesia").
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from pydrm.engine.codec import CodecError, decode_json, encode_json
from pydrm.engine.disk import Disk, LockedDirectory
from pydrm.engine.journal import Journal, open_journal
from pydrm.engine.segment_format import is_segment
from pydrm.engine.snapshots import Snapshots
from pydrm.errors import ConfigurationError, DiskFailed

__all__ = ["DataDirectory", "Identity", "read_identity"]

_FORMAT = 1
_IDENTITY = "identity.json"


@attrs.frozen
class Identity:
    """
    Who this replica is.

    Attributes:
        cluster_id: "" until the cluster is formed.
        members: Each voter's replica id, by name, as it was when this replica became part of the cluster; empty before.
            Who votes now is in the state.
        boot: How many times this directory was started.
    """

    cluster: str
    node: str
    replica_id: str
    directory_id: str
    cluster_id: str = ""
    members: dict[str, str] = attrs.field(factory=dict)
    boot: int = 0
    format: int = _FORMAT


class DataDirectory:
    """Opened, locked and counted as one more boot; or, without a path, made up in memory."""

    def __init__(
        self,
        path: Path | None,
        cluster: str,
        node: str,
        *,
        disk: Disk,
        new_id: Callable[[], str],
    ) -> None:
        """
        Raises:
            ConfigurationError: Another process uses it, it belongs to another node or cluster, or it is damaged.
            DiskFailed: It cannot be read or written.
        """
        self._path = path
        self._disk = disk
        self._new_id = new_id
        self._lock: LockedDirectory | None = None
        self.journal = Journal()
        try:
            if path is None:
                self.identity = self._fresh(cluster, node)
            else:
                self._lock = disk.lock(path)
                self.identity = self._identify(path, cluster, node)
                # First the identity, then the journal: what a crash leaves of a first start can be started again.
                self._save()
            self.snapshots = Snapshots(path, disk)
        except OSError as error:
            self.close()
            raise DiskFailed(f"data directory {path}: {error}") from error
        except BaseException:
            self.close()
            raise

    def open_journal(self, base: tuple[int, int] | None) -> None:
        """
        Have the journal in `journal`; to be called once, on any thread.

        It takes seconds if the log is long.

        Args:
            base: (index, term) of the newest good snapshot.

        Raises:
            ConfigurationError: It is damaged, or does not fit the snapshot.
            DiskFailed: It cannot be read or written.
        """
        if self._path is None:
            return
        try:
            self.journal = open_journal(self._path, self._disk, begun=not self.empty, base=base)
        except OSError as error:
            raise DiskFailed(f"data directory {self._path}: {error}") from error

    @property
    def empty(self) -> bool:
        """Whether this replica was never part of a formed cluster."""
        return not self.identity.cluster_id

    @property
    def on_this_host(self) -> str:
        """
        Names this very directory on this very boot of the host; "" where a lock would not prove that.

        Who holds the lock of the directory with this name knows that the process that held it before is gone.
        """
        if self._lock is None or not self._lock.name:
            return ""
        return f"{self.identity.directory_id}:{self._lock.name}"

    def form(self, cluster_id: str, members: dict[str, str]) -> None:
        """
        Note which cluster this replica belongs to; on disk when it returns. Raises OSError.

        For ever: only `recovery` makes it another one.
        """
        self.identity = attrs.evolve(self.identity, cluster_id=cluster_id, members=members)
        self._save()

    def close(self) -> None:
        """Give the lock back. Idempotent."""
        self.journal.close()
        if self._lock is not None:
            self._lock.release()

    def _fresh(self, cluster: str, node: str) -> Identity:
        return Identity(cluster, node, replica_id=self._new_id(), directory_id=self._new_id(), boot=1)

    def _identify(self, path: Path, cluster: str, node: str) -> Identity:
        found = read_identity(path, self._disk)
        has_journal = any(is_segment(name) for name in self._disk.names(path))
        if found is None:
            if has_journal:
                raise ConfigurationError(
                    f"{path / _IDENTITY} is missing beside a journal: restore it", field="data_dir"
                )
            return self._fresh(cluster, node)
        if (found.cluster, found.node) != (cluster, node):
            message = f"{path} is of node {found.node}, cluster {found.cluster}; not of {node}, {cluster}"
            raise ConfigurationError(message, field="data_dir")
        if found.cluster_id and not has_journal:
            message = f"the journal is missing from {path}: restore it, or replace this node as a voter"
            raise ConfigurationError(message, field="data_dir")
        return attrs.evolve(found, boot=found.boot + 1)

    def _save(self) -> None:
        if self._path is not None:
            self._disk.replace(self._path / _IDENTITY, encode_json(self.identity))


def read_identity(path: Path, disk: Disk) -> Identity | None:
    """
    Whose data directory *path* is; None if it is nobody's yet. It is only read, and no lock is needed.

    Raises:
        ConfigurationError: That cannot be read, or a newer version of pydrm wrote it.
        OSError: The same.
    """
    file = path / _IDENTITY
    data = disk.read(file)
    if data is None:
        return None
    try:
        found = decode_json(data, Identity)
    except CodecError as error:
        raise ConfigurationError(f"{file} cannot be read: {error}", field="data_dir") from error
    if found.format != _FORMAT:
        message = f"{file} has format {found.format}; this pydrm reads {_FORMAT}. Start the version that wrote it"
        raise ConfigurationError(message, field="data_dir")
    return found
