"""
`DiskImage`: a file system in a file, mounted, of which a power cut leaves what had been written through.

It stands in for a disk whose own cache is honest: what the kernel had not handed to it yet is lost, and so is
whatever a process had written without a sync.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["DiskImage", "mounted_image"]

SIZE_BYTES = 32 * 2**20
BALLAST_BYTES = 64 * 1024

# The file system and its journal write nothing of their own accord for the few seconds between two cuts. Otherwise the
# image could be copied while they do, which would be a disk that never was; and a missing sync could go unnoticed.
OPTIONS = "commit=600"


class DiskImage:
    """
    Attributes:
        mount_point: Where it is mounted.
    """

    def __init__(self, directory: Path, name: str) -> None:
        """Raises CalledProcessError or OSError if this machine cannot do that."""
        self.mount_point = directory / name
        self._image = directory / f"{name}.image"
        self._kept = directory / f"{name}.image.kept"
        self._ballast = self.mount_point / "ballast"
        self.mount_point.mkdir()
        with self._image.open("wb") as image:
            image.truncate(SIZE_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self._device = self._mount()

    def cut_power(self) -> None:
        """Keep what the disk has at this moment. Whoever writes to it must be stopped; `come_back` is next."""
        while True:
            writes = self._writes()
            shutil.copyfile(self._image, self._kept)
            if writes == self._writes():
                return

    def come_back(self) -> None:
        """Mount what was kept, in the place of what would have been. Nobody may use it any more."""
        self.unmount()
        self._kept.replace(self._image)
        self._device = self._mount()

    def fill(self) -> None:
        """Leave no room."""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as ballast:
            while ballast.write(bytes(BALLAST_BYTES)):
                pass

    def make_room(self) -> None:
        self._ballast.unlink()

    def unmount(self) -> None:
        if self._device:
            _run("umount", str(self.mount_point))
            self._device = ""

    def _mount(self) -> str:
        device = _run("losetup", "--find", "--show", str(self._image)).strip()
        try:
            _run("mount", "-t", "ext4", "-o", OPTIONS, device, str(self.mount_point))
        finally:
            # It goes by itself as soon as nobody uses it any more.
            _run("losetup", "--detach", device)
        return device

    def _writes(self) -> str:
        """Changes with each write, and is different each time as long as one is under way."""
        fields = (Path("/sys/block") / Path(self._device).name / "stat").read_text().split()
        in_flight, completed = int(fields[8]), fields[4]
        return f"{completed} {time.monotonic() if in_flight else ''}"


@contextlib.contextmanager
def mounted_image(directory: Path, name: str = "disk") -> Iterator[DiskImage]:
    """A fresh one; skips the test, with the reason, where file systems cannot be made and mounted."""
    try:
        image = DiskImage(directory, name)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        pytest.skip(f"cannot mount a file system here (it takes root, e2fsprogs and a loop device): {said.strip()}")
    try:
        yield image
    finally:
        image.unmount()


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
