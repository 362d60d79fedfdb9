"""What the data key of a text set seals: its texts, and the token evidence that audits made from them."""

import struct
from uuid import UUID

from app.sealing.boxes import Sealer, derive_key


class TextSetSealer:
    """Seals the texts of one set, each for its place in it.

    Args:
        key: the data key of the set.
        text_set_id: which set.
    """

    __slots__ = ("_key", "_sealer", "_set")

    def __init__(self, key: bytes, text_set_id: UUID) -> None:
        self._key = key
        self._set = text_set_id.bytes
        self._sealer = Sealer(derive_key(key, b"memaudit texts"))

    def seal(self, content: bytes, ordinal: int, column: str) -> bytes:
        """A box for one column of the text at an ordinal."""
        return self._sealer.seal(content, self._place(ordinal, column))

    def open(self, box: bytes, ordinal: int, column: str) -> bytes:
        """What `seal` sealed.

        Raises:
            SealBroken: it is of another set, text or column, or was changed.
        """
        return self._sealer.open(box, self._place(ordinal, column))

    def _place(self, ordinal: int, column: str) -> bytes:
        return struct.pack(">16sQ", self._set, ordinal) + column.encode()

    def of_audit(self, audit_id: UUID) -> "EvidenceSealer":
        """What seals the evidence of an audit of the set: a key of its own."""
        return EvidenceSealer(derive_key(self._key, b"memaudit evidence" + audit_id.bytes), audit_id)


class EvidenceSealer:
    """Seals the token evidence of one audit, each text's for its place."""

    __slots__ = ("_audit", "_sealer")

    def __init__(self, key: bytes, audit_id: UUID) -> None:
        self._audit = audit_id.bytes
        self._sealer = Sealer(key)

    def seal(self, content: bytes, ordinal: int) -> bytes:
        """A box for the evidence of the text at an ordinal."""
        return self._sealer.seal(content, self._place(ordinal))

    def open(self, box: bytes, ordinal: int) -> bytes:
        """What `seal` sealed.

        Raises:
            SealBroken: it is of another audit or text, or was changed.
        """
        return self._sealer.open(box, self._place(ordinal))

    def _place(self, ordinal: int) -> bytes:
        return struct.pack(">16sQ", self._audit, ordinal)
