"""Edits: requests to derive an edited language model, and what became of them."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ColumnElement, ForeignKey, Index, Text, UniqueConstraint, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.errors import NotFound
from app.store.audits import ACTIVE, WorkStatus
from app.store.base import Base, CreatedAt, JSONObject, PrimaryKey, newest_first, one_of
from app.store.blobs import REFERENCES
from app.store.tenants import Tenant


class TextSetRole(StrEnum):
    """What a text set is to an edit."""

    CALIBRATION = "calibration"  # factors are collected on it; BalancedSubnet retains it
    FORGET = "forget"  # shown to the method: what it should forget, what a search aims at
    MEMORIZED = "memorized"  # recited before, measured before and after
    UNSEEN = "unseen"  # recited before, never shown to the method
    CONTROL = "control"  # never inserted into the training data
    CLEAN = "clean"  # perplexity and rankings are measured on it
    ITEMS = "items"  # questions with choices or with an exact answer


class Edit(Base):
    """A request to derive an edited language model from a base."""

    __tablename__ = "edits"
    __table_args__ = (
        Index("ix_edits_tenant_id_id", "tenant_id", "id"),
        one_of("status", WorkStatus),
    )

    id: Mapped[PrimaryKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    language_model_id: Mapped[UUID] = mapped_column(ForeignKey("language_models.id"), index=True)
    name: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, default=WorkStatus.QUEUED)
    spec: Mapped[JSONObject]
    language_model_digest: Mapped[str | None] = mapped_column(Text)
    receipt: Mapped[JSONObject | None]
    evaluation: Mapped[JSONObject | None]
    frontier: Mapped[JSONObject | None]
    artifact_id: Mapped[UUID | None] = mapped_column(ForeignKey("artifacts.id"), index=True)
    edited_model_id: Mapped[UUID | None] = mapped_column(ForeignKey("language_models.id"), index=True)
    error: Mapped[JSONObject | None]
    metadata_: Mapped[JSONObject] = mapped_column("metadata", default=dict)
    created_at: Mapped[CreatedAt]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class EditTextSet(Base):
    """A text set that an edit uses, with its digest when the edit was requested."""

    __tablename__ = "edit_text_sets"
    __table_args__ = (one_of("role", TextSetRole),)

    edit_id: Mapped[UUID] = mapped_column(ForeignKey("edits.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str] = mapped_column(Text, primary_key=True)
    text_set_id: Mapped[UUID] = mapped_column(ForeignKey("text_sets.id"), index=True)
    sha256: Mapped[str] = mapped_column(Text)


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
    created_at: Mapped[CreatedAt]


REFERENCES.append(StoredFactor.sha256)


def is_active_edit() -> ColumnElement[bool]:
    """The condition that an edit has not ended."""
    return Edit.status.in_(ACTIVE)


def get_edit(session: Session, tenant_id: UUID, edit_id: UUID | None) -> Edit:
    """A tenant's edit.

    Raises:
        NotFound: no such edit for this tenant.
    """
    row = session.scalars(select(Edit).where(Edit.id == edit_id, Edit.tenant_id == tenant_id)).one_or_none()
    if row is None:
        raise NotFound("There is no such edit.")
    return row


def list_edits(session: Session, tenant_id: UUID, *, before: UUID | None, limit: int) -> list[Edit]:
    """A tenant's edits, newest first, those older than `before`."""
    statement = select(Edit).where(Edit.tenant_id == tenant_id)
    return newest_first(session, statement, Edit.id, before, limit)


def text_sets_of_edit(session: Session, edit_id: UUID) -> dict[TextSetRole, EditTextSet]:
    """The text sets of an edit by their role."""
    rows = session.scalars(select(EditTextSet).where(EditTextSet.edit_id == edit_id))
    return {TextSetRole(row.role): row for row in rows}


def name_is_taken(session: Session, tenant_id: UUID, name: str) -> bool:
    """Whether an unfinished edit of this tenant will write an artifact of this name.

    No other edit of the tenant can be written before the transaction ends.
    """
    session.execute(select(Tenant.id).where(Tenant.id == tenant_id).with_for_update(key_share=True))
    statement = select(Edit.id).where(Edit.tenant_id == tenant_id, Edit.name == name, is_active_edit())
    return session.scalar(statement.limit(1)) is not None


def lock_active_edit(session: Session, edit_id: UUID) -> Edit | None:
    """The edit, locked, if it has not ended; else None."""
    statement = select(Edit).where(Edit.id == edit_id, is_active_edit()).with_for_update(key_share=True)
    return session.scalars(statement.execution_options(populate_existing=True)).one_or_none()


def end_edit(session: Session, edit_id: UUID, status: WorkStatus, error: JSONObject | None = None) -> bool:
    """Bring an edit to a terminal state without a result; False when it had ended before."""
    statement = (
        update(Edit)
        .where(Edit.id == edit_id, is_active_edit())
        .values(status=status, error=error, finished_at=func.clock_timestamp())
        .returning(Edit.id)
    )
    return session.scalar(statement) is not None


def find_factors(session: Session, tenant_id: UUID, key: str) -> dict[tuple[str, str], StoredFactor]:
    """The stored factors of a key by (projection, side)."""
    rows = session.scalars(
        select(StoredFactor).where(StoredFactor.tenant_id == tenant_id, StoredFactor.key == key)
    )
    return {(row.projection, row.side): row for row in rows}
