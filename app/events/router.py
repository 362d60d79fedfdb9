"""`/v1/events`."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.events import service
from app.events.schemas import EventOut
from app.http.dependencies import AuditReader, PageCursor, PageLimit, StoreDependency
from app.http.pagination import Page

router = APIRouter(prefix="/v1/events", tags=["events"])


@router.get("")
async def list_events(
    principal: AuditReader,
    store: StoreDependency,
    after: Annotated[
        str | None,
        Query(
            pattern=r"^evt_[0-9a-f]{32}$", description="The id of an event, `evt_…`: those that came later."
        ),
    ] = None,
    limit: PageLimit = 20,
    cursor: PageCursor = None,
) -> Page[EventOut]:
    """List events, the oldest first: what ended and how, in the order in which it was committed.

    Those of edits and of gates on edits are among them if the key has the scope `edit:read`.
    """
    return await store.run(service.list_page, principal, after=after, limit=limit, cursor=cursor)
