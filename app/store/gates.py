"""Gates: policies on subjects, and what became of them."""

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    SQLColumnExpression,
    Text,
    and_,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Mapped, Session, declared_attr, mapped_column
from sqlalchemy.schema import SchemaItem

from app.store.audits import Audit
from app.store.core.base import JSONObject, one_of
from app.store.core.identifiers import Prefix, format_id
from app.store.edits import Edit
from app.store.operations import Operation, OperationStatus, active_index
from app.store.studies import Study

SubjectRow: TypeAlias = Audit | Study | Edit
# What a gate can judge, by the kind of the subject as requests and `gates.subject_kind` say it.
SUBJECTS: Final[dict[str, type[SubjectRow]]] = {kind.noun: kind for kind in (Audit, Study, Edit)}
SUBJECT_PREFIXES: Final = {Audit.noun: Prefix.AUDIT, Study.noun: Prefix.STUDY, Edit.noun: Prefix.EDIT}


class Gate(Operation):
    """A policy on a subject. Its `spec` repeats the policy, which is immutable, so that one row tells all."""

    __tablename__ = "gates"
    noun = "gate"

    policy_id: Mapped[UUID] = mapped_column(ForeignKey("policies.id"), index=True)
    subject_kind: Mapped[str] = mapped_column(Text)
    subject_id: Mapped[UUID] = mapped_column(index=True)
    # Whether the subject named the policy when it was asked for, and the digest of the subject's texts, which
    # is null while these are being imported: recorded before the first score.
    preregistered: Mapped[bool] = mapped_column(default=False)
    text_set_hmac_sha256: Mapped[str | None] = mapped_column("text_set_sha256", Text)
    # For which version of a model line it was made; null if it was not.
    model_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_versions.id"), index=True)
    outcome: Mapped[str | None] = mapped_column(Text)
    result: Mapped[JSONObject | None]

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[SchemaItem, ...]:
        """As of all operations, and the outcomes that there are."""
        outcomes = CheckConstraint("outcome IN ('pass', 'fail', 'inconclusive')", name="outcome")
        return (
            Index("ix_gates_tenant_id_id", "tenant_id", "id"),
            active_index("gates"),
            one_of("status", OperationStatus),
            outcomes,
        )

    @property
    def public_subject_id(self) -> str:
        """The id of the subject as clients know it."""
        return format_id(SUBJECT_PREFIXES[self.subject_kind], self.subject_id)

    @property
    def waits_for(self) -> tuple[UUID, ...]:
        """Its subject."""
        return (self.subject_id,)

    @classmethod
    def uses_text_set(cls, text_set_id: UUID | SQLColumnExpression[UUID]) -> ColumnElement[bool]:
        """The condition that a gate's subject uses a text set."""
        return _subject_is(lambda kind: kind.uses_text_set(text_set_id))

    @classmethod
    def uses_language_model(cls, language_model_id: UUID) -> ColumnElement[bool]:
        """The condition that a gate's subject is work on a language model."""
        return _subject_is(lambda kind: kind.uses_language_model(language_model_id))


def _subject_is(condition: Callable[[type[SubjectRow]], ColumnElement[bool]]) -> ColumnElement[bool]:
    return or_(
        *(
            and_(Gate.subject_kind == noun, exists().where(kind.id == Gate.subject_id, condition(kind)))
            for noun, kind in SUBJECTS.items()
        )
    )


def begin_gate(session: Session, gate_id: UUID) -> None:
    """Mark a gate as running, if it was queued."""
    session.execute(
        update(Gate)
        .where(Gate.id == gate_id, Gate.status == OperationStatus.QUEUED)
        .values(status=OperationStatus.RUNNING, started_at=func.clock_timestamp())
    )


def gates_of(session: Session, subject_ids: Iterable[UUID]) -> dict[UUID, list[Gate]]:
    """The gates of each subject, oldest first; none is an empty list."""
    found: dict[UUID, list[Gate]] = {subject_id: [] for subject_id in subject_ids}
    statement = select(Gate).where(Gate.subject_id.in_(found)).order_by(Gate.id)
    for gate in session.scalars(statement):
        found[gate.subject_id].append(gate)
    return found
