"""The table of jobs: units of work that workers lease. Postgres is the truth."""

from datetime import datetime
from enum import StrEnum
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
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.settings import GPU_QUEUE
from app.store.core.base import Base, CreatedAt, JSONObject, PrimaryKey, one_of
from app.store.jobs.owners import OWNERS, Owner


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # leased to a worker until `lease_expires_at`
    SUCCEEDED = "succeeded"  # its effect is committed
    FAILED = "failed"  # given up; `error` says why
    CANCELLED = "cancelled"  # nobody needs it any more


class Job(Base):
    """One leased unit of work."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_claimable", "queue", "priority", "id", postgresql_where=text("state = 'queued'")),
        # Not of when leases run out: each heartbeat would write it, and with it all others.
        Index("ix_jobs_running", "tenant_id", postgresql_where=text("state = 'running'")),
        # Lines: see `lines`.
        Index(
            "ix_jobs_line_of_tenant",
            *("queue", "priority", "tenant_id", "id"),
            postgresql_where=text("state = 'queued' AND error IS NULL"),
        ),
        Index(
            "ix_jobs_line_of_language_model",
            *("queue", "priority", "language_model_id", "id"),
            postgresql_where=text("state = 'queued' AND error IS NULL"),
        ),
        Index(
            "ix_jobs_line_again_of_tenant",
            *("queue", "priority", "tenant_id", "available_at"),
            postgresql_where=text("state = 'queued' AND error IS NOT NULL"),
        ),
        Index(
            "ix_jobs_line_again_of_language_model",
            *("queue", "priority", "language_model_id", "available_at"),
            postgresql_where=text("state = 'queued' AND error IS NOT NULL"),
        ),
        Index(
            "ix_jobs_again",
            *("queue", "priority", "available_at"),
            postgresql_where=text("state = 'queued' AND error IS NOT NULL"),
        ),
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
