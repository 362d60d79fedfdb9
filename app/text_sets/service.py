"""Storing, listing and reading text sets."""

from asyncio import to_thread
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from app.errors import IdempotencyKeyMissing
from app.http.idempotency import answer_once
from app.http.pagination import Page, decode_cursor, encode_cursor, id_cursor, invalid_cursor, page_by_id
from app.http.quotas import require_room_left, require_room_to_come
from app.intake.formats import Row
from app.intake.records import Intake
from app.sealing.boxes import new_key
from app.sealing.texts import TextSetSealer
from app.settings import Settings
from app.signing.keys import SigningKeys
from app.store.core.identifiers import Prefix, format_id, new_id, parse_id
from app.store.data_keys import keep_text_set_key
from app.store.deletion import erase_text_set
from app.store.enqueueing import enqueue_import
from app.store.jobs.waiting import waiting_imports
from app.store.tenants import Principal
from app.store.text_copy import copy_texts
from app.store.text_sets import (
    TextSet,
    TextSetFilter,
    TextSetStatus,
    get_text_set,
    list_text_sets,
    require_all_texts,
    require_texts,
    take_import,
)
from app.store.texts import end_of_page, read_texts
from app.store.trail import Action, record_request
from app.text_sets.schemas import TextOut, TextSetImport, TextSetOut, TextSetReceipt
from app.text_sets.submission import Submission

T = TypeVar("T")

# Opened and written out by the process that serves everybody: a few milliseconds.
PAGE_BYTES: Final = 2**20


def create(
    session: Session, principal: Principal, key: str | None, submission: Submission, settings: Settings
) -> TextSetOut:
    """Store a text set, whole or not at all.

    Raises:
        ValidationFailed: a text breaks the contract, a limit, or has another's id.
        QuotaExceeded: the tenant would store too much.
        ServiceUnavailable: the database broke off or is full.
        IdempotencyInFlight, IdempotencyMismatch: see `answer_once`.
    """

    def create() -> TextSetOut:
        return TextSetOut.of(
            store_texts(
                session,
                principal,
                name=submission.name,
                metadata=submission.metadata,
                rows=submission.rows,
                settings=settings,
            )
        )

    return answer_once(session, principal, key, "text_set", submission.fingerprint, TextSetOut, create)


def store_texts(
    session: Session,
    principal: Principal,
    *,
    name: str,
    metadata: dict[str, Any],
    rows: Iterator[Row],
    settings: Settings,
) -> TextSet:
    """Write a text set and its texts.

    Raises:
        ValidationFailed: a text breaks the contract, a limit, or has another's id.
        QuotaExceeded: the tenant would store too much.
        ServiceUnavailable: the database broke off or is full.
        KeyUnavailable: there is no key to seal the texts with.
    """
    row = _add(session, principal, name=name, metadata_=metadata)
    data_key = new_key()
    intake = Intake(row.id, TextSetSealer(data_key, row.id), settings)
    copy_texts(session, _in_thread(intake.batches(rows)))
    keep_text_set_key(session, row.id, data_key)
    for column, value in intake.facts(session, row.tenant_id).items():
        setattr(row, column, value)
    require_room_left(session, principal)
    return row


def request_import(
    session: Session, principal: Principal, key: str | None, request: TextSetImport
) -> TextSetOut:
    """Accept a text set whose texts a worker is to fetch, be there others of the same preset.

    Raises:
        IdempotencyKeyMissing: there is no key.
        IdempotencyInFlight, IdempotencyMismatch: see `answer_once`.
    """
    if key is None:
        raise IdempotencyKeyMissing

    def create() -> TextSetOut:
        row = _add_import(session, principal, request.preset, name=request.name, metadata=request.metadata)
        return TextSetOut.of(row)

    return answer_once(session, principal, key, "text_set_import", request, TextSetOut, create)


