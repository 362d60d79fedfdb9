"""Jobs: leased units of work. Postgres is the truth; whoever holds (id, epoch, running) may commit.

A claim raises the epoch and takes a lease from the database's clock. A heartbeat extends it. Finishing is one
transaction that begins with `take_for_finish`: when the lease was lost in between, nothing can be committed.
Locks are taken in one order: a job's own row, then its owner's row, then sibling jobs with SKIP
LOCKED.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    ForeignKey,
    Index,
    SQLColumnExpression,
    Text,
    and_,
    exists,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.settings import GPU_QUEUE
from app.store.core.base import Base, CreatedAt, JSONObject, PrimaryKey, one_of
from app.store.core.identifiers import new_id
from app.store.jobs.kinds import JobKind
from app.store.jobs.owners import AUDIT, EDIT, OWNERS, Owner
from app.tracing import current_traceparent


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # leased to a worker until `lease_expires_at`
    SUCCEEDED = "succeeded"  # its effect is committed
    FAILED = "failed"  # given up; `error` says why
    CANCELLED = "cancelled"  # nobody needs it any more


# Older workers find what a job works for by these columns.
_READ_BY_OLD_WORKERS: Final = {AUDIT.kind: "audit_id", EDIT.kind: "edit_id"}


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
        Index("ix_jobs_owner_id_state", "owner_id", "state"),
        Index(
            "ix_jobs_owner_id_waiting",
            "owner_id",
            postgresql_where=text("state = 'queued' AND waiting_since IS NOT NULL"),
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
    # What it works for: see `owners`. The migration's trigger fills them in for older processes, so that
    # none is null; the column says so once these are gone, and then `audit_id` and `edit_id` go too.
    owner_kind: Mapped[str] = mapped_column(Text, nullable=True)
    owner_id: Mapped[UUID] = mapped_column(nullable=True)
    # The language model that it needs, if it needs one.
    language_model_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("language_models.id", ondelete="CASCADE")
    )
    audit_id: Mapped[UUID | None] = mapped_column(ForeignKey("audits.id", ondelete="CASCADE"))
    edit_id: Mapped[UUID | None] = mapped_column(ForeignKey("edits.id", ondelete="CASCADE"))
    payload: Mapped[JSONObject] = mapped_column(default=dict)
    state: Mapped[str] = mapped_column(Text, default=JobState.QUEUED)
    priority: Mapped[int] = mapped_column(default=0)
    epoch: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    # Tries in a row that found the same thing away, and when the first of them ended.
    waits: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    waiting_since: Mapped[datetime | None]
    progress: Mapped[int] = mapped_column(default=0)
    stage: Mapped[str | None] = mapped_column(Text)
    worker: Mapped[str | None] = mapped_column(Text)
    claimed_at: Mapped[datetime | None]
    lease_expires_at: Mapped[datetime | None]
    available_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    rung_at: Mapped[datetime | None]
    error: Mapped[JSONObject | None]
    # The span that enqueued it, as W3C Trace Context writes it; null where nothing is traced.
    traceparent: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]


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
    tenant_id: UUID
    owner_kind: str
    owner_id: UUID
    language_model_id: UUID | None
    payload: dict[str, Any]
    traceparent: str | None

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


def heartbeat(
    session: Session, lease: Lease, *, lease_seconds: float, progress: int, stage: str | None = None
) -> bool:
    """Extend the lease and report progress; False when the job was taken away or its owner has ended."""
    statement = (
        update(Job)
        .where(_held(lease), is_wanted())
        .values(lease_expires_at=lease_end(lease_seconds), progress=progress, stage=stage)
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    return session.scalar(statement) is not None


def is_held(session: Session, lease: Lease) -> bool:
    """Whether the lease still stands and what it works for is still wanted."""
    return session.scalar(select(Job.id).where(_held(lease), is_wanted())) is not None


def is_wanted() -> ColumnElement[bool]:
    """The condition that what a job works for has not ended. Of an owner that is not known here it holds."""
    return and_(
        *(
            or_(
                Job.owner_kind.is_distinct_from(owner.kind),
                exists().where(owner.table.id == Job.owner_id, owner.is_active()),
            )
            for owner in OWNERS.values()
        )
    )


def owned_by(owner: Owner, owner_id: UUID | SQLColumnExpression[UUID]) -> ColumnElement[bool]:
    """The condition that a job works for something."""
    return and_(Job.owner_kind == owner.kind, Job.owner_id == owner_id)


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


def lease_end(lease_seconds: float) -> ColumnElement[datetime]:
    """When a lease ends that is given or extended now, by the database's clock."""
    return func.clock_timestamp() + timedelta(seconds=lease_seconds)
