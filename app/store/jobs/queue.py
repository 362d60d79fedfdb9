"""Putting jobs on the queue, and taking them off when nobody needs them any more."""

from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.store.core.base import JSONObject
from app.store.core.identifiers import new_id
from app.store.jobs.job import Job, JobState, owned_by
from app.store.jobs.kinds import JobKind
from app.store.jobs.owners import AUDIT, EDIT, Owner
from app.tracing import current_traceparent

# Older workers find what a job works for by these columns.
_READ_BY_OLD_WORKERS: Final = {AUDIT.kind: "audit_id", EDIT.kind: "edit_id"}


def add_job(
    session: Session,
    kind: JobKind,
    *,
    tenant_id: UUID,
    owner_id: UUID,
    language_model_id: UUID | None = None,
    payload: JSONObject | None = None,
    priority: int = 0,
) -> Job:
    """Enqueue a job; it is claimable once the caller commits.

    `language_model_id` names the one that it needs in memory, so that a worker that has it goes first.
    """
    values = job_values(
        kind,
        tenant_id=tenant_id,
        owner_id=owner_id,
        language_model_id=language_model_id,
        payload=payload or {},
        priority=priority,
    )
    job = Job(**values)
    session.add(job)
    return job


def job_values(kind: JobKind, *, owner_id: UUID, priority: int = 0, **columns: object) -> dict[str, Any]:
    """The columns of a new job, for an insert of many."""
    values = {
        "id": new_id(),
        "kind": kind.name,
        "queue": kind.queue,
        "owner_kind": kind.owner.kind,
        "owner_id": owner_id,
        "priority": priority if kind.priority is None else kind.priority,
        "traceparent": current_traceparent(),
        **columns,
    }
    column = _READ_BY_OLD_WORKERS.get(kind.owner.kind)
    return values if column is None else values | {column: owner_id}


def cancel_jobs(session: Session, owner: Owner, owner_id: UUID) -> None:
    """Cancel the open jobs of what has ended.

    Rows locked by their workers are skipped: these see it themselves.
    """
    open_jobs = (
        select(Job.id)
        .where(owned_by(owner, owner_id), Job.state.in_((JobState.QUEUED, JobState.RUNNING)))
        .with_for_update(skip_locked=True)
    )
    session.execute(
        update(Job)
        .where(Job.id.in_(open_jobs))
        .values(state=JobState.CANCELLED, lease_expires_at=None, finished_at=func.clock_timestamp())
        .execution_options(synchronize_session=False),
    )
