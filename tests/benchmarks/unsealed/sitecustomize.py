"""On the path of a process before all else, this takes the encryption out of it, to measure its cost."""
# ruff: noqa: ARG002 - what stands in for a cipher takes what that takes

from app.sealing import boxes, spool


class Nothing:
    """Costs nothing, where AES-GCM stands."""

    def __init__(self, key: bytes) -> None:
        pass

    def encrypt(self, nonce: bytes, content: bytes, place: bytes | None) -> bytes:
        return content + bytes(16)

    def decrypt(self, nonce: bytes, content: bytes, place: bytes | None) -> bytes:
        return content[:-16]


def same(sealer: boxes.Sealer, content: bytes, place: bytes) -> bytes:
    return content


boxes.Sealer.seal = boxes.Sealer.open = same  # type: ignore[method-assign]
spool.AESGCM = Nothing  # type: ignore[assignment, misc]
