"""What is removed after a time, so that tables do not grow for ever."""

from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.store.jobs.job import Job, JobState, is_wanted

_ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


def remove_ended_jobs(session: Session, *, older_than: timedelta, limit: int) -> int:
    """Remove jobs that ended long ago and whose owner has ended too.

    What is active keeps all of its jobs, however old: their absence would say that it has not begun.

    Returns:
        How many were removed, at most `limit`.
    """
    old = (
        select(Job.id)
        .where(
            Job.state.in_(_ENDED),
            Job.finished_at < func.clock_timestamp() - older_than,
            ~is_wanted(),
        )
        .order_by(Job.finished_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    removed = delete(Job).where(Job.id.in_(old)).returning(Job.id)
    return len(session.scalars(removed.execution_options(synchronize_session=False)).all())
