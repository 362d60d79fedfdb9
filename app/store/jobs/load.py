"""How much work waits, runs and has ended lately, of all tenants together."""

from datetime import timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Float,
    Select,
    Text,
    bindparam,
    cast,
    func,
    literal,
    select,
    text,
    union_all,
)
from sqlalchemy.orm import Session

from app.errors import PROBLEM_BASE
from app.store.counters import Count, read_counts
from app.store.jobs.job import Job, JobState
from app.store.webhook_deliveries import Backlog, read_backlog

RECENT: Final = timedelta(minutes=10)
_PROBLEM: Final = func.jsonb_extract_path_text(Job.error, "type")
_ENDED: Final = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class OpenJobs(NamedTuple):
    """The open jobs of one queue, kind and state.

    `claimable` of those queued can be claimed now, the one that could be first for `oldest_seconds`;
    `expired` of those running have a lease that ran out.
    """

    queue: str
    kind: str
    state: str
    jobs: int
    claimable: int
    oldest_seconds: float
    expired: int


class EndedJobs(NamedTuple):
    """Jobs of one kind and state that ended lately: `seconds` from their claim to their end, all together.

    `timed` of them have seconds: a worker of the previous release does not say when it claimed.
    """

    kind: str
    state: str
    problem: str
    jobs: int
    timed: int
    seconds: float


class Load(NamedTuple):
    """What a service has to do, has done lately, and waits for."""

    open: list[OpenJobs]
    ended: list[EndedJobs]
    waiting: dict[str, int]
    webhooks: Backlog
    counts: dict[Count, float]
    database_bytes: int


def read_load(session: Session, *, timeout_seconds: float) -> Load:
    """Read it all in one transaction whose statements take no longer than so many seconds each.

    Raises:
        sqlalchemy.exc.OperationalError: the database is away, or took longer.
    """
    session.execute(text(f"SET LOCAL statement_timeout = {int(timeout_seconds * 1000)}"))
    return Load(
        open=count_open(session),
        ended=_count_ended(session),
        waiting=_count_waiting(session),
        webhooks=read_backlog(session),
        counts=read_counts(session),
        database_bytes=session.execute(select(func.pg_database_size(func.current_database()))).scalar_one(),
    )


def count_open(session: Session) -> list[OpenJobs]:
    """The open jobs by queue, kind and state."""
    now = func.clock_timestamp()
    age = func.extract("epoch", now - Job.available_at)
    waits = _of_state(
        JobState.QUEUED,
        func.count().filter(Job.available_at <= now),
        func.coalesce(func.max(age).filter(Job.available_at <= now), 0),
        literal(0),
    )
    runs = _of_state(
        JobState.RUNNING, literal(0), literal(0.0), func.count().filter(Job.lease_expires_at < now)
    )
    return [OpenJobs._make(row) for row in session.execute(union_all(waits, runs))]


def _of_state(
    state: JobState, claimable: ColumnElement[Any], oldest: ColumnElement[Any], expired: ColumnElement[Any]
) -> Select[Any]:
    # It says literally what one of the partial indexes says, so that this is found at any time.
    return (
        select(
            Job.queue,
            Job.kind,
            literal(state, Text).label("state"),
            func.count(),
            claimable,
            cast(oldest, Float),
            expired,
        )
        .where(Job.state == bindparam(None, state, Text, literal_execute=True))
        .group_by(Job.queue, Job.kind)
    )


def _count_ended(session: Session) -> list[EndedJobs]:
    seconds = func.extract("epoch", Job.finished_at - Job.claimed_at)
    statement = (
        select(
            Job.kind,
            Job.state,
            func.coalesce(_PROBLEM, ""),
            func.count(),
            func.count(Job.claimed_at),
            cast(func.coalesce(func.sum(seconds), 0), Float),
        )
        .where(
            Job.state.in_(bindparam(None, _ENDED, Text, expanding=True, literal_execute=True)),
            Job.finished_at > func.clock_timestamp() - RECENT,
        )
        .group_by(Job.kind, Job.state, _PROBLEM)
    )
    return [
        EndedJobs(kind, state, problem.removeprefix(PROBLEM_BASE), *rest)
        for kind, state, problem, *rest in session.execute(statement)
    ]


def _count_waiting(session: Session) -> dict[str, int]:
    """How many jobs wait for what is away, by the problem that says what."""
    statement = (
        select(_PROBLEM, func.count())
        .where(
            Job.state == bindparam(None, JobState.QUEUED, Text, literal_execute=True),
            Job.waiting_since.is_not(None),
        )
        .group_by(_PROBLEM)
    )
    return {str(each).removeprefix(PROBLEM_BASE): count for each, count in session.execute(statement)}
