"""The keys that this instance signs evidence with: Ed25519, in PEM files of one directory.

The name of a file says from when its key signed, and of a retired one, of which only the public half is left,
until when: `20260101T000000Z.pem`, `20250101T000000Z.20260101T000000Z.pub.pem`. A retired key signs nothing
any more; what it has signed stays verifiable while its file is there.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from app.errors import SigningUnavailable
from app.private_files import write_private

_TIME: Final = "%Y%m%dT%H%M%SZ"
_NAME: Final = re.compile(r"(\d{8}T\d{6}Z)(?:\.(\d{8}T\d{6}Z)\.pub)?\.pem")
_HOW: Final = (
    "Set MEMAUDIT_SIGNING_KEYS to a directory that the API can read; `memaudit keys rotate-signing` makes a "
    "key there."
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that evidence is, or was, signed with.

    Attributes:
        key: its public half.
        valid_from: when it began to sign.
        valid_until: when it was retired; None while it signs.
    """

    key: Ed25519PublicKey
    valid_from: datetime
    valid_until: datetime | None

    @property
    def key_id(self) -> str:
        """The SHA-256 of its SubjectPublicKeyInfo in DER, hexadecimal."""
        der = self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(der).hexdigest()


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """All keys of an instance.

    Attributes:
        private: the one that signs.
        public: all of them, newest first; the first is that of `private`.
    """

    private: Ed25519PrivateKey
    public: tuple[PublicKey, ...]

    def by_id(self) -> Mapping[str, PublicKey]:
        """The public keys by their ids."""
        return {key.key_id: key for key in self.public}


def read_signing_keys(directory: Path) -> SigningKeys:
    """The keys of a directory. The newest private one signs.

    Raises:
        SigningUnavailable: there is no private key, or a file is none of ours.
    """
    public: list[PublicKey] = []
    private: dict[datetime, Ed25519PrivateKey] = {}
    for path in _pem_files(directory):
        begin, end = _times(path)
        key = _read_key(path)
        if isinstance(key, Ed25519PrivateKey):
            private[begin] = key
            public.append(PublicKey(key.public_key(), begin, None))
        else:
            public.append(PublicKey(key, begin, end))
    if not private:
        raise SigningUnavailable(f"This instance has no key to sign evidence with. {_HOW}")
    newest = max(private)
    public.sort(key=lambda each: (each.valid_from == newest, each.valid_from), reverse=True)
    return SigningKeys(private[newest], tuple(public))


def _pem_files(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == ".pem")
    except OSError:
        return []


def _times(path: Path) -> tuple[datetime, datetime | None]:
    named = _NAME.fullmatch(path.name)
    if named is None:
        raise SigningUnavailable(f"A signing key's file is called like 20260101T000000Z.pem. {_HOW}")
    begin, end = named.groups()
    try:
        return _time(begin), None if end is None else _time(end)
    except ValueError:
        raise SigningUnavailable(f"A signing key's file is called by a time that there is. {_HOW}") from None


def _time(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def _read_key(path: Path) -> Ed25519PrivateKey | Ed25519PublicKey:
    try:
        content = path.read_bytes()
        is_public = path.name.endswith(".pub.pem")
        key = load_pem_public_key(content) if is_public else load_pem_private_key(content, password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        raise SigningUnavailable(f"A signing key cannot be read: it has to be a PEM file. {_HOW}") from None
    if not isinstance(key, Ed25519PrivateKey | Ed25519PublicKey):
        raise SigningUnavailable(f"A signing key is not of the kind Ed25519. {_HOW}")
    return key


def can_sign(directory: Path) -> bool:
    """Whether evidence can be signed with a key of a directory."""
    try:
        read_signing_keys(directory)
    except SigningUnavailable:
        return False
    return True


def signing_keys_if_any(directory: Path) -> SigningKeys | None:
    """The keys of a directory; None where nothing can be signed."""
    try:
        return read_signing_keys(directory)
    except SigningUnavailable:
        return None


def ensure_signing_key(directory: Path) -> None:
    """Make a key if the directory has none."""
    if not _pem_files(directory):
        rotate_signing_key(directory)


def rotate_signing_key(directory: Path, now: datetime | None = None) -> PublicKey:
    """Make a key that signs from now on, and retire those before it: of them only the public halves are left.

    Raises:
        SigningUnavailable: a file there is none of ours.
        FileExistsError: a key was made in this very second.
    """
    now = (now or datetime.now(UTC)).replace(microsecond=0)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = directory / f"{now:{_TIME}}.pem"
    if made.exists():
        raise FileExistsError(made)
    retired = [path for path in _pem_files(directory) if not path.name.endswith(".pub.pem")]
    key = Ed25519PrivateKey.generate()
    write_private(made, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
    for path in retired:
        _retire(path, now)
    return PublicKey(key.public_key(), now, None)


def _retire(path: Path, now: datetime) -> None:
    begin, _ = _times(path)
    key = _read_key(path)
    assert isinstance(key, Ed25519PrivateKey)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_private(path.with_name(f"{begin:{_TIME}}.{now:{_TIME}}.pub.pem"), public.decode())
    path.unlink()


def to_json_web_key(key: PublicKey) -> dict[str, str | None]:
    """A public key as a JSON Web Key (RFC 7517, RFC 8037), and when it signed."""
    raw = key.key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "alg": "EdDSA",
        "use": "sig",
        "kid": key.key_id,
        "x": base64.urlsafe_b64encode(raw).decode().rstrip("="),
        "valid_from": key.valid_from.isoformat(),
        "valid_until": key.valid_until.isoformat() if key.valid_until else None,
    }


def from_json_web_key(document: Mapping[str, object]) -> PublicKey:
    """The public key that `to_json_web_key` wrote.

    Raises:
        ValueError: it is no Ed25519 key, or its id is not that of the key.
    """
    x, begin, end = (document.get(name) for name in ("x", "valid_from", "valid_until"))
    if document.get("crv") != "Ed25519" or not isinstance(x, str) or not isinstance(begin, str):
        raise ValueError("a key is not one of memaudit's")
    raw = base64.urlsafe_b64decode(x + "=" * (-len(x) % 4))
    key = PublicKey(
        Ed25519PublicKey.from_public_bytes(raw),
        datetime.fromisoformat(begin),
        datetime.fromisoformat(end) if isinstance(end, str) else None,
    )
    if document.get("kid") != key.key_id:
        raise ValueError("a key is not the one that its id names")
    return key
