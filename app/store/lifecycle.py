"""Transitions that move a job and what it works for in one transaction. `end` is the one end of them all."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.errors import AlreadyTerminal
from app.store.audits import Audit
from app.store.companions import owners_of, take_owners, take_unwanted_companions
from app.store.core.base import JSONObject
from app.store.edits import Edit
from app.store.enqueueing import (
    enqueue_audit,
    enqueue_collected_edit,
    enqueue_edit,
    enqueue_finishing,
    enqueue_shards,
)
from app.store.events import record_end
from app.store.factors import NewFactor
from app.store.gates import Gate
from app.store.gating import record_digest
from app.store.jobs.job import Job
from app.store.jobs.leases import Lease, LeaseLost, close_failed
from app.store.jobs.owners import (
    AUDIT,
    GATE,
    LANGUAGE_MODEL,
    MODEL_VERSION,
    OWNERS,
    STUDY,
    TEXT_SET,
    Owner,
    owner_of,
)
from app.store.jobs.queue import cancel_jobs
from app.store.language_models import LanguageModelStatus
from app.store.model_lines import begin_version
from app.store.operations import (
    LanguageModelOperationT,
    Operation,
    OperationStatus,
    OperationT,
    get_operation,
    is_active,
)
from app.store.partial_factors import keep_partial_factors
from app.store.prerequisites import startable, waiting_for
from app.store.studies import Study, begin_study
from app.store.taking import take_active
from app.store.telling import Ending, tell_late, tell_waiting
from app.store.text_sets import TextSet, TextSetStatus
from app.store.version_parts import open_parts, take_version_of


def end(
    session: Session,
    owner: Owner,
    owner_id: UUID,
    status: StrEnum,
    *,
    error: JSONObject | None = None,
    findings: Mapping[str, object] = MappingProxyType({}),
) -> bool:
    """Bring an operation, a language model or a text set to a terminal state and cancel its open jobs.

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
    take_version_of(session, owner, owner_id)
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
    if owner is MODEL_VERSION:
        _cancel_parts(session, owner_id)
    record_end(session, owner, owner_id, status)
    if issubclass(owner.table, Operation):
        _end_all(session, tell_waiting(session, owner, owner_id, OperationStatus(status), error))
        if status != OperationStatus.SUCCEEDED:
            cancel_audits(session, take_unwanted_companions(session, owner_id))
    return True


def _cancel_parts(session: Session, version_id: UUID) -> None:
    """End the gates and studies of a version that was cancelled; of one that ended otherwise none is open."""
    for kind in (Gate, Study):
        for part_id in open_parts(session, version_id, kind):
            end(session, owner_of(kind), part_id, OperationStatus.CANCELLED)


def tell(session: Session, owner: Owner, owner_id: UUID) -> None:
    """Do for what was not told of an end what that should have done: end it too, or let it go on."""
    _end_all(session, tell_late(session, owner, owner_id))


def _end_all(session: Session, endings: Iterable[Ending]) -> None:
    for ending in endings:
        status = ending.owner.failed if ending.error else OperationStatus.SUCCEEDED
        end(session, ending.owner, ending.owner_id, status, error=ending.error, findings=ending.findings)


def cancel_audits(session: Session, audit_ids: Iterable[UUID]) -> None:
    """End audits that nobody waits for any more. The caller holds their rows."""
    for audit_id in audit_ids:
        end(session, AUDIT, audit_id, OperationStatus.CANCELLED)


def begin_operation(
    session: Session, kind: type[LanguageModelOperationT], operation_id: UUID, language_model_digest: str
) -> LanguageModelOperationT:
    """Mark an audit or edit as running and record which bytes of the language model it will use.

    A study or a version whose audit it is has then begun too.

    Raises:
        LeaseLost: it has ended, so its jobs are not wanted any more.
    """
    # Before the audit is locked: see `take_owners`.
    for link in owners_of(session, operation_id):
        if link.owner_kind == STUDY.kind:
            begin_study(session, link.owner_id)
        elif link.owner_kind == MODEL_VERSION.kind:
            begin_version(session, link.owner_id)
    operation = take_active(session, kind, operation_id)
    if operation.status == OperationStatus.QUEUED:
        operation.status = OperationStatus.RUNNING
        operation.started_at = session.scalar(select(func.clock_timestamp()))
    operation.language_model_digest = language_model_digest
    return operation


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


def complete_collection(
    session: Session,
    edit_id: UUID,
    shard: int,
    key: str,
    factors: Sequence[NewFactor],
    collection: JSONObject,
) -> int:
    """Keep the sums of a shard of an edit's curvature; the last shard lets the edit go on.

    Args:
        session: of the caller, who commits.
        edit_id: the edit.
        shard: its number.
        key: the digest of everything that the sums depend on.
        factors: the sums, whose bytes are stored.
        collection: the payload of the job that goes on.

    Returns:
        How many jobs were enqueued.

    Raises:
        LeaseLost: the edit has ended, so the sums must not be committed.
        BlobMissing: bytes of a sum are not in the store any more.
    """
    edit = take_active(session, Edit, edit_id)
    keep_partial_factors(session, edit_id, shard, key, factors)
    return enqueue_collected_edit(session, edit, collection)


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


def succeed_gate(session: Session, gate_id: UUID, outcome: str, result: JSONObject) -> None:
    """End a gate with its outcome and that of each rule.

    Raises:
        LeaseLost: the gate has ended otherwise.
    """
    findings = {"outcome": outcome, "result": result}
    if not end(session, GATE, gate_id, OperationStatus.SUCCEEDED, findings=findings):
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
        .values(texts_total=facts["text_count"], text_set_hmac_sha256=facts["hmac_sha256"])
    )
    record_digest(session, text_set.id, str(facts["hmac_sha256"]))
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
