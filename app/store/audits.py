"""Audits: text sets scored under language models."""

from uuid import UUID

from sqlalchemy import ColumnElement, ForeignKey, SQLColumnExpression, Text, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.store.core.base import JSONObject
from app.store.operations import LanguageModelOperation


class Audit(LanguageModelOperation):
    """One text set scored under one language model."""

    __tablename__ = "audits"
    noun = "audit"

    text_set_id: Mapped[UUID] = mapped_column(ForeignKey("text_sets.id"), index=True)
    priority: Mapped[int] = mapped_column(default=0)
    texts_total: Mapped[int]
    texts_done: Mapped[int] = mapped_column(default=0)
    text_set_sha256: Mapped[str] = mapped_column(Text)
    # What stood before the texts, as a worker found it for the language model (null until it has scored).
    prefix_token: Mapped[JSONObject | None]
    summary: Mapped[JSONObject | None]

    @classmethod
    def uses_text_set(cls, text_set_id: UUID | SQLColumnExpression[UUID]) -> ColumnElement[bool]:
        """The condition that an audit scores the texts of a set."""
        return cls.text_set_id == text_set_id

    @property
    def waits_for(self) -> tuple[UUID, ...]:
        """Its language model, and its text set, which may be importing."""
        return (self.language_model_id, self.text_set_id)

    def is_scored(self) -> bool:
        """Whether every text has its row. A text set that is importing has none yet."""
        return 0 < self.texts_total <= self.texts_done


def record_prefix_token(session: Session, audit_id: UUID, prefix_token: JSONObject) -> None:
    """Say what stood before the texts of an audit."""
    session.execute(update(Audit).where(Audit.id == audit_id).values(prefix_token=prefix_token))
