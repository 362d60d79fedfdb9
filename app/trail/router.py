"""`/v1/trail`."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.contracts.trail import HEAD_PAYLOAD, TrailEntryOut
from app.http.dependencies import (
    Admin,
    PageCursor,
    PageLimit,
    RequireScope,
    SettingsDependency,
    StoreDependency,
)
from app.http.json_body import StrictJSONRoute
from app.http.pagination import Page
from app.signing.dsse import seal
from app.signing.keys import read_signing_keys
from app.store.tenants import Principal
from app.store.trail import Action
from app.trail import service

JSON_LINES: Final = "application/jsonl"
ENVELOPE: Final = "application/vnd.dsse.envelope.v1+json"
_EXPORT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {JSON_LINES: {"schema": {"type": "string", "format": "binary"}}}}
}
_ENVELOPE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The envelope.", "content": {ENVELOPE: {"schema": {"type": "object"}}}}
}

TrailReader = Annotated[Principal, Depends(RequireScope("trail:read"))]

router = APIRouter(prefix="/v1/trail", tags=["trail"], route_class=StrictJSONRoute)


@router.get("", response_model=Page[TrailEntryOut], responses=_EXPORT)
async def list_trail(
    principal: TrailReader,
    store: StoreDependency,
    tenant: Annotated[
        str | None, Query(pattern=r"^tnt_[0-9a-fA-F]{32}$", description="The id of a tenant, `tnt_…`.")
    ] = None,
    action: Annotated[Action | None, Query(description="What was done.")] = None,
    limit: PageLimit = 20,
    cursor: PageCursor = None,
    accept: Annotated[str, Header()] = "application/json",
) -> Page[TrailEntryOut] | Response:
    """List who did what, the oldest first: in the own tenant, or with the scope `admin` in all of them.

    With `Accept: application/jsonl` all entries are streamed instead; `memaudit trail verify` checks them.
    An entry is there about a second after what it tells of.
    """
    tenant_id = service.visible_tenant(principal, tenant)
    if JSON_LINES in accept.lower():
        return StreamingResponse(service.stream_entries(store, tenant_id, action), media_type=JSON_LINES)
    return await store.run(service.list_page, tenant_id, action=action, limit=limit, cursor=cursor)


@router.get("/head", response_class=Response, responses=_ENVELOPE)
async def read_trail_head(_: Admin, store: StoreDependency, settings: SettingsDependency) -> Response:
    """Read the place and the digest of the last entry, signed as evidence is: a DSSE envelope.

    Kept elsewhere, it lets `memaudit trail verify --head` find that entries were cut off or written anew.
    """
    keys = await run_in_threadpool(read_signing_keys, settings.signing_keys_directory)
    head = await store.run(service.read_head)
    return Response(seal(HEAD_PAYLOAD, head.model_dump_json().encode(), keys), media_type=ENVELOPE)
