"""Real servers for tests, in directories that their accounts can enter and that are removed at the end."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.embedded.layout import Layout, lay_out


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A short-named data directory that any account can enter, unlike pytest's own under root."""
    home = Path(tempfile.mkdtemp(prefix="memaudit-test-", dir="/tmp"))
    home.chmod(0o711)
    try:
        yield home
    finally:
        shutil.rmtree(home)


@contextmanager
def temporary_layout() -> Iterator[Layout]:
    with temporary_home() as home:
        yield lay_out(home)
