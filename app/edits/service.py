"""Requesting and reading edits."""

from pathlib import Path
from uuid import UUID

from sqlalchemy.orm import Session

from app.contracts.texts import TextSetRole
from app.edits.schemas import EditCreate, EditOut
from app.errors import ArtifactNameTaken, FieldError, LanguageModelNotReady, ValidationFailed
from app.estimates.memory import held_by_edit, require_room
from app.estimates.schemas import Estimate
from app.estimates.service import estimate_edit
from app.http.idempotency import answer_once
from app.http.pagination import Page, id_cursor, page_by_id
from app.http.quotas import require_room_to_come
from app.language_models.service import require_prefix_token, resolve_language_model
from app.policies.preregistration import Preregistration, preregister, preregistrations_of
from app.settings import Settings
from app.store.artifacts import artifact_exists
from app.store.core.identifiers import Prefix, new_id, parse_id
from app.store.core.unit_of_work import undone
from app.store.edits import Edit, EditTextSet, name_is_taken, text_sets_of
from app.store.enqueueing import enqueue_edit
from app.store.jobs.waiting import waiting_jobs
from app.store.keyed_digests import digest_of
from app.store.language_models import (
    LanguageModel,
    LanguageModelStatus,
    get_language_model,
    require_usable,
)
from app.store.lifecycle import cancel_operation
from app.store.operations import OperationFilter, list_operations
from app.store.progress import read_edit_with_progress
from app.store.tenants import Principal
from app.store.text_sets import TextSet, get_text_set, require_all_texts
from app.store.trail import Action, record_request


def request_edit(
    session: Session, principal: Principal, key: str, request: EditCreate, roots: list[Path]
) -> EditOut:
    """Accept an edit. It starts at once, or when its language model has been validated.

    Raises:
        NotFound: no such language model, text set or policy for this tenant.
        ArtifactNameTaken: an artifact of this name exists, or an unfinished edit will write it.
        LanguageModelNotReady: the language model was rejected, or the reference model is not ready.
        TextSetNotReady: a text set is still being imported, or could not be.
        SourceNotAllowed: an inline path outside the allow-listed roots.
        ValidationFailed: the language model is known to lack the prefix token, or a rule of the policy cannot
            judge such an edit.
        DoesNotFit: it takes more memory than any worker has.
        QuotaExceeded: the tenant stores too much, or has too much work.
        IdempotencyInFlight, IdempotencyMismatch: see `answer_once`.
    """

    def create() -> EditOut:
        edit, _, registered = _create(session, principal, request, roots)
        require_room(session, held_by_edit(session, edit))
        require_room_to_come(session, principal)
        used = text_sets_of(session, [edit.id])[edit.id]
        answer = EditOut.of(edit, used, principal.tenant_name, preregistration=registered)
        record_request(session, principal, Action.WORK_REQUESTED, answer.id)
        return answer

    return answer_once(session, principal, key, "edit", request, EditOut, create)


def estimate(session: Session, principal: Principal, request: EditCreate, settings: Settings) -> Estimate:
    """What an edit takes. It is checked as it is requested; of what that writes nothing stays.

    Raises:
        NotFound, ArtifactNameTaken, LanguageModelNotReady, TextSetNotReady, SourceNotAllowed,
            ValidationFailed: see `request_edit`.
    """

    def look() -> Estimate:
        edit, text_sets, _ = _create(session, principal, request, settings.model_roots)
        return estimate_edit(session, edit, text_sets, settings)

    return undone(session, look)


def _create(
    session: Session, principal: Principal, request: EditCreate, roots: list[Path]
) -> tuple[Edit, dict[TextSetRole, TextSet], Preregistration | None]:
    """Write what was requested."""
    text_sets = {
        role: get_text_set(
            session, principal.tenant_id, parse_id(Prefix.TEXT_SET, public_id), share_lock=True
        )
        for role, public_id in request.text_sets().items()
    }
    for text_set in text_sets.values():
        require_all_texts(text_set)
    language_model = resolve_language_model(session, principal, request.model, roots)
    require_prefix_token(language_model, request.evaluation.prefix_token, pointer="/evaluation/prefix_token")
    _require_reference(session, principal, language_model, request)
    if name_is_taken(session, principal.tenant_id, request.name) or artifact_exists(
        session, principal.tenant_id, request.name
    ):
        raise ArtifactNameTaken("An edited model of this name exists or is being made; choose another name.")
    edit = Edit(
        id=new_id(),
        tenant_id=principal.tenant_id,
        language_model_id=language_model.id,
        name=request.name,
        spec=request.spec().model_dump(),
        language_model_digest=language_model.digest,
        metadata_=dict(request.metadata),
    )
    session.add(edit)
    session.flush()
    session.add_all(
        EditTextSet(
            edit_id=edit.id, role=role, text_set_id=text_set.id, hmac_sha256=digest_of(session, text_set)
        )
        for role, text_set in text_sets.items()
    )
    if language_model.status == LanguageModelStatus.READY:
        enqueue_edit(session, edit)
    session.flush()
    return edit, text_sets, preregister(session, principal, request.policy, "edit", edit.id)


