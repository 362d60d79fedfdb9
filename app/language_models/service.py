"""Registering language models. The allow-list of paths is checked before anything is written."""

import posixpath
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from uuid import UUID

from sqlalchemy.orm import Session

from app.contracts import HubSource, LanguageModelReference, PathSource, PrefixTokenChoice
from app.errors import FieldError, SourceNotAllowed, ValidationFailed
from app.idempotency import answer_once
from app.language_models.schemas import LanguageModelCreate, LanguageModelOut
from app.pagination import Page, id_cursor, page_by_id
from app.store.identifiers import Prefix, new_id, parse_id
from app.store.language_models import (
    LanguageModel,
    find_by_source,
    get_language_model,
    list_language_models,
    require_usable,
)
from app.store.tenants import Principal
from app.store.transitions import enqueue_validation


def register(
    session: Session, principal: Principal, key: str, request: LanguageModelCreate, roots: list[Path]
) -> LanguageModelOut:
    """Accept a language model for validation.

    Raises:
        SourceNotAllowed: a path outside the allow-listed roots.
        IdempotencyInFlight, IdempotencyMismatch: see `answer_once`.
    """
    require_allowed(request.source, roots, pointer="/source/path")

    def work() -> LanguageModelOut:
        return LanguageModelOut.of(add_language_model(session, principal, request.source, request.metadata))

    return answer_once(session, principal, key, "register", request, LanguageModelOut, work)


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
    session: Session, principal: Principal, reference: LanguageModelReference, roots: list[Path]
) -> LanguageModel:
    """The language model that a request names, registered on the way if it is a new source.

    Raises:
        NotFound: no such language model for this tenant.
        LanguageModelNotReady: the language model was rejected.
        SourceNotAllowed: a path outside the allow-listed roots.
    """
    if isinstance(reference, str):
        model_id = parse_id(Prefix.LANGUAGE_MODEL, reference)
    else:
        require_allowed(reference, roots, pointer="/model/path")
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


def list_page(session: Session, tenant_id: UUID, limit: int, cursor: str | None) -> Page[LanguageModelOut]:
    """A tenant's language models, newest first."""
    rows = list_language_models(session, tenant_id, before=id_cursor(cursor), limit=limit + 1)
    return page_by_id(rows, limit, LanguageModelOut.of)
