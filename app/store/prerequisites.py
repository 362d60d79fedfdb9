"""What audits and edits need before they begin: a language model, and text sets that may be importing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlalchemy.orm import Session

from app.store.audits import Audit
from app.store.companions import OperationAudit, take_heads
from app.store.jobs.job import owned_by
from app.store.jobs.owners import LANGUAGE_MODEL, TEXT_SET, Owner, owner_of
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.operations import LanguageModelOperation, LanguageModelOperationT, is_active
from app.store.text_sets import TextSet, TextSetStatus

# The condition that operations of a kind need one of an owner's rows.
_NEEDS: Final[Mapping[str, Callable[[type[LanguageModelOperation], UUID], ColumnElement[bool]]]] = {
    LANGUAGE_MODEL.kind: lambda kind, model_id: kind.language_model_id == model_id,
    TEXT_SET.kind: lambda kind, text_set_id: kind.uses_text_set(text_set_id),
}


def waiting_for(
    session: Session, kind: type[LanguageModelOperationT], needed: Owner, needed_id: UUID
) -> Sequence[LanguageModelOperationT]:
    """The audits or edits that wait for something: those that need it and have no job.

    They are locked, the oldest first: an audit before its companions, which end with it. Of two things that
    one waits for and that end at once, each sees the other as unfinished; the lock lets the second see what
    the first has committed.
    """
    needs = _NEEDS.get(needed.kind)
    if needs is None:
        return ()
    condition = and_(needs(kind, needed_id), is_active(kind), ~_has_job(kind))
    if kind is Audit:
        # With their owners, all audits in the order of their ids: an owner is older than its companions.
        found = select(Audit.id).where(condition)
        take_heads(session, found)
        owners = select(OperationAudit.owner_id).where(OperationAudit.audit_id.in_(found))
        both = select(Audit.id).where(or_(Audit.id.in_(found), Audit.id.in_(owners)), is_active(Audit))
        session.execute(both.order_by(Audit.id).with_for_update(key_share=True))
    statement = select(kind).where(condition).order_by(kind.id).with_for_update(key_share=True)
    return session.scalars(statement).all()


def startable(
    session: Session, kind: type[LanguageModelOperationT], needed: Owner, needed_id: UUID
) -> Sequence[LanguageModelOperationT]:
    """Those of `waiting_for` that wait for nothing else."""
    waiting = waiting_for(session, kind, needed, needed_id)
    if not waiting:
        return ()
    # A statement of its own: it sees what was committed while the lock was waited for.
    statement = select(kind).where(
        kind.id.in_([operation.id for operation in waiting]),
        is_active(kind),
        ~_has_job(kind),
        exists().where(
            LanguageModel.id == kind.language_model_id, LanguageModel.status == LanguageModelStatus.READY
        ),
        ~exists().where(kind.uses_text_set(TextSet.id), TextSet.status != TextSetStatus.READY),
    )
    return session.scalars(statement).all()


def _has_job(kind: type[LanguageModelOperation]) -> ColumnElement[bool]:
    return exists().where(owned_by(owner_of(kind), kind.id))
