"""Requesting and reading studies."""

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.audits.service import add_audit, require_other_texts
from app.contracts.audits import AuditSpec
from app.contracts.metrics.fields import ALWAYS
from app.contracts.studies import StoredStudyModel, StoredStudySpec, StudyModel
from app.errors import FieldError, StudyNotSucceeded, ValidationFailed
from app.estimates.memory import held_by_audits, require_room
from app.estimates.schemas import Estimate
from app.estimates.service import estimate_audits
from app.http.idempotency import answer_once
from app.http.pagination import Page, decode_cursor, encode_cursor, id_cursor, invalid_cursor, page_by_id
from app.language_models.service import resolve_language_model
from app.policies.preregistration import preregister, preregistrations_of
from app.settings import Settings
from app.store.companions import companion_audits, companions_of, link_audit
from app.store.core.identifiers import Prefix, format_id, new_id, parse_id
from app.store.core.unit_of_work import undone
from app.store.jobs.owners import STUDY
from app.store.jobs.waiting import waiting_jobs
from app.store.keyed_digests import digest_of, unkeyed_digests
from app.store.language_models import LanguageModel
from app.store.lifecycle import cancel_operation
from app.store.operations import OperationFilter, OperationStatus, get_operation, list_operations
from app.store.progress import read_progress_of_owners
from app.store.scores import read_side_by_side
from app.store.studies import Study, StudyRole
from app.store.tenants import Principal
from app.store.text_sets import TextSet, get_text_set, require_all_texts
from app.store.trail import Action, record_request
from app.studies.schemas import StudyCreate, StudyOut, StudyTextOut

# An ordinal is an integer of Postgres, and so is one with a page added.
MOST_TEXTS: Final = 2**31 - 2000


def request_study(
    session: Session, principal: Principal, key: str, request: StudyCreate, roots: list[Path]
) -> StudyOut:
    """Accept a study and its audits, which start at once or when their language models have been validated.

    Raises:
        NotFound: no such language model, text set or policy for this tenant.
        LanguageModelNotReady: a language model was rejected.
        TextSetNotReady: a text set is still importing, or could not be imported.
        SourceNotAllowed: an inline path outside the allow-listed roots.
        ValidationFailed: a language model comes twice or is known to lack the prefix token, or the controls
            are the texts themselves; or a rule of the policy cannot judge such a study.
        DoesNotFit: a language model takes more memory than any worker has.
        IdempotencyInFlight, IdempotencyMismatch: see `answer_once`.
    """

    def create() -> StudyOut:
        study = _create(session, principal, request, roots)
        require_room(session, held_by_audits(session, companion_audits(session, study.id)))
        answer = _answer(session, study)
        record_request(session, principal, Action.WORK_REQUESTED, answer.id)
        return answer

    return answer_once(session, principal, key, "study", request, StudyOut, create)


def estimate(session: Session, principal: Principal, request: StudyCreate, settings: Settings) -> Estimate:
    """What a study takes. It is checked as it is requested; of what that writes nothing stays.

    Raises:
        NotFound, LanguageModelNotReady, TextSetNotReady, SourceNotAllowed, ValidationFailed: see
            `request_study`.
    """

    def look() -> Estimate:
        study = _create(session, principal, request, settings.model_roots)
        return estimate_audits(session, companion_audits(session, study.id), settings, of_study=True)

    return undone(session, look)


def _create(session: Session, principal: Principal, request: StudyCreate, roots: list[Path]) -> Study:
    """Write what was requested."""
    text_set = _get_text_set(session, principal, request.text_set)
    controls = None
    if request.control_text_set is not None:
        controls = _get_text_set(session, principal, request.control_text_set)
        require_other_texts(session, text_set, controls)
    models = _resolve(session, principal, request, roots)
    stored = [
        StoredStudyModel(model=format_id(Prefix.LANGUAGE_MODEL, row.id), label=each.label, step=each.step)
        for row, each in models
    ]
    spec = StoredStudySpec(metrics=request.metrics, options=request.options, kind=request.kind, models=stored)
    study = add_study(session, request.name, spec, text_set, controls, metadata=request.metadata)
    _add_audits(session, study, request, [row for row, _ in models], text_set, controls)
    preregister(session, principal, request.policy, "study", study.id)
    return study


def add_study(
    session: Session,
    name: str,
    spec: StoredStudySpec,
    text_set: TextSet,
    controls: TextSet | None,
    *,
    metadata: Mapping[str, object] = MappingProxyType({}),
) -> Study:
    """Write a study of text sets that are ready. The caller links its audits to it."""
    study = Study(
        id=new_id(),
        tenant_id=text_set.tenant_id,
        name=name,
        text_set_id=text_set.id,
        control_text_set_id=controls.id if controls else None,
        text_set_hmac_sha256=digest_of(session, text_set),
        spec=spec.model_dump(),
        metadata_=dict(metadata),
    )
    session.add(study)
    session.flush()
    return study


