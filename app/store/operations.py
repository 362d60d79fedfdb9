"""What audits, edits and studies share: where they stand, and how they are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, ForeignKey, Index, SQLColumnExpression, Text, select, text
from sqlalchemy.orm import Mapped, Session, declared_attr, mapped_column
from sqlalchemy.schema import SchemaItem

from app.errors import NotFound
from app.store.core.base import Base, CreatedAt, JSONObject, PrimaryKey, has_metadata, newest_first, one_of


class OperationStatus(StrEnum):
    """Where long work stands. The last three are terminal."""

    QUEUED = "queued"  # accepted, no worker has begun
    RUNNING = "running"  # a worker has claimed its first job
    SUCCEEDED = "succeeded"  # all of its results are there, and every number is finite
    FAILED = "failed"  # `error` says why
    CANCELLED = "cancelled"  # the client asked for it


ACTIVE = (OperationStatus.QUEUED, OperationStatus.RUNNING)


def active_index(table: str) -> Index:
    """The index by which a tenant's work that has not ended is counted."""
    return Index(f"ix_{table}_active", "tenant_id", postgresql_where=text("status IN ('queued', 'running')"))


class Operation(Base):
    """Long work on language models that a client requests and workers do."""

    __abstract__ = True
    noun: ClassVar[str]

    id: Mapped[PrimaryKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    status: Mapped[str] = mapped_column(Text, default=OperationStatus.QUEUED)
    spec: Mapped[JSONObject]
    error: Mapped[JSONObject | None]
    metadata_: Mapped[JSONObject] = mapped_column("metadata", default=dict)
    created_at: Mapped[CreatedAt]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    @classmethod
    def uses_text_set(cls, text_set_id: UUID | SQLColumnExpression[UUID]) -> ColumnElement[bool]:
        """The condition that work uses a text set."""
        raise NotImplementedError

    @property
    def waits_for(self) -> tuple[UUID, ...]:
        """What may not be ready yet when work is asked for, and belongs to no audit of its own."""
        return ()

    @classmethod
    def uses_language_model(cls, language_model_id: UUID) -> ColumnElement[bool]:
        """The condition that work is on a language model."""
        raise NotImplementedError

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[SchemaItem, ...]:
        """The indexes by which a tenant's work is listed and counted, and the statuses that there are."""
        return (
            Index(f"ix_{cls.__tablename__}_tenant_id_id", "tenant_id", "id"),
            active_index(cls.__tablename__),
            one_of("status", OperationStatus),
        )


class LanguageModelOperation(Operation):
    """Long work on one language model."""

    __abstract__ = True

    language_model_id: Mapped[UUID] = mapped_column(ForeignKey("language_models.id"), index=True)
    language_model_digest: Mapped[str | None] = mapped_column(Text)

    @classmethod
    def uses_language_model(cls, language_model_id: UUID) -> ColumnElement[bool]:
        """The condition that work is on a language model."""
        return cls.language_model_id == language_model_id

    @property
    def waits_for(self) -> tuple[UUID, ...]:
        """Its language model, which may still be validated."""
        return (self.language_model_id,)


OperationT = TypeVar("OperationT", bound=Operation)
LanguageModelOperationT = TypeVar("LanguageModelOperationT", bound=LanguageModelOperation)


def is_active(kind: type[Operation]) -> ColumnElement[bool]:
    """The condition that work of a kind has not ended."""
    return kind.status.in_(ACTIVE)


def get_operation(
    session: Session, kind: type[OperationT], tenant_id: UUID, operation_id: UUID | None
) -> OperationT:
    """A tenant's audit or edit.

    Raises:
        NotFound: no such work of this kind for this tenant.
    """
    row = session.scalars(
        select(kind).where(kind.id == operation_id, kind.tenant_id == tenant_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no such {kind.noun}.")
    return row


@dataclass(frozen=True)
class OperationFilter:
    """Which work to list; what is None or empty narrows nothing. For `metadata` see `has_metadata`."""

    language_model_id: UUID | None = None
    text_set_id: UUID | None = None
    status: OperationStatus | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def list_operations(
    session: Session,
    kind: type[OperationT],
    tenant_id: UUID,
    wanted: OperationFilter,
    before: UUID | None,
    limit: int,
    *conditions: ColumnElement[bool],
) -> list[OperationT]:
    """A tenant's audits or edits that are wanted and meet conditions, newest first; older than `before`."""
    statement = select(kind).where(
        kind.tenant_id == tenant_id, has_metadata(kind.metadata_, wanted.metadata), *conditions
    )
    if wanted.language_model_id is not None:
        statement = statement.where(kind.uses_language_model(wanted.language_model_id))
    if wanted.text_set_id is not None:
        statement = statement.where(kind.uses_text_set(wanted.text_set_id))
    if wanted.status is not None:
        statement = statement.where(kind.status == wanted.status)
    return newest_first(session, statement, kind.id, before, limit)
