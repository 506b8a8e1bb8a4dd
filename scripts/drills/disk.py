"""A disk that is full at a chosen moment."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from drills.processes import Running

#: Holds a run of the drills several times over.
MEGABYTES = 64


class Disk:
    """A small file system of its own; where none may be mounted, a limit on the size of files.

    Attributes:
        path: A folder on it.
        is_mounted: Whether it is a file system of its own.
    """

    def __init__(self, path: Path, is_mounted: bool) -> None:
        self.path = path
        self.is_mounted = is_mounted

    @property
    def _filler(self) -> Path:
        return self.path / "filler"

    def fill(self, running: Running) -> None:
        """Leave no byte to a command that runs."""
        if not self.is_mounted:
            resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
            return
        for chunk in (1 << 16, 1 << 8):  # the small one for what the large one leaves
            with suppress(OSError), self._filler.open("ab", buffering=0) as file:
                while file.write(bytes(chunk)):
                    pass

    def make_room(self) -> None:
        """Give back what was taken."""
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """Mount a small file system in memory at a folder, if this user may; gone afterwards, with all on it."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    try:
        is_mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        is_mounted = False
    try:
        yield Disk(folder, is_mounted)
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], capture_output=True)
