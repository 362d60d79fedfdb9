"""What an audit is of, found with one statement: a request for work has little time."""

from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from app.store.language_models import LanguageModel
from app.store.text_sets import TextSet

_FINDING: Final = (
    select(TextSet, LanguageModel)
    .where(
        TextSet.id == bindparam("text_set_id"),
        LanguageModel.id == bindparam("model_id"),
        TextSet.tenant_id == bindparam("tenant_id"),
        LanguageModel.tenant_id == TextSet.tenant_id,
        TextSet.deleted_at.is_(None),
        LanguageModel.deleted_at.is_(None),
    )
    .with_for_update(read=True)
)


def find_subjects(
    session: Session, tenant_id: UUID, text_set_id: UUID | None, model_id: UUID | None
) -> tuple[TextSet, LanguageModel] | None:
    """A tenant's text set and language model, locked as `get_text_set` and `get_language_model` lock them.

    Returns:
        Both; None if one of them is not there.
    """
    values = {"tenant_id": tenant_id, "text_set_id": text_set_id, "model_id": model_id}
    row = session.execute(_FINDING, values).one_or_none()
    return None if row is None else (row[0], row[1])
