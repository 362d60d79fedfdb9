"""Studies: one text set scored under several language models, and what comparing them showed."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import ColumnElement, ForeignKey, SQLColumnExpression, Text, func, or_, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.store.core.base import JSONObject
from app.store.core.identifiers import Prefix, format_id
from app.store.operations import Operation, OperationStatus


class StudyRole(StrEnum):
    """As what a study waits for an audit."""

    MODEL = "model"  # a language model on the study's texts
    CONTROL = "control"  # the same language model on its control texts


class Study(Operation):
    """One text set scored under several language models by ordinary audits."""

    __tablename__ = "studies"
    noun = "study"

    name: Mapped[str] = mapped_column(Text)
    text_set_id: Mapped[UUID] = mapped_column(ForeignKey("text_sets.id"), index=True)
    control_text_set_id: Mapped[UUID | None] = mapped_column(ForeignKey("text_sets.id"), index=True)
    text_set_hmac_sha256: Mapped[str] = mapped_column("text_set_sha256", Text)
    # For which version of a model line it was made; null if a client asked for it.
    model_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_versions.id"), index=True)
    result: Mapped[JSONObject | None]

    @classmethod
    def uses_text_set(cls, text_set_id: UUID | SQLColumnExpression[UUID]) -> ColumnElement[bool]:
        """The condition that a study scores the texts of a set, be it as controls."""
        return or_(cls.text_set_id == text_set_id, cls.control_text_set_id == text_set_id)

    @classmethod
    def uses_language_model(cls, language_model_id: UUID) -> ColumnElement[bool]:
        """The condition that a language model is one of a study's."""
        model = format_id(Prefix.LANGUAGE_MODEL, language_model_id)
        return cls.spec.contains({"models": [{"model": model}]})


def begin_study(session: Session, study_id: UUID) -> None:
    """Mark a study as running, if it was queued."""
    session.execute(
        update(Study)
        .where(Study.id == study_id, Study.status == OperationStatus.QUEUED)
        .values(status=OperationStatus.RUNNING, started_at=func.clock_timestamp())
    )
