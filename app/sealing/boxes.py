"""Boxes: bytes under a 256-bit key that open only in the place that they were sealed for (AES-256-GCM).

A box is a nonce of 12 random bytes, then the ciphertext with its tag of 16 bytes. A key seals fewer than
2^32 boxes, so that two have the same nonce with a probability below 2^-32 (NIST SP 800-38D, section 8.3):
what grows with the audits of a set has keys of its own, derived for them.
"""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from app.errors import SealBroken

KEY_BYTES: Final = 32
# By how much a box is longer than what is in it.
OVERHEAD_BYTES: Final = 28
_NONCE_BYTES: Final = 12


def new_key() -> bytes:
    """A key of 256 random bits."""
    return os.urandom(KEY_BYTES)


def derive_key(key: bytes, purpose: bytes) -> bytes:
    """A key for one purpose (HKDF-Expand with SHA-256, RFC 5869): it says nothing of the key or of others."""
    return HKDFExpand(SHA256(), KEY_BYTES, purpose).derive(key)


class Sealer:
    """Seals and opens boxes with one key."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, content: bytes, place: bytes) -> bytes:
        """A box that opens only in its place; another one each time."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, place)

    def open(self, box: bytes, place: bytes) -> bytes:
        """What is in a box.

        Raises:
            SealBroken: it was sealed with another key or for another place, or a byte of it has changed.
        """
        if len(box) < OVERHEAD_BYTES:
            raise SealBroken("Something that is stored sealed is too short to be opened.")
        try:
            return self._cipher.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], place)
        except InvalidTag:
            raise SealBroken(
                "Something that is stored sealed does not open with its key: it was changed or moved."
            ) from None
