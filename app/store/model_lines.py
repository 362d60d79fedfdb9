"""Model lines, their versions, and by which standing checks these are judged."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    Text,
    UniqueConstraint,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, declared_attr, mapped_column
from sqlalchemy.schema import SchemaItem

from app.errors import NotFound
from app.store.core.base import Base, CreatedAt, JSONObject, PrimaryKey, has_metadata, newest_first, one_of
from app.store.core.locks import lock_name
from app.store.operations import ACTIVE, Operation, OperationStatus, active_index


class ModelLine(Base):
    """What the versions of a language model have in common. Its checks are never written again."""

    __tablename__ = "model_lines"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        Index("ix_model_lines_tenant_id_id", "tenant_id", "id"),
    )

    id: Mapped[PrimaryKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    checks: Mapped[list[JSONObject]] = mapped_column(JSONB)
    metadata_: Mapped[JSONObject] = mapped_column("metadata", default=dict)
    created_at: Mapped[CreatedAt]


class VersionRole(StrEnum):
    """As what a version waits for an audit. At the place of the check."""

    CHECK = "check"  # of the version itself
    CONTROL = "control"  # the same language model on the control texts
    PREVIOUS = "previous"  # of the version before it, while that has not ended
    PREVIOUS_CONTROL = "previous_control"


class ModelVersion(Operation):
    """A version of a line: it ends when all audits, studies and gates that were made for it have ended."""

    __tablename__ = "model_versions"
    noun = "model_version"

    model_line_id: Mapped[UUID] = mapped_column(ForeignKey("model_lines.id", ondelete="CASCADE"))
    language_model_id: Mapped[UUID] = mapped_column(ForeignKey("language_models.id"), index=True)
    previous_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_versions.id"), index=True)
    label: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str | None] = mapped_column(Text)

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[SchemaItem, ...]:
        """As of all operations; by the line, and the outcomes that there are."""
        return (
            Index("ix_model_versions_tenant_id_id", "tenant_id", "id"),
            active_index("model_versions"),
            Index("ix_model_versions_model_line_id_id", "model_line_id", "id"),
            one_of("status", OperationStatus),
            CheckConstraint("outcome IN ('pass', 'fail', 'inconclusive')", name="outcome"),
        )

    @property
    def waits_for(self) -> tuple[UUID, ...]:
        """Its language model, which may still be validated."""
        return (self.language_model_id,)

    @classmethod
    def uses_language_model(cls, language_model_id: UUID) -> ColumnElement[bool]:
        """The condition that it is this language model."""
        return cls.language_model_id == language_model_id


def name_is_taken(session: Session, tenant_id: UUID, name: str) -> bool:
    """Whether a tenant has a line of this name. Whoever asks for the same name waits for the transaction."""
    lock_name(session, f"model_line:{tenant_id}:{name}")
    taken = exists().where(ModelLine.tenant_id == tenant_id, ModelLine.name == name)
    return bool(session.scalar(select(taken)))


def get_model_line(
    session: Session, tenant_id: UUID, line_id: UUID | None, *, lock: bool = False
) -> ModelLine:
    """A tenant's line. With `lock` no version of it is registered meanwhile.

    Raises:
        NotFound: no such line for this tenant.
    """
    statement = select(ModelLine).where(ModelLine.id == line_id, ModelLine.tenant_id == tenant_id)
    if lock:
        statement = statement.with_for_update(key_share=True)
    row = session.scalars(statement).one_or_none()
    if row is None:
        raise NotFound("There is no such model line.")
    return row


def list_model_lines(
    session: Session,
    tenant_id: UUID,
    before: UUID | None,
    limit: int,
    *,
    name: str | None,
    metadata: dict[str, str],
) -> list[ModelLine]:
    """A tenant's lines, all or that of a name, newest first."""
    statement = select(ModelLine).where(
        ModelLine.tenant_id == tenant_id, has_metadata(ModelLine.metadata_, metadata)
    )
    if name is not None:
        statement = statement.where(ModelLine.name == name)
    return newest_first(session, statement, ModelLine.id, before, limit)


def take_previous(session: Session, line_id: UUID) -> ModelVersion | None:
    """The newest version of a line that has succeeded or may, held so that it does not end meanwhile."""
    kept = ModelVersion.status.in_((*ACTIVE, OperationStatus.SUCCEEDED))
    statement = (
        select(ModelVersion)
        .where(ModelVersion.model_line_id == line_id, kept)
        .order_by(ModelVersion.id.desc())
        .limit(1)
        .with_for_update(read=True)
        .execution_options(populate_existing=True)
    )
    return session.scalars(statement).one_or_none()


def label_is_taken(session: Session, line_id: UUID, label: str) -> bool:
    """Whether a version of a line that has succeeded or may has this label. The caller holds the line."""
    kept = ModelVersion.status.in_((*ACTIVE, OperationStatus.SUCCEEDED))
    taken = exists().where(ModelVersion.model_line_id == line_id, ModelVersion.label == label, kept)
    return bool(session.scalar(select(taken)))


def begin_version(session: Session, version_id: UUID) -> None:
    """Mark a version as running, if it was queued."""
    session.execute(
        update(ModelVersion)
        .where(ModelVersion.id == version_id, ModelVersion.status == OperationStatus.QUEUED)
        .values(status=OperationStatus.RUNNING, started_at=func.clock_timestamp())
    )
