"""Real servers for tests, in directories that their accounts can enter and that are removed at the end."""

import os
import pwd
import shutil
import site
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.embedded.layout import Account, Layout, lay_out

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 4 * 2**30


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A short-named data directory that any account can enter, unlike pytest's own under root.

    It lies in memory where there is plenty: what is tested survives the death of processes, not of
    the machine, and a shared disk makes every commit slow.
    """
    in_memory = SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > ENOUGH_BYTES
    home = Path(tempfile.mkdtemp(prefix="memaudit-test-", dir=SHARED_MEMORY if in_memory else "/tmp"))
    home.chmod(0o711)
    try:
        yield home
    finally:
        shutil.rmtree(home)


@contextmanager
def temporary_layout() -> Iterator[Layout]:
    with temporary_home() as home:
        yield lay_out(home)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ordinary_account() -> Account:
    entry = pwd.getpwnam("nobody")
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def python_of(account: Account) -> tuple[str, dict[str, str]] | None:
    """A Python with our packages that the account can run, and the environment it needs, if there is one.

    The interpreter of the virtual environment may lie in somebody's home; the system's of the same
    version can import the same packages.
    """
    packages = site.getsitepackages()[0]
    for python in (sys.executable, shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin")):
        if python is None:
            continue
        environment = {"PATH": os.defpath, "PYTHONPATH": f"{REPOSITORY}:{packages}"}
        command = [python, "-c", "import app.embedded.supervisor, celery, uvicorn"]
        try:
            check = subprocess.run(
                command,
                env=environment,
                user=account.uid,
                group=account.gid,
                extra_groups=[],
                cwd="/",
                check=False,
            )
        except PermissionError:
            continue
        if check.returncode == 0:
            return python, environment
    return None
