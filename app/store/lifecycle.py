"""Transitions that move a job and what it works for in one transaction. `end` is the one end of them all."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from app.errors import AlreadyTerminal, CompanionFailed
from app.store.audits import Audit
from app.store.companions import (
    OperationAudit,
    first_broken,
    has_finishing_job,
    have_succeeded,
    owners_of,
    take_owners,
    take_unwanted_companions,
)
from app.store.core.base import Base, JSONObject
from app.store.core.identifiers import Prefix, format_id
from app.store.edits import Edit
from app.store.jobs.kinds import (
    DERIVE_SHARD,
    IMPORT_TEXT_SET,
    KINDS,
    PLAN_AUDIT,
    RUN_EDIT,
    SCORE_SHARD,
    VALIDATE_LANGUAGE_MODEL,
    JobKind,
)
from app.store.jobs.owners import AUDIT, LANGUAGE_MODEL, OWNERS, STUDY, TEXT_SET, Owner, owner_of
from app.store.jobs.queue import (
    Job,
    Lease,
    LeaseLost,
    add_job,
    cancel_jobs,
    close_failed,
    job_values,
)
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.operations import (
    LanguageModelOperation,
    LanguageModelOperationT,
    OperationStatus,
    OperationT,
    get_operation,
    is_active,
)
from app.store.prerequisites import startable, waiting_for
from app.store.studies import begin_study
from app.store.text_sets import TextSet, TextSetStatus

FINISHING_PRIORITY_STEP = 1
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
    """Bring an audit, an edit, a language model or a text set to a terminal state and cancel its open jobs.

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
    if owner is AUDIT:
        take_owners(session, select(Audit.id).where(Audit.id == owner_id))
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
    if owner is AUDIT:
        _tell_owners(session, owner_id, OperationStatus(status), error)
    if owner.finished_by is not None and status != OperationStatus.SUCCEEDED:
        cancel_audits(session, take_unwanted_companions(session, owner_id))
    return True


def _tell_owners(session: Session, audit_id: UUID, status: OperationStatus, error: JSONObject | None) -> None:
    """Let what waits for an audit go on if that was the last, or fail with it.

    Each owner is locked, so that of two companions that end at once the second sees what became of the first.
    """
    for link in owners_of(session, audit_id):
        if (owner := OWNERS.get(link.owner_kind)) is None:
            continue
        row = _lock_active(session, owner, link.owner_id)
        if row is None:
            continue
        if status == OperationStatus.SUCCEEDED:
            enqueue_finishing(session, owner, row)
        else:
            problem = CompanionFailed(_why(link, status, error)).problem()
            end(session, owner, link.owner_id, owner.failed, error=problem)


def _why(link: OperationAudit, status: OperationStatus, error: JSONObject | None) -> str:
    """What became of a companion, for whoever reads that its owner failed."""
    audit = f"The audit {format_id(Prefix.AUDIT, link.audit_id)} (role {link.role}), which this needs,"
    return f"{audit} {status}: {error['detail']}" if error else f"{audit} was {status}."


def tell(session: Session, owner: Owner, owner_id: UUID) -> None:
    """Do for an owner what the end of its companions should have done: end it with them, or let it go on."""
    row = _lock_active(session, owner, owner_id)
    if row is None:
        return
    broken = first_broken(session, owner_id)
    if broken is not None:
        link, audit = broken
        problem = CompanionFailed(_why(link, OperationStatus(audit.status), audit.error)).problem()
        end(session, owner, owner_id, owner.failed, error=problem)
    else:
        enqueue_finishing(session, owner, row)


def cancel_audits(session: Session, audit_ids: Iterable[UUID]) -> None:
    """End audits that nobody waits for any more. The caller holds their rows."""
    for audit_id in audit_ids:
        end(session, AUDIT, audit_id, OperationStatus.CANCELLED)


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


def _add_job_of(
    session: Session, operation: LanguageModelOperation, kind: JobKind, *, priority: int = 0
) -> Job:
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
    row = _lock_active(session, owner_of(kind), operation_id)
    if row is None:
        raise LeaseLost
    assert isinstance(row, kind)
    return row


