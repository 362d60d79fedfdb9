"""What is said of the formats of evidence."""

from datetime import datetime
from typing import Literal

from app.contracts.base import Described


class EvidenceFormatOut(Described):
    """A format in which evidence of some work can be had."""

    object: Literal["evidence_format"] = "evidence_format"
    name: str
    """As the last part of the address has it."""
    title: str
    """What it is, for people."""
    media_type: str
    """Of the document."""
    available: bool
    """Whether the document can be had now: the work has succeeded and, if it is signed, there is a key."""


class SigningKeyOut(Described):
    """A public Ed25519 key as a JSON Web Key (RFC 7517, RFC 8037), and when it signed."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    alg: Literal["EdDSA"]
    use: Literal["sig"]
    kid: str
    """The `keyid` of a signature: SHA-256 of the key's SubjectPublicKeyInfo in DER."""
    x: str
    """The key itself, base64url without padding."""
    valid_from: datetime
    """From when it signed."""
    valid_until: datetime | None
    """Until when it signed; null while it does. What it signed before stays valid."""


class SigningKeysOut(Described):
    """A JSON Web Key Set. The first key signs."""

    keys: list[SigningKeyOut]
    """Newest first."""
