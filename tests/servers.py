"""Real servers and services for tests, in directories that are removed at the end."""

import base64
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app.embedded.layout import Account, Layout, lay_out

# What wraps the keys of texts in this process and in those that it starts. It is known to everybody.
os.environ.setdefault("MEMAUDIT_MASTER_KEY", base64.b64encode(b"a master key for tests, and only").decode())

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


# Below those that the system itself gives to connections, and elsewhere in each process that runs tests: a
# port that was found free stays so until the server that it is for listens.
_PORTS = itertools.count(10_000 + 100 * os.getpid() % 20_000)


def free_port() -> int:
    while True:
        port = next(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def ordinary_account() -> Account:
    entry = pwd.getpwnam("nobody")
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def python_as_ordinary_user() -> list[str] | None:
    """The command that runs this Python as somebody without rights; None where there is no such way.

    Root's interpreter may lie where only root can read. Then the command keeps one right, to read
    anything: it owns and writes as little as anybody else.
    """
    if os.geteuid() != 0:
        return [sys.executable]
    account = ordinary_account()
    become = ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
    read_all = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    for command in ([*become, sys.executable], [*become, *read_all, sys.executable]):
        check = [*command, "-c", "import os, app.embedded.supervisor; assert os.geteuid() != 0"]
        if (
            shutil.which("setpriv")
            and subprocess.run(check, cwd="/", capture_output=True, check=False).returncode == 0
        ):
            return command
    return None


@dataclass(frozen=True)
class RunningService:
    """A `memaudit up` that is ready."""

    process: subprocess.Popen[str]
    url: str
    home: Path

    @property
    def key(self) -> str:
        return (self.home / "api-key").read_text().strip()


@contextmanager
def memaudit_up(
    home: Path, *, python: Sequence[str] = (sys.executable,), environment: dict[str, str] | None = None
) -> Iterator[RunningService]:
    """Run `memaudit up` on a free port until it is ready; at the end it is stopped if it still runs."""
    with subprocess.Popen(
        [*python, "-m", "app.cli", "up", "--home", home, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd="/",
    ) as process:
        try:
            yield RunningService(process, _announced_url(process, home), home)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()


def _announced_url(process: subprocess.Popen[str], home: Path) -> str:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "ready at" in line:
            return line.split()[-1]
    logs = [path.read_text() for path in home.glob("logs/*.log")]
    raise AssertionError("".join(said + logs))
