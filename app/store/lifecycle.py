"""Transitions that move a job and what it works for in one transaction. `end` is the one end of them all."""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlalchemy import exists, func, insert, select, update
from sqlalchemy.orm import Session

from app.errors import AlreadyTerminal
from app.store.audits import Audit
from app.store.core.base import JSONObject
from app.store.edits import Edit
from app.store.jobs.kinds import (
    DERIVE_SHARD,
    PLAN_AUDIT,
    RUN_EDIT,
    SCORE_SHARD,
    SUMMARIZE_AUDIT,
    VALIDATE_LANGUAGE_MODEL,
    JobKind,
)
from app.store.jobs.owners import AUDIT, LANGUAGE_MODEL, OWNERS, Owner, owner_of
from app.store.jobs.queue import (
    Job,
    Lease,
    LeaseLost,
    add_job,
    cancel_jobs,
    close_failed,
    job_values,
    owned_by,
)
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.operations import Operation, OperationStatus, OperationT, get_operation, is_active

# The last job of an audit comes before any new shard, so that what is nearly done gets done.
SUMMARY_PRIORITY_STEP = 1
_ROWS_AT_ONCE = 1000


def end(
    session: Session,
    owner: Owner,
    owner_id: UUID,
    status: StrEnum,
    *,
    error: JSONObject | None = None,
    findings: Mapping[str, object] = MappingProxyType({}),
) -> bool:
    """Bring an audit, an edit or a language model to a terminal state and cancel its open jobs.

    No other statement writes such a state, so this is where others can be told of it.

    Args:
        session: of the caller, who commits.
        owner: the kind of what ends.
        owner_id: which one.
        status: one of those that end it.
        error: why, if it failed.
        findings: columns to write with it: results, or what is known although it failed.

    Returns:
        False when it had ended before; nothing is changed then.
    """
    ended_at = owner.ended_at[status]
    times = {} if ended_at is None else {ended_at: func.clock_timestamp()}
    statement = (
        update(owner.table)
        .where(owner.table.id == owner_id, owner.is_active())
        .values(status=status, error=error, **times, **findings)
        .returning(owner.table.id)
    )
    if session.scalar(statement) is None:
        return False
    cancel_jobs(session, owner, owner_id)
    return True


def enqueue_validation(session: Session, language_model: LanguageModel) -> Job:
    """Let a worker validate a new language model."""
    return add_job(
        session,
        VALIDATE_LANGUAGE_MODEL,
        tenant_id=language_model.tenant_id,
        owner_id=language_model.id,
        language_model_id=language_model.id,
    )


def enqueue_audit(session: Session, audit: Audit) -> Job:
    """Let a worker cut an audit into shards; its language model must be ready."""
    return _add_job_of(session, audit, PLAN_AUDIT, priority=audit.priority)


def enqueue_edit(session: Session, edit: Edit) -> Job:
    """Let a worker run an edit; its language model must be ready."""
    return _add_job_of(session, edit, RUN_EDIT)


def _add_job_of(session: Session, operation: Operation, kind: JobKind, *, priority: int = 0) -> Job:
    return add_job(
        session,
        kind,
        tenant_id=operation.tenant_id,
        owner_id=operation.id,
        language_model_id=operation.language_model_id,
        priority=priority,
    )


def take_active(session: Session, kind: type[OperationT], operation_id: UUID) -> OperationT:
    """An audit or edit that has not ended, locked until the commit.

    The lock leaves room for the foreign keys of rows that other transactions are writing meanwhile.

    Raises:
        LeaseLost: it has ended, so nothing may be committed for it any more.
    """
    statement = select(kind).where(kind.id == operation_id, is_active(kind)).with_for_update(key_share=True)
    row = session.scalars(statement.execution_options(populate_existing=True)).one_or_none()
    if row is None:
        raise LeaseLost
    return row


def begin_operation(
    session: Session, kind: type[OperationT], operation_id: UUID, language_model_digest: str
) -> OperationT:
    """Mark an audit or edit as running and record which bytes of the language model it will use.

    Raises:
        LeaseLost: it has ended, so its jobs are not wanted any more.
    """
    operation = take_active(session, kind, operation_id)
    if operation.status == OperationStatus.QUEUED:
        operation.status = OperationStatus.RUNNING
        operation.started_at = session.scalar(select(func.clock_timestamp()))
    operation.language_model_digest = language_model_digest
    return operation


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


