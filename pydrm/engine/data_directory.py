"""
`DataDirectory`: what a voter must not forget, and the lock that keeps a second process out.

    lock           locked (flock) for as long as the process lives
    identity.json  who this replica is, and the cluster it was formed with
    journal        see `journal`

A replica id is born with the directory and bound to the voter's name when the cluster is formed. A voter
that comes back with an empty directory has another replica id, so the others know that it has forgotten
what it voted and acknowledged, and do not count it ("amnesia").
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

import attrs

from pydrm.engine.codec import CodecError, decode_json, encode_json
from pydrm.engine.journal import Journal, JournalFile, sync_directory
from pydrm.errors import ConfigurationError, DiskFailed

__all__ = ["DataDirectory", "Identity"]

_FORMAT = 1

# The inode and the lock of a directory on these may be seen by several hosts at once (mount(8), flock(2)).
_NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "lustre", "ocfs2", "gfs2")


@attrs.frozen
class Identity:
    """
    Who this replica is.

    Attributes:
        cluster_id: "" until the cluster is formed.
        members: Each voter's replica id, by name; empty until the cluster is formed.
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

    def __init__(self, path: Path | None, cluster: str, node: str) -> None:
        """
        Raises:
            ConfigurationError: Another process uses it, it belongs to another node or cluster, or it is damaged.
            DiskFailed: It cannot be read or written.
        """
        self._path = path
        self._lock = -1
        self.journal = Journal()
        try:
            if path is not None:
                self._open(path)
            self.identity = self._identify(cluster, node)
            # First the identity, then the journal: whatever a crash leaves of a first start can be started again.
            self._save()
            if path is not None:
                self._open_journal(path)
        except OSError as error:
            self.close()
            raise DiskFailed(f"data directory {path}: {error}") from error
        except BaseException:
            self.close()
            raise

    @property
    def empty(self) -> bool:
        """Whether this replica was never part of a formed cluster."""
        return not self.identity.cluster_id

    def form(self, cluster_id: str, members: dict[str, str]) -> None:
        """Note for ever which cluster this replica belongs to; on disk when it returns. Raises OSError."""
        self.identity = attrs.evolve(self.identity, cluster_id=cluster_id, members=members)
        self._save()

    def on_this_host(self) -> str:
        """
        Names this very directory on this very boot of the host; "" where a lock would not prove that.

        Who holds the lock of the directory with this name knows that the process that held it before is gone.
        """
        if self._path is None or _file_system(self._path).startswith(_NETWORK_FILE_SYSTEMS):
            return ""
        try:
            host_boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return ""
        status = os.fstat(self._lock)
        return f"{self.identity.directory_id}:{status.st_dev}:{status.st_ino}:{host_boot}"

    def close(self) -> None:
        """Give the lock back. Idempotent."""
        self.journal.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _open(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
            message = f"{path} is in use by process {holder or 'unknown'}; give each node a directory of its own"
            raise ConfigurationError(message, field="data_dir") from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _identify(self, cluster: str, node: str) -> Identity:
        fresh = Identity(cluster, node, replica_id=secrets.token_hex(8), directory_id=secrets.token_hex(8), boot=1)
        if self._path is None:
            return fresh
        file = self._path / "identity.json"
        if not file.exists():
            if (self._path / "journal").exists():
                raise ConfigurationError(f"{file} is missing beside a journal: restore it", field="data_dir")
            return fresh
        try:
            found = decode_json(file.read_bytes(), Identity)
        except CodecError as error:
            raise ConfigurationError(f"{file} cannot be read: {error}", field="data_dir") from error
        if found.format != _FORMAT:
            message = f"{file} has format {found.format}; this pydrm reads {_FORMAT}. Start the version that wrote it"
            raise ConfigurationError(message, field="data_dir")
        if (found.cluster, found.node) != (cluster, node):
            message = (
                f"{self._path} belongs to node {found.node} of cluster {found.cluster}, not to {node} of {cluster}"
            )
            raise ConfigurationError(message, field="data_dir")
        if found.cluster_id and not (self._path / "journal").exists():
            message = f"the journal is missing from {self._path}: restore it, or replace this node as a voter"
            raise ConfigurationError(message, field="data_dir")
        return attrs.evolve(found, boot=found.boot + 1)

    def _open_journal(self, path: Path) -> None:
        file = JournalFile(path / "journal")
        self.journal = Journal(file, file.recovered)

    def _save(self) -> None:
        if self._path is None:
            return
        temporary = self._path / "identity.json.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, encode_json(self.identity))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(self._path / "identity.json")
        sync_directory(self._path)


def _file_system(path: Path) -> str:
    """The type of the file system that *path* is on, as /proc/self/mountinfo names it; "" if that is not known."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    for mount in mounts:
        fields, _, source = mount.partition(" - ")
        if fields.split()[2] == wanted:
            return source.split()[0]
    return ""
