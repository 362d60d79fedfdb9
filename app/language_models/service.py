"""Registering language models. The allow-list of paths is checked before anything is written."""

import posixpath
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from uuid import UUID

from sqlalchemy.orm import Session

from app.contracts.audits import PrefixTokenChoice
from app.contracts.sources import ArtifactSource, HubSource, LanguageModelReference, PathSource
from app.errors import FieldError, NotFound, SourceNotAllowed, ValidationFailed
from app.http.idempotency import answer_once
from app.http.pagination import Page, id_cursor, page_by_id
from app.language_models.schemas import LanguageModelCreate, LanguageModelOut
from app.store.artifacts import get_artifact_by_repo
from app.store.core.identifiers import Prefix, format_id, new_id, parse_id
from app.store.deletion import delete_language_model
from app.store.enqueueing import enqueue_validation
from app.store.jobs.waiting import waiting_validations
from app.store.language_models import (
    LanguageModel,
    LanguageModelFilter,
    LanguageModelStatus,
    find_by_source,
    get_language_model,
    list_language_models,
    require_usable,
)
from app.store.tenants import Principal
from app.store.trail import Action, record_request


def register(
    session: Session, principal: Principal, key: str, request: LanguageModelCreate, roots: list[Path]
) -> LanguageModelOut:
    """Accept a language model for validation.

    Raises:
        SourceNotAllowed: a path outside the allow-listed roots.
        IdempotencyInFlight, IdempotencyMismatch: see `answer_once`.
    """
    require_allowed(request.source, roots, pointer="/source/path")

    def create() -> LanguageModelOut:
        return LanguageModelOut.of(add_language_model(session, principal, request.source, request.metadata))

    return answer_once(session, principal, key, "register", request, LanguageModelOut, create)


def add_language_model(
    session: Session, principal: Principal, source: HubSource | PathSource, metadata: Mapping[str, object]
) -> LanguageModel:
    """Write a language model and the job that validates it."""
    row = LanguageModel(
        id=new_id(), tenant_id=principal.tenant_id, source=source.model_dump(), metadata_=dict(metadata)
    )
    session.add(row)
    session.flush()
    enqueue_validation(session, row)
    record_request(session, principal, Action.MODEL_REGISTERED, format_id(Prefix.LANGUAGE_MODEL, row.id))
    return row


def require_allowed(source: HubSource | PathSource, roots: list[Path], *, pointer: str) -> None:
    """Refuse a path outside the allow-listed roots. Workers check again, with links resolved.

    Raises:
        SourceNotAllowed: the path is not under a root.
    """
    if isinstance(source, HubSource):
        return
    path = PurePosixPath(posixpath.normpath(source.path))
    if not any(path.is_relative_to(root) for root in roots):
        raise SourceNotAllowed(
            "The path is not under a directory that MEMAUDIT_MODEL_ROOTS allows.",
            [FieldError(pointer=pointer, code="path_not_allowed")],
        )


def resolve_language_model(
    session: Session,
    principal: Principal,
    reference: LanguageModelReference,
    roots: list[Path],
    *,
    pointer: str = "/model",
) -> LanguageModel:
    """The language model that a request names at `pointer`, registered on the way if it is a new source.

    Raises:
        NotFound: no such language model for this tenant.
        LanguageModelNotReady: the language model was rejected.
        SourceNotAllowed: a path outside the allow-listed roots.
    """
    if isinstance(reference, str):
        model_id = parse_id(Prefix.LANGUAGE_MODEL, reference)
    else:
        require_allowed(reference, roots, pointer=f"{pointer}/path")
        model_id = find_by_source(session, principal.tenant_id, reference.model_dump())
        if model_id is None:
            return add_language_model(session, principal, reference, {})
    row = get_language_model(session, principal.tenant_id, model_id, share_lock=True)
    require_usable(row)
    return row


def require_prefix_token(language_model: LanguageModel, choice: PrefixTokenChoice, *, pointer: str) -> None:
    """Refuse a prefix token that the language model lacks, if a worker has looked already.

    Raises:
        ValidationFailed: the tokenizer has no such token, or the id is outside the vocabulary.
    """
    known = language_model.tokenizer
    size = language_model.vocabulary_size
    code = None
    if isinstance(choice, int):
        if size is not None and choice >= size:
            code = "prefix_token_outside_vocabulary"
    elif choice in {"bos", "eos"} and known is not None and known[f"{choice}_token_id"] is None:
        code = f"no_{choice}_token"
    if code is not None:
        raise ValidationFailed(
            "The language model has no such prefix token; its `tokenizer` says what it has.",
            [FieldError(pointer=pointer, code=code)],
        )


def forget(session: Session, principal: Principal, model_id: UUID) -> None:
    """Forget a language model. Audits already made with it stay readable.

    Raises:
        NotFound: no such language model for this tenant.
        ResourceInUse: an unfinished audit or edit still needs it.
    """
    delete_language_model(session, principal.tenant_id, model_id)
    record_request(session, principal, Action.MODEL_DELETED, format_id(Prefix.LANGUAGE_MODEL, model_id))


def read(session: Session, tenant_id: UUID, model_id: UUID) -> LanguageModelOut:
    """A language model, and what its validation waits for.

    Raises:
        NotFound: no such language model for this tenant, or it was deleted.
    """
    row = get_language_model(session, tenant_id, model_id)
    return LanguageModelOut.of(row, waiting_validations(session, [row]).get(row.id))


def list_page(
    session: Session,
    principal: Principal,
    limit: int,
    cursor: str | None,
    *,
    status: LanguageModelStatus | None,
    base_model: str | None,
    model_repo: str | None,
    metadata: Mapping[str, str],
) -> Page[LanguageModelOut]:
    """A tenant's language models, newest first; of a status, a base, a repository, with such metadata."""
    before = id_cursor(cursor)
    source = {}
    if model_repo is not None:
        artifact_id = _find_artifact(session, principal, model_repo)
        if artifact_id is None:
            return Page(data=[], has_more=False, next_cursor=None)
        source = ArtifactSource(artifact=format_id(Prefix.ARTIFACT, artifact_id)).model_dump()
    wanted = LanguageModelFilter(
        status=status,
        base_model_id=parse_id(Prefix.LANGUAGE_MODEL, base_model) if base_model else None,
        source=source,
        metadata=metadata,
    )
    rows = list_language_models(session, principal.tenant_id, wanted, before=before, limit=limit + 1)
    waiting = waiting_validations(session, rows)
    return page_by_id(rows, limit, lambda row: LanguageModelOut.of(row, waiting.get(row.id)))


def _find_artifact(session: Session, principal: Principal, repository: str) -> UUID | None:
    """The artifact that hub clients call so, if it is the tenant's own."""
    tenant_name, _, name = repository.partition("/")
    if tenant_name != principal.tenant_name:
        return None
    try:
        return get_artifact_by_repo(session, tenant_name, name).id
    except NotFound:
        return None
