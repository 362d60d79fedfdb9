"""Jobs that wait for something that is away: a hub, an artifact store, the database."""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.store.jobs.queue import OWNERS, Job, JobKind, JobState
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.operations import ACTIVE, Operation

_VALIDATES = Job.kind == JobKind.VALIDATE_LANGUAGE_MODEL


def waiting_validations(session: Session, rows: Sequence[LanguageModel]) -> Mapping[UUID, Job]:
    """The waiting job of each language model whose validation waits."""
    queued = {row.id for row in rows if row.status == LanguageModelStatus.QUEUED}
    return {job.language_model_id: job for job in _waiting(session, queued, _VALIDATES)}


def waiting_jobs(session: Session, kind: type[Operation], rows: Sequence[Operation]) -> Mapping[UUID, Job]:
    """The waiting job of each audit or edit that waits, be it that its language model's validation does.

    Of several, the one that is tried next.
    """
    active = [row for row in rows if row.status in ACTIVE]
    owner = OWNERS[kind]
    jobs = _waiting(
        session,
        {row.language_model_id for row in active},
        or_(owner.in_([row.id for row in active]), _VALIDATES),
    )
    found: dict[UUID, Job] = {}
    for job in jobs:
        owner_id = getattr(job, owner.key)
        for row in active:
            if owner_id == row.id or (owner_id is None and job.language_model_id == row.language_model_id):
                found.setdefault(row.id, job)
    return found


def _waiting(session: Session, model_ids: Collection[UUID], wanted: ColumnElement[bool]) -> Sequence[Job]:
    """The waiting job of each owner that is tried next, the next one first."""
    if not model_ids:
        return []
    owners = (Job.language_model_id, *OWNERS.values())
    first = (
        select(Job.id)
        .where(
            Job.state == JobState.QUEUED,
            Job.waiting_since.is_not(None),
            Job.language_model_id.in_(model_ids),
            wanted,
        )
        .ext(distinct_on(*owners))
        .order_by(*owners, Job.available_at)
    )
    return session.scalars(select(Job).where(Job.id.in_(first)).order_by(Job.available_at)).all()
