"""What a tenant uses: what has not ended, what is stored, and the seconds that workers spent at its jobs.

A trigger adds a row of seconds whenever a job leaves the state `running`, however it does: so they are
counted in the transaction that ends the attempt, exactly once, and for what is cancelled too. The row is one
of its own: all who end jobs of a tenant would wait for each other at a sum. `merge_seconds` sums up later.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Date,
    Identity,
    Index,
    Text,
    case,
    delete,
    func,
    insert,
    select,
    text,
    union_all,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.settings import GPU_QUEUE
from app.store.artifacts import Artifact
from app.store.core.base import Base
from app.store.core.locks import lock_name
from app.store.jobs.job import Job, JobState
from app.store.jobs.owners import OWNERS
from app.store.text_sets import TextSet

# Longer than any sum goes back.
KEPT: Final = timedelta(days=400)


class JobSeconds(Base):
    """Seconds of attempts at jobs of a tenant and a queue that ended on a day (UTC): of one, or of many."""

    __tablename__ = "job_seconds"
    __table_args__ = (Index("ix_job_seconds_tenant_id_day", "tenant_id", "day"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    # No foreign key: the end of a job waits for no lock on the tenant.
    tenant_id: Mapped[UUID]
    queue: Mapped[str] = mapped_column(Text)
    day: Mapped[date] = mapped_column(Date)
    seconds: Mapped[float]


@dataclass(frozen=True)
class GPUSeconds:
    """Seconds of workers at a tenant's jobs of the queue `gpu`; when the next day and month begin."""

    today: float
    this_month: float
    day_ends_at: datetime
    month_ends_at: datetime


def take_turn(session: Session, tenant_id: UUID) -> None:
    """Wait until nobody else counts for this tenant; the turn ends with the transaction, so take it late."""
    lock_name(session, f"quotas:{tenant_id}")


def count_active(session: Session, tenant_id: UUID, most: int | None = None) -> int:
    """How much of what the tenant asked for has not ended; of each kind at most `most` are counted."""
    session.flush()
    each = [
        select(owner.table.id)
        .where(owner.table.tenant_id == tenant_id, owner.is_active())
        .limit(most)
        .subquery()
        for owner in OWNERS.values()
    ]
    counted = union_all(*(select(func.count().label("number")).select_from(some) for some in each)).subquery()
    return int(session.scalars(select(func.sum(counted.c.number))).one())


def stored(session: Session, tenant_id: UUID) -> tuple[int, int]:
    """How many texts a tenant stores, and how many bytes of texts and artifacts."""
    session.flush()
    texts = select(func.sum(TextSet.text_count), func.sum(TextSet.byte_count)).where(
        TextSet.tenant_id == tenant_id, TextSet.deleted_at.is_(None)
    )
    files = select(func.sum(Artifact.total_bytes)).where(
        Artifact.tenant_id == tenant_id, Artifact.deleted_at.is_(None)
    )
    number, size = session.execute(texts).one()
    return int(number or 0), int(size or 0) + int(session.scalars(files).one() or 0)


def gpu_seconds(session: Session, tenant_id: UUID) -> GPUSeconds:
    """What a tenant used of GPUs, with the jobs that run now: of these, all since they were claimed."""
    now = func.timezone("UTC", func.clock_timestamp())
    today, month = sql_cast(now, Date), sql_cast(func.date_trunc("month", now), Date)
    ended = select(
        func.coalesce(func.sum(case((JobSeconds.day == today, JobSeconds.seconds), else_=0.0)), 0.0),
        func.coalesce(func.sum(JobSeconds.seconds), 0.0),
    ).where(JobSeconds.tenant_id == tenant_id, JobSeconds.queue == GPU_QUEUE, JobSeconds.day >= month)
    until = func.least(func.clock_timestamp(), Job.lease_expires_at)
    age = func.extract("epoch", until - Job.claimed_at)
    running = select(func.coalesce(func.sum(func.greatest(age, 0)), 0.0)).where(
        Job.tenant_id == tenant_id, Job.queue == GPU_QUEUE, Job.state == JobState.RUNNING
    )
    day_ends = func.timezone("UTC", func.date_trunc("day", now) + timedelta(days=1))
    month_ends = func.timezone("UTC", func.date_trunc("month", now) + text("interval '1 month'"))
    of_today, of_month = session.execute(ended).one()
    under_way, day_ends_at, month_ends_at = session.execute(
        select(running.scalar_subquery(), day_ends, month_ends)
    ).one()
    open_seconds = float(under_way)
    return GPUSeconds(
        float(of_today) + open_seconds, float(of_month) + open_seconds, day_ends_at, month_ends_at
    )


def merge_seconds(session: Session, *, limit: int = 100_000) -> None:
    """Put the rows of each tenant, queue and day together into one, and forget those that are old."""
    key = (JobSeconds.tenant_id, JobSeconds.queue, JobSeconds.day)
    today = sql_cast(func.timezone("UTC", func.clock_timestamp()), Date)
    session.execute(delete(JobSeconds).where(JobSeconds.day < today - KEPT.days))
    scattered = select(*key).group_by(*key).having(func.count() > 1).subquery()
    same = (
        (JobSeconds.tenant_id == scattered.c.tenant_id)
        & (JobSeconds.queue == scattered.c.queue)
        & (JobSeconds.day == scattered.c.day)
    )
    some = (
        select(JobSeconds.id)
        .join(scattered, same)
        .order_by(JobSeconds.id)
        .limit(limit)
        .with_for_update(of=JobSeconds, skip_locked=True)
    )
    gone = delete(JobSeconds).where(JobSeconds.id.in_(some)).returning(*key, JobSeconds.seconds).cte("gone")
    sums = select(gone.c.tenant_id, gone.c.queue, gone.c.day, func.sum(gone.c.seconds))
    session.execute(
        insert(JobSeconds).from_select(
            ["tenant_id", "queue", "day", "seconds"],
            sums.group_by(gone.c.tenant_id, gone.c.queue, gone.c.day),
        )
    )
