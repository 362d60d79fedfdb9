"""Where the embedded service keeps its files, and as whom Postgres runs."""

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from app.embedded.errors import HomeUnusable

# Postgres refuses to run as root; these accounts are tried in turn.
_UNPRIVILEGED_ACCOUNTS = ("postgres", "nobody")
# For root whose data directory is closed to that account (as /root is).
SYSTEM_DIRECTORY = Path("/var/lib/memaudit")
# sockaddr_un.sun_path holds 108 bytes including the final NUL.
_LONGEST_SOCKET_PATH = 107
_LONGEST_SOCKET_NAME = ".s.PGSQL.65535"


@dataclass(frozen=True)
class Account:
    """An operating system account that a child runs as."""

    name: str
    uid: int
    gid: int

    def can_enter(self, path: Path) -> bool:
        """Whether the account can execute the file, or enter the directory, at `path`."""
        test = shutil.which("test") or "/usr/bin/test"
        answer = subprocess.run(  # noqa: S603 - a fixed program
            [test, "-x", path], user=self.uid, group=self.gid, extra_groups=[], check=False
        )
        return answer.returncode == 0


@cache
def postgres_account() -> Account | None:
    """Whom Postgres runs as: an unprivileged account when we are root, else ourselves (None).

    Raises:
        HomeUnusable: as root on a machine without such an account.
    """
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise HomeUnusable(
        f"Postgres cannot run as root and no account of {', '.join(_UNPRIVILEGED_ACCOUNTS)} exists; "
        "create one or start memaudit as an ordinary user"
    )


@dataclass(frozen=True)
class Layout:
    """The directories of one embedded service.

    Attributes:
        home: the data directory that the owner named.
        postgres: the Postgres data directory, owned by `account`.
        sockets: a private directory short enough for Unix sockets, owned by `account`.
        logs: one log file for each process.
        account: whom Postgres runs as; None for ourselves.
    """

    home: Path
    postgres: Path
    sockets: Path
    logs: Path
    account: Account | None

    @property
    def lock(self) -> Path:
        """The file that the running supervisor holds locked."""
        return self.home / "lock"


def lay_out(home: Path) -> Layout:
    """Make the directories of the embedded service under `home`, or beside it where they cannot be there.

    As root with a home that Postgres' account cannot enter, its data and the sockets lie under
    /var/lib/memaudit, in a directory named after the home, and the home holds a link to them.
    Sockets whose path would be too long for the system lie under /tmp.

    Raises:
        HomeUnusable: if a directory cannot be made or belongs to somebody else.
    """
    account = postgres_account()
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    try:
        home.mkdir(mode=0o711 if account else 0o700, parents=True, exist_ok=True)
        logs = _make(home / "logs", 0o700, None)
        base = _base(home, name, account)
        postgres = _make(base / "postgres", 0o700, account)
        sockets = base / "run"
        if len(os.fsencode(sockets / _LONGEST_SOCKET_NAME)) > _LONGEST_SOCKET_PATH:
            sockets = Path("/tmp") / f"memaudit-{name}"  # noqa: S108 - its owner and mode are checked
        _make(sockets, 0o700, account)
    except OSError as error:
        raise HomeUnusable(
            f"cannot use {home} as the data directory: {error.strerror}: {error.filename}"
        ) from error
    return Layout(home=home, postgres=postgres, sockets=sockets, logs=logs, account=account)


def _base(home: Path, name: str, account: Account | None) -> Path:
    """The directory that holds Postgres' data: the home, or where the link in the home leads to."""
    link = home / "postgres"
    if link.is_symlink():
        return link.readlink().parent
    if account is None or account.can_enter(home):
        return home
    if link.exists():
        raise HomeUnusable(f"the account {account.name} can no longer enter {link}; open its parents again")
    base = _make(_make(SYSTEM_DIRECTORY, 0o755, None) / name, 0o711, None)
    link.symlink_to(base / "postgres")
    return base


def _make(directory: Path, mode: int, owner: Account | None) -> Path:
    """Make a directory, or check that an existing one is ours or its owner's, and set its mode and owner."""
    directory.mkdir(mode=mode, parents=True, exist_ok=True)
    facts = directory.lstat()
    allowed = {os.geteuid()} | ({owner.uid} if owner else set())
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid not in allowed:
        raise HomeUnusable(f"{directory} belongs to another user; choose another MEMAUDIT_HOME")
    directory.chmod(mode)
    if owner is not None:
        os.chown(directory, owner.uid, owner.gid)
    return directory