def score_instead(session: Session, audit_id: UUID, start: int, stop: int) -> int:
    """Let a shard go through the model whose evidence is gone; the audit is then not derived any more.

    Returns:
        How many jobs were enqueued.

    Raises:
        LeaseLost: the audit has ended.
    """
    audit = take_active(session, Audit, audit_id)
    audit.derived_from = None
    enqueue_shards(session, audit, [(start, stop)])
    return 1


def _insert_jobs(session: Session, rows: Iterator[dict[str, Any]]) -> None:
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        session.execute(insert(Job), some)


def complete_shard(session: Session, audit_id: UUID, texts: int) -> int:
    """Count a committed shard; the last one enqueues the summary.

    Returns:
        How many jobs were enqueued.

    Raises:
        LeaseLost: the audit has ended, so the shard's rows must not be committed.
    """
    audit = take_active(session, Audit, audit_id)
    audit.texts_done += texts
    if audit.texts_done < audit.texts_total:
        return 0
    _add_job_of(session, audit, SUMMARIZE_AUDIT, priority=audit.priority + SUMMARY_PRIORITY_STEP)
    return 1


def succeed_audit(session: Session, audit_id: UUID, summary: JSONObject) -> None:
    """End an audit with its summary.

    Raises:
        LeaseLost: the audit has ended otherwise.
    """
    if not end(session, AUDIT, audit_id, OperationStatus.SUCCEEDED, findings={"summary": summary}):
        raise LeaseLost


def accept_language_model(session: Session, model_id: UUID, facts: Mapping[str, object]) -> int:
    """Mark a language model as ready with what the worker found, and start the work that waited for it.

    Returns:
        How many jobs were enqueued.

    Raises:
        LeaseLost: it has been validated already.
    """
    if not end(session, LANGUAGE_MODEL, model_id, LanguageModelStatus.READY, findings=facts):
        raise LeaseLost
    audits, edits = _waiting(session, Audit, model_id), _waiting(session, Edit, model_id)
    for audit in audits:
        enqueue_audit(session, audit)
    for edit in edits:
        enqueue_edit(session, edit)
    return len(audits) + len(edits)


def fail_job(
    session: Session,
    lease: Lease,
    error: JSONObject,
    findings: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Give a job up, and with it whatever it belongs to, of which `findings` are columns to write.

    Raises:
        LeaseLost: the job was taken away before.
    """
    close_failed(session, lease, error)
    fail_owner(session, lease, error, findings)


def cancel_operation(
    session: Session, kind: type[OperationT], tenant_id: UUID, operation_id: UUID | None
) -> OperationT:
    """End an audit or edit at the client's word. Whatever a worker still computes cannot be committed.

    Raises:
        NotFound: this tenant has no such audit or edit.
        AlreadyTerminal: it had ended before.
    """
    operation = get_operation(session, kind, tenant_id, operation_id)
    if not end(session, owner_of(kind), operation.id, OperationStatus.CANCELLED):
        raise AlreadyTerminal(f"The {kind.noun} has ended; it cannot be cancelled any more.")
    session.refresh(operation)
    return operation


def fail_owner(
    session: Session,
    job: Job | Lease,
    error: JSONObject,
    findings: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """End what a job that was given up works for, and whatever waits for that without a job of its own."""
    owner = OWNERS[job.owner_kind]
    recorded = owner.error_of(error)
    if not end(session, owner, job.owner_id, owner.failed, error=recorded, findings=findings):
        return
    if owner is LANGUAGE_MODEL:
        for operation in (*_waiting(session, Audit, job.owner_id), *_waiting(session, Edit, job.owner_id)):
            end(session, owner_of(type(operation)), operation.id, OperationStatus.FAILED, error=recorded)


def _waiting(session: Session, kind: type[OperationT], model_id: UUID) -> list[OperationT]:
    """The audits or edits that wait for a language model: those without any job."""
    has_job = exists().where(owned_by(owner_of(kind), kind.id))
    statement = select(kind).where(kind.language_model_id == model_id, is_active(kind), ~has_job)
    return list(session.scalars(statement))
