"""A small disk for artifacts that can be filled up."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_SIZE = "64m"
_BALLAST = "ballast"
_PIECE = b"\0" * 2**20


@dataclass(frozen=True)
class ArtifactDisk:
    """Where artifacts are stored; it can be filled where it is a file system of its own."""

    directory: Path
    fillable: bool

    @property
    def url(self) -> str:
        return f"file://{self.directory / 'artifacts'}"

    def fill(self) -> None:
        """Leave no room at all."""
        with (self.directory / _BALLAST).open("ab", buffering=0) as ballast, suppress(OSError):
            while True:
                # A short write, then none: the rest of the disk is the last piece.
                if not ballast.write(_PIECE):
                    return

    def free(self) -> None:
        (self.directory / _BALLAST).unlink(missing_ok=True)


@contextmanager
def artifact_disk(directory: Path) -> Iterator[ArtifactDisk]:
    """A file system in memory, which only root can mount; for others a directory that cannot be filled."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", os.fspath(directory)]
    fillable = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        yield ArtifactDisk(directory, fillable)
    finally:
        if fillable:
            subprocess.run(["umount", "--lazy", directory], check=True)
