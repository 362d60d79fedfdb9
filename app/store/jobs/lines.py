"""Lines of waiting jobs: one job after another, of a tenant or of a language model, at one priority.

A line is found by one step into an index, and the next line by the next step, so that neither costs more when
there are more jobs. Jobs stand in the order of their ids. Those with an error were put back to be tried again
after a pause: they have lines of their own, in the order in which their pauses end, so that nobody looks at
those whose pause has not ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    TableValuedAlias,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    column,
    func,
    literal,
    select,
    true,
    union_all,
)
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.types import TypeEngine

from app.settings import Queue
from app.store.jobs.job import Job, JobState
from app.store.jobs.kinds import KINDS

# Of so many tenants the best is found. Of more, these come into question: those after the last one served.
TENANTS_AT_ONCE: Final = 32
_FIRST, _LAST = UUID(int=0), UUID(int=2**128 - 1)
_WAYS: Final = {
    "enable_sort": "off",
    "enable_incremental_sort": "off",
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
}


@dataclass(frozen=True)
class Line:
    """Jobs that wait one behind another.

    Attributes:
        queue: that of all of them.
        again: whether they are tried again.
        tenant_id: whose the first of them is.
        language_model_id: the one that all of them need, if it is the line of a language model.
        job_id: the first of them.
        running: how many jobs of the tenant are running.
        place: how many tenants were found up to this one, in this queue, from where the search began.
    """

    queue: Queue
    again: bool
    tenant_id: UUID
    language_model_id: UUID | None
    job_id: UUID
    running: int
    place: int


def read_priorities(session: Session, queues: Sequence[Queue]) -> list[int]:
    """The priorities at which jobs of some queues wait, the most urgent first."""
    return sorted(set(session.scalars(_ALL_PRIORITIES, {"queues": list(queues)})), reverse=True)


def read_lines(
    session: Session, queues: Sequence[Queue], priority: int, *, loaded: Sequence[UUID], after: UUID | None
) -> list[Line]:
    """The lines of a priority whose first job can be claimed: of each loaded language model, and of tenants.

    Args:
        session: of whoever claims.
        queues: those that the worker serves.
        priority: that of all jobs.
        loaded: language models.
        after: where to begin among the tenants, whose ids make a ring; None for the first.
    """
    arcs = [(_FIRST, _LAST)] if after is None else [(after, _LAST), (_FIRST, after)]
    parameters = {
        "priority": priority,
        "kinds": list(KINDS),
        "queues": list(queues),
        "loaded": list(loaded),
        "begins": [begin for begin, _ in arcs],
        "ends": [end for _, end in arcs],
    }
    return [Line(**row) for row in session.execute(_ALL_LINES, parameters).mappings()]


def count_running(session: Session, tenant_id: UUID) -> int:
    """How many jobs of a tenant are running."""
    running = select(func.count()).where(Job.tenant_id == tenant_id, _is(JobState.RUNNING))
    return session.execute(running).scalar_one()


def first_claimable(*, again: bool, of_language_model: bool) -> Select[UUID]:
    """The id of the first job of a line that nobody holds, locked: whatever others hold is passed over.

    Which line is said by the parameters of `which_line`.
    """
    whose = Job.language_model_id if of_language_model else Job.tenant_id
    which = bindparam("which", type_=Uuid)
    queue, kinds = bindparam("of_queue", type_=Text), bindparam("kinds", type_=ARRAY(Text))
    return (
        select(Job.id)
        .where(
            *_waits(queue, bindparam("of_priority", type_=Integer), kinds, again=again),
            whose.between(which, which),
            # The time of the statement, for which an index can be searched.
            Job.available_at <= func.statement_timestamp(),
        )
        .order_by(whose, _order(again=again))
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def which_line(line: Line, priority: int) -> dict[str, Any]:
    """The parameters of `first_claimable` for a line."""
    return {
        "which": line.language_model_id or line.tenant_id,
        "of_queue": line.queue,
        "of_priority": priority,
        "kinds": list(KINDS),
    }


def walk_indexes(session: Session) -> None:
    """Let the transaction find jobs by the index that has them in order, and in no other way.

    Postgres goes by counts of rows that may be from before millions of jobs came, and would read and sort all
    of these. `BETWEEN` bounds lines where an equality would: it leaves the order by line to one index alone.
    Nor does it plan again for each list of tenants what takes longer to plan than to execute.
    """
    session.execute(_WALKING)


def is_queued() -> ColumnElement[bool]:
    """The condition that a job waits, said literally as the partial indexes do."""
    return _is(JobState.QUEUED)


def is_tried_again(*, again: bool) -> ColumnElement[bool]:
    """The condition that a job that waits was put back with an error, or that it was not."""
    return Job.error.is_not(None) if again else Job.error.is_(None)


def _is(state: JobState) -> ColumnElement[bool]:
    return Job.state == bindparam(None, state, Text, literal_execute=True)


def _waits(
    queue: ColumnElement[str],
    priority: ColumnElement[int],
    kinds: ColumnElement[Sequence[str]],
    *,
    again: bool,
) -> tuple[ColumnElement[bool], ...]:
    return (
        Job.queue == queue,
        Job.priority == priority,
        is_queued(),
        is_tried_again(again=again),
        # Those of a newer release are left to its workers.
        Job.kind == any_(kinds),
    )


def _order(*, again: bool) -> InstrumentedAttribute[Any]:
    return Job.available_at if again else Job.id


def _each(**columns: tuple[str, type[TypeEngine[Any]]]) -> TableValuedAlias:
    """Rows of values: each column is a list among the parameters, of this name and of such values."""
    lists = (bindparam(name, type_=ARRAY(kind)) for name, kind in columns.values())
    names = (column(name, kind) for name, (_, kind) in columns.items())
    return func.unnest(*lists).table_valued(*names).render_derived()


def _of_tenants(*, again: bool) -> Select[Any]:
    """The first jobs of tenants, one tenant after another on each arc of the ring."""
    queues = _each(queue=("queues", Text))
    arcs = _each(after=("begins", Uuid), last=("ends", Uuid))

    def following(queue: ColumnElement[str], after: ColumnElement[UUID], last: ColumnElement[UUID]) -> Any:
        of_others = and_(Job.tenant_id > after, Job.tenant_id <= last)
        return _first(queue, of_others, Job.tenant_id, again=again)

    job = following(queues.c.queue, arcs.c.after, arcs.c.last)
    start = select(queues.c.queue, arcs.c.last, literal(1, Integer).label("place"), *job.c)
    tenants = start.select_from(queues).join(arcs, true()).join(job, true()).cte(recursive=True)
    job = following(tenants.c.queue, tenants.c.tenant_id, tenants.c.last)
    tenants = tenants.union_all(
        select(tenants.c.queue, tenants.c.last, tenants.c.place + 1, *job.c)
        .join(job, true())
        .where(tenants.c.place < TENANTS_AT_ONCE)
    )
    return _lines(tenants, tenants, literal(None, Uuid), tenants.c.place, again=again)


def _of_language_models(*, again: bool) -> Select[Any]:
    """The first jobs of loaded language models."""
    queues = _each(queue=("queues", Text))
    models = _each(id=("loaded", Uuid))
    own = Job.language_model_id.between(models.c.id, models.c.id)
    job = _first(queues.c.queue, own, Job.language_model_id, again=again)
    lines = _lines(queues, job, models.c.id, literal(0, Integer), again=again)
    return lines.select_from(queues).join(models, true()).join(job, true())


def _longest_due() -> Select[Any]:
    """The line of the job whose pause ended first: all tenants that were found may have jobs that pause."""
    queues = _each(queue=("queues", Text))
    job = _first(queues.c.queue, true(), again=True)
    lines = _lines(queues, job, literal(None, Uuid), literal(0, Integer), again=True)
    return lines.select_from(queues).join(job, true())


def _first(
    queue: ColumnElement[str],
    own: ColumnElement[bool],
    *whose: InstrumentedAttribute[Any],
    again: bool,
) -> Any:
    """The first job of the first of some lines."""
    priority, kinds = bindparam("priority", type_=Integer), bindparam("kinds", type_=ARRAY(Text))
    return (
        select(Job.tenant_id, Job.id, Job.available_at)
        .where(*_waits(queue, priority, kinds, again=again), own)
        .order_by(*whose, _order(again=again))
        .limit(1)
        .lateral()
    )


def _lines(
    queues: FromClause,
    jobs: FromClause,
    language_model_id: ColumnElement[Any],
    place: ColumnElement[int],
    *,
    again: bool,
) -> Select[Any]:
    """The columns of lines, and when their first jobs can be claimed."""
    return select(
        queues.c.queue,
        literal(again).label("again"),
        jobs.c.tenant_id,
        language_model_id.label("language_model_id"),
        jobs.c.id.label("job_id"),
        jobs.c.available_at,
        place.label("place"),
    )


def _all_lines() -> Select[Any]:
    """The statement of `read_lines`."""
    running = (
        select(Job.tenant_id, func.count().label("jobs"))
        .where(_is(JobState.RUNNING))
        .group_by(Job.tenant_id)
        .cte("running")
    )
    found = union_all(
        _of_tenants(again=False),
        _of_tenants(again=True),
        _longest_due(),
        _of_language_models(again=False),
        _of_language_models(again=True),
    ).subquery()
    columns = [
        found.c[name] for name in ("queue", "again", "tenant_id", "language_model_id", "job_id", "place")
    ]
    return (
        select(*columns, func.coalesce(running.c.jobs, 0).label("running"))
        .outerjoin(running, running.c.tenant_id == found.c.tenant_id)
        .where(found.c.available_at <= func.statement_timestamp())
    )


def _all_priorities() -> Select[Any]:
    """The statement of `read_priorities`."""
    queues = _each(queue=("queues", Text))

    def top(queue: ColumnElement[str], *less: ColumnElement[bool]) -> Any:
        found = select(Job.priority).where(Job.queue == queue, is_queued(), *less)
        return found.order_by(Job.priority.desc()).limit(1).lateral()

    first = top(queues.c.queue)
    levels = select(queues.c.queue, first.c.priority).join(first, true()).cte("levels", recursive=True)
    following = top(levels.c.queue, Job.priority < levels.c.priority)
    levels = levels.union_all(select(levels.c.queue, following.c.priority).join(following, true()))
    return select(levels.c.priority)


# Made once: to make them takes longer than to execute them.
_ALL_LINES: Final = _all_lines()
_ALL_PRIORITIES: Final = _all_priorities()
_WALKING: Final = select(*(func.set_config(*way, True) for way in _WAYS.items()))  # noqa: FBT003 - till it ends
