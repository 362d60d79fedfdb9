"""Registered checkpoints: where they come from, what a worker found in them, and their digests."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, Text, bindparam, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.errors import LanguageModelNotReady, NotFound
from app.store.core.base import Base, CreatedAt, JSONObject, PrimaryKey, has_metadata, newest_first, one_of


class LanguageModelStatus(StrEnum):
    """How far validation has come."""

    QUEUED = "queued"  # a worker has yet to validate it
    READY = "ready"  # validated and pinned; audits can use it
    REJECTED = "rejected"  # it cannot be used; `error` says why


class LanguageModel(Base):
    """A checkpoint: source, pinned revision, digests."""

    __tablename__ = "language_models"
    __table_args__ = (
        Index("ix_language_models_tenant_id_id", "tenant_id", "id"),
        Index("ix_language_models_active", "tenant_id", postgresql_where=text("status = 'queued'")),
        one_of("status", LanguageModelStatus),
    )

    id: Mapped[PrimaryKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    status: Mapped[str] = mapped_column(Text, default=LanguageModelStatus.QUEUED)
    source: Mapped[JSONObject]
    # Of an edited model: what it was derived from.
    base_model_id: Mapped[UUID | None] = mapped_column(ForeignKey("language_models.id"), index=True)
    # What the worker found (null until it is ready).
    revision: Mapped[str | None] = mapped_column(Text)
    digest: Mapped[str | None] = mapped_column(Text)
    files: Mapped[JSONObject | None]
    architecture: Mapped[str | None] = mapped_column(Text)
    parameter_count: Mapped[int | None] = mapped_column(BigInteger)
    context_length: Mapped[int | None]
    vocabulary_size: Mapped[int | None]
    tokenizer: Mapped[JSONObject | None]
    # `hidden`, `intermediate` and `layers`; null where an older release validated it, or it does not say.
    dimensions: Mapped[JSONObject | None]
    dtype: Mapped[str | None] = mapped_column(Text)
    error: Mapped[JSONObject | None]
    metadata_: Mapped[JSONObject] = mapped_column("metadata", default=dict)
    created_at: Mapped[CreatedAt]
    ready_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]


# Asked with each request for work: written once.
_FINDING: Final = select(LanguageModel).where(
    LanguageModel.id == bindparam("id"),
    LanguageModel.tenant_id == bindparam("tenant_id"),
    LanguageModel.deleted_at.is_(None),
)
_FINDING_SHARED: Final = _FINDING.with_for_update(read=True)


def get_language_model(
    session: Session, tenant_id: UUID, model_id: UUID | None, *, share_lock: bool = False
) -> LanguageModel:
    """A tenant's language model. With `share_lock` its status cannot change before the transaction ends.

    Raises:
        NotFound: no such language model for this tenant, or it was deleted.
    """
    statement = _FINDING_SHARED if share_lock else _FINDING
    row = session.scalars(statement, {"id": model_id, "tenant_id": tenant_id}).one_or_none()
    if row is None:
        raise NotFound("There is no such language model.")
    return row


def language_models_by_id(
    session: Session, tenant_id: UUID, ids: Collection[UUID]
) -> dict[UUID, LanguageModel]:
    """Some of a tenant's language models, deleted ones too."""
    statement = select(LanguageModel).where(LanguageModel.id.in_(ids), LanguageModel.tenant_id == tenant_id)
    return {row.id: row for row in session.scalars(statement)}


@dataclass(frozen=True)
class LanguageModelFilter:
    """Which language models to list; what is None or empty narrows nothing.

    `source` has to hold what is given of it, `metadata` as in `has_metadata`.
    """

    status: LanguageModelStatus | None = None
    base_model_id: UUID | None = None
    source: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


def list_language_models(
    session: Session, tenant_id: UUID, wanted: LanguageModelFilter, *, before: UUID | None, limit: int
) -> list[LanguageModel]:
    """A tenant's language models that are wanted, newest first, those older than `before`."""
    statement = select(LanguageModel).where(
        LanguageModel.tenant_id == tenant_id,
        LanguageModel.deleted_at.is_(None),
        LanguageModel.source.contains(dict(wanted.source)),
        has_metadata(LanguageModel.metadata_, wanted.metadata),
    )
    if wanted.status is not None:
        statement = statement.where(LanguageModel.status == wanted.status)
    if wanted.base_model_id is not None:
        statement = statement.where(LanguageModel.base_model_id == wanted.base_model_id)
    return newest_first(session, statement, LanguageModel.id, before, limit)


def find_by_source(session: Session, tenant_id: UUID, source: JSONObject) -> UUID | None:
    """The newest usable registration of a source by this tenant."""
    statement = (
        select(LanguageModel.id)
        .where(
            LanguageModel.tenant_id == tenant_id,
            LanguageModel.source == source,
            LanguageModel.deleted_at.is_(None),
            LanguageModel.status != LanguageModelStatus.REJECTED,
        )
        .order_by(LanguageModel.id.desc())
        .limit(1)
    )
    return session.scalar(statement)


def require_usable(row: LanguageModel) -> None:
    """Refuse a language model that validation has rejected.

    Raises:
        LanguageModelNotReady: the language model was rejected.
    """
    if row.status == LanguageModelStatus.REJECTED:
        raise LanguageModelNotReady("The language model was rejected; its `error` says why.")
