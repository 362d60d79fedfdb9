"""`/v1/edits`."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.edits import service
from app.edits.schemas import EditCreate, EditOut
from app.estimates.answers import ESTIMATE, estimated
from app.http.changes import Resource
from app.http.dependencies import (
    ChangesDependency,
    DoorbellDependency,
    EditReader,
    EditWriter,
    PageCursor,
    PageLimit,
    SettingsDependency,
    StoreDependency,
    WaitSeconds,
    WorkKey,
    read_id,
)
from app.http.filters import METADATA_PARAMETER, WantedOperations
from app.http.json_body import StrictJSONRoute
from app.http.long_running import add_follow_headers, answer_when_ended, follow
from app.http.pagination import Page
from app.http.problems import problem_responses
from app.settings import GPU_QUEUE
from app.store.core.identifiers import Prefix

router = APIRouter(prefix="/v1/edits", tags=["edits"], route_class=StrictJSONRoute)


@router.post("", status_code=202, response_model=EditOut, responses=problem_responses(409) | ESTIMATE)
async def request_edit(
    request: EditCreate,
    principal: EditWriter,
    key: WorkKey,
    store: StoreDependency,
    settings: SettingsDependency,
    doorbell: DoorbellDependency,
    response: Response,
) -> EditOut | JSONResponse:
    """Request an edited model: one that recites less, with the proof of what it forgot and what it kept."""
    if key is None:
        return estimated(await store.run(service.estimate, principal, request, settings))
    edit = await store.run(service.request_edit, principal, key, request, settings.model_roots)
    doorbell.ring(GPU_QUEUE)
    add_follow_headers(response, f"/v1/edits/{edit.id}")
    return edit


@router.get("", openapi_extra=METADATA_PARAMETER)
async def list_edits(
    principal: EditReader,
    wanted: WantedOperations,
    store: StoreDependency,
    limit: PageLimit = 20,
    cursor: PageCursor = None,
) -> Page[EditOut]:
    """List edits, newest first; of a base model, a text set, a status, with some metadata."""
    return await store.run(service.list_page, principal, wanted, limit, cursor)


@router.get("/{edit_id}")
async def read_edit(
    edit_id: str,
    principal: EditReader,
    store: StoreDependency,
    changes: ChangesDependency,
    response: Response,
    wait: WaitSeconds = 0,
) -> EditOut:
    """Read an edit. With `wait`, the answer comes when the edit has ended, or after that many seconds."""
    identifier = read_id(Prefix.EDIT, edit_id)
    return await answer_when_ended(
        changes,
        Resource(principal.tenant_id, identifier),
        lambda: store.run(service.read_edit, principal, identifier),
        response,
        seconds=wait,
    )


@router.post("/{edit_id}/cancel", status_code=202, responses=problem_responses(409))
async def cancel_edit(edit_id: str, principal: EditWriter, store: StoreDependency) -> EditOut:
    """Cancel an edit. It ends at once: nothing that a worker still computes becomes an artifact."""
    return await store.run(service.cancel, principal, read_id(Prefix.EDIT, edit_id))


async def _existing_edit(edit_id: str, principal: EditReader, store: StoreDependency) -> None:
    """Answer 404 while there is still an answer to give."""
    await store.run(service.read_edit, principal, read_id(Prefix.EDIT, edit_id))


@router.get("/{edit_id}/events", response_class=EventSourceResponse, dependencies=[Depends(_existing_edit)])
async def follow_edit(
    edit_id: str,
    principal: EditReader,
    store: StoreDependency,
    changes: ChangesDependency,
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Follow an edit: an event with the resource at each change, until it has ended.

    An event's id names the state it shows; with `Last-Event-ID` a state that was seen is not sent again.
    """
    identifier = read_id(Prefix.EDIT, edit_id)
    events = follow(
        changes,
        Resource(principal.tenant_id, identifier),
        lambda: store.run(service.read_edit, principal, identifier),
        event_id=_event_id,
        seen=last_event_id,
    )
    async with aclosing(events):
        async for event in events:
            yield event


def _event_id(edit: EditOut) -> str:
    tries = edit.waiting.attempts if edit.waiting else 0
    return f"{edit.status}-{edit.progress.done}-{edit.progress.stage}-{tries}"
