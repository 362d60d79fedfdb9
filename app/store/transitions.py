"""Transitions that move a job and the audit or language model it belongs to in one transaction."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session

from app.errors import AlreadyTerminal, LanguageModelRejected
from app.store.audits import Audit, WorkStatus, end_audit, get_audit, is_active, lock_active_audit
from app.store.base import JSONObject
from app.store.edits import Edit, end_edit, get_edit, is_active_edit, lock_active_edit
from app.store.jobs import (
    Job,
    JobKind,
    Lease,
    LeaseLost,
    add_job,
    cancel_jobs,
    close_failed,
)
from app.store.language_models import LanguageModel, LanguageModelStatus

# The last job of an audit comes before any new shard, so that what is nearly done gets done.
SUMMARY_PRIORITY_STEP = 1


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


def begin_audit(session: Session, audit_id: UUID, language_model_digest: str) -> Audit:
    """Mark an audit as running and record which bytes of the language model it will use.

    Raises:
        LeaseLost: the audit has ended, so its work is not wanted any more.
    """
    audit = lock_active_audit(session, audit_id)
    if audit is None:
        raise LeaseLost
    if audit.status == WorkStatus.QUEUED:
        audit.status = WorkStatus.RUNNING
        audit.started_at = session.scalar(select(func.clock_timestamp()))
    audit.language_model_digest = language_model_digest
    return audit


def enqueue_shards(session: Session, audit: Audit, bounds: list[tuple[int, int]]) -> None:
    """Enqueue a job for each shard [start, stop) of an audit."""
    for start, stop in bounds:
        add_job(
            session,
            JobKind.SCORE_SHARD,
            tenant_id=audit.tenant_id,
            language_model_id=audit.language_model_id,
            audit_id=audit.id,
            payload={"start": start, "stop": stop},
            priority=audit.priority,
        )


def complete_shard(session: Session, audit_id: UUID, texts: int) -> int:
    """Count a committed shard; the last one enqueues the summary.

    Returns:
        How many jobs were enqueued.

    Raises:
        LeaseLost: the audit has ended, so the shard's rows must not be committed.
    """
    audit = lock_active_audit(session, audit_id)
    if audit is None:
        raise LeaseLost
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
    audit = lock_active_audit(session, audit_id)
    if audit is None:
        raise LeaseLost
    audit.summary = summary
    audit.status = WorkStatus.SUCCEEDED
    audit.finished_at = session.scalar(select(func.clock_timestamp()))


def enqueue_edit(session: Session, edit: Edit) -> Job:
    """Let a worker run an edit; its language model must be ready."""
    return add_job(
        session,
        JobKind.RUN_EDIT,
        tenant_id=edit.tenant_id,
        language_model_id=edit.language_model_id,
        edit_id=edit.id,
    )


def begin_edit(session: Session, edit_id: UUID, language_model_digest: str) -> Edit:
    """Mark an edit as running and record which bytes of the base it will use.

    Raises:
        LeaseLost: the edit has ended, so its work is not wanted any more.
    """
    edit = take_edit(session, edit_id)
    if edit.status == WorkStatus.QUEUED:
        edit.status = WorkStatus.RUNNING
        edit.started_at = session.scalar(select(func.clock_timestamp()))
    edit.language_model_digest = language_model_digest
    return edit


def take_edit(session: Session, edit_id: UUID) -> Edit:
    """The edit, locked until the commit, for the transaction that writes its result.

    Raises:
        LeaseLost: the edit has ended.
    """
    edit = lock_active_edit(session, edit_id)
    if edit is None:
        raise LeaseLost
    return edit


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
    audits, edits = _waiting_audits(session, model_id), _waiting_edits(session, model_id)
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
    for audit in _waiting_audits(session, model_id):
        end_audit(session, audit.id, WorkStatus.FAILED, error)
    for edit in _waiting_edits(session, model_id):
        end_edit(session, edit.id, WorkStatus.FAILED, error)


def fail_job(session: Session, lease: Lease, error: JSONObject) -> None:
    """Give a job up, and with it whatever it belongs to.

    Raises:
        LeaseLost: the job was taken away before.
    """
    close_failed(session, lease, error)
    fail_owner(session, lease, error)


def cancel_audit(session: Session, tenant_id: UUID, audit_id: UUID | None) -> Audit:
    """End an audit at the client's word. Whatever a worker still computes for it cannot be committed.

    Raises:
        NotFound: no such audit for this tenant.
        AlreadyTerminal: the audit had ended before.
    """
    audit = get_audit(session, tenant_id, audit_id)
    if not end_audit(session, audit.id, WorkStatus.CANCELLED):
        raise AlreadyTerminal("The audit has ended; it cannot be cancelled any more.")
    cancel_jobs(session, Job.audit_id == audit.id)
    session.refresh(audit)
    return audit


def cancel_edit(session: Session, tenant_id: UUID, edit_id: UUID | None) -> Edit:
    """End an edit at the client's word. Whatever a worker still computes for it cannot be committed.

    Raises:
        NotFound: no such edit for this tenant.
        AlreadyTerminal: the edit had ended before.
    """
    edit = get_edit(session, tenant_id, edit_id)
    if not end_edit(session, edit.id, WorkStatus.CANCELLED):
        raise AlreadyTerminal("The edit has ended; it cannot be cancelled any more.")
    cancel_jobs(session, Job.edit_id == edit.id)
    session.refresh(edit)
    return edit


def fail_owner(session: Session, job: Job | Lease, error: JSONObject) -> None:
    """Fail the audit or edit of a job that was given up, or reject the language model it validates."""
    if job.edit_id is not None:
        if end_edit(session, job.edit_id, WorkStatus.FAILED, error):
            cancel_jobs(session, Job.edit_id == job.edit_id)
    elif job.audit_id is not None:
        if end_audit(session, job.audit_id, WorkStatus.FAILED, error):
            cancel_jobs(session, Job.audit_id == job.audit_id)
    else:
        rejection = LanguageModelRejected(str(error["detail"])).problem()
        reject_language_model(session, job.language_model_id, rejection)


def _waiting_audits(session: Session, model_id: UUID) -> list[Audit]:
    has_job = exists().where(Job.audit_id == Audit.id)
    statement = select(Audit).where(Audit.language_model_id == model_id, is_active(), ~has_job)
    return list(session.scalars(statement))


def _waiting_edits(session: Session, model_id: UUID) -> list[Edit]:
    has_job = exists().where(Job.edit_id == Edit.id)
    statement = select(Edit).where(Edit.language_model_id == model_id, is_active_edit(), ~has_job)
    return list(session.scalars(statement))
