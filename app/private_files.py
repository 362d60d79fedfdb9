"""Files that only their owner can read."""

import os
from pathlib import Path


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner can read, whole or not at all.

    It is on the disk before this returns: what a key in it seals is stored at once, and lost without it.
    """
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