def resolve_text_set(
    session: Session, principal: Principal, *, text_set: str | None, preset: str | None
) -> TextSet:
    """The text set that a request names, by its id or its preset; imported if the tenant has none of that.

    Raises:
        NotFound: no such text set for this tenant, or it was erased.
        TextSetNotReady: its import has failed.
    """
    if preset is not None:
        found = take_import(session, principal.tenant_id, preset)
        return found or _add_import(session, principal, preset)
    text_set_id = None if text_set is None else parse_id(Prefix.TEXT_SET, text_set)
    row = get_text_set(session, principal.tenant_id, text_set_id, share_lock=True)
    require_texts(row)
    return row


def _add_import(
    session: Session,
    principal: Principal,
    preset: str,
    *,
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> TextSet:
    """Write a text set without texts, and the job that fetches them."""
    row = _add(
        session,
        principal,
        name=name or preset,
        metadata_=dict(metadata or {}),
        preset=preset,
        status=TextSetStatus.IMPORTING,
    )
    enqueue_import(session, row)
    require_room_to_come(session, principal)
    return row


def _add(session: Session, principal: Principal, **columns: Any) -> TextSet:
    row = TextSet(
        id=new_id(),
        tenant_id=principal.tenant_id,
        hmac_sha256="",
        digest_is_keyed=True,
        text_count=0,
        byte_count=0,
        group_counts={},
        duplicate_counts={},
        **columns,
    )
    session.add(row)
    session.flush()
    record_request(session, principal, Action.TEXT_SET_CREATED, format_id(Prefix.TEXT_SET, row.id))
    return row


async def _in_thread(items: Iterator[T]) -> AsyncIterator[T]:
    """Take each item in a thread, so that the event loop serves others meanwhile."""
    while (item := await to_thread(next, items, None)) is not None:
        yield item


def list_page(
    session: Session, tenant_id: UUID, wanted: TextSetFilter, limit: int, cursor: str | None
) -> Page[TextSetOut]:
    """A tenant's text sets that are wanted, newest first."""
    rows = list_text_sets(session, tenant_id, wanted, before=id_cursor(cursor), limit=limit + 1)
    waiting = waiting_imports(session, rows)
    return page_by_id(rows, limit, lambda row: TextSetOut.of(row, waiting.get(row.id)))


def read(session: Session, tenant_id: UUID, text_set_id: UUID | None) -> TextSetOut:
    """A text set, and what its import waits for.

    Raises:
        NotFound: no such text set for this tenant, or it was erased.
    """
    row = get_text_set(session, tenant_id, text_set_id)
    return TextSetOut.of(row, waiting_imports(session, [row]).get(row.id))


def erase(
    session: Session, principal: Principal, text_set_id: UUID, keys: SigningKeys | None
) -> TextSetReceipt:
    """Erase a text set, the token evidence made from it and their key, with a receipt.

    Raises:
        NotFound: no such text set for this tenant, or it was erased before.
        ResourceInUse: an unfinished audit or edit still needs it.
    """
    row, receipt = erase_text_set(session, principal.tenant_id, text_set_id, keys)
    record_request(session, principal, Action.TEXT_SET_ERASED, format_id(Prefix.TEXT_SET, row.id))
    return TextSetReceipt.of(row, receipt)


def texts_page(
    session: Session, principal: Principal, text_set_id: UUID, limit: int, cursor: str | None
) -> Page[TextOut]:
    """A page of a set's texts, in order; shorter than `limit` when they are long.

    Raises:
        NotFound: no such text set for this tenant, or it was erased.
        TextSetNotReady: it has no texts, or not yet.
        ValidationFailed: the cursor was not made by this list.
    """
    text_set = get_text_set(session, principal.tenant_id, text_set_id)
    require_all_texts(text_set)
    start = 0
    if cursor is not None:
        (start,) = decode_cursor(cursor, int)
        if not 0 < start < text_set.text_count:
            raise invalid_cursor()
    stop = end_of_page(session, text_set.id, start, limit=limit, max_bytes=PAGE_BYTES)
    rows = read_texts(session, text_set.id, start, stop)
    has_more = stop < text_set.text_count
    public_id = format_id(Prefix.TEXT_SET, text_set.id)
    record_request(session, principal, Action.TEXTS_READ, public_id, {"from": start, "to": stop})
    return Page(
        data=[TextOut.of(row) for row in rows],
        has_more=has_more,
        next_cursor=encode_cursor(stop) if has_more else None,
    )
