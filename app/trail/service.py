"""Reading the audit trail."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.contracts.trail import BEGINNING, TrailEntryOut, TrailHead
from app.errors import NotFound
from app.http.dependencies import ADMIN
from app.http.pagination import Page, decode_cursor, encode_cursor, invalid_cursor
from app.store.core.identifiers import Prefix, parse_id
from app.store.core.unit_of_work import Store
from app.store.tenants import Principal
from app.store.trail import answer_entry, list_entries, newest_entry

_MOST_PLACES: Final = 2**63 - 1
_EXPORTED_AT_ONCE: Final = 1000


def visible_tenant(principal: Principal, asked: str | None) -> UUID | None:
    """Whose entries a principal is shown: its own tenant's; an operator those of all, or of one asked for.

    Raises:
        NotFound: it asks for those of another tenant.
    """
    if asked is None:
        return None if ADMIN in principal.scopes else principal.tenant_id
    tenant_id = parse_id(Prefix.TENANT, asked)
    if tenant_id is None or (ADMIN not in principal.scopes and tenant_id != principal.tenant_id):
        raise NotFound("There is no such tenant.")
    return tenant_id


def list_page(
    session: Session, tenant_id: UUID | None, *, action: str | None, limit: int, cursor: str | None
) -> Page[TrailEntryOut]:
    """Entries of a tenant or of all, the oldest first; of an action.

    Raises:
        ValidationFailed: the cursor belongs to another list.
    """
    place = 0
    if cursor is not None:
        (place,) = decode_cursor(cursor, int)
        if not 0 < place <= _MOST_PLACES:
            raise invalid_cursor()
    rows = list_entries(session, after=place, limit=limit + 1, tenant_id=tenant_id, action=action)
    has_more = len(rows) > limit
    next_cursor = encode_cursor(rows[limit - 1].place) if has_more else None
    return Page(data=[answer_entry(row) for row in rows[:limit]], has_more=has_more, next_cursor=next_cursor)


async def stream_entries(store: Store, tenant_id: UUID | None, action: str | None) -> AsyncIterator[bytes]:
    """All entries as JSON lines, a page a transaction: they do not change any more."""
    place = 0
    while entries := await store.run(_read, place, tenant_id, action):
        yield b"".join(entry.model_dump_json().encode() + b"\n" for entry in entries)
        place = entries[-1].place


def _read(session: Session, after: int, tenant_id: UUID | None, action: str | None) -> list[TrailEntryOut]:
    rows = list_entries(session, after=after, limit=_EXPORTED_AT_ONCE, tenant_id=tenant_id, action=action)
    return [answer_entry(row) for row in rows]


def read_head(session: Session) -> TrailHead:
    """The last entry of the trail as it is now."""
    row = newest_entry(session)
    now = datetime.now(UTC)
    if row is None:
        return TrailHead(place=0, sha256=BEGINNING, signed_at=now)
    entry = answer_entry(row)
    return TrailHead(place=entry.place, sha256=entry.sha256, signed_at=now)
