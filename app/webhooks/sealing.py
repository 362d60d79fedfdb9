"""Secrets as they are stored."""

from collections.abc import Iterable


def seal_secret(secret: bytes) -> bytes:
    """A secret as it is stored."""
    return secret


def open_secrets(sealed: Iterable[bytes]) -> list[bytes]:
    """Secrets that were stored."""
    return list(sealed)
