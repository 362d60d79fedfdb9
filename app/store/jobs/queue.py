"""Jobs: leased units of work. Postgres is the truth; whoever holds (id, epoch, running) may commit.

A claim raises the epoch and takes a lease from the database's clock. A heartbeat extends it. Finishing is one
transaction that begins with `take_for_finish`: when the lease was lost in between, nothing can be committed.
Locks are taken in one order: a job's own row, then its audit's or edit's row, then sibling jobs with SKIP
LOCKED.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    ForeignKey,
    Index,
    Text,
    Uuid,
    and_,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, Mapped, Session, mapped_column

from app.settings import GPU_QUEUE
from app.store.audits import Audit
from app.store.core.base import Base, CreatedAt, JSONObject, PrimaryKey, one_of
from app.store.core.identifiers import new_id
from app.store.edits import Edit
from app.store.operations import Operation, is_active


class JobKind(StrEnum):
    """What a job does."""

    VALIDATE_LANGUAGE_MODEL = "validate_language_model"  # read a checkpoint, pin it, record its digests
    PLAN_AUDIT = "plan_audit"  # count tokens and cut the text set into shards
    SCORE_SHARD = "score_shard"  # score texts [start, stop) of a text set
    SUMMARIZE_AUDIT = "summarize_audit"  # check that the audit is whole, summarise and end it
    RUN_EDIT = "run_edit"  # edit a language model, prove what changed, write the artifact


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # leased to a worker until `lease_expires_at`
    SUCCEEDED = "succeeded"  # its effect is committed
    FAILED = "failed"  # given up; `error` says why
    CANCELLED = "cancelled"  # nobody needs it any more


class LeaseLost(Exception):
    """Another claim, a sweep or a cancellation took the job away: its work must be dropped."""


class Job(Base):
    """One leased unit of work."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_claimable", "queue", "priority", "id", postgresql_where=text("state = 'queued'")),
        Index("ix_jobs_leased", "lease_expires_at", postgresql_where=text("state = 'running'")),
        Index(
            "ix_jobs_ended",
            "finished_at",
            postgresql_where=text("state IN ('succeeded', 'failed', 'cancelled')"),
        ),
        Index("ix_jobs_audit_id_state", "audit_id", "state"),
        Index("ix_jobs_edit_id", "edit_id"),
        Index("ix_jobs_language_model_id", "language_model_id"),
        Index(
            "ix_jobs_waiting",
            "language_model_id",
            postgresql_where=text("state = 'queued' AND waiting_since IS NOT NULL"),
        ),
        one_of("state", JobState),
    )

    id: Mapped[PrimaryKey]
    kind: Mapped[str] = mapped_column(Text)
    queue: Mapped[str] = mapped_column(Text, default=GPU_QUEUE)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    language_model_id: Mapped[UUID] = mapped_column(ForeignKey("language_models.id", ondelete="CASCADE"))
    audit_id: Mapped[UUID | None] = mapped_column(ForeignKey("audits.id", ondelete="CASCADE"))
    edit_id: Mapped[UUID | None] = mapped_column(ForeignKey("edits.id", ondelete="CASCADE"))
    payload: Mapped[JSONObject] = mapped_column(default=dict)
    state: Mapped[str] = mapped_column(Text, default=JobState.QUEUED)
    priority: Mapped[int] = mapped_column(default=0)
    epoch: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    # Tries in a row that found something away, and when the first of them ended.
    waits: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    waiting_since: Mapped[datetime | None]
    progress: Mapped[int] = mapped_column(default=0)
    stage: Mapped[str | None] = mapped_column(Text)
    worker: Mapped[str | None] = mapped_column(Text)
    lease_expires_at: Mapped[datetime | None]
    available_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    rung_at: Mapped[datetime | None]
    error: Mapped[JSONObject | None]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]


# What a job can belong to, and the column that says to which.
OWNERS: Final[Mapping[type[Operation], InstrumentedAttribute[UUID | None]]] = {
    Audit: Job.audit_id,
    Edit: Job.edit_id,
}


@dataclass(frozen=True)
class Lease:
    """A claimed job: what to do, and the (id, epoch) that guards its effect."""

    job_id: UUID
    epoch: int
    attempts: int
    waits: int
    kind: JobKind
    tenant_id: UUID
    language_model_id: UUID
    audit_id: UUID | None
    edit_id: UUID | None
    payload: dict[str, Any]


def add_job(
    session: Session,
    kind: JobKind,
    *,
    tenant_id: UUID,
    language_model_id: UUID,
    audit_id: UUID | None = None,
    edit_id: UUID | None = None,
    payload: JSONObject | None = None,
    priority: int = 0,
) -> Job:
    """Enqueue a job; it is claimable once the caller commits."""
    job = Job(
        id=new_id(),
        kind=kind,
        tenant_id=tenant_id,
        language_model_id=language_model_id,
        audit_id=audit_id,
        edit_id=edit_id,
        payload=payload or {},
        priority=priority,
    )
    session.add(job)
    return job


