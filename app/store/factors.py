"""Curvature factors that an edit leaves for later ones."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ForeignKey, Text, UniqueConstraint, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.store.blobs.rows import REFERENCES
from app.store.core.base import Base, CreatedAt, PrimaryKey
from app.store.core.identifiers import new_id


class StoredFactor(Base):
    """A covariance matrix of a projection, kept for later edits of the same base and calibration set.

    `key` is the digest of everything that the matrix depends on but for the projection and the side.
    """

    __tablename__ = "factors"
    __table_args__ = (UniqueConstraint("tenant_id", "key", "projection", "side"),)

    id: Mapped[PrimaryKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(Text)
    projection: Mapped[str] = mapped_column(Text)
    side: Mapped[str] = mapped_column(Text)
    tokens: Mapped[int]
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    # How far it has settled; null where that is not known.
    relative_error: Mapped[float | None]
    created_at: Mapped[CreatedAt]


REFERENCES.append(StoredFactor.sha256)


@dataclass(frozen=True)
class NewFactor:
    """A factor whose bytes are stored: which side of which projection, over how many tokens, how settled."""

    projection: str
    side: str
    tokens: int
    sha256: str
    relative_error: float | None = None


def find_factors(session: Session, tenant_id: UUID, key: str) -> dict[tuple[str, str], StoredFactor]:
    """The stored factors of a key by (projection, side)."""
    rows = session.scalars(
        select(StoredFactor).where(StoredFactor.tenant_id == tenant_id, StoredFactor.key == key)
    )
    return {(row.projection, row.side): row for row in rows}


def keep_factors(session: Session, tenant_id: UUID, key: str, factors: Sequence[NewFactor]) -> None:
    """Keep factors of a key in the place of those that are there: they are as good, or those were damaged."""
    values = [{"id": new_id(), "tenant_id": tenant_id, "key": key, **asdict(factor)} for factor in factors]
    statement = insert(StoredFactor).values(values)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "key", "projection", "side"],
            set_={
                "tokens": statement.excluded.tokens,
                "sha256": statement.excluded.sha256,
                "relative_error": statement.excluded.relative_error,
                "created_at": func.clock_timestamp(),
            },
        )
    )


def forget_factors(session: Session, *, older_than: timedelta) -> None:
    """Forget factors that were collected long ago; their bytes are collected with those of other blobs."""
    age = func.clock_timestamp() - older_than
    session.execute(delete(StoredFactor).where(StoredFactor.created_at < age))
