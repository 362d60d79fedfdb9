"""Audits: text sets scored under language models."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, ForeignKey, SQLColumnExpression, Text, exists, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, load_only, mapped_column

from app.store.core.base import JSONObject
from app.store.operations import LanguageModelOperation, OperationStatus
from app.store.text_sets import TextSet

_MOST_SOURCES: Final = 100


class Audit(LanguageModelOperation):
    """One text set scored under one language model."""

    __tablename__ = "audits"
    noun = "audit"

    text_set_id: Mapped[UUID] = mapped_column(ForeignKey("text_sets.id"), index=True)
    priority: Mapped[int] = mapped_column(default=0)
    texts_total: Mapped[int]
    texts_done: Mapped[int] = mapped_column(default=0)
    text_set_hmac_sha256: Mapped[str] = mapped_column("text_set_sha256", Text, index=True)
    # What stood before the texts, and the tokens after which generation stops, as a worker found them for the
    # language model (null until it has scored).
    prefix_token: Mapped[JSONObject | None]
    end_tokens: Mapped[list[int] | None] = mapped_column(JSONB(none_as_null=True))
    # How many of the leading control texts stood before each text for ReCaLL, and are then no controls; null
    # if that was not measured.
    recall_shots: Mapped[int | None]
    # The audit from whose evidence this one follows as far as that was there when it was read; null if there
    # was none and all texts went through the model.
    derived_from: Mapped[UUID | None]
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


def audits_by_id(session: Session, tenant_id: UUID, ids: Collection[UUID]) -> dict[UUID, Audit]:
    """Some of a tenant's audits."""
    statement = select(Audit).where(Audit.id.in_(ids), Audit.tenant_id == tenant_id)
    return {row.id: row for row in session.scalars(statement)}


def record_conditions(
    session: Session,
    audit_id: UUID,
    *,
    prefix_token: JSONObject,
    end_tokens: list[int],
    recall_shots: int | None,
) -> None:
    """Say what stood before the texts of an audit, and which tokens end a generation."""
    found = {"prefix_token": prefix_token, "end_tokens": end_tokens, "recall_shots": recall_shots}
    session.execute(update(Audit).where(Audit.id == audit_id).values(**found))


def evidence_sources(
    session: Session, *, tenant_id: UUID, language_model_digest: str, text_set_hmac_sha256: str
) -> list[Audit]:
    """A tenant's audits of the same texts under the same bytes of a language model, the newest first.

    They have succeeded, and it is known which tokens end a generation; their texts have not been erased, so
    that their evidence is there if it was kept.
    """
    kept = exists().where(TextSet.id == Audit.text_set_id, TextSet.deleted_at.is_(None))
    statement = (
        select(Audit)
        .where(
            Audit.text_set_hmac_sha256 == text_set_hmac_sha256,
            Audit.language_model_digest == language_model_digest,
            Audit.tenant_id == tenant_id,
            Audit.status == OperationStatus.SUCCEEDED,
            Audit.end_tokens.is_not(None),
            kept,
        )
        .order_by(Audit.id.desc())
        .limit(_MOST_SOURCES)
        .options(load_only(Audit.spec, Audit.prefix_token, Audit.end_tokens, raiseload=True))
    )
    return list(session.scalars(statement))
