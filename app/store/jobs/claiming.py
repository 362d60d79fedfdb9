"""Which job a worker takes next."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Interval, Text, bindparam, func, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from app.settings import SERVED_BY, Queue
from app.store.jobs.job import Job, JobState
from app.store.jobs.leases import Lease, lease_end
from app.store.jobs.lines import (
    TENANTS_AT_ONCE,
    Line,
    count_running,
    first_claimable,
    read_lines,
    read_priorities,
    walk_indexes,
    which_line,
)


def claim(
    session: Session,
    *,
    queue: Queue,
    worker: str,
    lease_seconds: float,
    loaded: Sequence[UUID] = (),
    served: Sequence[UUID] = (),
    last: Mapping[int, UUID] | None = None,
) -> Lease | None:
    """Lease the next job. What that costs depends neither on how many jobs wait nor on how many tenants.

    The most urgent comes first. Of what is as urgent, that of a tenant none of whose jobs is running; then
    that of a loaded language model; then that of the tenant of whom fewest jobs are running, of those whoever
    was served least recently, and last whoever has the oldest job. Of more tenants than `TENANTS_AT_ONCE`
    each has its turn instead, in the order of ids.

    So a loaded language model keeps a worker from a tenant only if others work for that tenant, or if nobody
    works for either, and then for as long as the caller names it in `loaded`.

    Args:
        session: of the caller, who commits.
        queue: the worker's class; it takes jobs of every queue that this class serves.
        worker: the name of the process that will run the job.
        lease_seconds: how long it has until its first heartbeat.
        loaded: the language models that are preferred. Others may wait for as long as these have jobs, so
            whoever claims again and again must leave them out from time to time.
        served: the tenants that the process has served, the last one last.
        last: for each priority, the tenant that the process has served last.

    Returns:
        The lease, or None when nothing is claimable. The caller commits.
    """
    walk_indexes(session)
    queues = SERVED_BY[queue]
    for priority in read_priorities(session, queues):
        after = (last or {}).get(priority)
        lines = read_lines(session, queues, priority, loaded=loaded, after=after)
        for line in _in_order(lines, served, after):
            lease = _take(session, line, priority, worker, lease_seconds)
            # Others may hold all of a line at this very moment.
            if lease is not None:
                return lease
    return None


def others_wait(session: Session, lease: Lease, queue: Queue) -> bool:
    """Whether a claim of a worker for `queue` would take something before more of what it has leased.

    That is a more urgent job; or, while others work for the tenant too, one as urgent of another tenant, none
    of whose jobs is running.
    """
    walk_indexes(session)
    queues = SERVED_BY[queue]
    for priority in read_priorities(session, queues):
        if priority < lease.priority:
            return False
        lines = read_lines(session, queues, priority, loaded=(), after=lease.tenant_id)
        if priority > lease.priority:
            if lines:
                return True
        elif any(line.running == 0 for line in lines):
            return count_running(session, lease.tenant_id) > 1
    return False


def _in_order(lines: Sequence[Line], served: Sequence[UUID], after: UUID | None) -> list[Line]:
    """The lines in the order of `claim`."""
    turns = {tenant_id: turn for turn, tenant_id in enumerate(served)}
    all_seen = all(line.place < TENANTS_AT_ONCE for line in lines)

    def rank(line: Line) -> tuple[object, ...]:
        turn = turns.get(line.tenant_id, -1)
        begun_again = after is not None and line.tenant_id <= after
        of_the_ring = () if all_seen else (begun_again, line.tenant_id)
        is_loaded = line.language_model_id is not None
        return line.running > 0, not is_loaded, line.running, turn, *of_the_ring, line.job_id

    return sorted(lines, key=rank)


def _take(session: Session, line: Line, priority: int, worker: str, lease_seconds: float) -> Lease | None:
    """Lease the first job of a line that nobody holds."""
    statement = _TAKING[line.again, line.language_model_id is not None]
    parameters = which_line(line, priority) | {"by": worker, "lasting": timedelta(seconds=lease_seconds)}
    claimed = session.execute(statement, parameters).one_or_none()
    if claimed is None:
        return None
    job, waited, claimable = claimed
    return Lease.of(job, waited_seconds=float(waited or 0.0), claimable_seconds=float(claimable))


def _taking(*, again: bool, of_language_model: bool) -> ReturningUpdate[Job, int, int]:
    """The statement of `_take`."""
    first = first_claimable(again=again, of_language_model=of_language_model)
    return (
        update(Job)
        .where(Job.id == first.scalar_subquery())
        .values(
            state=JobState.RUNNING,
            epoch=Job.epoch + 1,
            attempts=Job.attempts + 1,
            progress=0,
            stage=None,
            worker=bindparam("by", type_=Text),
            claimed_at=func.clock_timestamp(),
            lease_expires_at=lease_end(bindparam("lasting", type_=Interval)),
        )
        .returning(
            Job,
            func.extract("epoch", func.clock_timestamp() - Job.waiting_since),
            func.extract("epoch", func.clock_timestamp() - Job.available_at),
        )
        .execution_options(synchronize_session=False)
    )


# Made once: to make them takes longer than to execute them.
_TAKING: Final = {
    (again, of_language_model): _taking(again=again, of_language_model=of_language_model)
    for again in (False, True)
    for of_language_model in (False, True)
}
