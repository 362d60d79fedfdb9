"""Signatures as Standard Webhooks has them: HMAC-SHA256 over id, time and body, one for each secret."""

import base64
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from standardwebhooks import Webhook as Signer

from app.sealing.keyring import seal_secret

# The specification asks for 24 to 64.
_SECRET_BYTES: Final = 32
_SHOWN: Final = "whsec_"


class Secret(NamedTuple):
    """A secret that nobody has seen yet.

    Attributes:
        shown: as its owner gives it to whatever verifies: `whsec_` and base64.
        sealed: as it is stored.
    """

    shown: str
    sealed: bytes


def new_secret() -> Secret:
    """A fresh secret. Sealing it may ask a service for a key, and takes as long."""
    secret = secrets.token_bytes(_SECRET_BYTES)
    return Secret(_SHOWN + base64.b64encode(secret).decode(), seal_secret(secret))


def signature_headers(message_id: str, body: str, keys: Iterable[bytes], at: datetime) -> dict[str, str]:
    """The headers by which a receiver knows who sent this, when, and whether it was seen before.

    Args:
        message_id: stays the same from try to try.
        body: what is sent.
        keys: the secrets; during a rotation a receiver knows one of several.
        at: when it is sent, in UTC.
    """
    assert at.tzinfo == UTC
    signatures = (Signer(key).sign(message_id, at, body) for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
