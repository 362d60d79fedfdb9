"""The sweep: leases that ran out, work that nobody wants any more, and bells that were never heard."""

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, or_, select, update
from sqlalchemy.orm import Session

from app.errors import ShardPoisoned
from app.settings import SERVED_BY, Queue
from app.store.companions import take_forsaken
from app.store.jobs.job import Job, JobState, is_wanted
from app.store.jobs.kinds import KINDS
from app.store.jobs.lines import is_queued, is_tried_again, read_priorities, walk_indexes
from app.store.lifecycle import cancel_audits, fail_owner


class ExpiredLease(NamedTuple):
    """A job whose lease ran out: it is tried again, or was given up."""

    kind: str
    given_up: bool


def sweep_leases(session: Session, *, max_attempts: int) -> list[ExpiredLease]:
    """Take jobs back whose lease ran out: queue them again, or give one up after `max_attempts`.

    One at a time is given up, so that the owners of two are not locked in one transaction: the caller comes
    again until none had run out.

    Jobs of kinds that only a newer release knows are left to its sweep, which can end their owners.

    Returns:
        The leases that had run out.
    """
    expired = list(
        session.scalars(
            select(Job)
            .where(
                Job.state == JobState.RUNNING,
                Job.kind.in_(KINDS),
                Job.lease_expires_at < func.clock_timestamp(),
            )
            .with_for_update(skip_locked=True),
        ),
    )
    given_up = [job for job in expired if job.attempts >= max_attempts]
    # It comes last: those of its owner are cancelled with it, and stay so.
    expired = [job for job in expired if job not in given_up] + given_up[:1]
    now = session.scalar(select(func.clock_timestamp()))
    for job in expired:
        job.lease_expires_at = None
        job.rung_at = None
        job.waits, job.waiting_since = 0, None
        if job.attempts < max_attempts:
            job.state = JobState.QUEUED
            continue
        problem = ShardPoisoned(
            f"Each of {job.attempts} attempts at a {job.kind} job ended without an answer: "
            "the worker died or stopped responding.",
        ).problem()
        job.state, job.error, job.finished_at = JobState.FAILED, problem, now
        session.flush()
        fail_owner(session, job, problem)
    # Those whose row was held when their owners ended.
    cancel_audits(session, take_forsaken(session))
    _cancel_orphans(session)
    return [ExpiredLease(job.kind, job in given_up) for job in expired]


def _cancel_orphans(session: Session) -> None:
    """Cancel queued jobs of what has ended (their rows were locked then)."""
    orphans = (
        select(Job.id).where(Job.state == JobState.QUEUED, ~is_wanted()).with_for_update(skip_locked=True)
    )
    session.execute(
        update(Job)
        .where(Job.id.in_(orphans))
        .values(state=JobState.CANCELLED, finished_at=func.clock_timestamp())
        .execution_options(synchronize_session=False),
    )


def jobs_to_ring(session: Session, *, stale_seconds: float, limit: int = 64) -> dict[str, int]:
    """Mark claimable jobs that were never rung, or whose bell may have been lost, as rung now.

    At most `limit` at each priority of each queue, so that none waits behind another, and as many of those
    that are tried again.

    Returns:
        How many bells each queue needs: one for each job never rung, or one for all whose bell is old, since
        a worker works until nothing is left. The caller commits, then rings: a bell lost in between is rung
        again after `stale_seconds`.
    """
    walk_indexes(session)
    stale = func.clock_timestamp() - timedelta(seconds=stale_seconds)
    bells: dict[str, int] = {}
    for queue in SERVED_BY:
        jobs = [
            job
            for priority in read_priorities(session, [queue])
            for again in (False, True)
            for job in session.execute(_unrung(queue, priority, stale, again=again).limit(limit)).all()
        ]
        if jobs:
            session.execute(
                update(Job)
                .where(Job.id.in_([job.id for job in jobs]))
                .values(rung_at=func.clock_timestamp())
                .execution_options(synchronize_session=False),
            )
            bells[queue] = max(1, sum(job.rung_at is None for job in jobs))
    return bells


def _unrung(
    queue: Queue, priority: int, stale: ColumnElement[datetime], *, again: bool
) -> Select[UUID, datetime | None]:
    """The jobs that a bell is due for, in the order of an index: few before them were rung a moment ago."""
    order = (Job.available_at,) if again else (Job.tenant_id, Job.id)
    return (
        select(Job.id, Job.rung_at)
        .where(
            Job.queue == queue,
            Job.priority == priority,
            is_queued(),
            is_tried_again(again=again),
            Job.available_at <= func.statement_timestamp(),
            or_(Job.rung_at.is_(None), Job.rung_at < stale),
        )
        .order_by(*order)
        .with_for_update(skip_locked=True)
    )
