"""Transitions that move a job and the audit or language model it belongs to in one transaction."""

from collections.abc import Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from uuid import UUID

from sqlalchemy import exists, func, insert, select, update
from sqlalchemy.orm import Session

from app.errors import AlreadyTerminal, LanguageModelRejected
from app.store.audits import Audit
from app.store.core.base import JSONObject
from app.store.core.identifiers import new_id
from app.store.edits import Edit
from app.store.jobs.queue import OWNERS, Job, JobKind, Lease, LeaseLost, add_job, cancel_jobs, close_failed
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.operations import OperationStatus, OperationT, end_operation, get_operation, is_active

# The last job of an audit comes before any new shard, so that what is nearly done gets done.
SUMMARY_PRIORITY_STEP = 1
_ROWS_AT_ONCE = 1000


def enqueue_validation(session: Session, language_model: LanguageModel) -> Job:
    """Let a worker validate a new language model."""
    return add_job(
        session,
        JobKind.VALIDATE_LANGUAGE_MODEL,
        tenant_id=language_model.tenant_id,
        language_model_id=language_model.id,
        priority=1,
    )


def enqueue_audit(session: Session, audit: Audit) -> Job:
    """Let a worker cut an audit into shards; its language model must be ready."""
    return add_job(
        session,
        JobKind.PLAN_AUDIT,
        tenant_id=audit.tenant_id,
        language_model_id=audit.language_model_id,
        audit_id=audit.id,
        priority=audit.priority,
    )


def enqueue_edit(session: Session, edit: Edit) -> Job:
    """Let a worker run an edit; its language model must be ready."""
    return add_job(
        session,
        JobKind.RUN_EDIT,
        tenant_id=edit.tenant_id,
        language_model_id=edit.language_model_id,
        edit_id=edit.id,
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
        LeaseLost: it has ended, so its work is not wanted any more.
    """
    work = take_active(session, kind, operation_id)
    if work.status == OperationStatus.QUEUED:
        work.status = OperationStatus.RUNNING
        work.started_at = session.scalar(select(func.clock_timestamp()))
    work.language_model_digest = language_model_digest
    return work


def enqueue_shards(session: Session, audit: Audit, bounds: Sequence[tuple[int, int]]) -> None:
    """Enqueue a job for each shard [start, stop) of an audit, many in one statement."""
    shared = {
        "kind": JobKind.SCORE_SHARD,
        "tenant_id": audit.tenant_id,
        "language_model_id": audit.language_model_id,
        "audit_id": audit.id,
        "priority": audit.priority,
    }
    rows = ({"id": new_id(), "payload": {"start": start, "stop": stop}, **shared} for start, stop in bounds)
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
    add_job(
        session,
        JobKind.SUMMARIZE_AUDIT,
        tenant_id=audit.tenant_id,
        language_model_id=audit.language_model_id,
        audit_id=audit.id,
        priority=audit.priority + SUMMARY_PRIORITY_STEP,
    )
    return 1


def succeed_audit(session: Session, audit_id: UUID, summary: JSONObject) -> None:
    """End an audit with its summary.

    Raises:
        LeaseLost: the audit has ended otherwise.
    """
    audit = take_active(session, Audit, audit_id)
    audit.summary = summary
    audit.status = OperationStatus.SUCCEEDED
    audit.finished_at = session.scalar(select(func.clock_timestamp()))


def accept_language_model(session: Session, model_id: UUID, facts: Mapping[str, object]) -> int:
    """Mark a language model as ready with what the worker found, and start the work that waited for it.

    Returns:
        How many jobs were enqueued.
    """
    session.execute(
        update(LanguageModel)
        .where(LanguageModel.id == model_id)
        .values(status=LanguageModelStatus.READY, ready_at=func.clock_timestamp(), **facts),
    )
    audits, edits = _waiting(session, Audit, model_id), _waiting(session, Edit, model_id)
    for audit in audits:
        enqueue_audit(session, audit)
    for edit in edits:
        enqueue_edit(session, edit)
    return len(audits) + len(edits)


def reject_language_model(session: Session, model_id: UUID, error: JSONObject) -> None:
    """Mark a language model as rejected, and fail the work that waited for it."""
    session.execute(
        update(LanguageModel)
        .where(LanguageModel.id == model_id, LanguageModel.status == LanguageModelStatus.QUEUED)
        .values(status=LanguageModelStatus.REJECTED, error=error),
    )
    for kind in OWNERS:
        for work in _waiting(session, kind, model_id):
            end_operation(session, kind, work.id, OperationStatus.FAILED, error)


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
        NotFound: no such work of this kind for this tenant.
        AlreadyTerminal: it had ended before.
    """
    work = get_operation(session, kind, tenant_id, operation_id)
    if not end_operation(session, kind, work.id, OperationStatus.CANCELLED):
        raise AlreadyTerminal(f"The {kind.noun} has ended; it cannot be cancelled any more.")
    cancel_jobs(session, OWNERS[kind] == work.id)
    session.refresh(work)
    return work


def fail_owner(
    session: Session,
    job: Job | Lease,
    error: JSONObject,
    findings: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Fail the audit or edit of a job that was given up, or reject the language model it validates."""
    for kind, column in OWNERS.items():
        operation_id = getattr(job, column.key)
        if operation_id is not None:
            if end_operation(session, kind, operation_id, OperationStatus.FAILED, error, findings):
                cancel_jobs(session, column == operation_id)
            return
    # It is rejected for whatever reason, and the status says whose that is.
    rejection = LanguageModelRejected(str(error["detail"])).problem() | {"status": error["status"]}
    reject_language_model(session, job.language_model_id, rejection)


def _waiting(session: Session, kind: type[OperationT], model_id: UUID) -> list[OperationT]:
    has_job = exists().where(OWNERS[kind] == kind.id)
    statement = select(kind).where(kind.language_model_id == model_id, is_active(kind), ~has_job)
    return list(session.scalars(statement))
