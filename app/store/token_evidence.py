"""The token evidence of audits. A text can be read from the ids of its tokens, so that it is one."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import ForeignKey, Index, LargeBinary, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.errors import SealBroken
from app.sealing.texts import EvidenceSealer
from app.store.audits import Audit
from app.store.core.base import Base
from app.store.data_keys import ensure_text_set_sealer, text_set_sealer

_HEADER: Final = struct.Struct("<IB")
# Arrays that not all evidence has, each with its bit in the header.
_OPTIONAL: Final = {"means": 1, "deviations": 2, "sampling_log_likelihoods": 4}
_ITEM_BYTES: Final = 4
_COPY: Final = sql.SQL("COPY token_evidence (audit_id, ordinal, sealed) FROM STDIN (FORMAT BINARY)")
_TYPES: Final = ["uuid", "int4", "bytea"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Per-token arrays of one text, packed little-endian: 4-byte items, one per token.

    `spans` holds the start and end of each token in the text, in characters. `means`, `deviations` and
    `sampling_log_likelihoods` are None in evidence of an older release, and the last where no metric of the
    audit needed it.
    """

    ordinal: int
    token_ids: bytes
    log_likelihoods: bytes
    ranks: bytes
    spans: bytes
    means: bytes | None = None
    deviations: bytes | None = None
    sampling_log_likelihoods: bytes | None = None

    def pack(self) -> bytes:
        """All arrays as one string of bytes."""
        optional = [getattr(self, name) for name in _OPTIONAL]
        flags = sum(bit for bit, array in zip(_OPTIONAL.values(), optional, strict=True) if array is not None)
        header = _HEADER.pack(len(self.token_ids) // _ITEM_BYTES, flags)
        arrays = (self.token_ids, self.log_likelihoods, self.ranks, self.spans, *optional)
        return b"".join((header, *(array for array in arrays if array is not None)))

    @classmethod
    def unpack(cls, ordinal: int, packed: bytes) -> "Evidence":
        """What `pack` packed.

        Raises:
            SealBroken: it is something else.
        """
        count, flags = _HEADER.unpack_from(packed)
        sizes = {"token_ids": 1, "log_likelihoods": 1, "ranks": 1, "spans": 2}
        sizes |= {name: 1 for name, bit in _OPTIONAL.items() if flags & bit}
        arrays, start = {}, _HEADER.size
        for name, items in sizes.items():
            stop = start + items * count * _ITEM_BYTES
            arrays[name], start = packed[start:stop], stop
        if start != len(packed):
            raise SealBroken("Stored token evidence is of an unknown form.")
        return cls(ordinal=ordinal, **arrays)


class TokenEvidence(Base):
    """The evidence of one text, sealed with a key of its audit, which is derived from that of the text set.

    In a row of an older release, until it is converted, the arrays stand in clear.
    """

    __tablename__ = "token_evidence"
    __table_args__ = (
        Index("ix_token_evidence_unsealed", "audit_id", "ordinal", postgresql_where=text("sealed IS NULL")),
    )

    audit_id: Mapped[UUID] = mapped_column(ForeignKey("audits.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    token_ids: Mapped[bytes | None] = mapped_column(LargeBinary)
    log_likelihoods: Mapped[bytes | None] = mapped_column(LargeBinary)
    ranks: Mapped[bytes | None] = mapped_column(LargeBinary)
    spans: Mapped[bytes | None] = mapped_column(LargeBinary)
    means: Mapped[bytes | None] = mapped_column(LargeBinary)
    deviations: Mapped[bytes | None] = mapped_column(LargeBinary)
    sampling_log_likelihoods: Mapped[bytes | None] = mapped_column(LargeBinary)
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)

    def unsealed(self) -> Evidence:
        """What a row of an older release holds."""
        assert self.token_ids is not None
        assert self.log_likelihoods is not None
        assert self.ranks is not None
        assert self.spans is not None
        return Evidence(
            ordinal=self.ordinal,
            token_ids=self.token_ids,
            log_likelihoods=self.log_likelihoods,
            ranks=self.ranks,
            spans=self.spans,
            means=self.means,
            deviations=self.deviations,
            sampling_log_likelihoods=self.sampling_log_likelihoods,
        )


def seal_row(row: TokenEvidence, sealer: EvidenceSealer) -> None:
    """Seal a row of an older release."""
    row.sealed = sealer.seal(row.unsealed().pack(), row.ordinal)
    row.token_ids = row.log_likelihoods = row.ranks = row.spans = None
    row.means = row.deviations = row.sampling_log_likelihoods = None


def copy_evidence(session: Session, audit_id: UUID, rows: Iterable[Evidence]) -> None:
    """Append the evidence of texts of an audit in the session's transaction.

    Raises:
        KeyUnavailable: the key of the text set cannot be opened.
    """
    sealer = ensure_text_set_sealer(session, _text_set_of(session, audit_id)).of_audit(audit_id)
    driver_connection = session.connection().connection.driver_connection
    assert isinstance(driver_connection, psycopg.Connection)
    with driver_connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        copy.set_types(_TYPES)
        for row in rows:
            copy.write_row((audit_id, row.ordinal, sealer.seal(row.pack(), row.ordinal)))


def read_evidence(session: Session, audit_id: UUID, ordinal: int) -> Evidence | None:
    """The token evidence of a text; None when there is none, or it was erased."""
    return read_evidence_of(session, audit_id, ordinal, ordinal + 1).get(ordinal)


def read_evidence_of(session: Session, audit_id: UUID, start: int, stop: int) -> dict[int, Evidence]:
    """The token evidence of the texts with start <= ordinal < stop, by ordinal, of those that have any."""
    statement = select(TokenEvidence).where(
        TokenEvidence.audit_id == audit_id, TokenEvidence.ordinal >= start, TokenEvidence.ordinal < stop
    )
    rows = session.scalars(statement.order_by(TokenEvidence.ordinal)).all()
    sealer = _sealer_for(session, audit_id, rows)
    return {row.ordinal: evidence for row in rows if (evidence := _opened(row, sealer)) is not None}


def _sealer_for(session: Session, audit_id: UUID, rows: Sequence[TokenEvidence]) -> EvidenceSealer | None:
    if all(row.sealed is None for row in rows):
        return None
    sealer = text_set_sealer(session, _text_set_of(session, audit_id))
    return None if sealer is None else sealer.of_audit(audit_id)


def _opened(row: TokenEvidence, sealer: EvidenceSealer | None) -> Evidence | None:
    """What a row holds; None if the key went with the texts since the row was read."""
    if row.sealed is None:
        return row.unsealed()
    return None if sealer is None else Evidence.unpack(row.ordinal, sealer.open(row.sealed, row.ordinal))


def _text_set_of(session: Session, audit_id: UUID) -> UUID:
    return session.scalars(select(Audit.text_set_id).where(Audit.id == audit_id)).one()