def _lock_active(session: Session, owner: Owner, owner_id: UUID) -> Base | None:
    statement = select(owner.table).where(owner.table.id == owner_id, owner.is_active())
    statement = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
    return session.scalars(statement).one_or_none()


def begin_operation(
    session: Session, kind: type[LanguageModelOperationT], operation_id: UUID, language_model_digest: str
) -> LanguageModelOperationT:
    """Mark an audit or edit as running and record which bytes of the language model it will use.

    A study whose audit it is has then begun too.

    Raises:
        LeaseLost: it has ended, so its jobs are not wanted any more.
    """
    # Before the audit is locked: see `take_owners`.
    for link in owners_of(session, operation_id):
        if link.owner_kind == STUDY.kind:
            begin_study(session, link.owner_id)
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
    """Let a shard go through the model whose evidence is gone; other shards may be derived still.

    Returns:
        How many jobs were enqueued.

    Raises:
        LeaseLost: the audit has ended.
    """
    audit = take_active(session, Audit, audit_id)
    enqueue_shards(session, audit, [(start, stop)])
    return 1


def _insert_jobs(session: Session, rows: Iterator[dict[str, Any]]) -> None:
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        session.execute(insert(Job), some)


def complete_shard(session: Session, audit_id: UUID, texts: int) -> int:
    """Count a committed shard; the last one enqueues the summary, unless a companion audit is still open.

    Returns:
        How many jobs were enqueued.

    Raises:
        LeaseLost: the audit has ended, so the shard's rows must not be committed.
    """
    audit = take_active(session, Audit, audit_id)
    audit.texts_done += texts
    return enqueue_finishing(session, AUDIT, audit)


def succeed_audit(session: Session, audit_id: UUID, summary: JSONObject) -> None:
    """End an audit with its summary.

    Raises:
        LeaseLost: the audit has ended otherwise.
    """
    if not end(session, AUDIT, audit_id, OperationStatus.SUCCEEDED, findings={"summary": summary}):
        raise LeaseLost


def succeed_study(session: Session, study_id: UUID, result: JSONObject) -> None:
    """End a study with what it found.

    Raises:
        LeaseLost: the study has ended otherwise.
    """
    if not end(session, STUDY, study_id, OperationStatus.SUCCEEDED, findings={"result": result}):
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
    return _start_waiting(session, LANGUAGE_MODEL, model_id)


def accept_text_set(session: Session, text_set: TextSet, facts: Mapping[str, object]) -> int:
    """Mark a text set as ready whose texts were written, and start the audits that waited for it.

    Args:
        session: of the caller, who commits.
        text_set: which one.
        facts: its columns: digest, counts, the commit that was fetched.

    Returns:
        How many jobs were enqueued.

    Raises:
        LeaseLost: it is ready already, or was erased.
    """
    if not end(session, TEXT_SET, text_set.id, TextSetStatus.READY, findings=facts):
        raise LeaseLost
    # Locked in order before they are written.
    waiting_for(session, Audit, TEXT_SET, text_set.id)
    session.execute(
        update(Audit)
        .where(Audit.text_set_id == text_set.id, is_active(Audit))
        .values(texts_total=facts["text_count"], text_set_sha256=facts["sha256"])
    )
    return _start_waiting(session, TEXT_SET, text_set.id)


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
    for kind in (Audit, Edit):
        for operation in waiting_for(session, kind, owner, job.owner_id):
            end(session, owner_of(kind), operation.id, OperationStatus.FAILED, error=recorded)


def _start_waiting(session: Session, needed: Owner, needed_id: UUID) -> int:
    """Enqueue what waited for something that is ready now, and for nothing else; how many jobs that are."""
    audits = startable(session, Audit, needed, needed_id)
    edits = startable(session, Edit, needed, needed_id)
    for audit in audits:
        enqueue_audit(session, audit)
    for edit in edits:
        enqueue_edit(session, edit)
    return len(audits) + len(edits)
