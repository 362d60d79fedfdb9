"""Jobs for what waits for none of them yet. Each is added in the transaction that makes it due."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final
from uuid import UUID

from sqlalchemy import exists, insert, select
from sqlalchemy.orm import Session

from app.store.audits import Audit
from app.store.companions import has_finishing_job, have_succeeded
from app.store.core.base import JSONObject
from app.store.edits import Edit
from app.store.jobs.job import Job, JobState, owned_by
from app.store.jobs.kinds import (
    COLLECT_FACTORS,
    DERIVE_SHARD,
    IMPORT_TEXT_SET,
    KINDS,
    PLAN_AUDIT,
    RUN_EDIT,
    SCORE_SHARD,
    VALIDATE_LANGUAGE_MODEL,
    JobKind,
)
from app.store.jobs.owners import EDIT, Owner
from app.store.jobs.queue import add_job, job_values
from app.store.language_models import LanguageModel
from app.store.operations import LanguageModelOperation
from app.store.taking import take_active
from app.store.text_sets import TextSet

FINISHING_PRIORITY_STEP: Final = 1
_ROWS_AT_ONCE: Final = 1000


def enqueue_validation(session: Session, language_model: LanguageModel) -> Job:
    """Let a worker validate a new language model."""
    return add_job(
        session,
        VALIDATE_LANGUAGE_MODEL,
        tenant_id=language_model.tenant_id,
        owner_id=language_model.id,
        language_model_id=language_model.id,
    )


def enqueue_import(session: Session, text_set: TextSet) -> Job:
    """Let a worker fetch the texts of a new text set."""
    return add_job(session, IMPORT_TEXT_SET, tenant_id=text_set.tenant_id, owner_id=text_set.id)


def enqueue_audit(session: Session, audit: Audit) -> Job:
    """Let a worker cut an audit into shards; its language model and its text set must be ready."""
    return _add_job_of(session, audit, PLAN_AUDIT, priority=audit.priority)


def enqueue_edit(session: Session, edit: Edit) -> Job:
    """Let a worker run an edit; its language model must be ready."""
    return _add_job_of(session, edit, RUN_EDIT)


def enqueue_collection(session: Session, edit_id: UUID, shards: Sequence[JSONObject]) -> None:
    """Enqueue the shards of the curvature that an edit needs, each with its payload.

    Raises:
        LeaseLost: the edit has ended.
    """
    edit = take_active(session, Edit, edit_id)
    rows = (
        job_values(
            COLLECT_FACTORS,
            tenant_id=edit.tenant_id,
            owner_id=edit.id,
            language_model_id=edit.language_model_id,
            payload=shard,
        )
        for shard in shards
    )
    _insert_jobs(session, rows)


def enqueue_collected_edit(session: Session, edit: Edit, collection: JSONObject) -> int:
    """Let a worker run an edit of which the last shard was collected.

    Whoever calls it has brought a shard, and holds the row of the edit: so of all who do, one enqueues.

    Returns:
        How many jobs were enqueued.
    """
    still_open = exists().where(
        owned_by(EDIT, edit.id),
        Job.kind == COLLECT_FACTORS.name,
        Job.state.in_((JobState.QUEUED, JobState.RUNNING)),
    )
    if session.scalar(select(still_open)):
        return 0
    _add_job_of(session, edit, RUN_EDIT, priority=FINISHING_PRIORITY_STEP, payload=collection)
    return 1


def _add_job_of(
    session: Session,
    operation: LanguageModelOperation,
    kind: JobKind,
    *,
    priority: int = 0,
    payload: JSONObject | None = None,
) -> Job:
    return add_job(
        session,
        kind,
        tenant_id=operation.tenant_id,
        owner_id=operation.id,
        language_model_id=operation.language_model_id,
        priority=priority,
        payload=payload,
    )


def enqueue_shards(session: Session, audit: Audit, bounds: Sequence[tuple[int, int]]) -> None:
    """Enqueue a job for each shard [start, stop) of an audit, many in one statement."""
    rows = (
        job_values(
            SCORE_SHARD,
            tenant_id=audit.tenant_id,
            owner_id=audit.id,
            language_model_id=audit.language_model_id,
            payload={"start": start, "stop": stop},
            priority=audit.priority,
        )
        for start, stop in bounds
    )
    _insert_jobs(session, rows)


def enqueue_derivation(
    session: Session, audit: Audit, source: Audit, bounds: Sequence[tuple[int, int]]
) -> None:
    """Enqueue the shards [start, stop) of an audit that follows from another one's evidence.

    Raises:
        LeaseLost: the audit has ended.
    """
    derived = take_active(session, Audit, audit.id)
    derived.derived_from = source.id
    derived.prefix_token, derived.end_tokens = source.prefix_token, source.end_tokens
    rows = (
        job_values(
            DERIVE_SHARD,
            tenant_id=audit.tenant_id,
            owner_id=audit.id,
            payload={"start": start, "stop": stop, "source": str(source.id)},
            priority=audit.priority,
        )
        for start, stop in bounds
    )
    _insert_jobs(session, rows)


def _insert_jobs(session: Session, rows: Iterator[dict[str, Any]]) -> None:
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        session.execute(insert(Job), some)


def enqueue_finishing(session: Session, owner: Owner, row: Any) -> int:
    """Enqueue the job that ends something, if all that it waited for is there.

    Whoever calls it may have brought the last of it, and holds the row of the owner: so of all who do,
    exactly one enqueues.

    Returns:
        How many jobs were enqueued.
    """
    if owner.finished_by is None or not owner.is_ready(row) or not have_succeeded(session, row.id):
        return 0
    if has_finishing_job(session, owner, row.id):
        return 0
    # The last job comes before any new one, so that what is nearly done gets done.
    priority = FINISHING_PRIORITY_STEP + (row.priority if isinstance(row, Audit) else 0)
    add_job(session, KINDS[owner.finished_by], tenant_id=row.tenant_id, owner_id=row.id, priority=priority)
    return 1
