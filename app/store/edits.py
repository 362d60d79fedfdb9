"""Edits: requests to derive an edited language model, and what became of them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, ForeignKey, SQLColumnExpression, Text, exists, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.contracts.texts import TextSetRole
from app.store.core.base import Base, JSONObject, one_of
from app.store.core.identifiers import Prefix, format_id
from app.store.operations import LanguageModelOperation, is_active
from app.store.tenants import Tenant


class Edit(LanguageModelOperation):
    """A request to derive an edited language model from a base."""

    __tablename__ = "edits"
    noun = "edit"

    name: Mapped[str] = mapped_column(Text)
    receipt: Mapped[JSONObject | None]
    evaluation: Mapped[JSONObject | None]
    frontier: Mapped[JSONObject | None]
    artifact_id: Mapped[UUID | None] = mapped_column(ForeignKey("artifacts.id"), index=True)
    edited_model_id: Mapped[UUID | None] = mapped_column(ForeignKey("language_models.id"), index=True)

    @classmethod
    def uses_language_model(cls, language_model_id: UUID) -> ColumnElement[bool]:
        """The condition that an edit changes a language model, or compares with it."""
        named = cls.spec["evaluation"]["reference_model"].astext
        return or_(
            cls.language_model_id == language_model_id,
            named == format_id(Prefix.LANGUAGE_MODEL, language_model_id),
        )

    @classmethod
    def uses_text_set(cls, text_set_id: UUID | SQLColumnExpression[UUID]) -> ColumnElement[bool]:
        """The condition that an edit uses a text set, whatever for."""
        return exists().where(EditTextSet.edit_id == cls.id, EditTextSet.text_set_id == text_set_id)


class EditTextSet(Base):
    """A text set that an edit uses, with its digest when the edit was requested."""

    __tablename__ = "edit_text_sets"
    __table_args__ = (one_of("role", TextSetRole),)

    edit_id: Mapped[UUID] = mapped_column(ForeignKey("edits.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str] = mapped_column(Text, primary_key=True)
    text_set_id: Mapped[UUID] = mapped_column(ForeignKey("text_sets.id"), index=True)
    hmac_sha256: Mapped[str] = mapped_column("sha256", Text)


def active_edits(session: Session) -> set[UUID]:
    """The edits of all tenants that have not ended."""
    return set(session.scalars(select(Edit.id).where(is_active(Edit))))


def text_sets_of(session: Session, edit_ids: Sequence[UUID]) -> dict[UUID, dict[TextSetRole, EditTextSet]]:
    """The text sets of each edit by their role."""
    text_sets: dict[UUID, dict[TextSetRole, EditTextSet]] = {edit_id: {} for edit_id in edit_ids}
    for row in session.scalars(select(EditTextSet).where(EditTextSet.edit_id.in_(edit_ids))):
        text_sets[row.edit_id][TextSetRole(row.role)] = row
    return text_sets


def name_is_taken(session: Session, tenant_id: UUID, name: str) -> bool:
    """Whether an unfinished edit of this tenant will write an artifact of this name.

    No other edit of the tenant can be written before the transaction ends.
    """
    session.execute(select(Tenant.id).where(Tenant.id == tenant_id).with_for_update(key_share=True))
    statement = select(Edit.id).where(Edit.tenant_id == tenant_id, Edit.name == name, is_active(Edit))
    return session.scalar(statement.limit(1)) is not None
