"""Which job a worker takes next."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, ScalarSelect, Uuid, false, func, literal, select, update
from sqlalchemy.orm import Session

from app.settings import SERVED_BY, Queue
from app.store.jobs.job import Job, JobState
from app.store.jobs.kinds import KINDS
from app.store.jobs.leases import Lease, lease_end

# More than there are workers that claim at the same moment.
_BEST: Final = 64


def claim(
    session: Session,
    *,
    queue: Queue,
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
        queue: the worker's class; it takes jobs of every queue that this class serves.
        worker: the name of the process that will run the job.
        lease_seconds: how long it has until its first heartbeat.
        loaded: the language models that are preferred. Others wait for as long as these have jobs, so whoever
            claims again and again must leave them out from time to time.
        served: the tenants that the process has served, the last one last.

    Returns:
        The lease, or None when nothing is claimable. The caller commits.
    """
    best = _claim_first(session, queue, worker, lease_seconds, loaded, served, among=_BEST)
    # Others may hold the best ones at this very moment.
    return best or _claim_first(session, queue, worker, lease_seconds, loaded, served, among=None)


def _claim_first(
    session: Session,
    queue: Queue,
    worker: str,
    lease_seconds: float,
    loaded: Sequence[UUID],
    served: Sequence[UUID],
    *,
    among: int | None,
) -> Lease | None:
    """Lease the first job that nobody holds, among so many or all that could be claimed."""
    statement = (
        update(Job)
        .where(Job.id == _next(queue, loaded, served, among))
        .values(
            state=JobState.RUNNING,
            epoch=Job.epoch + 1,
            attempts=Job.attempts + 1,
            progress=0,
            stage=None,
            worker=worker,
            claimed_at=func.clock_timestamp(),
            lease_expires_at=lease_end(lease_seconds),
        )
        .returning(
            Job,
            func.extract("epoch", func.clock_timestamp() - Job.waiting_since),
            func.extract("epoch", func.clock_timestamp() - Job.available_at),
        )
        .execution_options(synchronize_session=False)
    )
    claimed = session.execute(statement).one_or_none()
    if claimed is None:
        return None
    job, waited, claimable = claimed
    return Lease.of(job, waited_seconds=float(waited or 0.0), claimable_seconds=float(claimable))


def _next(
    queue: Queue, loaded: Sequence[UUID], served: Sequence[UUID], among: int | None
) -> ScalarSelect[UUID]:
    """The id of the first job in the order of `claim`, locked; whatever other workers hold is passed over.

    Postgres locks what it has sorted, all of it and whole rows. So the best are found first, without a lock.
    """
    running = (
        select(Job.tenant_id, func.count().label("jobs"))
        .where(Job.state == JobState.RUNNING)
        .group_by(Job.tenant_id)
        .cte("running")
    )
    order = (
        Job.priority.label("priority"),
        # A job that needs none is none of these; null would come first.
        func.coalesce(Job.language_model_id.in_(loaded), false()).label("loaded"),
        func.coalesce(running.c.jobs, 0).label("running"),
        func.coalesce(func.array_position(literal(list(served), ARRAY(Uuid)), Job.tenant_id), 0).label(
            "turn"
        ),
    )
    best = (
        select(Job.id, *order)
        .outerjoin(running, running.c.tenant_id == Job.tenant_id)
        .where(*_claimable(queue))
        .order_by(order[0].desc(), order[1].desc(), order[2], order[3], Job.id)
        .limit(among)
        .cte("best")
        .prefix_with("MATERIALIZED")
    )
    return (
        select(Job.id)
        .join(best, best.c.id == Job.id)
        # As it is once it is locked.
        .where(*_claimable(queue))
        .order_by(best.c.priority.desc(), best.c.loaded.desc(), best.c.running, best.c.turn, best.c.id)
        .limit(1)
        .with_for_update(of=Job, skip_locked=True)
        .scalar_subquery()
    )


def _claimable(queue: Queue) -> tuple[ColumnElement[bool], ...]:
    return (
        Job.queue.in_(SERVED_BY[queue]),
        Job.state == JobState.QUEUED,
        # Those of a newer release are left to its workers.
        Job.kind.in_(KINDS),
        Job.available_at <= func.clock_timestamp(),
    )
