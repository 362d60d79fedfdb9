"""Leases of jobs: whoever holds (id, epoch, running) may commit.

A claim raises the epoch and takes a lease from the database's clock. A heartbeat extends it. Finishing is one
transaction that begins with `take_for_finish`: when the lease was lost in between, nothing can be committed.
Locks are taken in one order: a job's own row, then its owner's row, then sibling jobs with SKIP
LOCKED.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from app.store.core.base import JSONObject
from app.store.jobs.job import Job, JobState, is_wanted
from app.store.jobs.owners import AUDIT, EDIT


class LeaseLost(Exception):
    """Another claim, a sweep or a cancellation took the job away: its work must be dropped."""


@dataclass(frozen=True)
class Lease:
    """A claimed job: what to do, for what, and the (id, epoch) that guards its effect.

    `waits`, `waits_for` (a type of problem) and `waited_seconds` say how often, for what and for how long it
    had waited when it was claimed: what an attempt computes is no waiting. `claimable_seconds` says for how
    long it could have been claimed.
    """

    job_id: UUID
    epoch: int
    attempts: int
    waits: int
    waits_for: str | None
    waited_seconds: float
    claimable_seconds: float
    kind: str
    queue: str
    priority: int
    tenant_id: UUID
    owner_kind: str
    owner_id: UUID
    language_model_id: UUID | None
    payload: dict[str, Any]
    traceparent: str | None

    @classmethod
    def of(cls, job: Job, *, waited_seconds: float, claimable_seconds: float) -> Self:
        """The lease of a job that was claimed just now."""
        return cls(
            job_id=job.id,
            epoch=job.epoch,
            attempts=job.attempts,
            waits=job.waits,
            waits_for=job.error["type"] if job.waits and job.error else None,
            waited_seconds=waited_seconds,
            claimable_seconds=claimable_seconds,
            kind=job.kind,
            queue=job.queue,
            priority=job.priority,
            tenant_id=job.tenant_id,
            owner_kind=job.owner_kind,
            owner_id=job.owner_id,
            language_model_id=job.language_model_id,
            payload=job.payload,
            traceparent=job.traceparent,
        )

    def has_waited_for(self, error: JSONObject) -> bool:
        """Whether what is away now was already away at the try before: else another outage begins."""
        return bool(self.waits_for == error["type"])

    @property
    def audit_id(self) -> UUID | None:
        """The audit that the job works for, if it is one."""
        return self.owner_id if self.owner_kind == AUDIT.kind else None

    @property
    def edit_id(self) -> UUID | None:
        """The edit that the job works for, if it is one."""
        return self.owner_id if self.owner_kind == EDIT.kind else None


def heartbeat(
    session: Session, lease: Lease, *, lease_seconds: float, progress: int, stage: str | None = None
) -> bool:
    """Extend the lease and report progress; False when the job was taken away or its owner has ended."""
    statement = (
        update(Job)
        .where(_held(lease), is_wanted())
        .values(lease_expires_at=lease_end(timedelta(seconds=lease_seconds)), progress=progress, stage=stage)
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    return session.scalar(statement) is not None


def is_held(session: Session, lease: Lease) -> bool:
    """Whether the lease still stands and what it works for is still wanted."""
    return session.scalar(select(Job.id).where(_held(lease), is_wanted())) is not None


def take_for_finish(session: Session, lease: Lease) -> None:
    """Open the finishing transaction: mark the job succeeded and keep its row locked until the commit.

    Raises:
        LeaseLost: another claim, a sweep or a cancellation came first; the caller rolls back.
    """
    if not _close(session, lease, JobState.SUCCEEDED, None):
        raise LeaseLost


def close_failed(session: Session, lease: Lease, error: JSONObject) -> None:
    """Give the job up for good.

    Raises:
        LeaseLost: the job was taken away before.
    """
    if not _close(session, lease, JobState.FAILED, error):
        raise LeaseLost


def close_cancelled(session: Session, lease: Lease) -> None:
    """Put away a job that nobody needs any more; it may have been put away already."""
    _close(session, lease, JobState.CANCELLED, None)


def requeue(session: Session, lease: Lease, error: JSONObject, *, delay_seconds: float) -> None:
    """Let the job be tried again after a delay.

    Raises:
        LeaseLost: the job was taken away before.
    """
    available_at = func.clock_timestamp() + timedelta(seconds=delay_seconds)
    waited = {"waits": 0, "waiting_since": None}
    if not _put_back(session, lease, {"error": error, "available_at": available_at, **waited}):
        raise LeaseLost


def postpone(session: Session, lease: Lease, error: JSONObject, *, delay_seconds: float) -> None:
    """Let the job wait for something that is away; this was not an attempt at it.

    Raises:
        LeaseLost: the job was taken away before.
    """
    values = {
        "attempts": Job.attempts - 1,
        "error": error,
        "available_at": func.clock_timestamp() + timedelta(seconds=delay_seconds),
    }
    if lease.has_waited_for(error):
        values["waits"] = Job.waits + 1
    else:
        values |= {"waits": 1, "waiting_since": func.clock_timestamp()}
    if not _put_back(session, lease, values):
        raise LeaseLost


def release(session: Session, lease: Lease) -> None:
    """Hand the job back untried, for another worker; it may have been taken away already."""
    _put_back(session, lease, {"attempts": Job.attempts - 1})


def was_given_to_another(session: Session, lease: Lease) -> bool:
    """Whether a lease that is lost was taken by a sweep, rather than by a cancellation or its own commit."""
    moved_on = or_(Job.epoch > lease.epoch, Job.state.in_((JobState.QUEUED, JobState.FAILED)))
    return session.scalar(select(Job.id).where(Job.id == lease.job_id, moved_on)) is not None


def _close(session: Session, lease: Lease, state: JobState, error: JSONObject | None) -> bool:
    statement = (
        update(Job)
        .where(_held(lease))
        .values(state=state, error=error, lease_expires_at=None, finished_at=func.clock_timestamp())
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    return session.scalar(statement) is not None


def _put_back(session: Session, lease: Lease, values: dict[str, Any]) -> bool:
    statement = (
        update(Job)
        .where(_held(lease))
        .values(state=JobState.QUEUED, lease_expires_at=None, rung_at=None, **values)
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    return session.scalar(statement) is not None


def _held(lease: Lease) -> ColumnElement[bool]:
    return and_(Job.id == lease.job_id, Job.epoch == lease.epoch, Job.state == JobState.RUNNING)


def lease_end(lasting: timedelta | ColumnElement[timedelta]) -> ColumnElement[datetime]:
    """When a lease ends that is given or extended now, by the database's clock."""
    return func.clock_timestamp() + lasting
