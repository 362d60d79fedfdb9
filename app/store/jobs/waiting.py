"""Jobs that wait for something that is away: a hub, an artifact store, the database."""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.store.companions import companions_of
from app.store.jobs.job import Job, JobState
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.operations import ACTIVE, Operation
from app.store.text_sets import TextSet, TextSetStatus


def waiting_validations(session: Session, rows: Sequence[LanguageModel]) -> Mapping[UUID, Job]:
    """The waiting job of each language model whose validation waits."""
    return _waiting(session, {row.id for row in rows if row.status == LanguageModelStatus.QUEUED})


def waiting_imports(session: Session, rows: Sequence[TextSet]) -> Mapping[UUID, Job]:
    """The waiting job of each text set whose import waits."""
    return _waiting(session, {row.id for row in rows if row.status == TextSetStatus.IMPORTING})


def waiting_jobs(session: Session, rows: Sequence[Operation]) -> Mapping[UUID, Job]:
    """The waiting job of each audit, edit or study that waits, be it that a companion or what it needs does.

    Of several, the one that is tried next.
    """
    active = {row.id: row for row in rows if row.status in ACTIVE}
    needs = {row.id: {row.id, *row.waits_for} for row in active.values()}
    for row_id, companions in companions_of(session, active).items():
        for each in companions:
            needs[row_id].update((each.audit_id, each.language_model_id, each.text_set_id))
    jobs = _waiting(session, set().union(*needs.values()))
    found: dict[UUID, Job] = {}
    for row_id, needed in needs.items():
        own = [jobs[each] for each in needed if each in jobs]
        if own:
            found[row_id] = min(own, key=lambda job: job.available_at)
    return found


def _waiting(session: Session, owner_ids: Collection[UUID]) -> Mapping[UUID, Job]:
    """Of each owner that has waiting jobs, the one that is tried next."""
    if not owner_ids:
        return {}
    first = (
        select(Job)
        .where(Job.state == JobState.QUEUED, Job.waiting_since.is_not(None), Job.owner_id.in_(owner_ids))
        .ext(distinct_on(Job.owner_id))
        .order_by(Job.owner_id, Job.available_at)
    )
    return {job.owner_id: job for job in session.scalars(first)}