def _require_reference(
    session: Session, principal: Principal, language_model: LanguageModel, request: EditCreate
) -> None:
    """Refuse a reference model that is not there or ready, is the edited one, or has another tokenizer.

    What only the texts show about its tokenizer, the worker refuses.
    """
    named = request.evaluation.reference_model
    if named is None:
        return
    reference = get_language_model(
        session, principal.tenant_id, parse_id(Prefix.LANGUAGE_MODEL, named), share_lock=True
    )
    require_usable(reference)
    if reference.status != LanguageModelStatus.READY:
        raise LanguageModelNotReady(
            "The reference model is still being validated; ask again when it is ready."
        )
    pointer = "/evaluation/reference_model"
    if reference.id == language_model.id or reference.digest == language_model.digest:
        raise ValidationFailed(
            "Nothing can be compared with itself; name another one.", [FieldError(pointer, "same_as_model")]
        )
    require_prefix_token(reference, request.evaluation.prefix_token, pointer=pointer)
    if len({_special_tokens(each) for each in (reference, language_model)} - {None}) > 1:
        raise ValidationFailed(
            "The reference model has another tokenizer, so that its numbers would be of other tokens.",
            [FieldError(pointer, "other_tokenizer")],
        )


def _special_tokens(language_model: LanguageModel) -> tuple[int | None, int | None] | None:
    """The ids of the tokens that begin and end texts, if a worker has looked: one vocabulary has the same."""
    found = language_model.tokenizer
    return None if found is None else (found["bos_token_id"], found["eos_token_id"])


def read_edit(session: Session, principal: Principal, edit_id: UUID) -> EditOut:
    """An edit with its progress, and what it waits for.

    Raises:
        NotFound: no such edit for this tenant.
    """
    edit, percent, stage = read_edit_with_progress(session, principal.tenant_id, edit_id)
    text_sets = text_sets_of(session, [edit.id])[edit.id]
    waiting = waiting_jobs(session, [edit]).get(edit.id)
    registered = preregistrations_of(session, [edit.id]).get(edit.id)
    return EditOut.of(edit, text_sets, principal.tenant_name, percent, stage, waiting, registered)


def cancel(session: Session, principal: Principal, edit_id: UUID) -> EditOut:
    """End an edit at the client's word.

    Raises:
        NotFound: no such edit for this tenant.
        AlreadyTerminal: the edit had ended before.
    """
    edit = cancel_operation(session, Edit, principal.tenant_id, edit_id)
    text_sets = text_sets_of(session, [edit.id])[edit.id]
    registered = preregistrations_of(session, [edit.id]).get(edit.id)
    answer = EditOut.of(edit, text_sets, principal.tenant_name, preregistration=registered)
    record_request(session, principal, Action.WORK_CANCELLED, answer.id)
    return answer


def list_page(
    session: Session, principal: Principal, wanted: OperationFilter, limit: int, cursor: str | None
) -> Page[EditOut]:
    """A tenant's edits that are wanted, newest first."""
    rows = list_operations(session, Edit, principal.tenant_id, wanted, id_cursor(cursor), limit + 1)
    text_sets = text_sets_of(session, [row.id for row in rows])
    waiting = waiting_jobs(session, rows)
    registered = preregistrations_of(session, [row.id for row in rows])

    def answer(row: Edit) -> EditOut:
        return EditOut.of(
            row,
            text_sets[row.id],
            principal.tenant_name,
            waiting_job=waiting.get(row.id),
            preregistration=registered.get(row.id),
        )

    return page_by_id(rows, limit, answer)