def claim(
    session: Session,
    *,
    queue: str,
    worker: str,
    lease_seconds: float,
    loaded: Sequence[UUID] = (),
    served: Sequence[UUID] = (),
) -> Lease | None:
    """Lease the next job: by priority, then of a loaded language model, then by tenant fairness and age.

    It is fair that the tenant comes first of whom fewest jobs are running; among those, whoever was served
    least recently.

    Args:
        session: of the caller, who commits.
        queue: the queue to claim from.
        worker: the name of the process that will run the job.
        lease_seconds: how long it has until its first heartbeat.
        loaded: the language models that are preferred. Others wait for as long as these have jobs, so whoever
            claims again and again must leave them out from time to time.
        served: the tenants that the process has served, the last one last.

    Returns:
        The lease, or None when nothing is claimable. The caller commits.
    """
    running = (
        select(Job.tenant_id, func.count().label("jobs"))
        .where(Job.state == JobState.RUNNING)
        .group_by(Job.tenant_id)
        .cte("running")
    )
    candidate = (
        select(Job.id)
        .outerjoin(running, running.c.tenant_id == Job.tenant_id)
        .where(
            Job.queue == queue,
            Job.state == JobState.QUEUED,
            Job.available_at <= func.clock_timestamp(),
        )
        .order_by(
            Job.priority.desc(),
            Job.language_model_id.in_(loaded).desc(),
            func.coalesce(running.c.jobs, 0),
            func.coalesce(func.array_position(literal(list(served), ARRAY(Uuid)), Job.tenant_id), 0),
            Job.id,
        )
        .limit(1)
        .with_for_update(of=Job, skip_locked=True)
        .scalar_subquery()
    )
    statement = (
        update(Job)
        .where(Job.id == candidate)
        .values(
            state=JobState.RUNNING,
            epoch=Job.epoch + 1,
            attempts=Job.attempts + 1,
            progress=0,
            stage=None,
            worker=worker,
            lease_expires_at=_lease_end(lease_seconds),
        )
        .returning(Job)
        .execution_options(synchronize_session=False)
    )
    job = session.scalars(statement).one_or_none()
    if job is None:
        return None
    return Lease(
        job_id=job.id,
        epoch=job.epoch,
        attempts=job.attempts,
        waits=job.waits,
        kind=JobKind(job.kind),
        tenant_id=job.tenant_id,
        language_model_id=job.language_model_id,
        audit_id=job.audit_id,
        edit_id=job.edit_id,
        payload=job.payload,
    )


def heartbeat(
    session: Session, lease: Lease, *, lease_seconds: float, progress: int, stage: str | None = None
) -> bool:
    """Extend the lease and report progress; False when the job was taken away or its owner has ended."""
    statement = (
        update(Job)
        .where(_held(lease), is_wanted())
        .values(lease_expires_at=_lease_end(lease_seconds), progress=progress, stage=stage)
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    return session.scalar(statement) is not None


def is_held(session: Session, lease: Lease) -> bool:
    """Whether the lease still stands and its audit or edit is still wanted."""
    return session.scalar(select(Job.id).where(_held(lease), is_wanted())) is not None


def is_wanted() -> ColumnElement[bool]:
    """The condition that the audit or edit of a job, if it has one, has not ended."""
    return and_(
        *(
            or_(column.is_(None), exists().where(kind.id == column, is_active(kind)))
            for kind, column in OWNERS.items()
        )
    )


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
        "waits": Job.waits + 1,
        "waiting_since": func.coalesce(Job.waiting_since, func.clock_timestamp()),
    }
    if not _put_back(session, lease, values):
        raise LeaseLost


def outage_seconds(session: Session, lease: Lease) -> float:
    """For how long the job has been waiting for something that is away; 0 when it has not."""
    age = func.extract("epoch", func.clock_timestamp() - Job.waiting_since)
    return float(session.scalar(select(age).where(Job.id == lease.job_id)) or 0.0)


def release(session: Session, lease: Lease) -> None:
    """Hand the job back untried, for another worker; it may have been taken away already."""
    _put_back(session, lease, {"attempts": Job.attempts - 1})


def cancel_jobs(session: Session, owner: ColumnElement[bool]) -> None:
    """Cancel the open jobs of an ended audit or edit.

    Rows locked by their workers are skipped: these see it themselves.
    """
    open_jobs = (
        select(Job.id)
        .where(owner, Job.state.in_((JobState.QUEUED, JobState.RUNNING)))
        .with_for_update(skip_locked=True)
    )
    session.execute(
        update(Job)
        .where(Job.id.in_(open_jobs))
        .values(state=JobState.CANCELLED, lease_expires_at=None, finished_at=func.clock_timestamp())
        .execution_options(synchronize_session=False),
    )


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


def _lease_end(lease_seconds: float) -> ColumnElement[datetime]:
    return func.clock_timestamp() + timedelta(seconds=lease_seconds)
