"""Signed envelopes: DSSE v1 (secure-systems-lab/dsse), one Ed25519 signature each.

They are written in one way only, so that each byte of an envelope matters.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

import orjson
from cryptography.exceptions import InvalidSignature

from app.signing.keys import PublicKey, SigningKeys


class EnvelopeInvalid(Exception):
    """What is no envelope of ours, or is not signed by a key that is trusted; the text says which."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What was signed, and by which key."""

    payload_type: str
    payload: bytes
    key: PublicKey


def authenticated(payload_type: str, payload: bytes) -> bytes:
    """The bytes that a signature is over: the pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload_type: str, payload: bytes, keys: SigningKeys) -> bytes:
    """A payload in an envelope that the newest key signs; the same each time."""
    signature = keys.private.sign(authenticated(payload_type, payload))
    return _write(payload_type, payload, keys.public[0].key_id, signature)


def _write(payload_type: str, payload: bytes, key_id: str, signature: bytes) -> bytes:
    return orjson.dumps(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [{"keyid": key_id, "sig": base64.b64encode(signature).decode()}],
        }
    )


def open_envelope(document: bytes, trusted: Mapping[str, PublicKey]) -> Opened:
    """The payload of an envelope, once its signature has been checked.

    Args:
        document: the envelope as `seal` writes it.
        trusted: the keys that may have signed it, by their ids.

    Raises:
        EnvelopeInvalid: it is no such envelope, no trusted key signed it, or the signature is of something
            else.
    """
    payload_type, payload, key_id, signature = _parse(document)
    key = trusted.get(key_id)
    if key is None:
        raise EnvelopeInvalid("it is signed with a key that is not among the trusted ones")
    try:
        key.key.verify(signature, authenticated(payload_type, payload))
    except InvalidSignature:
        raise EnvelopeInvalid("the signature does not match what is signed") from None
    return Opened(payload_type, payload, key)


def _parse(document: bytes) -> tuple[str, bytes, str, bytes]:
    """Payload type, payload, the id of the key and the signature of an envelope.

    Raises:
        EnvelopeInvalid: it is none.
    """
    match _load(document):
        case {
            "payload": str(payload),
            "payloadType": str(payload_type),
            "signatures": [{"keyid": str(key_id), "sig": str(signature)}],
        }:
            parsed = payload_type, _decode(payload), key_id, _decode(signature)
        case _:
            raise EnvelopeInvalid("it is not a DSSE envelope with one signature")
    # A field that stands twice would be another one to who reads the first.
    if _write(*parsed) != document:
        raise EnvelopeInvalid("it holds more than an envelope, or is written in an unusual way")
    return parsed


def _load(document: bytes) -> object:
    try:
        return orjson.loads(document)
    except orjson.JSONDecodeError:
        raise EnvelopeInvalid("it is not JSON") from None


def _decode(text: str) -> bytes:
    """What base64 says.

    Raises:
        EnvelopeInvalid: it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise EnvelopeInvalid("it holds something that is not base64") from None
