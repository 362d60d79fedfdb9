"""Reading events in the order in which they were committed."""

from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from app.errors import NotFound
from app.events.schemas import EventOut
from app.http.dependencies import EDIT_READ, has_scope
from app.http.pagination import Page, decode_cursor, encode_cursor, invalid_cursor
from app.store.core.identifiers import Prefix, parse_id
from app.store.events import list_events, place_of
from app.store.tenants import Principal

_MOST_PLACES: Final = 2**63 - 1
_SENT_AT_ONCE: Final = 100


class Scope(NamedTuple):
    """Whose events are followed: those of a version, or of all versions of a line."""

    tenant_id: UUID
    version_id: UUID | None = None
    line_id: UUID | None = None


def list_page(
    session: Session, principal: Principal, *, after: str | None, limit: int, cursor: str | None
) -> Page[EventOut]:
    """A tenant's events, the oldest first, those after an event.

    Those of edits and of gates on edits are left out for a key that may not read edits.

    Raises:
        NotFound: no such event for this tenant.
        ValidationFailed: the cursor belongs to another list.
    """
    place = 0
    if cursor is not None:
        (place,) = decode_cursor(cursor, int)
        if not 0 < place <= _MOST_PLACES:
            raise invalid_cursor()
    elif after is not None:
        place = place_of(session, principal.tenant_id, parse_id(Prefix.EVENT, after))
    edits = has_scope(principal, EDIT_READ)
    rows = list_events(session, principal.tenant_id, after=place, limit=limit + 1, edits=edits)
    has_more = len(rows) > limit
    next_cursor = encode_cursor(rows[limit - 1].place) if has_more else None
    return Page(data=[EventOut.of(row) for row in rows[:limit]], has_more=has_more, next_cursor=next_cursor)


def place_after(session: Session, tenant_id: UUID, last_event_id: str | None) -> int:
    """Where whoever has seen an event goes on; at the beginning if there is no such event."""
    try:
        return place_of(session, tenant_id, parse_id(Prefix.EVENT, last_event_id or ""))
    except NotFound:
        return 0


def read_news(session: Session, scope: Scope, after: int) -> list[tuple[int, EventOut]]:
    """The next events of a version or a line after a place, each with its own."""
    tenant_id, version_id, line_id = scope
    rows = list_events(
        session, tenant_id, after=after, limit=_SENT_AT_ONCE, version_id=version_id, line_id=line_id
    )
    return [(row.place, EventOut.of(row)) for row in rows if row.place is not None]
