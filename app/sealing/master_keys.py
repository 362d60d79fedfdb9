"""Master keys that this instance holds itself: in files of a directory, or in a setting."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from app.errors import KeyUnavailable
from app.private_files import write_private
from app.sealing.boxes import KEY_BYTES, Sealer, new_key

_TIME: Final = "%Y%m%dT%H%M%SZ"
_NAME: Final = re.compile(r"\d{8}T\d{6}Z\.key")
_ID_DIGITS: Final = 16
HOW: Final = (
    "Set MEMAUDIT_MASTER_KEYS to a directory that the process can read (`memaudit keys new-master` makes the "
    "first key there), MEMAUDIT_MASTER_KEY to 32 bytes in base64, or MEMAUDIT_KEY_COMMAND to a program."
)


@dataclass(frozen=True, slots=True)
class MasterKey:
    """A key that wraps others.

    Attributes:
        key_id: 16 hexadecimal digits that are derived from the key; they say nothing of it.
        path: the file that it was read from; None for one of a setting.
    """

    key_id: str
    sealer: Sealer
    path: Path | None = None

    @classmethod
    def of(cls, key: bytes, path: Path | None = None) -> "MasterKey":
        """The master key of 32 bytes."""
        key_id = hmac.digest(key, b"memaudit master key id", hashlib.sha256).hex()[:_ID_DIGITS]
        return cls(key_id, Sealer(key), path)


def keys_of_setting(text: str) -> list[MasterKey]:
    """Keys in base64, one after a comma; the first wraps.

    Raises:
        KeyUnavailable: one of them is not 32 bytes in base64.
    """
    return [MasterKey.of(_decode(part, "MEMAUDIT_MASTER_KEY")) for part in text.split(",")]


def keys_of_directory(directory: Path) -> list[MasterKey]:
    """The keys in the files of a directory, newest first by their names; none if there is no such directory.

    Raises:
        KeyUnavailable: a file there cannot be read, or holds no key.
    """
    return [MasterKey.of(_read(path), path) for path in _key_files(directory)]


def ensure_master_key(directory: Path) -> None:
    """Make a key if the directory has none."""
    if not _key_files(directory):
        make_master_key(directory)


def make_master_key(directory: Path, now: datetime | None = None) -> MasterKey:
    """Make a key in a directory. It wraps from now on; those before it open what they wrapped.

    Raises:
        FileExistsError: a key was made in this very second.
    """
    now = now or datetime.now(UTC)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"{now:{_TIME}}.key"
    if path.exists():
        raise FileExistsError(path)
    key = new_key()
    write_private(path, base64.b64encode(key).decode() + "\n")
    return MasterKey.of(key, path)


def _key_files(directory: Path) -> Sequence[Path]:
    try:
        return sorted((path for path in directory.iterdir() if path.suffix == ".key"), reverse=True)
    except OSError:
        return []


def _read(path: Path) -> bytes:
    if not _NAME.fullmatch(path.name):
        raise KeyUnavailable(f"The file of a master key is called like 20260101T000000Z.key. {HOW}")
    try:
        return _decode(path.read_text(), f"the file {path.name}")
    except (OSError, UnicodeDecodeError):
        raise KeyUnavailable(f"The master key in the file {path.name} cannot be read. {HOW}") from None


def _decode(text: str, where: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyUnavailable(f"What is in {where} is not a key: it has to be 32 bytes in base64. {HOW}")
    return key
