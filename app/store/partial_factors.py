"""Partial sums of curvature factors, until the edit that they were collected for has ended."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ForeignKey, Text, delete, exists, insert, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.store.blobs.rows import REFERENCES, keep_blobs
from app.store.core.base import Base
from app.store.edits import Edit
from app.store.factors import NewFactor
from app.store.operations import is_active


class PartialFactor(Base):
    """The sum of outer products on one side of a projection over the calibration text of a shard."""

    __tablename__ = "partial_factors"

    edit_id: Mapped[UUID] = mapped_column(ForeignKey("edits.id", ondelete="CASCADE"), primary_key=True)
    shard: Mapped[int] = mapped_column(primary_key=True)
    projection: Mapped[str] = mapped_column(Text, primary_key=True)
    side: Mapped[str] = mapped_column(Text, primary_key=True)
    # As `factors.key`: sums that were made otherwise are not added.
    key: Mapped[str] = mapped_column(Text)
    tokens: Mapped[int]
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)


REFERENCES.append(PartialFactor.sha256)


def keep_partial_factors(
    session: Session, edit_id: UUID, shard: int, key: str, factors: Sequence[NewFactor]
) -> None:
    """Keep the sums of a shard.

    Raises:
        BlobMissing: bytes of one are not in the store any more.
    """
    keep_blobs(session, {factor.sha256 for factor in factors})
    rows = [
        {
            "edit_id": edit_id,
            "shard": shard,
            "projection": factor.projection,
            "side": factor.side,
            "key": key,
            "tokens": factor.tokens,
            "sha256": factor.sha256,
        }
        for factor in factors
    ]
    session.execute(insert(PartialFactor), rows)


def find_partial_factors(session: Session, edit_id: UUID) -> Sequence[PartialFactor]:
    """All partial sums of an edit, by shard."""
    rows = select(PartialFactor).where(PartialFactor.edit_id == edit_id)
    return session.scalars(rows.order_by(PartialFactor.shard)).all()


def forget_partial_factors(session: Session) -> None:
    """Forget the sums of edits that have ended; their bytes are collected with those of other blobs."""
    wanted = exists().where(Edit.id == PartialFactor.edit_id, is_active(Edit))
    session.execute(delete(PartialFactor).where(~wanted))
