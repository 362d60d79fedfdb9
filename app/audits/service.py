"""Requesting and reading audits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy.orm import Session

from app.audits.schemas import AuditCreate, AuditOut
from app.contracts.audits import AuditSpec, StoredAuditSpec
from app.errors import FieldError, ValidationFailed
from app.estimates.memory import held_by_audits, require_room
from app.estimates.schemas import Estimate
from app.estimates.service import estimate_audits
from app.http.idempotency import answer_once
from app.http.pagination import Page, id_cursor, page_by_id
from app.language_models.service import require_prefix_token, resolve_language_model
from app.policies.preregistration import Preregistration, preregister, preregistrations_of
from app.settings import Settings
from app.store.audits import Audit, audits_by_id
from app.store.companions import (
    CompanionRole,
    companions_of,
    is_companion,
    link_audit,
    owners_by_audit,
)
from app.store.core.identifiers import Prefix, new_id, parse_id
from app.store.core.unit_of_work import undone
from app.store.enqueueing import enqueue_audit
from app.store.jobs.owners import AUDIT
from app.store.jobs.waiting import waiting_jobs
from app.store.keyed_digests import digest_of, unkeyed_digests
from app.store.language_models import LanguageModel, LanguageModelStatus, require_usable
from app.store.lifecycle import cancel_operation
from app.store.operations import OperationFilter, list_operations
from app.store.progress import read_audit_with_progress
from app.store.subjects import find_subjects
from app.store.tenants import Principal
from app.store.text_sets import TextSet, TextSetStatus, require_all_texts, require_texts
from app.store.trail import Action, record_request
from app.text_sets.service import resolve_text_set


def request_audit(
    session: Session, principal: Principal, key: str, request: AuditCreate, roots: list[Path]
) -> AuditOut:
    """Accept an audit. It starts at once, or when its language model is validated and its texts imported.

    Raises:
        NotFound: no such language model, text set or policy for this tenant.
        LanguageModelNotReady: the language model was rejected.
        TextSetNotReady: the text set could not be imported, or the control texts are not there yet.
        SourceNotAllowed: an inline path outside the allow-listed roots.
        ValidationFailed: a language model is known to lack the prefix token, the texts or the language
            model are compared with themselves, or a rule of the policy cannot judge an audit.
        DoesNotFit: a language model takes more memory than any worker has.
        IdempotencyInFlight, IdempotencyMismatch: see `answer_once`.
    """

    def create() -> AuditOut:
        created = _create(session, principal, request, roots)
        require_room(session, held_by_audits(session, created.parts))
        companions = (
            companions_of(session, [created.audit.id])[created.audit.id] if created.companions else []
        )
        answer = AuditOut.of(created.audit, companions, preregistration=created.registered)
        record_request(session, principal, Action.WORK_REQUESTED, answer.id)
        return answer

    return answer_once(session, principal, key, "audit", request, AuditOut, create)


def estimate(session: Session, principal: Principal, request: AuditCreate, settings: Settings) -> Estimate:
    """What an audit takes. It is checked as it is requested; of what that writes nothing stays.

    Raises:
        NotFound, LanguageModelNotReady, TextSetNotReady, SourceNotAllowed, ValidationFailed: see
            `request_audit`.
    """

    def look() -> Estimate:
        created = _create(session, principal, request, settings.model_roots)
        return estimate_audits(session, created.parts, settings)

    return undone(session, look)


@dataclass(frozen=True)
class _Created:
    """What a request for an audit has written, and on which language models: kept, they are read but once."""

    audit: Audit
    companions: list[tuple[str, Audit]]
    registered: Preregistration | None
    language_models: tuple[LanguageModel | None, ...]

    @property
    def parts(self) -> list[tuple[str, Audit]]:
        """The audit and those that it waits for, each in its role."""
        return [("audit", self.audit), *self.companions]


def _create(session: Session, principal: Principal, request: AuditCreate, roots: list[Path]) -> _Created:
    """Write what was requested."""
    text_set, language_model = _subjects(session, principal, request, roots)
    controls = None
    if request.control_text_set is not None:
        controls = resolve_text_set(session, principal, text_set=request.control_text_set, preset=None)
        # The texts of the audit itself may be scored before those of its companions.
        require_all_texts(controls)
    reference_model = None
    if request.reference_model is not None:
        reference_model = resolve_language_model(
            session, principal, request.reference_model, roots, pointer="/reference_model"
        )
    require_other_texts(session, text_set, controls)
    _require_another_model(language_model, reference_model)
    audit = add_audit(session, language_model, text_set, request.spec(), metadata=request.metadata)
    return _Created(
        audit,
        add_companions(session, audit, language_model, text_set, reference_model, controls),
        preregister(session, principal, request.policy, "audit", audit.id),
        (language_model, reference_model),
    )


def _subjects(
    session: Session, principal: Principal, request: AuditCreate, roots: list[Path]
) -> tuple[TextSet, LanguageModel]:
    """What is audited. Mostly both are named by their ids, and there."""
    if request.text_set is not None and isinstance(request.model, str):
        text_set_id = parse_id(Prefix.TEXT_SET, request.text_set)
        model_id = parse_id(Prefix.LANGUAGE_MODEL, request.model)
        if (found := find_subjects(session, principal.tenant_id, text_set_id, model_id)) is not None:
            require_texts(found[0])
            require_usable(found[1])
            return found
    text_set = resolve_text_set(session, principal, text_set=request.text_set, preset=request.preset)
    return text_set, resolve_language_model(session, principal, request.model, roots)


def add_audit(
    session: Session,
    language_model: LanguageModel,
    text_set: TextSet,
    spec: AuditSpec,
    *,
    metadata: Mapping[str, object] | None = None,
    priority: int = 0,
) -> Audit:
    """Write an audit, and its first job unless the language model or the texts are yet to come.

    Raises:
        ValidationFailed: the language model is known to lack the prefix token.
    """
    require_prefix_token(language_model, spec.options.prefix_token, pointer="/options/prefix_token")
    audit = Audit(
        id=new_id(),
        tenant_id=text_set.tenant_id,
        language_model_id=language_model.id,
        text_set_id=text_set.id,
        priority=priority,
        spec=spec.model_dump(),
        texts_total=text_set.text_count,
        language_model_digest=language_model.digest,
        text_set_hmac_sha256=digest_of(session, text_set),
        metadata_=dict(metadata or {}),
    )
    session.add(audit)
    session.flush()
    if language_model.status == LanguageModelStatus.READY and text_set.status == TextSetStatus.READY:
        enqueue_audit(session, audit)
    return audit


def require_other_texts(
    session: Session, text_set: TextSet, controls: TextSet | None, *, pointer: str = "/control_text_set"
) -> None:
    """Refuse controls that are the texts themselves.

    Raises:
        ValidationFailed: they have the same id or the same texts.
    """
    if controls is not None and (
        controls.id == text_set.id or digest_of(session, controls) == digest_of(session, text_set) != ""
    ):
        raise _same(pointer, "same_as_text_set")


def _require_another_model(language_model: LanguageModel, reference_model: LanguageModel | None) -> None:
    """Refuse a reference that is the language model itself, as far as that is known before validation."""
    if reference_model is not None and (
        reference_model.id == language_model.id or reference_model.digest == language_model.digest is not None
    ):
        raise _same("/reference_model", "same_as_model")


def _same(pointer: str, code: str) -> ValidationFailed:
    return ValidationFailed(
        "Nothing can be compared with itself; name another one.", [FieldError(pointer, code)]
    )


def add_companions(
    session: Session,
    audit: Audit,
    language_model: LanguageModel,
    text_set: TextSet,
    reference_model: LanguageModel | None,
    controls: TextSet | None,
) -> list[tuple[str, Audit]]:
    """Write the audits that an audit waits for. They measure `nl` under its options, and nothing else.

    Returns:
        Each in its role.
    """
    options = StoredAuditSpec.model_validate(audit.spec).options
    wanted = {
        CompanionRole.CONTROL: (language_model, controls),
        CompanionRole.REFERENCE: (reference_model, text_set),
        CompanionRole.REFERENCE_CONTROL: (reference_model, controls),
    }
    companions: list[tuple[str, Audit]] = []
    for role, (model, texts) in wanted.items():
        if model is not None and texts is not None:
            spec = AuditSpec(options=options)
            companion = add_audit(session, model, texts, spec, priority=audit.priority)
            link_audit(session, AUDIT, audit.id, companion, role)
            companions.append((role, companion))
    session.flush()
    return companions


def read_audit(session: Session, tenant_id: UUID, audit_id: UUID) -> AuditOut:
    """An audit with its progress, shards under way included, and what it waits for.

    Raises:
        NotFound: no such audit for this tenant.
    """
    audit, in_flight, is_alone = read_audit_with_progress(session, tenant_id, audit_id)
    if is_alone:
        return AuditOut.of(audit, in_flight=in_flight)
    return _answers(session, [audit], in_flight)[audit.id]


def read_audits(session: Session, tenant_id: UUID, audit_ids: Sequence[UUID]) -> list[AuditOut]:
    """Some of a tenant's audits, in the order of their ids as given; those of others are left out."""
    rows = audits_by_id(session, tenant_id, audit_ids)
    answers = _answers(session, list(rows.values()))
    return [answers[each] for each in audit_ids if each in answers]


