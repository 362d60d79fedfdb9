"""Deletion across aggregates: nothing that unfinished work still needs can be deleted."""

from uuid import UUID

from sqlalchemy import Exists, delete, exists, func, select, update
from sqlalchemy.orm import Session

from app.errors import ResourceInUse
from app.store.audits import Audit
from app.store.companions import is_needed_by_an_owner
from app.store.edits import Edit, EditTextSet
from app.store.events import record_removal
from app.store.jobs.owners import LANGUAGE_MODEL, TEXT_SET
from app.store.language_models import LanguageModel, get_language_model
from app.store.lifecycle import end
from app.store.operations import is_active
from app.store.scores import TokenEvidence
from app.store.text_sets import TextRow, TextSet, TextSetStatus, get_text_set


def delete_language_model(session: Session, tenant_id: UUID, model_id: UUID | None) -> None:
    """Forget a language model. Audits already made with it stay readable.

    Raises:
        NotFound: no such language model for this tenant.
        ResourceInUse: an unfinished audit or edit still needs it.
    """
    row = get_language_model(session, tenant_id, model_id)
    session.execute(select(LanguageModel.id).where(LanguageModel.id == row.id).with_for_update())
    _require_unused(session, exists().where(Audit.language_model_id == row.id, is_active(Audit)))
    _require_unused(session, exists().where(Edit.language_model_id == row.id, is_active(Edit)))
    row.deleted_at = session.scalar(select(func.now()))
    session.flush()
    record_removal(session, LANGUAGE_MODEL, row, "deleted")


def erase_text_set(session: Session, tenant_id: UUID, text_set_id: UUID | None) -> TextSet:
    """Erase the texts, and the token evidence from which they could be read back.

    Scores, which hold no text, stay. The row of the set stays as the receipt. An import under way ends.

    Raises:
        NotFound: no such text set for this tenant, or it was erased before.
        ResourceInUse: an unfinished audit or edit still needs it.
    """
    row = get_text_set(session, tenant_id, text_set_id)
    session.execute(select(TextSet.id).where(TextSet.id == row.id).with_for_update())
    _require_unused(session, exists().where(Audit.text_set_id == row.id, is_active(Audit)))
    _require_unused(session, is_needed_by_an_owner(row.id))
    edits = select(EditTextSet.edit_id).where(EditTextSet.text_set_id == row.id)
    _require_unused(session, exists().where(Edit.id.in_(edits), is_active(Edit)))
    audits = select(Audit.id).where(Audit.text_set_id == row.id)
    session.execute(delete(TokenEvidence).where(TokenEvidence.audit_id.in_(audits)))
    session.execute(delete(TextRow).where(TextRow.text_set_id == row.id))
    end(session, TEXT_SET, row.id, TextSetStatus.CANCELLED)
    record_removal(session, TEXT_SET, row, "erased")
    statement = update(TextSet).where(TextSet.id == row.id).values(deleted_at=func.now()).returning(TextSet)
    return session.scalars(statement).one()


def _require_unused(session: Session, use: Exists) -> None:
    if session.scalar(select(use)):
        raise ResourceInUse("Unfinished work needs this resource; cancel it first.")