def _resolve(
    session: Session, principal: Principal, request: StudyCreate, roots: list[Path]
) -> list[tuple[LanguageModel, StudyModel]]:
    """The language models of a study in the order in which they are compared.

    Raises:
        ValidationFailed: two of them are the same, whatever they are called.
    """
    resolved: list[tuple[LanguageModel, StudyModel]] = []
    for place, each in request.ordered():
        pointer = f"/models/{place}/model"
        row = resolve_language_model(session, principal, each.model, roots, pointer=pointer)
        if any(row.id == other.id for other, _ in resolved):
            error = FieldError(pointer, "model_twice")
            raise ValidationFailed("A language model cannot be compared with itself.", [error])
        resolved.append((row, each))
    return resolved


def _get_text_set(session: Session, principal: Principal, public_id: str) -> TextSet:
    identifier = parse_id(Prefix.TEXT_SET, public_id)
    row = get_text_set(session, principal.tenant_id, identifier, share_lock=True)
    require_all_texts(row)
    return row


def _add_audits(
    session: Session,
    study: Study,
    request: StudyCreate,
    models: list[LanguageModel],
    text_set: TextSet,
    controls: TextSet | None,
) -> None:
    """One audit for each model, and one of the controls, of which NL is all that is compared."""
    spec = AuditSpec(metrics=request.metrics, options=request.options)
    control_options = request.options.model_copy(update={"token_evidence": False})
    for position, model in enumerate(models):
        audit = add_audit(session, model, text_set, spec)
        link_audit(session, STUDY, study.id, audit, StudyRole.MODEL, position)
        if controls is not None:
            control = AuditSpec(metrics=[ALWAYS], options=control_options)
            audit = add_audit(session, model, controls, control)
            link_audit(session, STUDY, study.id, audit, StudyRole.CONTROL, position)
    session.flush()


def read_study(session: Session, tenant_id: UUID, study_id: UUID) -> StudyOut:
    """A study with its progress, shards under way included, and what it waits for.

    Raises:
        NotFound: no such study for this tenant.
    """
    return _answer(session, get_operation(session, Study, tenant_id, study_id))


def cancel(session: Session, principal: Principal, study_id: UUID) -> StudyOut:
    """End a study, and those of its audits that are open, at the client's word.

    Raises:
        NotFound: no such study for this tenant.
        AlreadyTerminal: the study had ended before.
    """
    answer = _answer(session, cancel_operation(session, Study, principal.tenant_id, study_id))
    record_request(session, principal, Action.WORK_CANCELLED, answer.id)
    return answer


def list_page(
    session: Session, tenant_id: UUID, wanted: OperationFilter, limit: int, cursor: str | None
) -> Page[StudyOut]:
    """A tenant's studies that are wanted, newest first."""
    rows = list_operations(session, Study, tenant_id, wanted, id_cursor(cursor), limit + 1)
    answers = _answers(session, rows)
    return page_by_id(rows, limit, lambda row: answers[row.id])


def texts_page(
    session: Session, tenant_id: UUID, study_id: UUID, limit: int, cursor: str | None
) -> Page[StudyTextOut]:
    """A page of a study's texts under its language models, in their order.

    Raises:
        NotFound: no such study for this tenant.
        StudyNotSucceeded: it has not ended, or ended otherwise.
        ValidationFailed: the cursor belongs to another list.
    """
    study = get_operation(session, Study, tenant_id, study_id)
    if study.status != OperationStatus.SUCCEEDED:
        raise StudyNotSucceeded(f"The study is {study.status}; texts are compared once it has succeeded.")
    after = -1
    if cursor is not None:
        (after,) = decode_cursor(cursor, int)
        if not 0 <= after < MOST_TEXTS:
            raise invalid_cursor()
    audits = [
        each.audit_id for each in companions_of(session, [study.id])[study.id] if each.role == StudyRole.MODEL
    ]
    rows = read_side_by_side(session, audits, after=after, limit=limit + 1)
    texts = [
        StudyTextOut.of(sorted(some, key=lambda row: audits.index(row.audit_id)))
        for _, some in groupby(rows, key=lambda row: row.ordinal)
    ]
    has_more = len(texts) > limit
    next_cursor = encode_cursor(texts[limit - 1].ordinal) if has_more else None
    return Page(data=texts[:limit], has_more=has_more, next_cursor=next_cursor)


def _answer(session: Session, row: Study) -> StudyOut:
    return _answers(session, [row])[row.id]


def _answers(session: Session, rows: list[Study]) -> dict[UUID, StudyOut]:
    ids = [row.id for row in rows]
    companions, progress = companions_of(session, ids), read_progress_of_owners(session, ids)
    unkeyed = unkeyed_digests(session, {row.text_set_id for row in rows})
    waiting, registered = waiting_jobs(session, rows), preregistrations_of(session, ids, unkeyed)
    return {
        row.id: StudyOut.of(
            row, companions[row.id], progress[row.id], waiting.get(row.id), registered.get(row.id), unkeyed
        )
        for row in rows
    }