def cancel(session: Session, principal: Principal, audit_id: UUID) -> AuditOut:
    """End an audit at the client's word.

    Raises:
        NotFound: no such audit for this tenant.
        AlreadyTerminal: the audit had ended before.
    """
    audit = cancel_operation(session, Audit, principal.tenant_id, audit_id)
    answer = _answers(session, [audit])[audit.id]
    record_request(session, principal, Action.WORK_CANCELLED, answer.id)
    return answer


def list_page(
    session: Session,
    tenant_id: UUID,
    wanted: OperationFilter,
    limit: int,
    cursor: str | None,
    *,
    companions: bool,
) -> Page[AuditOut]:
    """A tenant's audits that are wanted, newest first; `companions` are those made for other work."""
    conditions = () if companions else (~is_companion(),)
    rows = list_operations(session, Audit, tenant_id, wanted, id_cursor(cursor), limit + 1, *conditions)
    answers = _answers(session, rows)
    return page_by_id(rows, limit, lambda row: answers[row.id])


def _answers(session: Session, rows: list[Audit], in_flight: int = 0) -> dict[UUID, AuditOut]:
    ids = [row.id for row in rows]
    companions, owners = companions_of(session, ids), owners_by_audit(session, ids)
    unkeyed = unkeyed_digests(session, {row.text_set_id for row in rows})
    waiting, registered = waiting_jobs(session, rows), preregistrations_of(session, ids, unkeyed)
    return {
        row.id: AuditOut.of(
            row,
            companions[row.id],
            in_flight,
            waiting.get(row.id),
            owners[row.id],
            registered.get(row.id),
            unkeyed,
        )
        for row in rows
    }
