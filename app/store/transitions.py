"""Transitions that move a job and the audit or language model it belongs to in one transaction."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.orm import Session

from app.errors import AlreadyTerminal, LanguageModelRejected, ShardPoisoned
from app.store.audits import Audit, WorkStatus, end_audit, get_audit, is_active, lock_active_audit
from app.store.base import JSONObject
from app.store.jobs import (
    Job,
    JobKind,
    JobState,
    Lease,
    LeaseLost,
    add_job,
    cancel_jobs_of_audit,
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


def accept_language_model(session: Session, model_id: UUID, facts: Mapping[str, object]) -> int:
    """Mark a language model as ready with what the worker found, and start the audits that waited for it.

    Returns:
        How many jobs were enqueued.
    """
    session.execute(
        update(LanguageModel)
        .where(LanguageModel.id == model_id)
        .values(status=LanguageModelStatus.READY, ready_at=func.clock_timestamp(), **facts),
    )
    waiting = _waiting_audits(session, model_id)
    for audit in waiting:
        enqueue_audit(session, audit)
    return len(waiting)


def reject_language_model(session: Session, model_id: UUID, error: JSONObject) -> None:
    """Mark a language model as rejected, and fail the audits that waited for it."""
    session.execute(
        update(LanguageModel)
        .where(LanguageModel.id == model_id, LanguageModel.status == LanguageModelStatus.QUEUED)
        .values(status=LanguageModelStatus.REJECTED, error=error),
    )
    for audit in _waiting_audits(session, model_id):
        end_audit(session, audit.id, WorkStatus.FAILED, error)


def fail_job(session: Session, lease: Lease, error: JSONObject) -> None:
    """Give a job up, and with it whatever it belongs to.

    Raises:
        LeaseLost: the job was taken away before.
    """
    close_failed(session, lease, error)
    _fail_owner(session, lease.audit_id, lease.language_model_id, error)


def cancel_audit(session: Session, tenant_id: UUID, audit_id: UUID | None) -> Audit:
    """End an audit at the client's word. Whatever a worker still computes for it cannot be committed.

    Raises:
        NotFound: no such audit for this tenant.
        AlreadyTerminal: the audit had ended before.
    """
    audit = get_audit(session, tenant_id, audit_id)
    if not end_audit(session, audit.id, WorkStatus.CANCELLED):
        raise AlreadyTerminal("The audit has ended; it cannot be cancelled any more.")
    cancel_jobs_of_audit(session, audit.id)
    session.refresh(audit)
    return audit


def sweep_leases(session: Session, *, max_attempts: int) -> int:
    """Take jobs back whose lease ran out: queue them again, or give them up after `max_attempts`.

    Returns:
        How many leases had run out.
    """
    expired = list(
        session.scalars(
            select(Job)
            .where(Job.state == JobState.RUNNING, Job.lease_expires_at < func.clock_timestamp())
            .with_for_update(skip_locked=True),
        ),
    )
    for job in expired:
        job.lease_expires_at = None
        job.rung_at = None
        if job.attempts < max_attempts:
            job.state = JobState.QUEUED
            continue
        problem = ShardPoisoned(
            f"Each of {job.attempts} attempts at a {job.kind} job ended without an answer: "
            "the worker died or stopped responding.",
        ).problem()
        job.state, job.error = JobState.FAILED, problem
        session.flush()
        _fail_owner(session, job.audit_id, job.language_model_id, problem)
    _cancel_orphans(session)
    return len(expired)


def _fail_owner(session: Session, audit_id: UUID | None, model_id: UUID, error: JSONObject) -> None:
    if audit_id is None:
        rejection = LanguageModelRejected(str(error["detail"])).problem()
        reject_language_model(session, model_id, rejection)
    elif end_audit(session, audit_id, WorkStatus.FAILED, error):
        cancel_jobs_of_audit(session, audit_id)


def _cancel_orphans(session: Session) -> None:
    """Cancel queued jobs of ended audits (their rows were locked when the audit ended)."""
    orphans = (
        select(Job.id)
        .where(
            Job.state == JobState.QUEUED,
            Job.audit_id.is_not(None),
            ~exists().where(Audit.id == Job.audit_id, is_active()),
        )
        .with_for_update(skip_locked=True)
    )
    session.execute(
        update(Job)
        .where(Job.id.in_(orphans))
        .values(state=JobState.CANCELLED, finished_at=func.clock_timestamp())
        .execution_options(synchronize_session=False),
    )


def _waiting_audits(session: Session, model_id: UUID) -> list[Audit]:
    has_job = exists().where(Job.audit_id == Audit.id)
    statement = select(Audit).where(Audit.language_model_id == model_id, is_active(), ~has_job)
    return list(session.scalars(statement))


def jobs_to_ring(session: Session, *, stale_seconds: float, limit: int = 64) -> dict[str, int]:
    """Mark claimable jobs that were never rung, or whose bell may have been lost, as rung now.

    Returns:
        How many bells each queue needs: one for each job never rung, or one for all whose bell is old, since
        a worker works until nothing is left. The caller commits, then rings: a bell lost in between is rung
        again after `stale_seconds`.
    """
    stale = func.clock_timestamp() - timedelta(seconds=stale_seconds)
    statement = (
        select(Job.id, Job.queue, Job.rung_at)
        .where(
            Job.state == JobState.QUEUED,
            Job.available_at <= func.clock_timestamp(),
            or_(Job.rung_at.is_(None), Job.rung_at < stale),
        )
        .order_by(Job.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    jobs = session.execute(statement).all()
    session.execute(
        update(Job)
        .where(Job.id.in_([job.id for job in jobs]))
        .values(rung_at=func.clock_timestamp())
        .execution_options(synchronize_session=False),
    )
    fresh = Counter(job.queue for job in jobs if job.rung_at is None)
    return {queue: max(1, fresh[queue]) for queue in {job.queue for job in jobs}}
